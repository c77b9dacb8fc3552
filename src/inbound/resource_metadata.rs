//! Protected resource metadata (RFC 9728): which authorization servers issue tokens for this
//! service.
//!
//! In: a request's path and method. Out: the document, if that is what was asked for. It is made
//! from the policy alone, and needs no token (RFC 9728 section 3.1).

use crate::http::message::LocalReply;
use crate::http::route::Target;

/// Between the host and the path of the resource's own identifier (RFC 9728 section 3).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The document, and where it is.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The path of the resource's identifier, in normal form; empty for the whole host.
    pub path: String,
    /// The document (RFC 9728 section 2).
    pub document: String,
}

/// How long the document may be kept: it changes with the configuration, and nobody is hurt by
/// yesterday's.
const CACHE_CONTROL: &str = "public, max-age=3600";

impl Resource {
    /// The answer, if the request asks for the document by its plain path: at its own place, or at
    /// that of a resource that is the whole host.
    pub fn answer(&self, target: Target<'_>) -> Option<LocalReply> {
        let rest = target.path().strip_prefix(WELL_KNOWN.as_bytes())?;
        let asked = rest.is_empty() || rest == self.path.as_bytes();
        asked.then(|| {
            if matches!(target.method(), b"GET" | b"HEAD") { self.document() } else { method_not_allowed() }
        })
    }

    fn document(&self) -> LocalReply {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("cache-control", CACHE_CONTROL.to_owned()),
        ];
        let body = self.document.clone();
        LocalReply {
            status: 200,
            grpc_status: None,
            headers,
            body,
            details: "m2m_auth_resource_metadata",
            filter_state: Vec::new(),
        }
    }
}

/// RFC 9110 section 15.5.6.
fn method_not_allowed() -> LocalReply {
    let headers = vec![("allow", "GET, HEAD".to_owned()), ("cache-control", "no-store".to_owned())];
    let details = "m2m_auth_resource_metadata_method";
    LocalReply {
        status: 405,
        grpc_status: None,
        headers,
        body: String::new(),
        details,
        filter_state: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::MessageHead;

    fn status(method: &str, path: &str) -> Option<u16> {
        let resource = Resource { path: "/inventory".into(), document: "{}".into() };
        let head: MessageHead = [(":method", method), (":path", path)].into_iter().collect();
        resource.answer(Target::of(&head)).map(|response| response.status)
    }

    #[test]
    fn the_document_is_where_the_rfc_has_it_and_can_only_be_read() {
        for path in [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource?x",
            "/.well-known/oauth-protected-resource/inventory",
        ] {
            assert_eq!((status("GET", path), status("HEAD", path)), (Some(200), Some(200)), "{path}");
            assert_eq!((status("POST", path), status("get", path)), (Some(405), Some(405)), "{path}");
        }
        for path in [
            "/",
            "/inventory",
            "/.well-known",
            "/.well-known/oauth-protected-resources",
            "/.well-known/oauth-protected-resource/orders",
            "/.well-known/oauth-protected-resource/inventory/items",
            "/x/.well-known/oauth-protected-resource",
            "//.well-known/./oauth%2dprotected-resource/inventory",
        ] {
            assert_eq!(status("GET", path), None, "{path}");
        }
    }
}
