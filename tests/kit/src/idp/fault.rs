//! The ways in which an endpoint of the provider fails on command.

use crate::serve::{Answer, answer, frames};
use bytes::Bytes;
use hyper::{Response, body::Frame};
use std::{future::pending, time::Duration};
use tokio::sync::watch;

/// The endpoints of the provider; each can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration` below the issuer.
    Discovery,
    /// RFC 8414: `/.well-known/oauth-authorization-server` before the issuer's path. Off until
    /// [`Idp::offer_metadata`](super::Idp::offer_metadata): Keycloak answers 404.
    Metadata,
    /// The key set.
    Keys,
    /// The token endpoint.
    Token,
    /// RFC 7662.
    Introspection,
    /// Whatever else was asked; answered with 404.
    Other,
}

impl Endpoint {
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 6] =
        [Self::Discovery, Self::Metadata, Self::Keys, Self::Token, Self::Introspection, Self::Other];
}

/// What an endpoint does instead of answering well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing: it answers well.
    None,
    /// It answers well, but only after that time.
    Slow(Duration),
    /// It answers well, but only once the gate is open.
    Gated(Gate),
    /// This status, but only once the gate is open.
    GatedStatus(Gate, u16),
    /// This status with this body, as JSON.
    Status(u16, String),
    /// This status with this `Retry-After`.
    RetryAfter(u16, String),
    /// 200, `application/json`, and no JSON in it.
    Garbage,
    /// 200 with a web page, as a login wall or a misconfigured proxy answers.
    Html,
    /// It reads the request and never answers.
    Hang,
    /// It closes the connection instead of answering.
    Reset,
    /// The good answer's head with a body that ends in the middle, and then the connection is
    /// closed.
    CutInHalf,
    /// The good answer as `text/plain`.
    WrongContentType,
    /// 200, `application/json`, with this body, whatever it is.
    Body(String),
    /// 200 and JSON of (at least) that many bytes.
    Huge(usize),
    /// Exactly this answer: status, headers, body.
    Answer(u16, Vec<(String, String)>, String),
}

impl Fault {
    /// What is answered instead of `good`.
    pub(crate) async fn spoil(self, good: Good) -> Answer {
        let json = [("content-type", "application/json")];
        Ok(match self {
            Self::None => good.response(),
            Self::Slow(delay) => {
                tokio::time::sleep(delay).await;
                good.response()
            }
            Self::Gated(gate) => {
                gate.opened().await;
                good.response()
            }
            Self::GatedStatus(gate, status) => {
                gate.opened().await;
                answer(status, &json, "{}")
            }
            Self::Status(status, body) => answer(status, &json, body),
            Self::RetryAfter(status, when) => {
                let headers = [("content-type", "application/json"), ("retry-after", when.as_str())];
                answer(status, &headers, r#"{"error":"temporarily_unavailable"}"#)
            }
            Self::Garbage => answer(200, &json, "}{ no JSON \u{0} at all"),
            Self::Html => answer(200, &[("content-type", "text/html;charset=utf-8")], PAGE),
            Self::Hang => pending().await,
            Self::Reset => return Err("fault: close the connection".into()),
            Self::CutInHalf => cut_in_half(&good),
            Self::WrongContentType => answer(good.status, &[("content-type", "text/plain")], good.body),
            Self::Body(body) => answer(200, &json, body),
            Self::Huge(bytes) => answer(200, &json, format!(r#"{{"filler":"{}"}}"#, "x".repeat(bytes))),
            Self::Answer(status, headers, body) => {
                let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                answer(status, &headers, body)
            }
        })
    }
}

/// What keeps answers back until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Lets every answer pass, from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Comes back when it is open.
    pub async fn opened(&self) {
        // Fails only when there is no sender, and here is one.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// What the endpoint would have answered.
pub(crate) struct Good {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Good {
    pub(crate) fn response(self) -> Response<crate::serve::Body> {
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        answer(self.status, &headers, self.body)
    }
}

fn cut_in_half(good: &Good) -> Response<crate::serve::Body> {
    let (length, half) = (good.body.len(), good.body.as_bytes()[..good.body.len() / 2].to_vec());
    let (sender, body) = frames();
    tokio::spawn(async move {
        let _ = sender.send(Ok(Frame::data(Bytes::from(half)))).await;
        // Only so that the half is flushed before the connection is cut; no caller waits for this.
        while sender.capacity() < sender.max_capacity() && !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = sender.send(Err("fault: cut the answer in half".into())).await;
    });
    let builder = Response::builder().status(good.status);
    let builder = builder.header("content-type", "application/json").header("content-length", length);
    builder.body(body).expect("a good head")
}

const PAGE: &str = "<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>";
