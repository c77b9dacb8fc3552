//! Attacks that worked on others, one regression each; they run against the whole plugin, events in
//! and effects out.
//!
//! Each test names the advisory or the RFC clause that it covers. Each has a control, a similar
//! request that must be accepted, so that no test passes because everything is refused. [`random`]
//! covers attacks that are not known yet.

mod issuers;
mod keys;
mod providers;
mod random;
mod requests;
mod tokens;

use crate::core::vectors::Host;
use m2m_auth::http::message::{HttpCall, HttpReply, MessageHead, RequestId};
use m2m_auth::jose::verifier::{SoftwareCrypto, Verify};
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::rng::OsRandom;
use m2m_auth::time::{Instant, Now};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// When every world begins, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// One plugin, its clock, and the servers around it.
struct World {
    plugin: Plugin,
    /// How long the world has existed.
    age: Duration,
    /// What is served, by authority and path; everything else cannot be reached.
    web: BTreeMap<String, HttpReply>,
    asked: Vec<HttpCall>,
    logs: Vec<String>,
    settled: BTreeMap<RequestId, RequestOutcome>,
    requests: u32,
}

impl World {
    fn new(configuration: &Value) -> Self {
        Self::verifying_by(Box::new(Host), configuration)
    }

    fn verifying_by(verifier: Box<dyn Verify>, configuration: &Value) -> Self {
        let environment = |name: &str| (name == "SECRET").then(|| "hush-secret".to_owned());
        let policy = Policy::read(configuration.to_string().as_bytes(), &environment);
        let plugin = Plugin::new(
            policy.unwrap(),
            verifier,
            Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom)),
            1,
        );
        let (web, settled) = (BTreeMap::new(), BTreeMap::new());
        Self { plugin, age: Duration::ZERO, web, asked: Vec::new(), logs: Vec::new(), settled, requests: 0 }
    }

    /// A world with one provider, whose keys have been fetched a while ago.
    fn with_keys(keys: &[Value]) -> Self {
        let mut world = Self::new(&one_rule());
        world.provider("idp.example.com", keys);
        world.pass(10);
        world
    }

    fn now(&self) -> Now {
        // The monotonic clock has an origin of its own.
        let instant = Instant(Duration::from_secs(1000) + self.age);
        Now { instant, unix: NOW + self.age.as_secs() }
    }

    /// Serves a provider's metadata, and its keys.
    fn provider(&mut self, host: &str, keys: &[Value]) {
        let metadata = json!({
            "issuer": format!("https://{host}"),
            "jwks_uri": format!("https://{host}/keys"),
            "token_endpoint": format!("https://{host}/token"),
        });
        self.serve(&metadata_of(host), metadata.to_string());
        self.serve(&format!("{host}/keys"), json!({ "keys": keys }).to_string());
    }

    fn serve(&mut self, place: &str, body: impl Into<Vec<u8>>) {
        let reply = HttpReply { status: Some(200), body: Some(body.into()), ..HttpReply::default() };
        self.web.insert(place.to_owned(), reply);
    }

    /// Makes the calls that are due and drains every effect.
    fn run(&mut self) {
        self.plugin.tick(self.now());
        while let Some(effect) = self.plugin.next_effect() {
            match effect {
                Effect::Call(ticket, call) => {
                    let place = format!("{}{}", call.endpoint.authority, call.endpoint.path);
                    self.asked.push(call);
                    let nobody = HttpReply { detail: "connection refused".into(), ..HttpReply::default() };
                    let reply = self.web.get(&place).cloned().unwrap_or(nobody);
                    self.plugin.reply(ticket, &reply, self.now());
                    self.plugin.tick(self.now());
                }
                Effect::Resume(id, step) => drop(self.settled.insert(id, step)),
                Effect::Log(_, line) => self.logs.push(line),
            }
        }
    }

    /// Lets time pass, with everything that is due on the way.
    fn pass(&mut self, seconds: u64) {
        let end = self.age + Duration::from_secs(seconds);
        self.run();
        while let Some(due) = self.next_due().filter(|due| *due < end) {
            self.age = due;
            self.run();
        }
        self.age = end;
        self.run();
    }

    /// When something is due next, at least a millisecond from now.
    fn next_due(&self) -> Option<Duration> {
        let due = self.plugin.deadline(self.now())?;
        Some(self.age + due.since(self.now().instant).max(Duration::from_millis(1)))
    }

    /// Sends a request and returns its outcome, however long that takes.
    fn ask(&mut self, head: MessageHead) -> End {
        let (id, step) = self.begin(head);
        match step {
            RequestOutcome::Wait => self.end_of(id),
            step => End::of(&step),
        }
    }

    fn begin(&mut self, head: MessageHead) -> (RequestId, RequestOutcome) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let step = self.plugin.request(id, head, self.now());
        (id, step)
    }

    fn end_of(&mut self, id: RequestId) -> End {
        for _ in 0..100 {
            self.run();
            if let Some(step) = self.settled.remove(&id) {
                return End::of(&step);
            }
            self.age = self.next_due().unwrap();
        }
        panic!("the request still waits")
    }

    fn get(&mut self, path: &str, token: &str) -> End {
        self.ask(head(path, &[("authorization", &format!("Bearer {token}"))]))
    }

    /// Every host that was called.
    fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = self.asked.iter().map(|call| call.endpoint.authority.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// A counter's sum since the world began, or since the last look.
    fn count(&mut self, name: &str) -> u64 {
        let mut count = 0;
        self.plugin
            .metrics()
            .report(|_, counter, sum| count += if counter.to_string() == name { sum } else { 0 });
        count
    }

    fn has_logged(&self, text: &str) -> bool {
        self.logs.iter().any(|line| line.contains(text))
    }
}

/// How a request ended: its status, 200 for one that was forwarded, and the reason of its refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    status: u16,
    reason: String,
}

impl End {
    fn of(step: &RequestOutcome) -> Self {
        match step {
            RequestOutcome::Forward(_) => Self { status: 200, reason: String::new() },
            RequestOutcome::Wait => panic!("not an end"),
            RequestOutcome::Respond(response) => {
                let body: Value = serde_json::from_str(&response.body).unwrap();
                Self { status: response.status, reason: body["reason"].as_str().unwrap().to_owned() }
            }
        }
    }

    fn refused(status: u16, reason: &str) -> Self {
        Self { status, reason: reason.to_owned() }
    }

    fn is_forwarded(&self) -> bool {
        self.status == 200
    }
}

fn head(path: &str, more: &[(&str, &str)]) -> MessageHead {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "orders"), (":path", path)];
    pseudo.into_iter().chain(more.iter().copied()).collect()
}

fn metadata_of(host: &str) -> String {
    format!("{host}/.well-known/openid-configuration")
}

fn require(issuer: &str) -> Value {
    json!({ "issuer": issuer, "audiences": ["orders"] })
}

/// One issuer, found by discovery; every request needs a token of it.
fn one_rule() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": [{ "require": require("idp") }] },
    })
}

/// [`one_rule`], with something more asked of the caller.
fn one_rule_with(member: &str, value: Value) -> Value {
    let mut configuration = one_rule();
    configuration["inbound"]["rules"][0]["require"][member] = value;
    configuration
}

fn claims() -> Value {
    json!({ "iss": "https://idp.example.com", "aud": "orders", "sub": "s", "exp": NOW + 3600, "iat": NOW, "typ": "Bearer" })
}

fn with(mut value: Value, member: &str, to: Value) -> Value {
    value[member] = to;
    value
}

fn key(kid: &str) -> Key {
    Key::new(Alg::EdDsa).with_kid(kid)
}

fn good_token(key: &Key) -> String {
    Mint::of(claims()).sign(key)
}
