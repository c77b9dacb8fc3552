//! The identity provider of the simulation: it answers by script, and remembers what it was asked
//! and what it issued.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_compact::{KeyPair, Seed};
use m2m_auth::http::message::{HttpCall, HttpReply, MessageHead};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) const ISSUER: &str = "https://idp.example/realms/r";

/// Is part of every token, secret and body, so that none of them can be printed unnoticed.
pub(crate) const MARK: &str = "hushhush";

/// A key that signs, the same one for the same number.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) kid: String,
    pair: KeyPair,
}

impl Key {
    pub(crate) fn number(number: u8) -> Self {
        Self { kid: format!("key-{number}"), pair: KeyPair::from_seed(Seed::new([number; 32])) }
    }

    /// The same key under another name.
    pub(crate) fn called(self, kid: &str) -> Self {
        Self { kid: kid.to_owned(), ..self }
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.pk.as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x })
    }

    /// A token of these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let signed = unsigned(&self.kid, claims);
        let signature = self.pair.sk.sign(&signed, None);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// A token of an unknown key; cheap, since nothing is signed.
pub(crate) fn made_up(kid: &str) -> String {
    format!("{}.{}", unsigned(kid, &json!({ "iss": ISSUER, "sub": MARK })), URL_SAFE_NO_PAD.encode([7; 64]))
}

fn unsigned(kid: &str, claims: &Value) -> String {
    let header = json!({ "alg": "EdDSA", "kid": kid, "typ": "JWT" }).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The location of the metadata in `OpenID` Connect.
    OpenId,
    /// The location of the metadata in RFC 8414.
    Rfc8414,
    Keys,
    Tokens,
    Introspection,
}

/// How an endpoint behaves.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// Correctly.
    Works,
    /// This answer, whatever was asked.
    Says { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// No answer: neither of the provider nor of the host's timer.
    Silent,
    /// No answer of the provider: the host's timer runs out.
    Hangs,
    /// The right answer after this long, even if the host's timer should have ended the call.
    Late(Duration),
    /// A token to the client that presents this secret, and Keycloak's 401 to any other.
    Takes(&'static str),
    /// The connection ends without an answer.
    Resets,
    /// The host does not make the call: there is no such cluster.
    NoCluster,
}

impl Mode {
    pub(crate) fn status(status: u16) -> Self {
        Self::Says { status, headers: Vec::new(), body: MARK.to_owned() }
    }

    pub(crate) fn retry_after(status: u16, text: &str) -> Self {
        Self::Says { status, headers: vec![("retry-after", text.to_owned())], body: MARK.to_owned() }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Says { status, headers: Vec::new(), body: body.to_string() }
    }
}

/// What becomes of a call.
pub(crate) enum Answer {
    After(Duration, HttpReply),
    Never,
    Refused,
}

/// A token that the provider gave away.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) token: String,
    /// When a resource server would stop taking it.
    pub(crate) end: Duration,
}

pub(crate) struct Provider {
    pub(crate) metadata: Mode,
    pub(crate) rfc8414: Mode,
    pub(crate) keys: Mode,
    pub(crate) tokens: Mode,
    pub(crate) introspection: Mode,
    pub(crate) latency: Duration,
    /// The keys in the published set.
    pub(crate) published: Vec<Key>,
    /// `expires_in`; null leaves it out.
    pub(crate) expires_in: Value,
    /// `Cache-Control` of the key set.
    pub(crate) cache_control: Option<&'static str>,
    /// Whether the key set has an `ETag`, and a 304 for requests that send it.
    pub(crate) etags: bool,
    /// How often it was.
    pub(crate) unchanged: usize,
    /// The members of the metadata beside `issuer`.
    pub(crate) endpoints: Value,
    /// What the cluster `files` serves, by path: text, or another answer.
    pub(crate) files: BTreeMap<&'static str, Mode>,
    /// When each was read.
    pub(crate) reads: Vec<(Duration, String)>,
    /// The forms of token requests, in order.
    pub(crate) forms: Vec<BTreeMap<String, String>>,
    pub(crate) asked: Vec<(Duration, Endpoint)>,
    /// The timeouts that the host was given for the calls.
    pub(crate) timeouts: BTreeSet<Duration>,
    pub(crate) issued: Vec<Issued>,
    /// The secret or the assertion that clients presented, in order.
    pub(crate) presented: Vec<String>,
    /// The proofs of token requests, in order.
    pub(crate) proofs: Vec<String>,
    /// What each proof must hold.
    pub(crate) nonce: Option<&'static str>,
    /// Whether the newest token request had a proof.
    bound: bool,
    /// The tokens that were to be exchanged, in order.
    pub(crate) subjects: Vec<String>,
    /// What it says of tokens that are active.
    pub(crate) active: BTreeMap<String, Value>,
    /// The tokens that it was asked about, in order.
    pub(crate) introspected: Vec<String>,
    /// The one that it does not take, with this answer.
    pub(crate) refuses: Option<(String, Value)>,
    /// How it behaves when it is asked about one of these tokens, or asked to exchange it.
    pub(crate) poison: BTreeMap<String, Mode>,
    /// How many token requests it can answer a second, one after the other; the others wait for
    /// theirs.
    pub(crate) capacity: Option<u32>,
    /// When it has answered all token requests so far.
    busy_until: Duration,
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self {
            metadata: Mode::Works,
            rfc8414: Mode::status(404),
            keys: Mode::Works,
            tokens: Mode::Works,
            introspection: Mode::Works,
            latency: Duration::from_millis(20),
            published: vec![Key::number(1)],
            expires_in: json!(300),
            cache_control: None,
            etags: false,
            unchanged: 0,
            endpoints: json!({
                "jwks_uri": "https://idp.example/realms/r/keys",
                "token_endpoint": "https://idp.example/realms/r/token",
                "introspection_endpoint": "https://idp.example/realms/r/introspect",
            }),
            asked: Vec::new(),
            timeouts: BTreeSet::new(),
            issued: Vec::new(),
            presented: Vec::new(),
            proofs: Vec::new(),
            nonce: None,
            bound: false,
            subjects: Vec::new(),
            active: BTreeMap::new(),
            introspected: Vec::new(),
            files: BTreeMap::new(),
            reads: Vec::new(),
            forms: Vec::new(),
            refuses: None,
            poison: BTreeMap::new(),
            capacity: None,
            busy_until: Duration::ZERO,
        }
    }

    /// Every endpoint behaves like this. The location of RFC 8414 answers 404 unless it fails.
    pub(crate) fn all(&mut self, mode: &Mode) {
        self.metadata = mode.clone();
        self.rfc8414 = if matches!(mode, Mode::Works) { Mode::status(404) } else { mode.clone() };
        self.keys = mode.clone();
        self.tokens = mode.clone();
        self.introspection = mode.clone();
    }

    /// The keys, the tokens and the introspection are at other paths from now on; at the old ones
    /// this is the answer.
    pub(crate) fn move_away(&mut self, status: u16) {
        (self.keys, self.tokens, self.introspection) =
            (Mode::status(status), Mode::status(status), Mode::status(status));
        self.endpoints = json!({
            "jwks_uri": "https://idp.example/moved/keys",
            "token_endpoint": "https://idp.example/moved/token",
            "introspection_endpoint": "https://idp.example/moved/introspect",
        });
    }

    /// How often an endpoint was asked.
    pub(crate) fn count(&self, endpoint: Endpoint) -> usize {
        self.asked.iter().filter(|(_, asked)| *asked == endpoint).count()
    }

    /// When an endpoint was asked.
    pub(crate) fn times(&self, endpoint: Endpoint) -> Vec<Duration> {
        self.asked.iter().filter(|(_, asked)| *asked == endpoint).map(|(at, _)| *at).collect()
    }

    /// The answer, as things stand when the call is made; it arrives later.
    pub(crate) fn answer(&mut self, call: &HttpCall, now: Duration) -> Answer {
        if call.endpoint.cluster == "files" {
            return self.file(call, now);
        }
        assert_eq!(
            (call.endpoint.cluster.as_str(), call.endpoint.authority.as_str()),
            ("idp", "idp.example")
        );
        let (endpoint, mut mode) = match call.endpoint.path.as_str() {
            "/realms/r/.well-known/openid-configuration" => (Endpoint::OpenId, self.metadata.clone()),
            "/.well-known/oauth-authorization-server/realms/r" => (Endpoint::Rfc8414, self.rfc8414.clone()),
            "/realms/r/keys" => (Endpoint::Keys, self.keys.clone()),
            "/realms/r/token" => (Endpoint::Tokens, self.tokens.clone()),
            "/realms/r/introspect" => (Endpoint::Introspection, self.introspection.clone()),
            // Where they have moved to.
            "/moved/keys" => (Endpoint::Keys, Mode::Works),
            "/moved/token" => (Endpoint::Tokens, Mode::Works),
            "/moved/introspect" => (Endpoint::Introspection, Mode::Works),
            other => panic!("there is nothing at {other}"),
        };
        self.asked.push((now, endpoint));
        self.timeouts.insert(call.timeout);
        if endpoint == Endpoint::Tokens {
            self.presented.push(proof(call));
            self.forms.push(form(call));
            let proof = call.headers.iter().find(|(name, _)| *name == "dpop").map(|(_, proof)| proof.clone());
            self.bound = proof.is_some();
            self.proofs.extend(proof);
            let subject = parameter(call, "subject_token").or_else(|| parameter(call, "assertion"));
            if let Some(subject) = subject {
                mode = self.poison.get(&subject).cloned().unwrap_or(mode);
                let refused = self.refuses.clone().filter(|(refused, _)| *refused == subject);
                self.subjects.push(subject);
                if let (Some((_, answer)), Mode::Works) = (refused, &mode) {
                    let status = if answer["error"] == "access_denied" { 403 } else { 400 };
                    return Answer::After(self.latency, reply_of(status, &answer.to_string()));
                }
            }
        }
        if endpoint == Endpoint::Introspection {
            self.presented.push(proof(call));
            let token = parameter(call, "token").unwrap();
            mode = self.poison.get(&token).cloned().unwrap_or(mode);
            self.introspected.push(token);
        }
        let reply = match mode {
            Mode::Silent => return Answer::Never,
            Mode::Hangs => return Answer::After(call.timeout, reply_of(504, "stream timeout")),
            Mode::NoCluster => return Answer::Refused,
            Mode::Late(latency) => return Answer::After(latency, self.right(call, endpoint, now)),
            Mode::Resets => {
                HttpReply { detail: "the connection ended before the answer".into(), ..HttpReply::default() }
            }
            Mode::Says { status, headers, body } => reply(status, &headers, body),
            Mode::Takes(secret) if self.presented.last().is_none_or(|presented| presented != secret) => {
                reply_of(401, &json!({ "error": "unauthorized_client" }).to_string())
            }
            Mode::Works if endpoint == Endpoint::Tokens && self.wants_nonce() => {
                let nonce = ("dpop-nonce", self.nonce.unwrap_or_default().to_owned());
                reply(400, &[nonce], json!({ "error": "use_dpop_nonce" }).to_string())
            }
            Mode::Takes(_) | Mode::Works => self.right(call, endpoint, now),
        };
        let latency = if endpoint == Endpoint::Tokens { self.queued(now) } else { self.latency };
        if latency >= call.timeout {
            // The answer of the host when its timer runs out.
            return Answer::After(call.timeout, reply_of(504, "stream timeout"));
        }
        Answer::After(latency, reply)
    }

    /// A file, as it is now.
    fn file(&mut self, call: &HttpCall, now: Duration) -> Answer {
        assert_eq!(
            (call.method, call.endpoint.scheme, call.endpoint.authority.as_str(), call.body.len()),
            ("GET", "http", "localhost", 0)
        );
        self.reads.push((now, call.endpoint.path.clone()));
        let reply = match self.files.get(call.endpoint.path.as_str()) {
            Some(Mode::Says { status, headers, body }) => reply(*status, headers, body.clone()),
            Some(Mode::Silent) => return Answer::Never,
            Some(Mode::NoCluster) => return Answer::Refused,
            Some(Mode::Resets) => HttpReply {
                no_connection: true,
                detail: "no connection: refused, or TLS failed".into(),
                ..HttpReply::default()
            },
            Some(other) => panic!("no file answers so: {other:?}"),
            None => reply_of(404, ""),
        };
        Answer::After(Duration::from_millis(1), reply)
    }

    /// A file with this content.
    pub(crate) fn write(&mut self, path: &'static str, text: &str) {
        self.files.insert(path, Mode::Says { status: 200, headers: Vec::new(), body: text.to_owned() });
    }

    /// How long this token request takes, after those before it. A request that its client has
    /// given up is answered all the same.
    fn queued(&mut self, now: Duration) -> Duration {
        let Some(capacity) = self.capacity else { return self.latency };
        self.busy_until = self.busy_until.max(now) + Duration::from_secs(1) / capacity;
        self.busy_until - now
    }

    /// Whether the newest proof lacks the nonce.
    fn wants_nonce(&self) -> bool {
        let said = self.proofs.last().map(|proof| m2m_auth_kit::token::decode(proof).1["nonce"].clone());
        self.nonce.is_some_and(|nonce| said != Some(json!(nonce)))
    }

    fn right(&mut self, call: &HttpCall, endpoint: Endpoint, now: Duration) -> HttpReply {
        let body = match endpoint {
            Endpoint::OpenId | Endpoint::Rfc8414 => {
                let mut document = self.endpoints.clone();
                document["issuer"] = json!(ISSUER);
                document
            }
            Endpoint::Keys => return self.key_set(call),
            Endpoint::Introspection => {
                let claims = self.introspected.last().and_then(|token| self.active.get(token));
                let mut answer = claims.cloned().unwrap_or_else(|| json!({}));
                answer["active"] = json!(claims.is_some());
                answer
            }
            Endpoint::Tokens => {
                let token = format!("{MARK}-token-{}", self.issued.len());
                let life = self.expires_in.as_f64().unwrap_or(300.0).clamp(0.0, 1e9);
                self.issued.push(Issued { token: token.clone(), end: now + Duration::from_secs_f64(life) });
                let kind = if self.bound { "DPoP" } else { "Bearer" };
                let mut answer = json!({ "access_token": token, "token_type": kind, "x": MARK });
                if !self.expires_in.is_null() {
                    answer["expires_in"] = self.expires_in.clone();
                }
                answer
            }
        };
        reply_of(200, &body.to_string())
    }
}

impl Provider {
    fn key_set(&mut self, call: &HttpCall) -> HttpReply {
        let body = json!({ "keys": self.published.iter().map(Key::jwk).collect::<Vec<_>>() }).to_string();
        let kids: Vec<&str> = self.published.iter().map(|key| key.kid.as_str()).collect();
        let etag = format!("\"{}\"", kids.join("+"));
        let mut headers: Vec<_> =
            self.cache_control.map(|text| ("cache-control", text.to_owned())).into_iter().collect();
        let presented =
            call.headers.iter().find(|(name, _)| *name == "if-none-match").map(|(_, presented)| presented);
        assert!(presented.is_none() || self.etags, "nobody gave it an ETag");
        let same = presented == Some(&etag);
        if self.etags {
            headers.push(("etag", etag));
        }
        self.unchanged += usize::from(same);
        if same { reply(304, &headers, String::new()) } else { reply(200, &headers, body) }
    }
}

/// The secret or the assertion of a token request; empty when there is neither.
fn proof(call: &HttpCall) -> String {
    let basic = call.headers.iter().find(|(name, _)| *name == "authorization");
    if let Some((_, value)) = basic {
        let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
        return String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned();
    }
    ["client_secret", "client_assertion"]
        .into_iter()
        .find_map(|name| parameter(call, name))
        .unwrap_or_default()
}

/// A parameter of a token request, still encoded.
/// The parameters, as they are encoded.
fn form(call: &HttpCall) -> BTreeMap<String, String> {
    let body = String::from_utf8(call.body.to_vec()).unwrap();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn parameter(call: &HttpCall, name: &str) -> Option<String> {
    let body = String::from_utf8(call.body.to_vec()).unwrap();
    let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
}

fn reply_of(status: u16, body: &str) -> HttpReply {
    reply(status, &[], body.to_owned())
}

fn reply(status: u16, headers: &[(&'static str, String)], body: String) -> HttpReply {
    let head: MessageHead = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    HttpReply { status: Some(status), head, body: Some(body.into_bytes()), ..HttpReply::default() }
}
