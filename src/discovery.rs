//! Where an issuer's endpoints are: URLs, and the provider's own metadata document (`OpenID` Connect Discovery 1.0
//! section 4, RFC 8414).
//!
//! In: the issuer's URL, or a reply. Out: calls to make, or endpoints that may be believed. A document that names another
//! issuer, or an endpoint on a host that was not allowed, is refused: following it would be SSRF (CVE-2026-41413).

use crate::io::{Call, Endpoint, Reply};
use crate::lease::{Cause, Failure};
use crate::oauth::answer;
use std::time::Duration;

/// An absolute `http` or `https` URL, taken apart.
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
    /// Takes a URL apart (RFC 3986). User information, fragments, blanks and control characters are refused.
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

    /// The endpoint that `cluster` reaches.
    pub fn through(self, cluster: &str) -> Endpoint {
        Endpoint {
            cluster: cluster.to_owned(),
            scheme: self.scheme,
            authority: self.authority,
            path: self.path,
        }
    }
}

/// What to ask, and what may be believed of the answer.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The issuer's names, one of which the document must have exactly (RFC 8414 section 3.3).
    pub issuers: Vec<String>,
    /// The first of them, taken apart.
    pub url: Url,
    /// The cluster that reaches it.
    pub cluster: String,
    /// Further hosts that the document may name.
    pub allowed_hosts: Vec<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether the document is asked for the key set.
    pub for_keys: bool,
    /// Whether the document is asked for the token endpoint.
    pub for_tokens: bool,
    /// Whether the document is asked for the introspection endpoint.
    pub for_introspection: bool,
}

/// Where a metadata document may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// After the issuer's path (`OpenID` Connect Discovery 1.0 section 4.1).
    #[default]
    OpenId,
    /// Between host and path (RFC 8414 section 3).
    OAuth,
}

impl Place {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::OpenId => Self::OAuth,
            Self::OAuth => Self::OpenId,
        }
    }
}

/// The endpoints that discovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `jwks_uri`.
    pub jwks_uri: Option<Endpoint>,
    /// `token_endpoint`.
    pub token_endpoint: Option<Endpoint>,
    /// `introspection_endpoint`.
    pub introspection_endpoint: Option<Endpoint>,
}

impl Discovery {
    /// The call for the metadata document, at either of its places.
    pub fn call(&self, place: Place) -> Call {
        let base = self.url.path.trim_end_matches('/');
        let path = match place {
            Place::OpenId => format!("{base}/.well-known/openid-configuration"),
            Place::OAuth => format!("/.well-known/oauth-authorization-server{base}"),
        };
        get(Url { path, ..self.url.clone() }.through(&self.cluster), self.timeout)
    }

    /// The endpoints, if the reply is the metadata of this issuer.
    pub fn read(&self, reply: &Reply) -> Result<Metadata, Failure> {
        let body = answer::body_of(reply).map_err(|failure| match reply.status {
            // Not here: the next attempt asks at the other place.
            Some(404) => Failure { cause: Cause::Elsewhere, ..failure },
            _ => failure,
        })?;
        let document = answer::object(body, "the metadata")?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
        if !text("issuer").is_some_and(|named| self.issuers.iter().any(|own| own == named)) {
            let detail =
                "the metadata names another issuer; `issuer` must be the exact URL that the provider uses";
            return Err(Failure::new(Cause::Configuration, detail));
        }
        let endpoint = |name: &str, needed: bool| match text(name) {
            Some(uri) => self.endpoint(name, uri).map(Some),
            None if needed => Err(Failure::new(Cause::Configuration, format!("the metadata has no {name}"))),
            None => Ok(None),
        };
        let jwks_uri = endpoint("jwks_uri", self.for_keys)?;
        let token_endpoint = endpoint("token_endpoint", self.for_tokens)?;
        // Where nobody asks it, it may be anywhere.
        let introspection_endpoint =
            if self.for_introspection { endpoint("introspection_endpoint", true)? } else { None };
        Ok(Metadata { jwks_uri, token_endpoint, introspection_endpoint })
    }

    fn endpoint(&self, name: &str, uri: &str) -> Result<Endpoint, Failure> {
        let refused = |detail: String| Failure::new(Cause::Configuration, detail);
        let url =
            Url::parse(uri).ok_or_else(|| refused(format!("the metadata's {name} is not an http(s) URL")))?;
        let own = |own: Url| url.authority == own.authority && url.scheme == own.scheme;
        let own = self.issuers.iter().filter_map(|name| Url::parse(name)).any(own);
        if own || self.allowed_hosts.iter().any(|host| host.eq_ignore_ascii_case(&url.authority)) {
            return Ok(url.through(&self.cluster));
        }
        Err(refused(format!(
            "the metadata's {name} is on another host than the issuer; `allowed_hosts` can allow it"
        )))
    }
}

/// A `GET` for a JSON document.
pub fn get(endpoint: Endpoint, timeout: Duration) -> Call {
    let headers = vec![("accept", "application/json".to_owned())];
    Call { endpoint, method: "GET", headers, body: Vec::new(), timeout }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn discovery() -> Discovery {
        let issuers =
            vec!["https://idp.example.com/realms/r".to_owned(), "https://old.example.com/r".to_owned()];
        let url = Url::parse(&issuers[0]).unwrap();
        let allowed_hosts = vec!["keys.example.com".into()];
        let timeout = Duration::from_secs(5);
        Discovery {
            issuers,
            url,
            cluster: "idp".into(),
            allowed_hosts,
            timeout,
            for_keys: false,
            for_tokens: false,
            for_introspection: false,
        }
    }

    fn read(document: &serde_json::Value) -> Result<Metadata, Failure> {
        let body = Some(document.to_string().into_bytes());
        discovery().read(&Reply { status: Some(200), body, ..Reply::default() })
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

    #[test]
    fn both_well_known_places_are_asked() {
        assert_eq!(
            discovery().call(Place::OpenId).endpoint.path,
            "/realms/r/.well-known/openid-configuration"
        );
        assert_eq!(
            discovery().call(Place::OAuth).endpoint.path,
            "/.well-known/oauth-authorization-server/realms/r"
        );
    }

    #[test]
    fn endpoints_stay_on_the_issuers_host_unless_allowed() {
        let issuer = "https://idp.example.com/realms/r";
        let own = json!({ "issuer": issuer, "jwks_uri": "https://idp.example.com/keys" });
        assert_eq!(read(&own).unwrap().jwks_uri.unwrap().path, "/keys");
        let allowed = json!({ "issuer": issuer, "jwks_uri": "https://keys.example.com/keys" });
        assert_eq!(read(&allowed).unwrap().jwks_uri.unwrap().authority, "keys.example.com");
        for evil in [
            "https://evil.example.com/keys",
            "http://idp.example.com/keys",
            "https://idp.example.com:444/",
            "file:///etc",
        ] {
            let failure = read(&json!({ "issuer": issuer, "token_endpoint": evil })).unwrap_err();
            assert_eq!(failure.cause, Cause::Configuration, "{evil}");
        }
    }

    #[test]
    fn a_provider_of_several_names_may_speak_under_any_of_them() {
        let old =
            json!({ "issuer": "https://old.example.com/r", "jwks_uri": "https://old.example.com/keys" });
        assert_eq!(read(&old).unwrap().jwks_uri.unwrap().authority, "old.example.com");
        let other =
            json!({ "issuer": "https://older.example.com/r", "jwks_uri": "https://old.example.com/keys" });
        assert_eq!(read(&other).unwrap_err().cause, Cause::Configuration);
    }

    #[test]
    fn where_tokens_are_told_to_is_as_strict_and_nobodys_business_where_they_are_not() {
        let issuer = "https://idp.example.com/realms/r";
        let read = |document: &serde_json::Value, for_introspection| {
            let body = Some(document.to_string().into_bytes());
            let reply = Reply { status: Some(200), body, ..Reply::default() };
            Discovery { for_introspection, ..discovery() }.read(&reply)
        };
        let own = json!({ "issuer": issuer, "introspection_endpoint": "https://idp.example.com/introspect" });
        assert_eq!(read(&own, true).unwrap().introspection_endpoint.unwrap().path, "/introspect");
        let evil = json!({ "issuer": issuer, "introspection_endpoint": "https://evil.example.com/" });
        assert_eq!(read(&evil, true).unwrap_err().cause, Cause::Configuration);
        assert_eq!(read(&evil, false).unwrap().introspection_endpoint, None);
        let none = json!({ "issuer": issuer });
        let failure = read(&none, true).unwrap_err().to_string();
        assert_eq!(failure, "configuration: the metadata has no introspection_endpoint");
    }

    #[test]
    fn a_document_that_lacks_what_is_needed_is_refused() {
        let document = json!({ "issuer": "https://idp.example.com/realms/r" });
        let body = Some(document.to_string().into_bytes());
        let reply = Reply { status: Some(200), body, ..Reply::default() };
        assert!(discovery().read(&reply).is_ok());
        let failure = Discovery { for_keys: true, ..discovery() }.read(&reply).unwrap_err();
        assert_eq!(failure.to_string(), "configuration: the metadata has no jwks_uri");
    }

    #[test]
    fn the_document_of_another_issuer_is_refused() {
        let failure = read(
            &json!({ "issuer": "https://idp.example.com/realms/r/", "jwks_uri": "https://idp.example.com/k" }),
        );
        assert_eq!(failure.unwrap_err().cause, Cause::Configuration);
    }
}
