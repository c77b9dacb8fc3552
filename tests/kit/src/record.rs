//! What a stand-in was asked: kept in order, counted, and awaited.

use crate::{serve::lock, wait::PATIENCE};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Request, body::Incoming, http::request::Parts};
use serde_json::Value;
use std::{collections::VecDeque, fmt, sync::Mutex, time::Instant};
use tokio::sync::watch;

/// The most requests that are kept, as a load test sends many; the count has no bound.
const KEPT: usize = 20_000;

/// One request, as it came in.
#[derive(Clone)]
pub struct Recorded {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with its query, byte for byte.
    pub path: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Names in lower case, values as bytes, in order, duplicates kept.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Bytes,
    /// The trailers after it.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// When it had arrived as a whole.
    pub at: Instant,
}

impl Recorded {
    /// The first header of that name (bytes that are no UTF-8 replaced).
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers_named(name).into_iter().next()
    }

    /// All headers of that name, in order.
    pub fn headers_named(&self, name: &str) -> Vec<String> {
        let same = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        same.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The body as form parameters, decoded, in order, duplicates kept.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The first form parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The body as JSON; panics when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body as a string.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) async fn read(request: Request<Incoming>) -> Result<Self, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().map(pairs).unwrap_or_default();
        Ok(Self { trailers, ..Self::of(&parts, body.to_bytes()) })
    }

    fn of(parts: &Parts, body: Bytes) -> Self {
        let mut headers = pairs(&parts.headers);
        // HTTP/2 carries the host in `:authority`; one header to read is enough for a test.
        if let (Some(authority), false) = (parts.uri.authority(), parts.headers.contains_key("host")) {
            headers.insert(0, ("host".to_owned(), authority.as_str().as_bytes().to_vec()));
        }
        let path = parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string);
        let (method, version) = (parts.method.to_string(), format!("{:?}", parts.version));
        Self { method, path, version, headers, body, trailers: Vec::new(), at: Instant::now() }
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// As a person reads it: a test prints this when it fails.
impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.method, self.path, self.version)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        write!(f, "\n{}", self.text())
    }
}

/// The requests of one endpoint.
pub(crate) struct Log {
    seen: Mutex<VecDeque<Recorded>>,
    count: watch::Sender<usize>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { seen: Mutex::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn push(&self, request: Recorded) {
        let mut seen = lock(&self.seen);
        if seen.len() == KEPT {
            seen.pop_front();
        }
        seen.push_back(request);
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        lock(&self.seen).iter().cloned().collect()
    }

    pub(crate) fn forget(&self) {
        let mut seen = lock(&self.seen);
        seen.clear();
        self.count.send_modify(|count| *count = 0);
    }

    pub(crate) async fn wait_for(&self, what: &str, wanted: usize) {
        let mut count = self.count.subscribe();
        let arrived = tokio::time::timeout(PATIENCE, count.wait_for(|&count| count >= wanted)).await.is_ok();
        assert!(arrived, "waited {PATIENCE:?} for {wanted} requests at {what}, {} came", self.count());
    }
}
