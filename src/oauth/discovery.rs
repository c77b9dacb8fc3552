//! Where an issuer's endpoints are: URLs, and the provider's own metadata document (`OpenID`
//! Connect Discovery 1.0 section 4, RFC 8414).
//!
//! In: the issuer's URL, or a reply. Out: calls to make, or endpoints that may be believed. A
//! document that names another issuer, or an endpoint on a host that was not allowed, is refused:
//! following it would be SSRF (CVE-2026-41413).

use crate::http::message::{Endpoint, HttpCall, HttpReply};
use crate::http::printable;
use crate::http::url::{Url, without_default_port};
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::oauth::reply::{object, success_body};
use std::time::Duration;
use zeroize::Zeroizing;

/// The most characters of a value of the document that a log line quotes.
const QUOTED_CHARS: usize = 160;

/// What to ask, and what may be believed of the answer.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The issuer's names, one of which the document must have exactly (RFC 8414 section 3.3).
    pub issuers: Vec<String>,
    /// The first of them, taken apart.
    pub url: Url,
    /// The cluster that reaches it.
    pub cluster: String,
    /// The clusters that reach what it names.
    pub clusters: EndpointClusters,
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
    /// Which of them are asked by clients that authenticate by a certificate.
    pub mtls_endpoints: MtlsEndpoints,
}

/// The clusters that reach a provider's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointClusters {
    /// `jwks_uri`.
    pub keys: String,
    /// `token_endpoint`.
    pub tokens: String,
    /// `introspection_endpoint`.
    pub introspection: String,
}

/// The endpoints at which a client authenticates by a certificate, and which may have an alias for
/// that (RFC 8705 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MtlsEndpoints {
    /// The token endpoint, for one client at least.
    pub tokens: bool,
    /// The introspection endpoint.
    pub introspection: bool,
}

/// Where a metadata document may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataLocation {
    /// After the issuer's path (`OpenID` Connect Discovery 1.0 section 4.1).
    #[default]
    OpenId,
    /// Between host and path (RFC 8414 section 3).
    OAuth,
}

impl MetadataLocation {
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
    /// `token_endpoint` of `mtls_endpoint_aliases`: for clients that authenticate by a certificate.
    pub token_endpoint_alias: Option<Endpoint>,
    /// `introspection_endpoint`, or its alias where the client authenticates by a certificate.
    pub introspection_endpoint: Option<Endpoint>,
}

impl Discovery {
    /// The call for the metadata document, at either of its places.
    pub fn call(&self, place: MetadataLocation) -> HttpCall {
        let base = self.url.path.trim_end_matches('/');
        let path = match place {
            MetadataLocation::OpenId => format!("{base}/.well-known/openid-configuration"),
            MetadataLocation::OAuth => format!("/.well-known/oauth-authorization-server{base}"),
        };
        get(Url { path, ..self.url.clone() }.via_cluster(&self.cluster), "application/json", self.timeout)
    }

    /// The endpoints, if the reply is the metadata of this issuer.
    pub fn read(&self, reply: &HttpReply) -> Result<Metadata, FetchError> {
        let document = object(success_body(reply)?, &reply.head, "the metadata")?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
        self.check_issuer(text("issuer"))?;
        let EndpointClusters { keys, tokens, introspection } = &self.clusters;
        let endpoint = |name: &str, cluster: &str, needed: bool| match text(name) {
            Some(uri) => self.endpoint(name, uri, cluster).map(Some),
            None if needed => {
                Err(FetchError::new(FetchErrorKind::Configuration, format!("the metadata has no {name}")))
            }
            None => Ok(None),
        };
        // RFC 8705 section 5: where there is an alias, a client that uses mutual TLS must use it.
        let aliases = document.get("mtls_endpoint_aliases");
        let alias = |name: &str, cluster: &str| {
            let uri = aliases.and_then(|aliases| aliases.get(name)?.as_str());
            uri.map(|uri| self.endpoint(&format!("mtls_endpoint_aliases.{name}"), uri, cluster)).transpose()
        };
        let jwks_uri = endpoint("jwks_uri", keys, self.for_keys)?;
        let token_endpoint = endpoint("token_endpoint", tokens, self.for_tokens)?;
        let by_certificate = self.for_tokens && self.mtls_endpoints.tokens;
        let token_endpoint_alias = if by_certificate { alias("token_endpoint", tokens)? } else { None };
        // Where nobody asks it, it may be anywhere.
        let introspection_endpoint = if self.for_introspection {
            let name = "introspection_endpoint";
            let alias = if self.mtls_endpoints.introspection { alias(name, introspection)? } else { None };
            if alias.is_some() { alias } else { endpoint(name, introspection, true)? }
        } else {
            None
        };
        Ok(Metadata { jwks_uri, token_endpoint, token_endpoint_alias, introspection_endpoint })
    }

    /// RFC 8725 section 3.10: no name that a token brings leads here, and no document leads to
    /// another host that is not allowed. RFC 8414 section 3.3: the document is of the issuer that
    /// was asked, by one of its names.
    fn check_issuer(&self, named: Option<&str>) -> Result<(), FetchError> {
        if named.is_some_and(|named| self.issuers.iter().any(|own| own == named)) {
            return Ok(());
        }
        let expected: Vec<String> = self.issuers.iter().take(4).map(|own| format!("{own:?}")).collect();
        let expected = expected.join(" or ");
        let detail = match named {
            Some(named) => format!(
                "the metadata's issuer is {}, expected {expected}; `issuer` must be the exact URL that the provider uses",
                quoted(named)
            ),
            None => format!("the metadata has no issuer, expected {expected}"),
        };
        Err(FetchError::new(FetchErrorKind::Configuration, detail))
    }

    fn endpoint(&self, name: &str, uri: &str, cluster: &str) -> Result<Endpoint, FetchError> {
        let refused = |detail: String| FetchError::new(FetchErrorKind::Configuration, detail);
        let url =
            Url::parse(uri).ok_or_else(|| refused(format!("the metadata's {name} is not an http(s) URL")))?;
        let host = url.host();
        let own: Vec<Url> = self.issuers.iter().filter_map(|name| Url::parse(name)).collect();
        let same_host = own.iter().find(|own| own.host() == host);
        if own.iter().any(|own| own.host() == host && own.scheme == url.scheme) {
            return Ok(Url { authority: host.to_owned(), ..url }.via_cluster(cluster));
        }
        let is_host = |allowed: &String| {
            let allowed = without_default_port(allowed, url.scheme);
            allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(&url.authority)
        };
        if self.allowed_hosts.iter().any(is_host) {
            return Ok(url.via_cluster(cluster));
        }
        let found = printable(&format!("{}://{}", url.scheme, url.authority), QUOTED_CHARS);
        let detail = match same_host {
            Some(own) => {
                let member = name.rsplit('.').next().unwrap_or(name);
                format!(
                    "the metadata's {name} is at {found}, the issuer at {}://{}, expected the same scheme; `{member}: {}` can \
                     be set instead",
                    own.scheme,
                    own.authority,
                    url.for_log(own.scheme, QUOTED_CHARS)
                )
            }
            None => format!(
                "the metadata's {name} is at {found}, which is another host than the issuer's; `allowed_hosts: [{}]` can \
                 allow it",
                printable(host, QUOTED_CHARS)
            ),
        };
        Err(refused(detail))
    }
}

/// An issuer's name for a log line. One that is no URL, or has a query, which none has (RFC 8414
/// section 2), may be anything.
fn quoted(named: &str) -> String {
    let sound = Url::parse(named).is_some() && !named.contains(['?', '@']) && !named.contains("eyJ");
    if sound { format!("{:?}", printable(named, QUOTED_CHARS)) } else { "not an issuer's URL".to_owned() }
}

/// Whether this reply says that the document is not there (RFC 8414 section 3.2 leaves the status
/// open): another location may have it. What asks to come back later says nothing of that.
pub fn is_not_found(reply: &HttpReply) -> bool {
    reply.status.is_some_and(|status| (300..500).contains(&status) && !matches!(status, 408 | 425 | 429))
}

/// A `GET` for a document of these media types.
pub fn get(endpoint: Endpoint, accept: &str, timeout: Duration) -> HttpCall {
    let headers = vec![("accept", accept.to_owned())];
    HttpCall { endpoint, method: "GET", headers, body: Zeroizing::default(), timeout }
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
            clusters: EndpointClusters {
                keys: "keys".into(),
                tokens: "tokens".into(),
                introspection: "introspection".into(),
            },
            allowed_hosts,
            timeout,
            for_keys: false,
            for_tokens: false,
            for_introspection: false,
            mtls_endpoints: MtlsEndpoints::default(),
        }
    }

    fn read(document: &serde_json::Value) -> Result<Metadata, FetchError> {
        let body = Some(document.to_string().into_bytes());
        discovery().read(&HttpReply { status: Some(200), body, ..HttpReply::default() })
    }

    #[test]
    fn both_well_known_places_are_asked() {
        assert_eq!(
            discovery().call(MetadataLocation::OpenId).endpoint.path,
            "/realms/r/.well-known/openid-configuration"
        );
        assert_eq!(
            discovery().call(MetadataLocation::OAuth).endpoint.path,
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
            assert_eq!(failure.kind, FetchErrorKind::Configuration, "{evil}");
        }
    }

    #[test]
    fn each_endpoint_is_reached_by_its_own_cluster() {
        let issuer = "https://idp.example.com/realms/r";
        let document = json!({
            "issuer": issuer, "jwks_uri": "https://idp.example.com/k", "token_endpoint": "https://idp.example.com/t",
            "introspection_endpoint": "https://idp.example.com/i",
        });
        let reply = HttpReply {
            status: Some(200),
            body: Some(document.to_string().into_bytes()),
            ..HttpReply::default()
        };
        let found = Discovery { for_introspection: true, ..discovery() }.read(&reply).unwrap();
        let all = [found.jwks_uri, found.token_endpoint, found.introspection_endpoint];
        assert_eq!(all.map(|endpoint| endpoint.unwrap().cluster), ["keys", "tokens", "introspection"]);
        assert_eq!(discovery().call(MetadataLocation::OpenId).endpoint.cluster, "idp");
    }

    #[test]
    fn a_default_port_names_the_same_host_and_no_other_port_does() {
        let read = |issuer: &str, uri: &str| {
            let document = json!({ "issuer": issuer, "jwks_uri": uri }).to_string().into_bytes();
            let reply = HttpReply { status: Some(200), body: Some(document), ..HttpReply::default() };
            Discovery { issuers: vec![issuer.to_owned()], ..discovery() }.read(&reply)
        };
        for (issuer, uri, same) in [
            ("https://idp", "https://idp:443/keys", true),
            ("https://idp:443", "https://idp/keys", true),
            ("https://idp", "https://idp:/keys", true),
            ("http://idp", "http://IDP:80/keys", true),
            ("https://[::1]", "https://[::1]:443/keys", true),
            ("https://keys", "https://keys.example.com:443/keys", true), // allowed by name
            ("https://idp", "https://idp:80/keys", false),
            ("http://idp", "http://idp:443/keys", false),
            ("https://idp", "http://idp:443/keys", false),
            ("https://idp", "https://idp:4430/keys", false),
            ("https://idp:8443", "https://idp/keys", false),
        ] {
            assert_eq!(read(issuer, uri).is_ok(), same, "{issuer} {uri}");
        }
        assert_eq!(read("https://idp", "https://idp:443/k").unwrap().jwks_uri.unwrap().authority, "idp");
    }

    #[test]
    fn what_is_refused_is_named_and_so_is_what_can_be_written() {
        let issuer = "https://idp.example.com/realms/r";
        let says = |name: &str, uri: &str| {
            let document = json!({ "issuer": issuer, name: uri });
            read(&document).unwrap_err().to_string()
        };
        assert_eq!(
            says("jwks_uri", "http://idp.example.com/keys?x=1"),
            "configuration: the metadata's jwks_uri is at http://idp.example.com, the issuer at https://idp.example.com, expected \
             the same scheme; `jwks_uri: https://idp.example.com/keys` can be set instead"
        );
        assert_eq!(
            says("token_endpoint", "https://login.example.com:8443/t"),
            "configuration: the metadata's token_endpoint is at https://login.example.com:8443, which is another host than the \
             issuer's; `allowed_hosts: [login.example.com:8443]` can allow it"
        );
        assert_eq!(
            says("jwks_uri", "file:///etc/passwd"),
            "configuration: the metadata's jwks_uri is not an http(s) URL"
        );
        assert_eq!(
            says("jwks_uri", "https://me:pw@idp.example.com/"),
            "configuration: the metadata's jwks_uri is not an http(s) URL"
        );
        let of = |named: serde_json::Value| read(&json!({ "issuer": named })).unwrap_err().to_string();
        let expected = "expected \"https://idp.example.com/realms/r\" or \"https://old.example.com/r\"";
        assert_eq!(
            of(json!("https://idp.example.com/realms/r/")),
            format!(
                "configuration: the metadata's issuer is \"https://idp.example.com/realms/r/\", {expected}; `issuer` must be the exact \
                 URL that the provider uses"
            )
        );
        for odd in [
            "",
            "hush",
            "https://idp/?hush",
            "https://hush@idp/",
            "https://idp/\r\nhush",
            "https://idp/eyJhush",
        ] {
            let message = of(json!(odd));
            assert!(
                message.contains("the metadata's issuer is not an issuer's URL, expected"),
                "{odd}: {message}"
            );
        }
        assert_eq!(of(json!(null)), format!("configuration: the metadata has no issuer, {expected}"));
        assert!(of(json!("x".repeat(10_000))).len() < 500);
    }

    #[test]
    fn an_alias_for_certificates_is_for_those_who_have_one_and_as_strict() {
        let issuer = "https://idp.example.com/realms/r";
        let read = |host: &str, by_certificate| {
            let document = json!({
                "issuer": issuer, "token_endpoint": "https://idp.example.com/t",
                "introspection_endpoint": "https://idp.example.com/i",
                "mtls_endpoint_aliases": {
                    "token_endpoint": format!("https://{host}/mt"), "introspection_endpoint": format!("https://{host}/mi"),
                },
            });
            let body = Some(document.to_string().into_bytes());
            let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
            Discovery {
                for_tokens: true,
                for_introspection: true,
                mtls_endpoints: by_certificate,
                ..discovery()
            }
            .read(&reply)
        };
        let (none, both) = (MtlsEndpoints::default(), MtlsEndpoints { tokens: true, introspection: true });
        let path = |endpoint: Option<Endpoint>| endpoint.map(|endpoint| endpoint.path);
        let found = read("keys.example.com", both).unwrap();
        assert_eq!(path(found.token_endpoint).as_deref(), Some("/t"), "for the other clients");
        assert_eq!(path(found.token_endpoint_alias).as_deref(), Some("/mt"));
        assert_eq!(path(found.introspection_endpoint).as_deref(), Some("/mi"));
        let found = read("evil.example.com", none).unwrap();
        assert_eq!(
            (found.token_endpoint_alias, path(found.introspection_endpoint).as_deref()),
            (None, Some("/i"))
        );
        let failure = read("evil.example.com", both).unwrap_err().to_string();
        assert!(
            failure.contains("mtls_endpoint_aliases.token_endpoint is at https://evil.example.com"),
            "{failure}"
        );
    }

    #[test]
    fn a_location_without_the_document_is_told_from_one_that_is_busy() {
        let elsewhere = |status| is_not_found(&HttpReply { status: Some(status), ..HttpReply::default() });
        assert!([301, 302, 400, 401, 403, 404, 405, 406, 410, 451].into_iter().all(elsewhere));
        assert!(![200, 408, 425, 429, 500, 502, 503, 504].into_iter().any(elsewhere));
        assert!(!is_not_found(&HttpReply::default()));
    }

    #[test]
    fn a_provider_of_several_names_may_speak_under_any_of_them() {
        let old =
            json!({ "issuer": "https://old.example.com/r", "jwks_uri": "https://old.example.com/keys" });
        assert_eq!(read(&old).unwrap().jwks_uri.unwrap().authority, "old.example.com");
        let other =
            json!({ "issuer": "https://older.example.com/r", "jwks_uri": "https://old.example.com/keys" });
        assert_eq!(read(&other).unwrap_err().kind, FetchErrorKind::Configuration);
    }

    #[test]
    fn where_tokens_are_told_to_is_as_strict_and_nobodys_business_where_they_are_not() {
        let issuer = "https://idp.example.com/realms/r";
        let read = |document: &serde_json::Value, for_introspection| {
            let body = Some(document.to_string().into_bytes());
            let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
            Discovery { for_introspection, ..discovery() }.read(&reply)
        };
        let own = json!({ "issuer": issuer, "introspection_endpoint": "https://idp.example.com/introspect" });
        assert_eq!(read(&own, true).unwrap().introspection_endpoint.unwrap().path, "/introspect");
        let evil = json!({ "issuer": issuer, "introspection_endpoint": "https://evil.example.com/" });
        assert_eq!(read(&evil, true).unwrap_err().kind, FetchErrorKind::Configuration);
        assert_eq!(read(&evil, false).unwrap().introspection_endpoint, None);
        let none = json!({ "issuer": issuer });
        let failure = read(&none, true).unwrap_err().to_string();
        assert_eq!(failure, "configuration: the metadata has no introspection_endpoint");
    }

    #[test]
    fn a_document_that_lacks_what_is_needed_is_refused() {
        let document = json!({ "issuer": "https://idp.example.com/realms/r" });
        let body = Some(document.to_string().into_bytes());
        let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
        assert!(discovery().read(&reply).is_ok());
        let failure = Discovery { for_keys: true, ..discovery() }.read(&reply).unwrap_err();
        assert_eq!(failure.to_string(), "configuration: the metadata has no jwks_uri");
    }

    #[test]
    fn the_document_of_another_issuer_is_refused() {
        let failure = read(
            &json!({ "issuer": "https://idp.example.com/realms/r/", "jwks_uri": "https://idp.example.com/k" }),
        );
        assert_eq!(failure.unwrap_err().kind, FetchErrorKind::Configuration);
    }
}
