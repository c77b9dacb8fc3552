//! Authorization: the whole plugin, one request at a time, with an inline key set.

mod conditions;
mod presets;

use m2m_auth::http::message::{LocalReply, MessageHead, RequestId};
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::rng::OsRandom;
use m2m_auth::time::{Instant, Now};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

/// In seconds since 1970.
const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(Alg::EdDsa));

/// A worker, and what it has logged.
struct Gate {
    plugin: Plugin,
    logs: Vec<String>,
}

impl Gate {
    /// One rule for every request, with this requirement in addition to the audience.
    fn asking(require: &Value) -> Self {
        Self::of(&json!({}), require)
    }

    /// The same, with these further members of the issuer.
    fn of(issuer: &Value, require: &Value) -> Self {
        Self::new(&Self::configuration(issuer, require))
    }

    fn configuration(issuer: &Value, require: &Value) -> Value {
        let mut configuration = json!({
            "issuers": { "idp": { "issuer": "https://idp.example.com", "jwks": { "keys": [KEY.jwk()] } } },
            "inbound": { "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"] } }] },
        });
        extend(&mut configuration["issuers"]["idp"], issuer);
        extend(&mut configuration["inbound"]["rules"][0]["require"], require);
        configuration
    }

    fn new(configuration: &Value) -> Self {
        let policy = Policy::read(configuration.to_string().as_bytes(), &|_| None);
        let policy = policy.unwrap_or_else(|errors| panic!("{errors:#?}"));
        let signer = Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom));
        Self { plugin: Plugin::new(policy, Box::new(SoftwareCrypto), signer, 1), logs: Vec::new() }
    }

    fn send(&mut self, head: MessageHead) -> Result<(), LocalReply> {
        let now = Now { instant: Instant(Duration::from_secs(1)), unix: NOW };
        let step = self.plugin.request(RequestId(1), head, now);
        while let Some(effect) = self.plugin.next_effect() {
            if let Effect::Log(_, line) = effect {
                self.logs.push(line);
            }
        }
        match step {
            RequestOutcome::Forward(_) => Ok(()),
            RequestOutcome::Respond(response) => Err(response),
            RequestOutcome::Wait => panic!("nothing is fetched here"),
        }
    }

    /// A request with a token of these claims, beside those that every token has.
    fn ask(&mut self, claims: &Value, headers: &[(&str, &str)]) -> Result<(), LocalReply> {
        let mut all = json!({ "iss": "https://idp.example.com", "aud": "svc", "exp": NOW + 300, "iat": NOW });
        extend(&mut all, claims);
        let bearer = format!("Bearer {}", Mint::of(all).sign(&KEY));
        let pseudo = [(":method", "GET"), (":authority", "svc.example.com"), (":path", "/")];
        let own = pseudo.into_iter().filter(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        self.send(own.chain(headers.iter().copied()).chain([("authorization", bearer.as_str())]).collect())
    }

    fn allows(&mut self, claims: &Value) -> bool {
        self.ask(claims, &[]).is_ok()
    }

    /// Status, `reason` and `message` of the refusal.
    fn refusal(&mut self, claims: &Value) -> (u16, String, String) {
        let response = self.ask(claims, &[]).expect_err("a refusal");
        let body: Value = serde_json::from_str(&response.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (response.status, text("reason"), text("message"))
    }
}

fn extend(value: &mut Value, more: &Value) {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
}
