//! The walkthroughs' Express middleware, and the filter before the same service without it: the
//! same requests, tokens of a real Keycloak and forged ones, and what each answers.
//! `tests/data/express.json` is the table, `docs/compare/express.md` is made of it.
//!
//! `M2M_AUTH_REWRITE=1` rewrites both from the answers; a case that differs then still needs its
//! sentence.

mod corpus;

use crate::sidecar::{self, issuers, require};
use corpus::{Case, Tokens};
use m2m_auth_kit::client::Response;
use m2m_auth_kit::envoy::{Envoy, Wasm};
use m2m_auth_kit::keycloak::Keycloak;
use m2m_auth_kit::peers::Express;
use m2m_auth_kit::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One line of the table: the answers of the walkthroughs' middleware, of the one with `jose`, and
/// of the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    case: String,
    walkthrough: String,
    jose: String,
    ours: String,
    /// Why they differ; empty where they do not.
    why: String,
}

impl Line {
    fn differs(&self) -> bool {
        self.ours != self.walkthrough || self.ours != self.jose
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const TABLE: &str = "tests/data/express.json";
const DOCUMENT: &str = "docs/compare/express.md";

fn table() -> Vec<Line> {
    let text = fs::read_to_string(file(TABLE)).unwrap_or_else(|_| "[]".to_owned());
    let lines: Vec<Value> = serde_json::from_str(&text).unwrap();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let line = |line: &Value| Line {
        case: text(line, "case"),
        walkthrough: text(line, "walkthrough"),
        jose: text(line, "jose"),
        ours: text(line, "ours"),
        why: text(line, "why"),
    };
    lines.iter().map(line).collect()
}

/// One object a line, so that a change is one line of a diff.
fn write_table(lines: &[Line]) {
    let rows: Vec<String> = lines
        .iter()
        .map(|line| {
            let members = [
                ("case", &line.case),
                ("walkthrough", &line.walkthrough),
                ("jose", &line.jose),
                ("ours", &line.ours),
                ("why", &line.why),
            ];
            let members: Vec<_> = members
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{}: {}", json!(name), json!(value)))
                .collect();
            format!("  {{ {} }}", members.join(", "))
        })
        .collect();
    fs::write(file(TABLE), format!("[\n{}\n]\n", rows.join(",\n"))).unwrap();
}

fn rewrites() -> bool {
    std::env::var("M2M_AUTH_REWRITE").is_ok()
}

/// The filter with the walkthroughs' policy, before the service that has none.
async fn ours(realm: &Keycloak, express: &Express) -> Envoy {
    let mut issuers = issuers(realm);
    issuers["keycloak"]["algorithms"] = json!(["RS256"]);
    let configuration = json!({
        "issuers": issuers,
        "inbound": { "rules": [{
            "match": { "path": "/inventory/items" },
            "require": require(),
        }] },
    });
    sidecar::start("ours", &Wasm::new(&configuration), realm, express.address("plain")).await
}

/// The status, and `error` of the answer.
fn said(answer: &Response) -> String {
    let body: Option<Value> = serde_json::from_str(&answer.text()).ok();
    let error = body.and_then(|body| body["error"].as_str().map(str::to_owned));
    error.map_or_else(|| answer.status.to_string(), |error| format!("{} {error}", answer.status))
}

#[tokio::test]
async fn the_walkthroughs_middleware_and_the_filter_answer_as_the_table_says() {
    let keycloak = Keycloak::start().await;
    let realm = keycloak.realm("express").await;
    let tokens = Tokens::of(&keycloak, &realm).await;
    let express = Express::start(&realm.issuer(), &realm.endpoint("certs"));
    let envoy = ours(&realm, &express).await;
    let bases = [
        format!("http://{}", express.address("walkthrough")),
        format!("http://{}", express.address("jose")),
        format!("http://{}", envoy.address("ours")),
    ];
    let known = table();
    let (mut seen, mut wrong) = (Vec::new(), String::new());
    for Case { name, request } in corpus::cases(&tokens) {
        let mut answers = Vec::new();
        for base in &bases {
            let answer = request(base).try_send().await;
            answers.push(answer.as_ref().map_or_else(|error| panic!("{name} at {base}: {error}"), said));
        }
        let [walkthrough, jose, ours] = answers.try_into().unwrap();
        let old = known.iter().find(|line| line.case == name);
        let why = old.map(|old| old.why.clone()).unwrap_or_default();
        let line = Line { case: name.to_owned(), walkthrough, jose, ours, why };
        if old != Some(&line) {
            writeln!(wrong, "seen {line:?}\nthe table says {old:?}").unwrap();
        }
        seen.push(line);
    }
    if rewrites() {
        write_table(&seen);
        return;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(seen.len(), known.len(), "the table has the cases of the corpus and no other");
    assert!(!envoy.logs().contains("eyJ"), "no token in the log");
}

#[test]
fn every_difference_from_the_middleware_is_explained_and_nothing_else_is() {
    let lines = table();
    assert!(lines.len() >= 25, "{}", lines.len());
    for line in &lines {
        assert_eq!(line.differs(), !line.why.is_empty(), "{line:?}");
        assert!(line.why.is_empty() || line.why.ends_with('.'), "{line:?}");
    }
}

#[test]
fn the_document_about_express_is_made_of_the_table() {
    let made = document(&table());
    if rewrites() {
        fs::write(file(DOCUMENT), made).unwrap();
        return;
    }
    let there = fs::read_to_string(file(DOCUMENT)).unwrap();
    assert!(there == made, "{DOCUMENT} is stale: M2M_AUTH_REWRITE=1 cargo test --test keycloak express");
}

fn document(lines: &[Line]) -> String {
    let differ = lines.iter().filter(|line| line.differs()).count();
    let mut text = format!(
        "# m2m-auth beside the walkthroughs' Express middleware\n\n\
         {} requests with tokens of a real Keycloak 26.7, and with what a forger or a careless provider could make of them, each sent three\n\
         times: to the walkthroughs' own middleware (`jsonwebtoken`, `jwks-rsa`), to one that does the same with `jose`\n\
         ([both](../../tests/express/server.mjs)), and to m2m-auth before the same service without any. {} get the same status and the same\n\
         `error` from all three. This document is made from the table that `make test-keycloak` holds against all three\n\
         (`tests/it/keycloak/express.rs`); the test fails when one of them answers otherwise.\n",
        lines.len(),
        lines.len() - differ
    );
    text.push_str("\n## Where they differ\n\n| request | the walkthroughs' | with `jose` | m2m-auth | why |\n|---|---|---|---|---|\n");
    for line in lines.iter().filter(|line| line.differs()) {
        let Line { case, walkthrough, jose, ours, why } = line;
        writeln!(text, "| {case} | {walkthrough} | {jose} | {ours} | {why} |").unwrap();
    }
    text.push_str("\n## Where they do not\n\n| request | all three |\n|---|---|\n");
    for line in lines.iter().filter(|line| !line.differs()) {
        writeln!(text, "| {} | {} |", line.case, line.ours).unwrap();
    }
    text
}
