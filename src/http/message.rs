//! HTTP messages as data: a request, a call to make, its reply, and a local reply.
//!
//! Plain data, without decisions, I/O or knowledge of tokens.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;
use std::time::Duration;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// The position of one header field in the bytes of a [`MessageHead`].
#[derive(Clone, Debug)]
pub struct HeaderField {
    /// The lower-case name.
    pub name: Range<usize>,
    /// The value, as the client sent it: any bytes.
    pub value: Range<usize>,
}

/// The attributes of a request to get from the host; each costs about 1 us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestAttributes {
    /// For [`Route::cluster`].
    pub cluster: bool,
    /// For [`Route::credential`].
    pub credential: bool,
    /// For [`MessageHead::certificate`].
    pub certificate: bool,
}

/// A request's route, as far as it was requested from the host and is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The name of the cluster to which the request is routed.
    pub cluster: Option<Vec<u8>>,
    /// The credential that the route's metadata names.
    pub credential: Option<Vec<u8>>,
}

/// The service to which a request goes: its host, and its cluster, if known.
///
/// Digests, since clients choose hosts and a name may be long. They only distinguish services, and
/// prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    host: u64,
    cluster: Option<u64>,
}

impl Service {
    /// The service to which this request goes.
    pub fn of(head: &MessageHead) -> Self {
        Self { host: digest(head.host()), cluster: head.route.cluster.as_deref().map(digest) }
    }

    /// Whether both may be the same service.
    pub fn may_equal(self, other: Self) -> bool {
        let clusters = self.cluster.zip(other.cluster);
        self.host == other.host && clusters.is_none_or(|(one, other)| one == other)
    }
}

fn digest(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for byte in name {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    hasher.finish()
}

/// A request's headers, in the one buffer in which the host passed them, and its route.
#[derive(Clone, Default)]
pub struct MessageHead {
    bytes: Vec<u8>,
    fields: Vec<HeaderField>,
    route: Route,
    certificate: Option<Vec<u8>>,
    has_no_body: bool,
}

impl MessageHead {
    /// Header fields at their positions in `bytes`; a range outside of it reads as empty.
    pub fn new(bytes: Vec<u8>, fields: Vec<HeaderField>) -> Self {
        Self { bytes, fields, ..Self::default() }
    }

    /// The same request, on this route.
    #[must_use]
    pub fn with_route(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// The same request, on a connection whose client has presented this certificate.
    #[must_use]
    pub fn with_client_certificate(self, certificate: Option<Vec<u8>>) -> Self {
        Self { certificate, ..self }
    }

    /// The same request, without a body.
    #[must_use]
    pub fn without_body(self) -> Self {
        Self { has_no_body: true, ..self }
    }

    /// Whether a body may follow.
    pub fn has_body(&self) -> bool {
        !self.has_no_body
    }

    /// The size of all names and values, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The SHA-256 of the client certificate, in hexadecimal, if it was requested from the host.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// The request's route.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// `:method`.
    pub fn method(&self) -> &[u8] {
        self.first(":method").unwrap_or_default()
    }

    /// Whether the host sends a gRPC response to this, by the host's own test (`application/grpc`,
    /// `application/grpc+proto`).
    pub fn is_grpc(&self) -> bool {
        let rest = self.first("content-type").and_then(|kind| kind.strip_prefix(b"application/grpc"));
        rest.is_some_and(|rest| matches!(rest, [] | [b'+', ..]))
    }

    /// `:path`, with its query.
    pub fn path(&self) -> &[u8] {
        self.first(":path").unwrap_or_default()
    }

    /// `:authority`, with its port if it has one.
    pub fn host(&self) -> &[u8] {
        self.first(":authority").unwrap_or_default()
    }

    /// The first value of a header, by its lower-case name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|field| self.slice(&field.name) == name.as_bytes())?;
        Some(self.slice(&field.value))
    }

    /// Every value of a header, by its lower-case name.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields
            .iter()
            .filter(move |field| self.slice(&field.name) == name.as_bytes())
            .map(|field| self.slice(&field.value))
    }

    /// Every header field, in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.slice(&field.name), self.slice(&field.value)))
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for MessageHead {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut head = Self::default();
        for (name, value) in pairs {
            let start = head.bytes.len();
            head.bytes.extend_from_slice(name.as_ref());
            let middle = head.bytes.len();
            head.bytes.extend_from_slice(value.as_ref());
            head.fields.push(HeaderField { name: start..middle, value: middle..head.bytes.len() });
        }
        head
    }
}

impl fmt::Debug for MessageHead {
    /// Names only: values hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

/// The target of an HTTP request: RFC 3986 authority and path, reached through an Envoy cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The Envoy cluster that reaches it.
    pub cluster: String,
    /// `:scheme`, `http` or `https`, for the server; whether TLS is used is up to the cluster.
    pub scheme: &'static str,
    /// `:authority`.
    pub authority: String,
    /// `:path`, with its query.
    pub path: String,
}

/// An HTTP request for the host to make.
#[derive(Clone)]
pub struct HttpCall {
    /// The target.
    pub endpoint: Endpoint,
    /// `:method`.
    pub method: &'static str,
    /// Further header fields; `authorization` may hold a client secret.
    pub headers: Vec<(&'static str, String)>,
    /// The body; may hold a client secret.
    pub body: Zeroizing<Vec<u8>>,
    /// How long the host waits for the reply.
    pub timeout: Duration,
}

impl HttpCall {
    /// The same call, with this timeout if there is one.
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout.unwrap_or(self.timeout);
        self
    }
}

impl Drop for HttpCall {
    fn drop(&mut self) {
        for (_, value) in &mut self.headers {
            value.zeroize();
        }
    }
}

impl ZeroizeOnDrop for HttpCall {}

impl fmt::Debug for HttpCall {
    /// Neither headers nor body: both may hold a client secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall")
            .field("method", &self.method)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The result of an [`HttpCall`].
#[derive(Clone, Default)]
pub struct HttpReply {
    /// `:status`; `None` if the host got no reply.
    pub status: Option<u16>,
    /// The header fields of the reply.
    pub head: MessageHead,
    /// The body; `None` if it was larger than [`MAX_REPLY_BYTES`].
    pub body: Option<Vec<u8>>,
    /// Why there is no status, if known.
    pub detail: Cow<'static, str>,
    /// Whether the connection failed.
    pub no_connection: bool,
}

/// The largest body that the shell copies out of the host: as many keys as a set may have
/// ([`crate::jose::jwk::MAX_KEYS`]), each with a chain of certificates, of 2.5 KB. The largest key
/// set of a common provider, Entra's, has 20 KB.
pub const MAX_REPLY_BYTES: usize = 256 * 1024;

impl fmt::Debug for HttpReply {
    /// No body: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// A response that the filter sends instead of forwarding the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status; for gRPC requests the host maps it (401 to 16, 403 to 7, 503 to 14), unless
    /// `grpc_status` is given.
    pub status: u16,
    /// The gRPC status, if the host's mapping does not fit.
    pub grpc_status: Option<u8>,
    /// Header fields, free of control characters.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// The filter state for the access log, if it is enabled.
    pub filter_state: FilterState,
}

/// Names and values for Envoy's filter state.
pub type FilterState = Vec<(&'static str, String)>;

/// Identifies a request; the host's stream id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_prints_no_value() {
        let head: MessageHead = [("authorization", "Bearer hush")].into_iter().collect();
        assert_eq!(format!("{head:?}"), r#"["authorization"]"#);
    }

    #[test]
    fn a_range_outside_the_buffer_reads_as_empty() {
        let head = MessageHead::new(vec![b'a'], vec![HeaderField { name: 0..1, value: 5..9 }]);
        assert_eq!(head.first("a"), Some(&b""[..]));
    }
}
