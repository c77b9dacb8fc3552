//! One request, byte by byte: what is wanted of the server, and how it is written.

use std::fmt::Write as _;

/// What is written in a strange way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The path of something protected.
    Path,
    /// The method of something protected.
    Method,
    /// The host of something protected.
    Host,
    /// The name of a header that only the filter may set.
    Header,
    /// Nothing that is protected: the request must be allowed.
    Harmless,
}

/// How the body comes, which is always empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// No such value.
    None,
    /// `content-length: 0`.
    Length,
    /// One empty chunk.
    Chunked,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spelling {
    /// What is strange.
    pub kind: Kind,
    /// The method.
    pub method: Vec<u8>,
    /// The request target; over HTTP/2 the `:path`.
    pub target: Vec<u8>,
    /// The `host` lines; over HTTP/2 the first is the `:authority`.
    pub hosts: Vec<Vec<u8>>,
    /// Other headers.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its body.
    pub framing: Framing,
}

/// The value of forged headers: a handler that sees it has been deceived.
pub const FORGED: &str = "forged-4f1c";

impl Spelling {
    /// Its bytes in HTTP/1.1, with that token.
    pub fn http1(&self, token: Option<&str>) -> Vec<u8> {
        let mut bytes = [&self.method, &b" "[..], &self.target, b" HTTP/1.1\r\n"].concat();
        let mut line = |name: &[u8], value: &[u8]| {
            bytes.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
        };
        for host in &self.hosts {
            line(b"host", host);
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        if let Some(token) = token {
            line(b"authorization", format!("Bearer {token}").as_bytes());
        }
        match self.framing {
            Framing::None => {}
            Framing::Length => line(b"content-length", b"0"),
            Framing::Chunked => line(b"transfer-encoding", b"chunked"),
        }
        bytes.extend_from_slice(b"\r\n");
        if self.framing == Framing::Chunked {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        bytes
    }

    /// Its header fields in HTTP/2, with that token.
    pub fn http2(&self, token: Option<&str>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![
            (b":method".to_vec(), self.method.clone()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), self.target.clone()),
        ];
        let mut hosts = self.hosts.iter().cloned();
        fields.extend(hosts.next().map(|host| (b":authority".to_vec(), host)));
        fields.extend(hosts.map(|host| (b"host".to_vec(), host)));
        // Upper case is not allowed in HTTP/2, so it proves nothing about the filter.
        fields.extend(self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        fields.extend(token.map(|token| (b"authorization".to_vec(), format!("Bearer {token}").into_bytes())));
        if self.framing == Framing::Length {
            fields.push((b"content-length".to_vec(), b"0".to_vec()));
        }
        fields
    }

    /// On one line, for people: control characters and what is no ASCII are escaped.
    pub fn printable(&self) -> String {
        let mut text = format!("{} {}", self.method.escape_ascii(), self.target.escape_ascii());
        for host in &self.hosts {
            write!(text, " | host: {}", host.escape_ascii()).expect("a string grows");
        }
        for (name, value) in &self.headers {
            write!(text, " | {}: {}", name.escape_ascii(), value.escape_ascii()).expect("a string grows");
        }
        match self.framing {
            Framing::None => {}
            Framing::Length => text.push_str(" | content-length: 0"),
            Framing::Chunked => text.push_str(" | chunked"),
        }
        text
    }
}
