//! A worker of the filter whose identity providers are files on the desk: no call is made, each is answered here.

use aws_lc_rs::signature as lc;
use m2m_auth::assertion::Signer;
use m2m_auth::dpop;
use m2m_auth::io::{Head, Instant, Now, Reply, RequestId};
use m2m_auth::jwk::{Algorithm, Key, der};
use m2m_auth::plugin::{Effect, Plugin, Step};
use m2m_auth::policy::{CredentialId, IssuerId, Policy};
use m2m_auth::private_key::PrivateKey;
use m2m_auth::signature::{Compact, Verify};
use m2m_auth::signing::Sign;
use m2m_auth::store::Want;
use m2m_auth::trace;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// Stands for every token that would be fetched.
pub(crate) const FETCHED: &str = "the-fetched-token";

/// A worker and its providers.
pub(crate) struct World {
    plugin: Plugin,
    /// The same policy once more: the worker owns its own.
    policy: Policy,
    /// The key sets, by issuer.
    keys: Vec<Option<Vec<u8>>>,
    /// Issuers whose keys were asked for in vain.
    pub lacking: Vec<String>,
    /// What the worker had to complain about.
    pub complaints: Vec<String>,
}

impl World {
    /// A worker that has just started.
    pub(crate) fn new(plugin: Policy, policy: Policy, keys: Vec<Option<Vec<u8>>>) -> Self {
        let key = dpop::Key::of(&[7; 32], Algorithm::EdDsa).map(Rc::new);
        let signer = Signer::new(Box::new(Nobody), [7; 32]).proving(key);
        let plugin = Plugin::new(plugin, Box::new(Desk), signer, 1);
        Self { plugin, policy, keys, lacking: Vec::new(), complaints: Vec::new() }
    }

    /// What becomes of a request, and the steps to there. None when there is no end to its waiting.
    pub(crate) fn ask(&mut self, head: Head, unix: u64) -> Option<(Step, Vec<trace::Step>)> {
        let mut now = Now { instant: Instant(Duration::from_secs(1000)), unix };
        self.serve(now);
        now.instant = now.instant + Duration::from_secs(10);
        let (mut step, mut steps) = trace::listen(|| self.plugin.request(RequestId(1), head, now));
        for _ in 0..20 {
            if step != Step::Wait {
                return Some((step, steps));
            }
            if let Some((end, last)) = self.serve(now) {
                (step, steps) = (end, whole(&steps, last));
            } else {
                now.instant = self.plugin.deadline(now)?;
            }
        }
        None
    }

    /// Answers every call; tells how the request ended, if it did, and the steps of its last run.
    fn serve(&mut self, now: Now) -> Option<(Step, Vec<trace::Step>)> {
        let ((), mut heard) = trace::listen(|| self.plugin.tick(now));
        let mut settled = None;
        while let Some(effect) = self.plugin.poll() {
            match effect {
                Effect::Call(ticket, _) => {
                    let reply = self.answer(ticket.want);
                    let ((), steps) = trace::listen(|| self.plugin.reply(ticket, &reply, now));
                    heard = if steps.is_empty() { heard } else { steps };
                    let ((), steps) = trace::listen(|| self.plugin.tick(now));
                    heard = if steps.is_empty() { heard } else { steps };
                }
                Effect::Settle(_, step) => settled = Some((step, std::mem::take(&mut heard))),
                Effect::Log(log::Level::Warn, line) => self.complaints.push(line),
                Effect::Log(..) => {}
            }
        }
        settled
    }

    fn answer(&mut self, want: Want) -> Reply {
        match want {
            Want::Metadata(IssuerId(id)) => {
                let issuer = self.policy.issuers.get(id).and_then(|issuer| issuer.discovery.as_ref());
                let place = issuer
                    .map(|own| format!("{}://{}", own.url.scheme, own.url.authority))
                    .unwrap_or_default();
                good(&json!({
                    "issuer": issuer.and_then(|own| own.issuers.first()),
                    "jwks_uri": format!("{place}/keys"),
                    "token_endpoint": format!("{place}/token"),
                    "introspection_endpoint": format!("{place}/introspect"),
                }))
            }
            Want::Keys(IssuerId(id)) => {
                if let Some(body) = self.keys.get(id).cloned().flatten() {
                    return Reply { status: Some(200), body: Some(body), ..Reply::default() };
                }
                self.lacking.extend(self.policy.issuers.get(id).map(|issuer| issuer.name.clone()));
                Reply::default()
            }
            // Nobody here knows what an issuer says of a token.
            Want::Introspection(..) => Reply::default(),
            Want::Token(CredentialId(id)) | Want::Exchanged(CredentialId(id), _) => {
                let bound = self.policy.credentials.get(id).is_some_and(|credential| credential.grant.bound);
                let kind = if bound { "DPoP" } else { "Bearer" };
                good(&json!({ "access_token": FETCHED, "token_type": kind, "expires_in": 300 }))
            }
        }
    }
}

fn good(body: &Value) -> Reply {
    Reply { status: Some(200), body: Some(body.to_string().into_bytes()), ..Reply::default() }
}

/// A request that waited for something is decided again from the top; what was verified is known then and not verified
/// again. Both runs together are the whole decision.
fn whole(first: &[trace::Step], last: Vec<trace::Step>) -> Vec<trace::Step> {
    let verifying = first.iter().skip_while(|step| step.what != "token").skip(1);
    let verifying = verifying.take_while(|step| !matches!(step.what, "audience" | "access" | "match"));
    let mut whole = Vec::new();
    for step in last {
        if step.what == "remembered" { whole.extend(verifying.clone().cloned()) } else { whole.push(step) }
    }
    whole
}

/// Verifies as the filter in Envoy does: ECDSA is Envoy's own crypto, the rest is the module's.
struct Desk;

impl Verify for Desk {
    fn verify(&self, algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        let how: &dyn lc::VerificationAlgorithm = match algorithm {
            Algorithm::Es256 => &lc::ECDSA_P256_SHA256_ASN1,
            Algorithm::Es384 => &lc::ECDSA_P384_SHA384_ASN1,
            Algorithm::Es512 => &lc::ECDSA_P521_SHA512_ASN1,
            _ => return Compact.verify(algorithm, key, message, signature),
        };
        let signature = der::ecdsa_signature(signature);
        lc::UnparsedPublicKey::new(how, key.spki()).verify(message, &signature).is_ok()
    }
}

/// Signs what nobody will ever look at.
struct Nobody;

impl Sign for Nobody {
    fn sign(&self, _: &PrivateKey, _: &[u8]) -> Option<Vec<u8>> {
        Some(vec![0; 64])
    }
}
