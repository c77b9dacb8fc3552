//! An HTTP client that sends exactly the bytes it is given, legal or not.
//!
//! HTTP/1.1 is spoken by hand over a plain socket, so that headers may hold any byte, appear twice,
//! or break off; [`Request::http2`] goes through a real HTTP/2 client. One connection per request,
//! unless a [`Connection`] is kept. [`Request::open`] sends a body piece by piece.

use crate::{
    serve::{Body, BoxError, frames},
    wait::PATIENCE,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    HeaderMap,
    body::{Frame, Incoming},
    client::conn::{http1, http2},
    header::{HeaderName, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{
    fmt,
    io::{self, ErrorKind},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

/// A `GET` of that URL (`http://host:port/path`; whatever follows the port is sent unchanged).
pub fn get(url: impl AsRef<str>) -> Request {
    Request::new("GET", url)
}

/// A `POST` of that URL.
pub fn post(url: impl AsRef<str>) -> Request {
    Request::new("POST", url)
}

/// One request, in the making. Clone it to send it again.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    address: String,
    target: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    http2: bool,
}

impl Request {
    /// A request of any method.
    pub fn new(method: &str, url: impl AsRef<str>) -> Self {
        let url = url.as_ref();
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("no http:// URL: {url}"));
        let (address, target) = rest.find('/').map_or((rest, "/"), |start| rest.split_at(start));
        Self {
            method: method.to_owned(),
            address: address.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            http2: false,
        }
    }

    /// Adds a header; twice the same name is two header lines. A `host` replaces the one from the
    /// URL.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// `authorization: Bearer` and the token.
    #[must_use]
    pub fn bearer(self, token: impl AsRef<str>) -> Self {
        self.header("authorization", format!("Bearer {}", token.as_ref()))
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Over cleartext HTTP/2, with prior knowledge.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends it on a connection of its own. Panics when no whole answer comes.
    pub async fn send(&self) -> Response {
        self.try_send().await.unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }

    /// Sends it on a connection of its own; an answer that does not come, or breaks off, is an
    /// error.
    pub async fn try_send(&self) -> io::Result<Response> {
        let exchange = async {
            if self.http2 {
                return self
                    .exchange(Full::new(Bytes::from(self.body.clone())).map_err(BoxError::from).boxed())
                    .await;
            }
            let mut connection = Connection::open(&self.address).await?;
            connection.write(&self.bytes(false)).await?;
            connection.read(self.method == "HEAD").await
        };
        within(exchange).await
    }

    /// Sends it and does not read: dropping the result hangs up in the middle.
    pub async fn start(&self) -> Connection {
        let mut connection = Connection::open(&self.address).await.expect("a server that accepts");
        connection.write(&self.bytes(false)).await.expect("a server that reads");
        connection
    }

    /// Sends its head, and leaves its body to [`Upload::send`]; over HTTP/1.1 in chunks.
    pub fn open(&self) -> Upload {
        let (pieces, body) = frames();
        let request = self.clone();
        Upload { pieces, answer: tokio::spawn(async move { request.exchange(body).await }) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn bytes(&self, keep_alive: bool) -> Vec<u8> {
        let has =
            |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut line = |name: &[u8], value: &[u8]| {
            for part in [name, b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        if !has("host") {
            line(b"host", self.address.as_bytes());
        }
        if !has("connection") && !keep_alive {
            line(b"connection", b"close");
        }
        if !has("content-length")
            && !has("transfer-encoding")
            && (!self.body.is_empty() || self.method == "POST")
        {
            line(b"content-length", self.body.len().to_string().as_bytes());
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn for_hyper(&self, body: Body) -> io::Result<hyper::Request<Body>> {
        let is_host = |name: &[u8]| name.eq_ignore_ascii_case(b"host");
        let host = self.headers.iter().find(|(name, _)| is_host(name));
        let host = host.map_or(self.address.as_bytes(), |(_, value)| value);
        let mut request = hyper::Request::builder().method(self.method.as_str());
        request = if self.http2 {
            request.uri(format!("http://{}{}", String::from_utf8_lossy(host), self.target))
        } else {
            request.uri(&self.target).header("host", host)
        };
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_host(name)) {
            request = request.header(name.as_slice(), value.as_slice());
        }
        request.body(body).map_err(io::Error::other)
    }

    /// Through a real client. Dropping this closes the connection (HTTP/1.1) or resets the stream
    /// (HTTP/2).
    async fn exchange(&self, body: Body) -> io::Result<Response> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        let request = self.for_hyper(body)?;
        let answer = if self.http2 {
            let handshake = http2::handshake(TokioExecutor::new(), stream).await;
            let (mut sender, connection) = handshake.map_err(io::Error::other)?;
            // It ends by itself, once it has sent the end of the stream.
            tokio::spawn(connection);
            whole(sender.send_request(request).await).await
        } else {
            let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
            let _closed_at_the_end = Closing(tokio::spawn(connection).abort_handle());
            whole(sender.send_request(request).await).await
        };
        answer.map_err(io::Error::other)
    }
}

/// Connections over HTTP/2, each for many requests at one time.
pub struct Streams {
    connections: Vec<http2::SendRequest<Body>>,
}

impl Streams {
    /// Opens so many connections to `host:port`.
    pub async fn open(address: impl AsRef<str>, connections: usize) -> Self {
        let mut open = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address.as_ref()).await.expect("a server that accepts");
            stream.set_nodelay(true).expect("a socket of TCP");
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, connection) = handshake.expect("a server that speaks HTTP/2");
            tokio::spawn(connection);
            open.push(sender);
        }
        Self { connections: open }
    }

    /// Sends them all at once, in turn on each connection; the answers come in their order. One
    /// that breaks off is an error.
    pub fn send(&self, requests: impl IntoIterator<Item = Request>) -> Vec<JoinHandle<io::Result<Response>>> {
        let connections = self.connections.iter().cycle();
        let send = |(request, connection): (Request, &http2::SendRequest<Body>)| {
            let mut connection = connection.clone();
            let body = if request.body.is_empty() {
                Empty::new().map_err(BoxError::from).boxed()
            } else {
                Full::new(Bytes::from(request.body.clone())).map_err(BoxError::from).boxed()
            };
            let request = request.http2().for_hyper(body);
            tokio::spawn(within(async move {
                connection.ready().await.map_err(io::Error::other)?;
                whole(connection.send_request(request?).await).await.map_err(io::Error::other)
            }))
        };
        requests.into_iter().zip(connections).map(send).collect()
    }
}

async fn whole(answer: hyper::Result<hyper::Response<Incoming>>) -> hyper::Result<Response> {
    let (parts, body) = answer?.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().into_iter().flatten();
    let headers = parts.headers.iter().chain(trailers);
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    Ok(Response { status: parts.status.as_u16(), headers, body: body.to_bytes() })
}

struct Closing(AbortHandle);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request whose body is under way.
pub struct Upload {
    pieces: mpsc::Sender<Result<Frame<Bytes>, BoxError>>,
    answer: JoinHandle<io::Result<Response>>,
}

impl Upload {
    /// Sends a piece of the body, as soon as there is room for it.
    pub async fn send(&self, piece: impl Into<Bytes>) {
        self.pieces.send(Ok(Frame::data(piece.into()))).await.expect("a request that is under way");
    }

    /// Ends the body with trailers (HTTP/2).
    pub async fn trailers(&self, trailers: &[(&'static str, &'static str)]) {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let trailers: HeaderMap = trailers.iter().map(pair).collect();
        self.pieces.send(Ok(Frame::trailers(trailers))).await.expect("a request that is under way");
    }

    /// Whether there is an answer, or none to come.
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// Ends the body, and waits for the answer.
    pub async fn finish(self) -> Response {
        drop(self.pieces);
        let answer = within(async { self.answer.await.expect("an exchange does not panic") }).await;
        answer.unwrap_or_else(|error| panic!("the request that was sent in pieces: {error}"))
    }

    /// Disconnects in the middle: closes the connection (HTTP/1.1), or resets the stream (HTTP/2).
    pub async fn abort(self) {
        let _ = self.pieces.try_send(Err("the test ends the body".into()));
        self.answer.abort();
        let _ = self.answer.await;
    }
}

/// A connection that is kept between requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: impl AsRef<str>) -> io::Result<Self> {
        let stream = TcpStream::connect(address.as_ref()).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request (HTTP/1.1, keep-alive) and reads its answer.
    pub async fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        within(async {
            self.write(&request.bytes(true)).await?;
            self.read(request.method == "HEAD").await
        })
        .await
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads one answer; `bodiless` when the request was a `HEAD`.
    pub async fn read(&mut self, bodiless: bool) -> io::Result<Response> {
        loop {
            let (status, headers) = self.read_head().await?;
            let mut response = Response { status, headers, body: Bytes::new() };
            if status >= 200 {
                if !bodiless && status != 204 && status != 304 {
                    response.body = self.read_body(&response).await?;
                }
                return Ok(response);
            }
        }
    }

    async fn read_head(&mut self) -> io::Result<(u16, Vec<(String, Vec<u8>)>)> {
        if self.stream.fill_buf().await?.is_empty() {
            return Err(io::Error::new(ErrorKind::ConnectionReset, "closed instead of answered"));
        }
        let first = String::from_utf8_lossy(&self.line().await?).into_owned();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(&format!("no status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let colon =
                line.iter().position(|byte| *byte == b':').ok_or_else(|| broken("no colon in a header"))?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    async fn read_body(&mut self, head: &Response) -> io::Result<Bytes> {
        let mut body = Vec::new();
        if head.header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = String::from_utf8_lossy(&self.line().await?).into_owned();
                let size = size.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).map_err(|_| broken("no chunk size"))?;
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk).await?;
                body.append(&mut chunk);
                // The end of the chunk, or after the last one the (empty) trailers.
                while !self.line().await?.is_empty() {}
                if size == 0 {
                    return Ok(body.into());
                }
            }
        }
        match head.header("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body).await?;
            }
            None => drop(self.stream.read_to_end(&mut body).await?),
        }
        Ok(body.into())
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }
}

/// An answer.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case, values as bytes, in order, duplicates kept; over HTTP/2 the trailers
    /// too.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The first header of that name (bytes that are no UTF-8 replaced).
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers_named(name).into_iter().next()
    }

    /// All headers of that name, in order.
    pub fn headers_named(&self, name: &str) -> Vec<String> {
        let same = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        same.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The body as a string.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}, no JSON ({error}): {}", self.status, self.text()))
    }
}

/// As a person reads it: a test prints this when it fails.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        write!(f, "\n{}", self.text())
    }
}

async fn within<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| {
        Err(io::Error::new(ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")))
    })
}

fn broken(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}
