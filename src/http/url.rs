//! URLs (RFC 3986): parsing and normalization.

use crate::http::message::Endpoint;
use crate::http::printable;
use std::fmt::Write as _;

/// A parsed absolute `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host, in lower case, with the port if there is one.
    pub authority: String,
    /// Path and query; `/` if there is none.
    pub path: String,
}

impl Url {
    /// Parses a URL (RFC 3986). User information, fragments, spaces and control characters are
    /// rejected.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let sound = !authority.is_empty()
            && authority.bytes().all(host_byte)
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\".contains(&byte));
        sound.then(|| Self { scheme, authority: authority.to_ascii_lowercase(), path })
    }

    /// The authority without the scheme's default port (RFC 3986 section 6.2.3).
    pub fn host(&self) -> &str {
        without_default_port(&self.authority, self.scheme)
    }

    /// The URL for a log line, without its query.
    pub fn for_log(&self, scheme: &str, most: usize) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        printable(&format!("{scheme}://{}{path}", self.authority), most)
    }

    /// The endpoint that `cluster` reaches.
    pub fn via_cluster(self, cluster: &str) -> Endpoint {
        Endpoint {
            cluster: cluster.to_owned(),
            scheme: self.scheme,
            authority: self.authority,
            path: self.path,
        }
    }
}

/// An authority without the default port of its scheme, and without an empty port (RFC 3986 section
/// 6.2.3).
pub fn without_default_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority)
}

/// An origin in normal form (RFC 3986 section 6.2): lower case, without the default port of its
/// scheme.
#[inline(never)]
pub fn origin(scheme: &[u8], authority: &[u8]) -> Option<String> {
    let (scheme, port) = match scheme.to_ascii_lowercase().as_slice() {
        b"https" => ("https://", ":443"),
        b"http" => ("http://", ":80"),
        _ => return None,
    };
    let authority = std::str::from_utf8(authority).ok()?.to_ascii_lowercase();
    let host = authority.strip_suffix(port).unwrap_or(&authority);
    let sound = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
        && !host.is_empty();
    sound.then(|| format!("{scheme}{host}"))
}

/// `htu` of a request to that origin (RFC 9449 section 4.2): the path as sent, without query and
/// fragment. Characters that a URL may not contain are encoded, as the comparing server does too
/// (RFC 9449 section 4.3).
pub fn url(origin: &str, path: &[u8]) -> String {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    let mut url = String::with_capacity(origin.len().saturating_add(end));
    url.push_str(origin);
    for byte in path.get(..end).unwrap_or_default() {
        if byte.is_ascii_graphic() && !b"\"\\<>^`{|}".contains(byte) {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        let of = |scheme: &str, authority: &str| origin(scheme.as_bytes(), authority.as_bytes());
        assert_eq!(of("https", "API.example.com:443").as_deref(), Some("https://api.example.com"));
        assert_eq!(of("HTTP", "api:80").as_deref(), Some("http://api"));
        assert_eq!(of("http", "api:443").as_deref(), Some("http://api:443"));
        assert_eq!(of("https", "[::1]:8443").as_deref(), Some("https://[::1]:8443"));
        for (scheme, authority) in [
            ("", "api"),
            ("ftp", "api"),
            ("https", ""),
            ("https", ":443"),
            ("https", "u@api"),
            ("https", "a b"),
            ("https", "a/b"),
            ("https", "caf\u{e9}"),
            ("https", "a\""),
        ] {
            assert_eq!(of(scheme, authority), None, "{scheme} {authority}");
        }
    }

    #[test]
    fn a_url_ends_before_the_query_and_holds_what_a_url_can() {
        let of = |path: &[u8]| url("https://api", path);
        assert_eq!(of(b"/a/b?c=d#e"), "https://api/a/b");
        assert_eq!(of(b"/a#b?c"), "https://api/a");
        assert_eq!(of(b"/%61//b;c=d/../@:~!$&'()*+,="), "https://api/%61//b;c=d/../@:~!$&'()*+,=");
        assert_eq!(of("/caf\u{e9}\"\\ ".as_bytes()), "https://api/caf%C3%A9%22%5C%20");
        assert_eq!(of(b"/\xff\n"), "https://api/%FF%0A");
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("HTTPS://Idp.example.com:8443/realms/r?x=1").unwrap();
        assert_eq!(
            (url.scheme, url.authority.as_str(), url.path.as_str()),
            ("https", "idp.example.com:8443", "/realms/r?x=1")
        );
        assert_eq!(Url::parse("http://idp").unwrap().path, "/");
        for odd in [
            "",
            "idp",
            "ftp://idp/",
            "https://",
            "https://u:p@idp/",
            "https://idp/#x",
            "https://idp/a b",
            "https://idp/\r\nx: y",
        ] {
            assert_eq!(Url::parse(odd), None, "{odd:?}");
        }
    }
}
