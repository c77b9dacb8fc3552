//! Sends a [`Spelling`] unchanged, over a connection that is kept for as long as the other side
//! keeps it.
//!
//! HTTP/2 is spoken by hand too: no client library sends a `:path` that is not a URL's. One stream
//! at a time.

use super::spelling::{Framing, Spelling};
use crate::client::{Connection, Response};
use crate::wait::PATIENCE;
use std::io::{self, ErrorKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2,
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A response.
    Response(Response),
    /// The stream was reset, or the connection closed.
    Closed,
}

/// Sends requests to one address, one after the other.
pub struct Sender {
    address: String,
    protocol: Protocol,
    http1: Option<Connection>,
    http2: Option<Http2>,
}

impl Sender {
    /// One that has no connection yet.
    pub fn new(address: impl Into<String>, protocol: Protocol) -> Self {
        Self { address: address.into(), protocol, http1: None, http2: None }
    }

    /// Sends it and waits for what comes back; panics when nothing does.
    pub async fn send(&mut self, spelling: &Spelling, token: Option<&str>) -> Answer {
        let exchange = async {
            match self.protocol {
                Protocol::Http1 => self.by_http1(spelling, token).await,
                Protocol::Http2 => self.by_http2(spelling, token).await,
            }
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        answer.unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}: {}", spelling.printable()))
    }

    async fn by_http1(&mut self, spelling: &Spelling, token: Option<&str>) -> Answer {
        let bytes = spelling.http1(token);
        loop {
            let kept = self.http1.take();
            let again = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(&self.address).await.expect("Envoy accepts"),
            };
            let answer = match connection.write(&bytes).await {
                Ok(()) => connection.read(spelling.method == b"HEAD").await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(response) => {
                    let closes = response.headers_named("connection").iter().any(|value| value == "close");
                    self.http1 = (!closes).then_some(connection);
                    return Answer::Response(response);
                }
                // It may have been closed after the request before.
                Err(_) if again => {}
                Err(_) => return Answer::Closed,
            }
        }
    }

    async fn by_http2(&mut self, spelling: &Spelling, token: Option<&str>) -> Answer {
        let fields = spelling.http2(token);
        let open = spelling.framing == Framing::Chunked;
        loop {
            let kept = self.http2.take();
            let again = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Http2::open(&self.address).await.expect("Envoy accepts"),
            };
            match connection.exchange(&fields, open).await {
                Ok(answer) => {
                    self.http2 = (!connection.ending).then_some(connection);
                    return answer;
                }
                Err(_) if again => {}
                Err(_) => return Answer::Closed,
            }
        }
    }
}

/// A connection of which each stream is over before the next begins (RFC 9113).
struct Http2 {
    stream: BufReader<TcpStream>,
    decoder: loona_hpack::Decoder<'static>,
    next: u32,
    ending: bool,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

impl Http2 {
    async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (decoder, next) = (loona_hpack::Decoder::new(), 1);
        let mut connection = Self { stream: BufReader::new(stream), decoder, next, ending: false };
        connection.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        connection.frame(SETTINGS, 0, 0, b"").await?;
        // What all responses together may have, beyond the first 64 KiB.
        connection.frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.wrapping_sub(0x1_0000).to_be_bytes()).await?;
        Ok(connection)
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.stream.write_all(&[head.as_slice(), payload].concat()).await
    }

    async fn exchange(&mut self, fields: &[(Vec<u8>, Vec<u8>)], open: bool) -> io::Result<Answer> {
        let stream = self.next;
        self.next += 2;
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        let end = if open { 0 } else { END_STREAM };
        self.frame(HEADERS, END_HEADERS | end, stream, &block).await?;
        if open {
            self.frame(DATA, END_STREAM, stream, b"").await?;
        }
        let (mut status, mut headers, mut body, mut block, mut last) =
            (0, Vec::new(), Vec::new(), Vec::new(), false);
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, id @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await?;
            let own = u32::from_be_bytes(id) & 0x7fff_ffff == stream;
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, b"").await?,
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload).await?,
                GOAWAY => self.ending = true,
                RST_STREAM if own => return Ok(Answer::Closed),
                DATA if own => body.extend_from_slice(unpadded(&payload, flags)?),
                HEADERS => {
                    let content = unpadded(&payload, flags)?;
                    let skip = if flags & PRIORITY == 0 { 0 } else { 5 };
                    block = content.get(skip..).ok_or(ErrorKind::InvalidData)?.to_vec();
                    last = flags & END_STREAM != 0;
                }
                CONTINUATION => block.extend_from_slice(&payload),
                _ => {}
            }
            if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
                let decoded = self.decoder.decode(&block);
                let decoded = decoded.map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
                for (name, value) in decoded.into_iter().filter(|_| own) {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    if name == ":status" {
                        status = String::from_utf8_lossy(&value).parse().map_err(io::Error::other)?;
                        headers.clear();
                    } else {
                        headers.push((name, value));
                    }
                }
            }
            let ends = match kind {
                DATA => flags & END_STREAM != 0,
                HEADERS | CONTINUATION => last && flags & END_HEADERS != 0,
                _ => false,
            };
            if own && ends && status >= 200 {
                return Ok(Answer::Response(Response { status, headers, body: body.into() }));
            }
        }
    }
}

/// A header field as a literal without indexing (RFC 7541 section 6.2.2), unchanged.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let length = text.len();
        if length < 127 {
            bytes.push(length as u8);
        } else {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend_from_slice(text);
    }
    bytes
}

fn unpadded(payload: &[u8], flags: u8) -> io::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(ErrorKind::InvalidData)?;
    let end = rest.len().checked_sub(usize::from(*padding)).ok_or(ErrorKind::InvalidData)?;
    Ok(&rest[..end])
}
