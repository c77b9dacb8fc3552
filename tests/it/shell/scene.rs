//! What most tests of the shell have in common: a provider with its keys, tokens, configurations,
//! and requests.

use super::host::{Call, Delivery};
use super::pairs::{self, Pairs};
use super::vm::{Request, Vm};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{self, Mint};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

/// The provider.
pub(crate) const ISSUER: &str = "https://idp.example.com/realms/m2m";

/// Its client's secret.
pub(crate) const CLIENT_SECRET: &str = "4c0a2d6e-order-service-secret";

/// Its keys, which are made once: RSA keys are dear.
pub(crate) struct Keys {
    pub(crate) rs256: Key,
    pub(crate) ps256: Key,
    pub(crate) es256: Key,
    pub(crate) ed25519: Key,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rs256: Key::new(Alg::Rs256),
    ps256: Key::new(Alg::Ps256),
    es256: Key::new(Alg::Es256),
    ed25519: Key::new(Alg::EdDsa),
});

/// The id of a key on P-384. Its private half is unknown; a host can be set to accept any signature
/// by it.
pub(crate) const ES384: &str = "p384";

/// The provider's key set.
pub(crate) fn key_set() -> Value {
    let keys = [&KEYS.rs256, &KEYS.ps256, &KEYS.es256, &KEYS.ed25519].map(Key::jwk);
    let coordinate = m2m_auth_kit::key::encode([7; 48]);
    let p384 = json!({ "kid": ES384, "kty": "EC", "crv": "P-384", "x": coordinate, "y": coordinate });
    json!({ "keys": keys.into_iter().chain([p384]).collect::<Vec<_>>() })
}

/// A good token, signed with that key.
pub(crate) fn token_by(key: &Key) -> String {
    Mint::of(token::claims(ISSUER)).sign(key)
}

/// A good token.
pub(crate) fn token() -> String {
    token_by(&KEYS.rs256)
}

/// A good token with a signature of somebody else.
pub(crate) fn forged() -> String {
    let stranger = Key::new(Alg::Es256).with_kid(KEYS.es256.kid());
    token_by(&stranger)
}

/// A request to the service.
pub(crate) fn plain() -> Pairs {
    pairs::of(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "inventory-service"),
        (":path", "/inventory/items?page=1"),
        ("x-request-id", "7"),
    ])
}

/// The same, with a token.
pub(crate) fn bearing(token: &str) -> Pairs {
    with_header("authorization", format!("Bearer {token}"))
}

/// The same as [`plain`], with one more header.
pub(crate) fn with_header(name: &str, value: impl AsRef<[u8]>) -> Pairs {
    let mut headers = plain();
    headers.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
    headers
}

/// The issuer, with its endpoints given, so that no discovery is needed.
pub(crate) fn issuers() -> Value {
    json!({ "keycloak": {
        "issuer": ISSUER,
        "cluster": "keycloak",
        "jwks_uri": "https://idp.example.com/jwks",
        "token_endpoint": "https://idp.example.com/token",
    } })
}

/// One rule for every request: a token for the service.
pub(crate) fn inbound() -> Value {
    json!({
        "issuers": issuers(),
        "inbound": { "rules": [{
            "require": { "issuer": "keycloak", "audiences": ["inventory-service"] },
        }] },
    })
}

/// The same, with identity headers for the service.
pub(crate) fn inbound_with_claim() -> Value {
    let mut configuration = inbound();
    configuration["inbound"]["rules"][0]["claims_to_headers"] = json!({ "x-caller": "sub" });
    configuration
}

/// A token for every request, in this header.
fn attach(header: &str) -> Value {
    json!({
        "credentials": { "order-service": {
            "issuer": "keycloak",
            "client_id": "order-service",
            "client_secret": { "inline": CLIENT_SECRET },
        } },
        "rules": [{ "credential": "order-service", "header": header }],
    })
}

/// A token for every request, in the usual header.
pub(crate) fn outbound() -> Value {
    json!({ "issuers": issuers(), "outbound": attach("authorization") })
}

/// The same, with a token that is bound to a key.
pub(crate) fn bound() -> Value {
    let mut configuration = outbound();
    configuration["outbound"]["credentials"]["order-service"]["dpop"] = json!(true);
    configuration["outbound"]["rules"][0]["dpop_origin"] = json!("https://inventory.example.com");
    configuration
}

/// Everything at once: the caller is verified and forwarded, and a token is attached in a header of
/// its own.
pub(crate) fn both_ways() -> Value {
    let mut configuration = inbound_with_claim();
    configuration["outbound"] = attach("x-service-token");
    configuration
}

/// What the provider answers: keys, or a token.
pub(crate) fn provider(call: &Call) -> Delivery {
    match call.path().as_str() {
        "/jwks" => reply(200, &key_set().to_string()),
        "/token" => {
            let kind = if call.header("dpop").is_some() { "DPoP" } else { "Bearer" };
            let answer = json!({ "access_token": issued(call), "token_type": kind, "expires_in": 300 });
            reply(200, &answer.to_string())
        }
        _ => reply(404, "{}"),
    }
}

/// The token that the provider gives in answer to this call.
pub(crate) fn issued(call: &Call) -> String {
    format!("opaque-token-of-the-provider-{:08}", call.token)
}

/// An answer of the provider.
pub(crate) fn reply(status: u16, body: &str) -> Delivery {
    let headers = pairs::of(&[(":status", &status.to_string()), ("content-type", "application/json")]);
    Delivery { headers, raw: None, body: body.as_bytes().to_vec() }
}

impl Vm {
    /// Started with this configuration; everything that it fetches at first has been fetched.
    pub(crate) fn ready(configuration: &Value) -> Self {
        let vm = Self::with(configuration);
        vm.wake();
        vm.serve();
        vm.pass(Duration::from_millis(1500));
        vm.record();
        vm
    }

    /// The provider answers whatever it is asked. Returns how often that was.
    pub(crate) fn serve(&self) -> usize {
        let mut served = 0;
        while let [call, ..] = self.calls().as_slice() {
            self.deliver(call, provider(call));
            served += 1;
        }
        served
    }

    /// Time passes, and the provider answers at once whatever it is asked. Returns how often that
    /// was.
    pub(crate) fn live(&self, span: Duration) -> usize {
        const STEP: Duration = Duration::from_millis(500);
        let mut served = self.serve();
        let mut left = span;
        while !left.is_zero() {
            self.pass(left.min(STEP));
            served += self.serve();
            left = left.saturating_sub(STEP);
        }
        served
    }

    /// The one call that is not answered yet.
    pub(crate) fn the_call(&self) -> Call {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }

    /// The number of log lines that contain this string.
    pub(crate) fn lines(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// A request with a good token, once it is settled: time passes and the provider answers as
    /// long as it waits.
    pub(crate) fn settled(&self, headers: Pairs) -> Request<'_> {
        let request = self.request(headers);
        for _ in 0..100 {
            if !request.waits() {
                break;
            }
            self.wake();
            self.serve();
        }
        request
    }
}
