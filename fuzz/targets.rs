//! What is fuzzed: each function takes whatever bytes a stranger may send, and panics if a promise
//! is broken.
//!
//! `cargo fuzz` drives them with coverage (`make fuzz`); `tests/it/core/fuzz.rs` drives the same
//! functions over the corpus, over its mutations and over random bytes, in every test run.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use m2m_auth::config::envoy_bytes;
use m2m_auth::dpop::verify::{self, DpopPolicy};
use m2m_auth::http::message::{HttpReply, MessageHead};
use m2m_auth::http::path;
use m2m_auth::inbound::jwt::{self, AudienceRequirement, Confirmation, IssuerProfile, RuleRequirements};
use m2m_auth::jose::jwk::{self, Algorithm, Jwk, KeySet};
use m2m_auth::jose::private_key::PrivateKey;
use m2m_auth::jose::verifier::{SoftwareCrypto, Verify};
use m2m_auth::oauth::discovery::Metadata;
use m2m_auth::oauth::secret_file::NoFiles;
use m2m_auth::policy::{Issuer, Policy};
use m2m_auth::rng::Rng;
use m2m_auth::store::shared_record::Record;
use m2m_auth::time::{Instant, Now};
use pkcs8::der::Encode as _;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{ObjectIdentifier, PrivateKeyInfo};
use sec1::{EcParameters, EcPrivateKey};
use serde_json::Value;
use std::time::Duration;

/// The target of this name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: [Target; 13] = [
    ("answer", answer),
    ("claims", claims),
    ("configuration", configuration),
    ("discovery", discovery),
    ("introspection", introspection),
    ("jwks", jwks),
    ("private_key", private_key),
    ("private_key_der", private_key_der),
    ("proof", proof),
    ("record", record),
    ("route", normal_form),
    ("structure", structure),
    ("token", token),
];

/// The key set whose one private key has signed nothing but this token.
const KEYS: &str = include_str!("../tests/data/cli/keys.json");
const GOOD: &str = include_str!("../tests/data/cli/authorization.txt");
const CONFIGURATION: &str = r#"{
    "issuers": { "idp": {
        "issuer": "https://idp.example.com", "cluster": "idp", "allowed_hosts": ["keys.example.com"],
        "introspection": { "client_id": "svc", "client_secret": { "inline": "hushhush" } }
    } },
    "inbound": { "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"] } }] },
    "outbound": {
        "credentials": {
            "own": { "issuer": "idp", "client_id": "c", "client_secret": { "inline": "hushhush" } },
            "exchanged": { "issuer": "idp", "client_id": "c", "client_secret": { "inline": "hushhush" }, "grant_type": "token_exchange" }
        },
        "rules": [{ "match": { "host": "a" }, "credential": "own" }, { "credential": "exchanged" }]
    }
}"#;

/// The one proof that its key has ever signed.
const GOOD_PROOF: &str = include_str!("seeds/proof/good");

/// What an issuer is asked about.
const TOKEN: &str = "hushhush-too";

const NOW: u64 = 1_800_000_000;

thread_local! {
    // Read once: else a target would do little but read its own configuration.
    static POLICY: Policy = policy_of(CONFIGURATION);
    static CLI: Policy = policy_of(include_str!("../tests/data/cli/config.json"));
    static KEY_SET: KeySet = jwk::parse(KEYS.as_bytes()).expect("the target's own keys are good").keys;
}

fn expect() -> IssuerProfile {
    CLI.with(|policy| policy.issuers[0].profile.clone())
}

fn policy_of(configuration: &str) -> Policy {
    Policy::read(configuration.as_bytes(), &|_| None).expect("the target's own configuration is good")
}

fn key_set() -> KeySet {
    KEY_SET.with(Clone::clone)
}

/// No token is accepted but the one that was signed.
pub(crate) fn token(bytes: &[u8]) {
    let good = GOOD.trim().rsplit(' ').next().unwrap_or_default();
    let accepted =
        jwt::read(bytes).is_ok_and(|read| read.verify(&key_set(), &SoftwareCrypto, &expect(), NOW).is_ok());
    assert_eq!(
        accepted,
        bytes == good.as_bytes(),
        "a token that nobody signed was accepted, or the one that was signed was not"
    );
    jwt::unverified_exp(bytes);
}

/// Whatever a provider may sign: nothing is accepted that is of another issuer, or not in its time.
pub(crate) fn claims(payload: &[u8]) {
    struct Anything;
    impl Verify for Anything {
        fn verify(&self, _: Algorithm, _: &Jwk, _: &[u8], _: &[u8]) -> bool {
            true
        }
    }
    let parts = [br#"{"alg":"EdDSA","kid":"rfc8037"}"#.as_slice(), payload, &[0; 64]];
    let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let expect = expect();
    let Ok(read) = jwt::read(token.as_bytes()) else { return };
    if let Ok(caller) = read.verify(&key_set(), &Anything, &expect, NOW) {
        assert!(caller.claim(&["iss"]).and_then(Value::as_str).is_some_and(|iss| expect.has_name(iss)));
        assert!(caller.accepted_until() > NOW, "accepted though it has ended");
        let bound = caller.claim(&["cnf"]).is_some();
        assert_eq!(
            bound,
            *caller.confirmation() != Confirmation::None,
            "a bound token may be taken for a plain one"
        );
        let audiences = AudienceRequirement { any_of: vec!["svc".to_owned()], all_of: Vec::new() };
        let _ = RuleRequirements { audiences, ..RuleRequirements::default() }.check(&caller, 0);
    }
}

/// No proof is good but one that was signed; and what is no proof is refused, whatever is wrong
/// with it.
pub(crate) fn proof(bytes: &[u8]) {
    let head: MessageHead = [
        (":method", b"GET".as_slice()),
        (":scheme", b"https"),
        (":authority", b"api.example.com"),
        (":path", b"/items"),
        ("dpop", bytes),
    ]
    .into_iter()
    .collect();
    let terms = DpopPolicy { origins: Vec::new(), window: 60, nonce_key: None };
    if let Ok(proof) = verify::extract(&head) {
        let judged = proof.check_request(&head, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo", &terms, NOW);
        let good = judged.is_ok() && proof.has_valid_signature(&SoftwareCrypto);
        assert!(!good || bytes == GOOD_PROOF.trim().as_bytes(), "a proof that nobody signed was taken");
    }
}

/// Keys that are taken can be used, whatever they are.
pub(crate) fn jwks(bytes: &[u8]) {
    match jwk::parse(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(parsed) => {
            assert!(!parsed.keys.is_empty(), "a set without a usable key was taken");
            for algorithm in Algorithm::ALL {
                for key in parsed.keys.candidates(None, algorithm, true) {
                    let read =
                        SubjectPublicKeyInfoRef::try_from(key.spki()).expect("our public keys are DER");
                    assert_eq!(read.to_der().expect("what was read"), key.spki());
                    let rsa = pkcs1::RsaPublicKey::try_from(read.subject_public_key.raw_bytes());
                    assert_eq!(rsa.is_ok(), read.algorithm.oid == RSA, "an RSA key that is none");
                    let signature = vec![1; m2m_auth::jose::verifier::length(algorithm, key)];
                    assert!(
                        !SoftwareCrypto.verify(algorithm, key, b"text", &signature),
                        "a made-up signature is one"
                    );
                }
            }
        }
    }
}

/// A configuration is understood, or every error has a line; and the same bytes have the same
/// outcome.
pub(crate) fn configuration(bytes: &[u8]) {
    let read = || Policy::read(bytes, &|name| name.starts_with('S').then(|| "hushhush".to_owned()));
    match (read(), read()) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        (Err(one), Err(other)) => {
            assert_eq!(one, other);
            assert!(!one.is_empty(), "refused without a reason");
            for error in one {
                assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            }
        }
        _ => panic!("the same bytes were refused once and taken once"),
    }
}

/// A provider's answer: the first byte chooses its status.
fn reply(bytes: &[u8]) -> Option<HttpReply> {
    let (choice, body) = bytes.split_first()?;
    let status = [200, 201, 400, 401, 403, 404, 429, 500, 503].get(usize::from(*choice) % 10).copied();
    Some(HttpReply { status, body: Some(body.to_vec()), ..HttpReply::default() })
}

/// An accepted token is a valid header value and does not outlive the subject token of its
/// exchange.
pub(crate) fn answer(bytes: &[u8]) {
    let Some(reply) = reply(bytes) else { return };
    POLICY.with(|policy| taken_from(policy, &reply));
}

fn taken_from(policy: &Policy, reply: &HttpReply) {
    let subjects = [None, Some(("subject", Some(Duration::from_secs(60))))];
    for (credential, subject) in policy.credentials.iter().zip(subjects) {
        match credential.grant.read(reply, subject, None, &NoFiles, &mut Rng::new(1)) {
            Err(failure) => {
                assert!(!format!("{failure} {failure:?}").contains("hushhush"), "the error prints a secret");
            }
            Ok(fresh) => {
                let token = fresh.value.reveal();
                assert!(
                    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
                    "not for a header"
                );
                assert!(
                    subject.is_none() || fresh.end_after <= Duration::from_secs(60),
                    "outlives its subject"
                );
                assert!(fresh.renew_after <= fresh.end_after, "renewed after its end");
            }
        }
    }
}

/// Only an explicit, current answer of this issuer accepts a caller, and no answer makes an error
/// print the token or our secret.
pub(crate) fn introspection(bytes: &[u8]) {
    let Some(reply) = reply(bytes) else { return };
    POLICY.with(|policy| said_of(&policy.issuers[0], &reply));
}

fn said_of(issuer: &Issuer, reply: &HttpReply) {
    let Some(introspection) = &issuer.introspection else { return };
    let members = match introspection.read(reply, TOKEN, &NoFiles) {
        Ok(members) => members,
        Err(failure) => {
            assert!(
                !format!("{failure} {failure:?}").contains("hushhush"),
                "the error prints a secret or the token"
            );
            return;
        }
    };
    let good = GOOD.trim().rsplit(' ').next().unwrap_or_default().as_bytes();
    let read = jwt::read(good).and_then(|read| read.verify(&key_set(), &SoftwareCrypto, &expect(), NOW));
    // The verified token is of another issuer, so its `iss` must be replaced by the one of the
    // answer.
    for verified in [None, read.as_ref().ok()] {
        let Ok(caller) = jwt::introspected(members.clone(), verified, &issuer.profile, NOW) else { continue };
        assert_eq!(members.get("active"), Some(&Value::Bool(true)));
        let iss = caller.claim(&["iss"]).and_then(Value::as_str);
        assert!(iss.map_or(verified.is_none(), |iss| issuer.profile.has_name(iss)), "of another issuer");
        assert!(caller.accepted_until() > NOW, "accepted though it has ended");
        let bound = caller.claim(&["cnf"]).is_some();
        assert_eq!(
            bound,
            *caller.confirmation() != Confirmation::None,
            "a bound token may be taken for a plain one"
        );
        let audiences = AudienceRequirement { any_of: vec!["svc".to_owned()], all_of: Vec::new() };
        let _ = RuleRequirements { audiences, ..RuleRequirements::default() }.check(&caller, 0);
    }
}

/// No document sends our secrets elsewhere.
pub(crate) fn discovery(bytes: &[u8]) {
    let Some(reply) = reply(bytes) else { return };
    let found = POLICY.with(|policy| policy.issuers[0].discovery.as_ref().map(|own| own.read(&reply)));
    if let Some(Ok(metadata)) = found {
        let Metadata { jwks_uri, token_endpoint, token_endpoint_alias, introspection_endpoint } = metadata;
        let found = [jwks_uri, token_endpoint, token_endpoint_alias, introspection_endpoint];
        for endpoint in found.into_iter().flatten() {
            assert!(
                ["idp.example.com", "keys.example.com"].contains(&endpoint.authority.as_str()),
                "{endpoint:?}"
            );
        }
    }
}

/// A normal form has nothing in it by which two servers could read two paths.
pub(crate) fn normal_form(path: &[u8]) {
    if let Ok(normal) = path::normal(path) {
        assert_eq!(normal.first(), Some(&b'/'));
        assert!(!normal.windows(2).any(|pair| pair == b"//"), "{normal:?}");
        assert!(!normal.iter().any(|byte| *byte < b' ' || matches!(byte, b'\\' | b';' | 0x7f)), "{normal:?}");
        assert!(
            !normal.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")),
            "{normal:?}"
        );
    }
}

/// A shared record, as another plugin may have written it: read as it was written, or not at all.
pub(crate) fn record(bytes: &[u8]) {
    let now = Now { instant: Instant(Duration::from_secs(1_000_000)), unix: 0 };
    if let Some(record) = Record::decode(bytes, now) {
        // One that was written before the machine slept is read as from an earlier time.
        assert!(record.encode() == bytes || now.instant < record.written_at.instant, "it is read as another");
        let latest = now.instant + Duration::from_secs(1);
        assert!(record.start <= latest && record.refresh_requested_at <= latest, "from the future");
    }
}

/// Envoy's `Struct`, and JSON.
pub(crate) fn structure(bytes: &[u8]) {
    if let Ok(value) = envoy_bytes::read(bytes) {
        let again = envoy_bytes::read(value.to_string().as_bytes()).expect("JSON that we wrote");
        assert!(same(&value, &again), "{value} was read as {again}");
    }
}

/// Fractions of more digits than anybody writes may differ in the last bits, as JSON is read faster
/// so.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) if one.is_f64() => (a - b).abs() <= a.abs() * 1e-14 + f64::MIN_POSITIVE,
            _ => one == other,
        },
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            let equal = |(name, a): (&String, &Value)| other.get(name).is_some_and(|b| same(a, b));
            one.len() == other.len() && one.iter().all(equal)
        }
        _ => one == other,
    }
}

/// A private key, in PEM or as a JWK.
pub(crate) fn private_key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match PrivateKey::read(&text, None) {
        Err(fault) => assert!(!fault.is_empty()),
        Ok(key) => {
            assert_eq!(format!("{key:?}"), "redacted");
            is_sound(key.algorithm(), key_in(key.pkcs8()));
        }
    }
}

/// A private key in DER, behind a byte that chooses its form: what we accept, the crate `der`
/// accepts, with the same key in it.
pub(crate) fn private_key_der(bytes: &[u8]) {
    let Some((choice, document)) = bytes.split_first() else { return };
    let label = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"][usize::from(*choice) % 3];
    let body = STANDARD.encode(document);
    let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let Ok(key) = PrivateKey::read(&pem, None) else { return };
    let theirs = if label == "PRIVATE KEY" { key_in(document) } else { document };
    assert_eq!(key_in(key.pkcs8()), theirs, "another key was read");
    is_sound(key.algorithm(), theirs);
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// The key in PKCS#8, as another reader of DER finds it.
fn key_in(document: &[u8]) -> &[u8] {
    PrivateKeyInfo::try_from(document).expect("what is no PKCS#8 was accepted").private_key
}

fn is_sound(algorithm: Algorithm, key: &[u8]) {
    match algorithm {
        Algorithm::Rs256 => {
            pkcs1::RsaPrivateKey::try_from(key).expect("what is no RSAPrivateKey was accepted");
        }
        Algorithm::Es256 => {
            let key = EcPrivateKey::try_from(key).expect("what is no ECPrivateKey was accepted");
            assert!(
                key.parameters.is_none_or(|curve| curve == EcParameters::NamedCurve(P256)),
                "of another curve"
            );
            assert_eq!(key.private_key.len(), 32);
        }
        // RFC 8410 section 7: an OCTET STRING in the OCTET STRING.
        _ => assert!(
            key.len() == 34 && key.starts_with(&[0x04, 32]),
            "what is no CurvePrivateKey was accepted"
        ),
    }
}
