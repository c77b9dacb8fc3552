//! Project Wycheproof (C2SP): signatures and tokens made to find faults in libraries.

use super::{Way, signature_holds};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::jose::jwk::{self, Algorithm};
use m2m_auth::jose::verifier;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Deserialize)]
struct SignatureFile {
    groups: Vec<SignatureGroup>,
}

#[derive(Deserialize)]
struct SignatureGroup {
    file: String,
    alg: String,
    jwk: Value,
    tests: Vec<SignatureCase>,
}

#[derive(Deserialize)]
struct SignatureCase {
    #[serde(rename = "tcId")]
    id: u64,
    comment: String,
    msg: String,
    sig: String,
    expect: String,
}

#[test]
fn wycheproof_signatures_by_jwt_compact() {
    run_wycheproof_signatures(Way::Compact, 2219);
}

#[test]
fn wycheproof_signatures_by_the_host() {
    run_wycheproof_signatures(Way::Host, 2219);
}

/// [`Verify`] after the check of the length, as in `jwt`: the host is sent DER, in which an ECDSA
/// signature of a wrong size (RFC 7518 section 3.4) looks like one of the right size.
fn run_wycheproof_signatures(way: Way, expected: usize) {
    let Some(file) = wycheproof::<SignatureFile>("wycheproof_signatures.json") else {
        return;
    };
    let (mut ledger, verifier) = (Ledger::of("signatures", way), way.verifier());
    for group in &file.groups {
        let algorithm = Algorithm::from_name(&group.alg).unwrap();
        let keys = jwk::parse(json!({ "keys": [group.jwk] }).to_string().as_bytes()).unwrap().keys;
        let key = keys.candidates(None, algorithm, true).next().unwrap();
        for case in &group.tests {
            let [message, signature] =
                [&case.msg, &case.sig].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
            let holds = signature.len() == verifier::length(algorithm, key)
                && verifier.verify(algorithm, key, &message, &signature);
            let outcome = if holds { Ok(()) } else { Err("refused".to_owned()) };
            let expect = if way.can(algorithm) { case.expect.as_str() } else { "reject" };
            ledger.note(&group.file, case.id, &case.comment, expect, &outcome);
        }
    }
    ledger.close(expected);
}

#[derive(Deserialize)]
struct JwsFile {
    groups: Vec<JwsGroup>,
}

#[derive(Deserialize)]
struct JwsGroup {
    comment: String,
    jwks: Value,
    tests: Vec<JwsCase>,
}

#[derive(Deserialize)]
struct JwsCase {
    #[serde(rename = "tcId")]
    id: u64,
    comment: String,
    jws: String,
    asymmetric_only_expect: String,
}

#[test]
fn wycheproof_json_web_signature() {
    run_wycheproof_jws("json_web_signature", 200);
}

#[test]
fn wycheproof_json_web_key() {
    run_wycheproof_jws("json_web_key", 13);
}

#[test]
fn wycheproof_json_web_crypto() {
    run_wycheproof_jws("json_web_crypto", 25);
}

fn run_wycheproof_jws(set: &str, expected: usize) {
    let Some(file) = wycheproof::<JwsFile>(&format!("wycheproof_{set}.json")) else {
        return;
    };
    for way in Way::BOTH {
        let (mut ledger, verifier) = (Ledger::of(set, way), way.verifier());
        for group in &file.groups {
            for case in group.tests.iter().filter(|case| case.asymmetric_only_expect != "skip") {
                let outcome = signature_holds(&case.jws, &group.jwks, verifier.as_ref());
                let what = format!("{}, {}", group.comment, case.comment);
                ledger.note(set, case.id, &what, &case.asymmetric_only_expect, &outcome);
            }
        }
        ledger.close(expected);
    }
}

/// A Wycheproof file, where they lie beside the repository.
fn wycheproof<T: for<'de> Deserialize<'de>>(name: &str) -> Option<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors").join(name);
    let Ok(text) = std::fs::read(path) else {
        println!("left out: {name} is not here");
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

/// A case in which we differ from Wycheproof, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    set: String,
    file: String,
    id: u64,
    reason: String,
}

#[derive(Deserialize)]
struct Exceptions {
    exceptions: Vec<Exception>,
}

/// Counts what ran, and holds it against the list of exceptions: what differs must be on it, what
/// is on it must differ.
struct Ledger {
    set: String,
    way: Way,
    open: BTreeSet<(String, u64)>,
    ran: usize,
    excepted: usize,
    wrong: Vec<String>,
}

impl Ledger {
    fn of(set: &str, way: Way) -> Self {
        let file: Exceptions =
            serde_json::from_str(include_str!("../../../data/wycheproof_exceptions.json")).unwrap();
        assert!(
            file.exceptions.iter().all(|exception| exception.reason.len() > 20),
            "an exception without a reason"
        );
        let own = file.exceptions.into_iter().filter(|exception| exception.set == set);
        let open = own.map(|exception| (exception.file, exception.id)).collect();
        Self { set: set.to_owned(), way, open, ran: 0, excepted: 0, wrong: Vec::new() }
    }

    fn note(&mut self, file: &str, id: u64, comment: &str, expect: &str, outcome: &Result<(), String>) {
        self.ran += 1;
        let right = match expect {
            "accept" => outcome.is_ok(),
            "reject" => outcome.is_err(),
            "either" => true,
            other => panic!("{other} is not known"),
        };
        let excepted = self.open.remove(&(file.to_owned(), id));
        self.excepted += usize::from(excepted);
        if right == excepted {
            let unexpectedly = if excepted { "an exception that passes" } else { "wrong" };
            self.wrong
                .push(format!("{file} {id} ({comment}): {unexpectedly}, expected {expect}, got {outcome:?}"));
        }
    }

    fn close(self, expected: usize) {
        println!("wycheproof {}, {:?}: {} cases, {} exceptions", self.set, self.way, self.ran, self.excepted);
        assert!(self.wrong.is_empty(), "{} by {:?}:\n{}", self.set, self.way, self.wrong.join("\n"));
        assert!(self.open.is_empty(), "exceptions for cases that are not there: {:?}", self.open);
        assert_eq!(self.ran, expected, "{}", self.set);
    }
}
