//! A worker of the filter whose identity providers are files: every call is answered here, offline.

use crate::environment::private_key;
use aws_lc_rs::signature as lc;
use m2m_auth::decision_trace;
use m2m_auth::dpop;
use m2m_auth::http::message::{HttpReply, MessageHead, RequestId};
use m2m_auth::jose::jwk::{Algorithm, Jwk, der};
use m2m_auth::jose::private_key::PrivateKey;
use m2m_auth::jose::signer::Sign;
use m2m_auth::jose::verifier::{SoftwareCrypto, Verify};
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::oauth::secret_file::FileForm;
use m2m_auth::plugin::audit_log::{AuditEvent, AuditField};
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::{Issuer, IssuerId, Policy};
use m2m_auth::rng::OsRandom;
use m2m_auth::store::{ExchangedToken, FetchKey, FileRead, IssuerKeys, IssuerMetadata, OwnToken};
use m2m_auth::time::{Instant, Now};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// The placeholder for every fetched token.
pub(crate) const FETCHED: &str = "the-fetched-token";

/// A worker and its providers.
pub(crate) struct OfflineWorker {
    plugin: Plugin,
    /// A second copy of the policy; the plugin owns the first.
    policy: Policy,
    /// The key sets, by issuer.
    keys: Vec<Option<Vec<u8>>>,
    /// Issuers whose key sets were needed and not given.
    missing_jwks: Vec<IssuerId>,
    /// The issuers whose key sets were fetched, in this order.
    fetched_jwks: Vec<IssuerId>,
    /// Why the worker's fetches failed, as it logged it.
    pub log_lines: Vec<String>,
    /// The line of the audit log about a refusal that the rule's mode suppressed.
    pub would_refuse: Option<Value>,
}

impl OfflineWorker {
    /// A worker that has just started.
    pub(crate) fn new(plugin: Policy, policy: Policy, keys: Vec<Option<Vec<u8>>>) -> Self {
        let key = dpop::ProofKey::from_seed(&[7; 32], Algorithm::EdDsa).map(Rc::new);
        let signer = Signer::new(Box::new(NoopSigner), Box::new(OsRandom)).with_proof_key(key);
        let plugin = Plugin::new(plugin, Box::new(OfflineVerifier), signer, 1);
        Self {
            plugin,
            policy,
            keys,
            missing_jwks: Vec::new(),
            fetched_jwks: Vec::new(),
            log_lines: Vec::new(),
            would_refuse: None,
        }
    }

    /// The outcome of a request, and the steps that led to it. `None` if it never stops waiting.
    pub(crate) fn ask(
        &mut self,
        head: MessageHead,
        unix: u64,
    ) -> Option<(RequestOutcome, Vec<decision_trace::DecisionStep>)> {
        let mut now = Now { instant: Instant(Duration::from_secs(1000)), unix };
        self.serve(now);
        self.fetched_jwks.clear();
        now.instant = now.instant + Duration::from_secs(10);
        let (mut step, mut steps) = decision_trace::capture(|| self.plugin.request(RequestId(1), head, now));
        for _ in 0..20 {
            if step != RequestOutcome::Wait {
                self.read_log();
                return Some((step, steps));
            }
            if let Some((end, last)) = self.serve(now) {
                (step, steps) = (end, merged_steps(&steps, last));
            } else {
                now.instant = self.plugin.deadline(now)?;
            }
        }
        None
    }

    /// The issuer whose key set the request needed, and which is missing or unusable.
    pub(crate) fn needed_key_set(&self, steps: &[decision_trace::DecisionStep]) -> Option<&Issuer> {
        let needed = steps.iter().rfind(|step| step.check == "key set");
        needed.and_then(|step| {
            self.policy.issuers.iter().find(|issuer| issuer.name == step.detail).map(|issuer| &**issuer)
        })
    }

    /// Whether no key set of an issuer was given.
    pub(crate) fn is_missing(&self, issuer: &Issuer) -> bool {
        let missing = self.missing_jwks.iter().filter_map(|id| self.policy.issuer(*id));
        missing.map(|missing| &missing.name).any(|name| *name == issuer.name)
    }

    /// The issuer whose key set was fetched again, for a key that it does not contain.
    pub(crate) fn searched_key_set(&self) -> Option<&Issuer> {
        self.policy.issuer(*self.fetched_jwks.last()?).map(|issuer| &**issuer)
    }

    /// Answers every call; returns how the request ended, if it did, and the steps of its last run.
    fn serve(&mut self, now: Now) -> Option<(RequestOutcome, Vec<decision_trace::DecisionStep>)> {
        let ((), mut heard) = decision_trace::capture(|| self.plugin.tick(now));
        let mut settled = None;
        while let Some(effect) = self.plugin.next_effect() {
            match effect {
                Effect::Call(ticket, _) => {
                    let reply = self.answer(ticket.key);
                    let ((), steps) = decision_trace::capture(|| self.plugin.reply(ticket, &reply, now));
                    heard = if steps.is_empty() { heard } else { steps };
                    let ((), steps) = decision_trace::capture(|| self.plugin.tick(now));
                    heard = if steps.is_empty() { heard } else { steps };
                }
                Effect::Resume(_, step) => settled = Some((step, std::mem::take(&mut heard))),
                Effect::Log(level, line) => self.note(level, &line),
            }
        }
        settled
    }

    /// Reads what the request logged, and answers no call: the decision is made.
    fn read_log(&mut self) {
        while let Some(effect) = self.plugin.next_effect() {
            if let Effect::Log(level, line) = effect {
                self.note(level, &line);
            }
        }
    }

    fn note(&mut self, level: log::Level, line: &str) {
        if level == log::Level::Warn {
            self.log_lines.extend(event_line(line, AuditEvent::Fetch).and_then(|line| message(&line)));
            self.would_refuse = event_line(line, AuditEvent::WouldRefuse).or(self.would_refuse.take());
        }
    }

    fn answer(&mut self, want: FetchKey) -> HttpReply {
        match want {
            FetchKey::Metadata(IssuerMetadata(id)) => {
                let issuer = self.policy.issuer(id).and_then(|issuer| issuer.discovery.as_ref());
                let origin = issuer
                    .map(|own| format!("{}://{}", own.url.scheme, own.url.authority))
                    .unwrap_or_default();
                ok_reply(&json!({
                    "issuer": issuer.and_then(|discovery| discovery.issuers.first()),
                    "jwks_uri": format!("{origin}/keys"),
                    "token_endpoint": format!("{origin}/token"),
                    "introspection_endpoint": format!("{origin}/introspect"),
                }))
            }
            FetchKey::Keys(IssuerKeys(id)) => {
                self.fetched_jwks.push(id);
                if let Some(body) = self.keys.get(id.index()).cloned().flatten() {
                    return HttpReply { status: Some(200), body: Some(body), ..HttpReply::default() };
                }
                self.missing_jwks.push(id);
                HttpReply::default()
            }
            FetchKey::File(FileRead(id)) => {
                let file = self.policy.files.get(id.index());
                let body = file.map_or("", |file| placeholder(&file.form)).as_bytes().to_vec();
                HttpReply { status: Some(200), body: Some(body), ..HttpReply::default() }
            }
            // The introspection response is not available offline.
            FetchKey::Introspection(..) => HttpReply::default(),
            FetchKey::Token(OwnToken(id)) | FetchKey::Exchanged(ExchangedToken(id, _)) => {
                let bound = self.policy.credential(id).is_some_and(|credential| credential.grant.dpop_bound);
                let kind = if bound { "DPoP" } else { "Bearer" };
                ok_reply(&json!({ "access_token": FETCHED, "token_type": kind, "expires_in": 300 }))
            }
        }
    }
}

/// A line of the audit log, if it is about this event.
fn event_line(line: &str, event: AuditEvent) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line.get(AuditField::Event.name())? == event.name()).then_some(line)
}

fn message(line: &Value) -> Option<String> {
    Some(line.get(AuditField::Message.name())?.as_str()?.to_owned())
}

fn ok_reply(body: &Value) -> HttpReply {
    HttpReply { status: Some(200), body: Some(body.to_string().into_bytes()), ..HttpReply::default() }
}

/// A request that waited is decided again from the start; what was verified is then cached and not
/// verified again. Both runs together are the whole decision.
fn merged_steps(
    first: &[decision_trace::DecisionStep],
    last: Vec<decision_trace::DecisionStep>,
) -> Vec<decision_trace::DecisionStep> {
    let verifying = first.iter().skip_while(|step| step.check != "token").skip(1);
    let verifying = verifying.take_while(|step| !matches!(step.check, "audience" | "access" | "match"));
    // The first run may have waited for it.
    let verifying = verifying.filter(|step| step.check != "key set");
    let mut whole = Vec::new();
    for step in last {
        if step.check == "remembered" { whole.extend(verifying.clone().cloned()) } else { whole.push(step) }
    }
    whole
}

/// Verifies as the filter in Envoy does: ECDSA by a native library, as Envoy does, the rest in the
/// module.
struct OfflineVerifier;

impl Verify for OfflineVerifier {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
        let how: &dyn lc::VerificationAlgorithm = match algorithm {
            Algorithm::Es256 => &lc::ECDSA_P256_SHA256_ASN1,
            Algorithm::Es384 => &lc::ECDSA_P384_SHA384_ASN1,
            Algorithm::Es512 => &lc::ECDSA_P521_SHA512_ASN1,
            _ => return SoftwareCrypto.verify(algorithm, key, message, signature),
        };
        let signature = der::ecdsa_signature(signature);
        lc::UnparsedPublicKey::new(how, key.spki()).verify(message, &signature).is_ok()
    }
}

/// Returns placeholder signatures, which nothing verifies.
struct NoopSigner;

impl Sign for NoopSigner {
    fn sign(&self, _: &PrivateKey, _: &[u8]) -> Option<Vec<u8>> {
        Some(vec![0; 64])
    }
}

/// The content of a file that is not here.
fn placeholder(form: &FileForm) -> &'static str {
    match form {
        FileForm::Secret => "a-stand-in-for-a-secret-that-is-not-here",
        // RFC 7515 appendix A.3.
        FileForm::Assertion => {
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        }
        FileForm::PrivateKey(algorithm, _) => private_key(*algorithm),
    }
}
