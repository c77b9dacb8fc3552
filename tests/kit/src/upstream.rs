//! A service behind the proxy: it echoes the request, or sends the answer that a test has set.
//!
//! Speaks HTTP/1.1 and cleartext HTTP/2. A gRPC request (`content-type: application/grpc`) is
//! answered with `grpc-status: 0` in the trailers. It authenticates nobody: that is the point of
//! the product.

use crate::{
    record::{Log, Recorded},
    serve::{Answer, Body, Server, answer, frames, lock},
};
use bytes::Bytes;
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    header::HeaderValue,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::VecDeque,
    fmt::Write as _,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The echo service. Its port closes when it is dropped.
pub struct Upstream {
    shared: Arc<Shared>,
    server: Server,
}

/// What to answer instead of the echo.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers beside `content-type: application/json`.
    pub headers: Vec<(String, String)>,
    /// The body; by default the status, as JSON.
    pub body: Option<String>,
    /// What comes behind the body.
    pub trailers: Vec<(&'static str, &'static str)>,
}

type Rule = Box<dyn Fn(&Recorded) -> Option<Reply> + Send>;
type Asking = Arc<dyn Fn(Recorded) -> Pin<Box<dyn Future<Output = Option<Reply>> + Send>> + Send + Sync>;

struct Shared {
    log: Log,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Settings {
    next: VecDeque<Reply>,
    rules: Vec<Rule>,
    asking: Option<Asking>,
    delay: Duration,
}

impl Upstream {
    /// Starts the service on a free loopback port.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// Starts the service on that port.
    pub async fn start_on(port: u16) -> Self {
        Self::serve(Some(port)).await
    }

    async fn serve(port: Option<u16>) -> Self {
        let shared = Arc::new(Shared { log: Log::new(), settings: Mutex::default() });
        let handler = Arc::clone(&shared);
        let server = Server::start(port, move |request| serve(Arc::clone(&handler), request)).await;
        Self { shared, server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:PORT` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The next `count` requests get this answer instead of the echo.
    pub fn answer_next(&self, count: usize, status: u16, headers: &[(&str, &str)]) {
        let reply = Reply::new(status, headers);
        lock(&self.shared.settings).next.extend(std::iter::repeat_n(reply, count));
    }

    /// Every request with a header of exactly this value gets this status.
    pub fn answer_when(&self, name: &str, value: &str, status: u16) {
        let (name, value) = (name.to_owned(), value.to_owned());
        let refused = move |request: &Recorded| request.headers_named(&name).contains(&value);
        self.answer_by(move |request| refused(request).then(|| Reply::new(status, &[])));
    }

    /// Every request for which `rule` names a reply gets it; the rules are asked in order, after
    /// `answer_next`.
    pub fn answer_by(&self, rule: impl Fn(&Recorded) -> Option<Reply> + Send + 'static) {
        lock(&self.shared.settings).rules.push(Box::new(rule));
    }

    /// Every request for which `asking` comes back with a reply gets it: for services that ask
    /// somebody else first. It is asked where no other rule has a reply.
    pub fn answer_after<F>(&self, asking: impl Fn(Recorded) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Option<Reply>> + Send + 'static,
    {
        lock(&self.shared.settings).asking = Some(Arc::new(move |request| Box::pin(asking(request))));
    }

    /// Every answer comes that much later.
    pub fn delay(&self, delay: Duration) {
        lock(&self.shared.settings).delay = delay;
    }

    /// Echoes again, whatever answers were set before.
    pub fn echo(&self) {
        *lock(&self.shared.settings) = Settings::default();
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.shared.log.count()
    }

    /// The requests that have arrived, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.log.all()
    }

    /// The newest request; panics when there was none.
    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("a request has reached the upstream")
    }

    /// Forgets the requests so far; counting starts at 0 again.
    pub fn forget(&self) {
        self.shared.log.forget();
    }

    /// Comes back once `count` requests have arrived.
    pub async fn wait_for(&self, count: usize) {
        self.shared.log.wait_for("the upstream", count).await;
    }

    /// Closes the port and every connection.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

impl Reply {
    /// A status and its headers.
    pub fn new(status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { status, headers: headers.collect(), body: None, trailers: Vec::new() }
    }

    /// A gRPC answer: 200, a message, and this status in the trailers.
    pub fn grpc(status: &'static str) -> Self {
        Self { trailers: vec![("grpc-status", status)], ..Self::new(200, &[]) }
    }
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let request = Recorded::read(request).await?;
    shared.log.push(request.clone());
    let (mut reply, asking, delay) = {
        let mut settings = lock(&shared.settings);
        let next = settings.next.pop_front();
        let reply = next.or_else(|| settings.rules.iter().find_map(|rule| rule(&request)));
        (reply, settings.asking.clone(), settings.delay)
    };
    if let (None, Some(asking)) = (&reply, asking) {
        reply = asking(request.clone()).await;
    }
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let is_grpc = request.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    Ok(match reply {
        Some(Reply { trailers, .. }) if !trailers.is_empty() => grpc(&trailers),
        Some(reply) => {
            let headers: Vec<_> = reply.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let body = reply.body.unwrap_or_else(|| json!({ "status": reply.status }).to_string());
            let mut response = answer(reply.status, &headers, body);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().entry("content-type").or_insert(json);
            response
        }
        None if is_grpc => grpc(&[("grpc-status", "0")]),
        None => answer(200, &[("content-type", "application/json")], echo(&request).to_string()),
    })
}

fn echo(request: &Recorded) -> Value {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| json!([name, text(value)])).collect();
    json!({
        "method": request.method,
        "path": request.path,
        "version": request.version,
        "headers": headers,
        "body_length": request.body.len(),
        "body_sha256": hex(&Sha256::digest(&request.body)),
    })
}

fn grpc(trailers: &[(&'static str, &'static str)]) -> Response<Body> {
    let trailers =
        trailers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let trailers: HeaderMap = trailers.collect();
    // One empty message: not compressed, of length 0.
    let message = Frame::data(Bytes::from_static(&[0; 5]));
    let (sender, body) = frames();
    let _ = sender.try_send(Ok(message));
    let _ = sender.try_send(Ok(Frame::trailers(trailers)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
