//! The same requests through Envoy's own filters and through ours, in one Envoy, with the same
//! policy: what each answers, and why they differ. `tests/data/differential.json` is the table,
//! `docs/compare/native-filters.md` is made of it.
//!
//! `M2M_AUTH_REWRITE=1` rewrites both from the answers; a case that differs then still needs its
//! sentence.

mod compare;
mod corpus;

use corpus::{Case, ISSUER, Keys, claims, corpus, withdrawn};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::{Endpoint, Idp};
use m2m_auth_kit::token::Mint;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Clone)]
struct Line {
    group: String,
    case: String,
    /// The status, and what the answer says beside it.
    native: String,
    ours: String,
    /// Why they differ; empty where they do not.
    why: String,
    /// Whether a user may wish that ours did as native does.
    dislike: bool,
}

impl Line {
    fn status(said: &str) -> &str {
        said.split(' ').next().unwrap()
    }

    fn differs(&self) -> bool {
        Self::status(&self.native) != Self::status(&self.ours)
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const TABLE: &str = "tests/data/differential.json";
const DOCUMENT: &str = "docs/compare/native-filters.md";

fn table() -> Vec<Line> {
    let lines: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(file(TABLE)).unwrap_or_else(|_| "[]".to_owned())).unwrap();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let line = |line: &Value| Line {
        group: text(line, "group"),
        case: text(line, "case"),
        native: text(line, "native"),
        ours: text(line, "ours"),
        why: text(line, "why"),
        dislike: line["dislike"] == true,
    };
    lines.iter().map(line).collect()
}

/// One object a line, so that a change is one line of a diff.
fn write_table(lines: &[Line]) {
    let mut text = String::from("[\n");
    for (number, line) in lines.iter().enumerate() {
        let quoted = |text: &str| json!(text).to_string();
        write!(
            text,
            "  {{ \"group\": {}, \"case\": {}, \"native\": {}, \"ours\": {}",
            quoted(&line.group),
            quoted(&line.case),
            quoted(&line.native),
            quoted(&line.ours)
        )
        .unwrap();
        if !line.why.is_empty() {
            write!(text, ", \"why\": {}", quoted(&line.why)).unwrap();
        }
        text.push_str(if line.dislike { ", \"dislike\": true }" } else { " }" });
        text.push_str(if number + 1 == lines.len() { "\n" } else { ",\n" });
    }
    fs::write(file(TABLE), text + "]\n").unwrap();
}

fn rewrites() -> bool {
    std::env::var("M2M_AUTH_REWRITE").is_ok()
}

/// The policy's two listeners, before this provider.
async fn start(idp: &Idp, upstream: &Upstream) -> Envoy {
    let text = include_str!("../../data/differential.yaml");
    let text = text
        .replace("target/m2m_auth.wasm", envoy::module().to_str().unwrap())
        .replace("JWKS_URI", &idp.url(Endpoint::Keys))
        .replace("ISSUER", ISSUER);
    let mut policy: Value = serde_norway::from_str(&text).unwrap();
    // One worker: what one listener has learnt, it knows for every request.
    let mut builder = Envoy::builder()
        .concurrency(1)
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("own-service", upstream.address()));
    for listener in policy["static_resources"]["listeners"].as_array_mut().unwrap() {
        builder = builder.listener(listener.take());
    }
    builder.start().await.unwrap()
}

/// The status, and the sentence or the reason that goes with it.
fn said(answer: &Response) -> String {
    let text = answer.text();
    let ours = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|body| Some(body.get("reason")?.as_str()?.to_owned()));
    match (answer.status, ours) {
        (200, _) => "200".to_owned(),
        (status, Some(reason)) => format!("{status} {reason}"),
        (status, None) => format!("{status} {text}").trim().to_owned(),
    }
}

async fn ask(envoy: &Envoy, case: &Case, keys: &Keys) -> [String; 2] {
    let mut answers = Vec::new();
    let ready = case.ready(keys);
    for listener in ["native", "ours"] {
        let answer = ready.request(|path| envoy.url(listener, path)).try_send().await;
        answers.push(answer.as_ref().map_or_else(|error| panic!("{}: {error}", case.name), said));
    }
    answers.try_into().unwrap()
}

#[tokio::test]
async fn both_answer_as_the_table_says() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let keys = Keys::new(idp.signing_key());
    idp.set_issuer(ISSUER);
    for jwk in keys.jwks() {
        idp.publish_jwk(jwk);
    }
    // The last one signs; the one that was there stays published.
    idp.use_key(&keys.withdrawn);
    let envoy = start(&idp, &upstream).await;
    // Native has fetched its key set, and does so again after `cache_duration`. A fetch that had
    // failed would be made again a second later, and bring the keys that are published then.
    envoy.wait_for_stat("http.native.jwt_authn.jwks_fetch_success", |count| count == 1).await;
    assert_eq!(envoy.stat("http.native.jwt_authn.jwks_fetch_failed").await, 0);
    for listener in ["native", "ours"] {
        for token in [Mint::of(claims()).sign(&keys.current), withdrawn(&keys)] {
            let answer = client::get(envoy.url(listener, "/inventory/warm")).bearer(token).send().await;
            assert_eq!(answer.status, 200, "{listener}: {answer:?}");
        }
    }
    idp.use_key(&keys.new);
    idp.withdraw_key(keys.withdrawn.kid());
    let known: BTreeMap<String, Line> = table().into_iter().map(|line| (line.case.clone(), line)).collect();
    let (mut seen, mut wrong) = (Vec::new(), String::new());
    for case in corpus(&keys) {
        let [native, ours] = ask(&envoy, &case, &keys).await;
        let old = known.get(case.name);
        if old.is_none_or(|old| old.native != native || old.ours != ours) {
            let expected = old.map(|old| format!("native {}, ours {}", old.native, old.ours));
            writeln!(wrong, "{}: native {native}, ours {ours}; the table says {expected:?}", case.name)
                .unwrap();
        }
        let (why, dislike) = old.map(|old| (old.why.clone(), old.dislike)).unwrap_or_default();
        let (group, name) = (case.group.to_owned(), case.name.to_owned());
        seen.push(Line { group, case: name, native, ours, why, dislike });
    }
    if rewrites() {
        write_table(&seen);
        return;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(seen.len(), known.len(), "the table has the cases of the corpus and no other");
}

#[test]
fn every_difference_is_explained_in_a_sentence_and_nothing_else_is() {
    let lines = table();
    assert!(lines.len() >= 120, "{}", lines.len());
    for line in &lines {
        assert_eq!(
            line.differs(),
            !line.why.is_empty(),
            "{}: native {}, ours {}",
            line.case,
            line.native,
            line.ours
        );
        assert!(!line.dislike || line.differs(), "{}", line.case);
        assert!(line.why.is_empty() || line.why.ends_with('.'), "{}", line.why);
    }
    let mut names: Vec<_> = lines.iter().map(|line| &line.case).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), lines.len(), "a case has a name of its own");
}

#[test]
fn the_document_is_made_of_the_table() {
    let made = compare::document(&table());
    if rewrites() {
        fs::write(file(DOCUMENT), made).unwrap();
        return;
    }
    let there = fs::read_to_string(file(DOCUMENT)).unwrap();
    assert!(there == made, "{DOCUMENT} is stale: M2M_AUTH_REWRITE=1 cargo test --test it differential");
}
