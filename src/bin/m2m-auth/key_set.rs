//! The commands that fetch the key set of an issuer, for `explain --jwks`.

use m2m_auth::http::message::Endpoint;
use m2m_auth::oauth::discovery::MetadataLocation;
use m2m_auth::policy::Issuer;

/// Lines for a shell, and comments between them. Empty if the key set is in the configuration.
pub(crate) fn fetch_commands(issuer: &Issuer) -> Vec<String> {
    let (name, file) = (&issuer.name, file_name(&issuer.name));
    let mut lines = Vec::new();
    if let Some(endpoint) = &issuer.jwks_uri {
        lines.push(format!("curl -fsS {} > {file}", quoted(&url(endpoint))));
    } else if let Some(discovery) = issuer.discovery.as_ref().filter(|discovery| discovery.for_keys) {
        let at = |location| quoted(&url(&discovery.call(location).endpoint));
        let metadata = at(MetadataLocation::OpenId);
        lines.push(format!(
            "# the metadata; providers without OpenID have it at {}",
            at(MetadataLocation::OAuth)
        ));
        lines.push(format!("curl -fsS {metadata}"));
        lines.push("# the key set, at the `jwks_uri` of the metadata".to_owned());
        // The metadata may name anything: it must be neither another option nor another scheme.
        let discovered = format!("\"$(curl -fsS {metadata} | jq -er .jwks_uri)\"");
        lines.push(format!("curl -fsS --proto =http,https --url {discovered} > {file}"));
    } else {
        return lines;
    }
    lines.push("# then add to this command".to_owned());
    lines.push(quoted_option(name, &file));
    lines
}

fn quoted_option(name: &str, file: &str) -> String {
    format!("--jwks {}", quoted(&format!("{name}={file}")))
}

fn url(endpoint: &Endpoint) -> String {
    format!("{}://{}{}", endpoint.scheme, endpoint.authority, endpoint.path)
}

/// A file name for the key set of an issuer, whatever the issuer is called.
fn file_name(issuer: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name: String = issuer.chars().map(safe).collect();
    format!("{}.jwks.json", name.trim_start_matches('-'))
}

/// A word for a POSIX shell. Control characters are replaced: they could forge a line.
fn quoted(word: &str) -> String {
    let word: String = word.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/=@%+,".contains(c);
    if word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_of_the_shell() {
        for (word, expected) in [
            ("https://idp.example.com/keys", "https://idp.example.com/keys"),
            ("https://idp/keys?a=1&b=$(id)", "'https://idp/keys?a=1&b=$(id)'"),
            ("it's;rm", r"'it'\''s;rm'"),
            ("a\nb", "'a?b'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
        for (issuer, expected) in
            [("keycloak", "keycloak.jwks.json"), ("../a b", "___a_b.jwks.json"), ("-x", "x.jwks.json")]
        {
            assert_eq!(file_name(issuer), expected);
        }
    }
}
