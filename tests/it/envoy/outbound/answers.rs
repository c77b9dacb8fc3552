//! Any answer of a token endpoint: either its token is attached, or the request is answered 503 and
//! a counter and a log line, which quotes nothing of the answer, report the cause.

use crate::envoy::scene::{arrived, held, listener_named, retry_after, send, wasm};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::Gate;
use m2m_auth_kit::upstream::{Reply, Upstream};
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

/// Is part of every answer, and must appear nowhere else.
const TOKEN: &str = "hush-5ecret";

/// One answer.
struct Row {
    name: &'static str,
    status: u16,
    body: String,
    /// The cause in the metric and words of the log line; none where the token is good.
    fault: Option<(&'static str, &'static str)>,
}

/// A good answer that has been changed.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut answer = json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": 300 });
    change(&mut answer);
    answer.to_string()
}

fn with(name: &str, value: Value) -> String {
    changed(|answer| answer[name] = value)
}

fn without(name: &str) -> String {
    changed(|answer| drop(answer.as_object_mut().unwrap().remove(name)))
}

fn row(name: &'static str, body: String, cause: &'static str, words: &'static str) -> Row {
    Row { name, status: 200, body, fault: Some((cause, words)) }
}

fn good(name: &'static str, body: String) -> Row {
    Row { name, status: 200, body, fault: None }
}

/// `expires_in` byte for byte, in forms that JSON libraries would not write.
fn life(text: &str) -> String {
    format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer","expires_in":{text}}}"#)
}

fn rows() -> Vec<Row> {
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    let twice = format!(r#"{{"access_token":"{TOKEN}","access_token":"{TOKEN}2","token_type":"Bearer"}}"#);
    let no_json = "is not a JSON object";
    let no_header = "access_token is empty, or holds characters that a header cannot";
    vec![
        good("plain", changed(|_| {})),
        // No answer to the question.
        row("not-json", format!("}}{{ {TOKEN}"), "unreadable", no_json),
        row("html", format!("<!DOCTYPE html><html><body>{TOKEN}</body></html>"), "unreadable", no_json),
        row("array", json!([TOKEN]).to_string(), "unreadable", no_json),
        row("empty-body", String::new(), "unreadable", no_json),
        row(
            "nested-1000-deep",
            with("filler", json!(0)).replace(":0", &format!(":{deep}")),
            "too_large",
            "nested deeper than 32",
        ),
        row("duplicate-members", twice, "unreadable", "has a duplicate member"),
        row(
            "ten-megabytes",
            with("filler", json!("x".repeat(10 * 1024 * 1024))),
            "too_large",
            "larger than 262144 bytes",
        ),
        // No token that could be attached.
        row("no-token", without("access_token"), "unusable", "no access_token"),
        row("empty-token", with("access_token", json!("")), "unusable", no_header),
        row(
            "token-with-line-break",
            with("access_token", json!(format!("{TOKEN}\r\nx-evil: 1"))),
            "unusable",
            no_header,
        ),
        row("token-with-blank", with("access_token", json!(format!("{TOKEN} 2"))), "unusable", no_header),
        row("token-not-ascii", with("access_token", json!(format!("{TOKEN}\u{fc}"))), "unusable", no_header),
        row(
            "token-too-long",
            with("access_token", json!(TOKEN.repeat(2000))),
            "too_large",
            "access_token is longer than 16384 bytes",
        ),
        row("token-number", with("access_token", json!(5)), "unusable", "no access_token"),
        row("token-array", with("access_token", json!([TOKEN])), "unusable", "no access_token"),
        row("token-object", with("access_token", json!({ "value": TOKEN })), "unusable", "no access_token"),
        // A token of another type.
        good("type-lower-case", with("token_type", json!("bearer"))),
        row("type-missing", without("token_type"), "unusable", "no token_type"),
        row("type-mac", with("token_type", json!("mac")), "unusable", "token_type is mac, expected Bearer"),
        row("type-n-a", with("token_type", json!("N_A")), "unusable", "token_type is N_A, expected Bearer"),
        row(
            "type-dpop",
            with("token_type", json!("DPoP")),
            "unusable",
            "token_type is DPoP, expected Bearer",
        ),
        row("type-the-token", with("token_type", json!(TOKEN)), "unusable", "token_type is not Bearer"),
        // Every kind of life.
        good("life-missing", without("expires_in")),
        good("life-null", life("null")),
        good("life-numeric-text", life("\"300\"")),
        good("life-fraction", life("300.9")),
        good("life-huge", life("1e300")),
        row("life-text", life("\"soon\""), "unusable", "expires_in is not a number"),
        row("life-boolean", life("true"), "unusable", "expires_in is not a number"),
        row("life-array", life("[300]"), "unusable", "expires_in is not a number"),
        row("life-zero", life("0"), "unusable", "has ended already"),
        row("life-negative", life("-300"), "unusable", "has ended already"),
        row("life-below-a-second", life("0.5"), "unusable", "has ended already"),
        // RFC 8259 section 6 lets a reader refuse what no double holds.
        row("life-beyond-doubles", life("1e400"), "unreadable", no_json),
        row("life-beyond-doubles-as-text", life("\"1e400\""), "unusable", "expires_in is not a number"),
        // An error, or a redirect.
        row(
            "error",
            changed(|answer| answer["error"] = json!("invalid_scope")),
            "configuration",
            "invalid_scope",
        ),
        Row { status: 204, ..row("no-content", String::new(), "unreadable", no_json) },
        Row { status: 302, ..row("redirect", changed(|_| {}), "server_error", "status 302") },
    ]
}

/// Rows in one filter. It writes at most ten lines a second about tokens, and each row may be
/// fetched twice in a second: so no line is left out, however the fetches fall together.
const TOGETHER: usize = 5;

/// The listener of a row.
fn listener_of(number: usize) -> String {
    format!("rows-{}", number / TOGETHER)
}

async fn start(rows: &[Row], provider: &Upstream, service: &Upstream) -> Envoy {
    let mut builder = Envoy::builder()
        .cluster(envoy::cluster("provider", provider.address()))
        .cluster(envoy::cluster("service", service.address()));
    for (number, rows) in rows.chunks(TOGETHER).enumerate() {
        let mut configuration = json!({ "issuers": {}, "outbound": { "credentials": {}, "rules": [] } });
        for Row { name, .. } in rows {
            let url = provider.url(&format!("/{name}"));
            configuration["issuers"][name] =
                json!({ "issuer": url, "cluster": "provider", "token_endpoint": url });
            configuration["outbound"]["credentials"][name] = json!({ "issuer": name, "client_id": "order-service", "client_secret": { "inline": "order-secret" } });
            let rule = json!({ "match": { "path": format!("/{name}") }, "credential": name });
            configuration["outbound"]["rules"].as_array_mut().unwrap().push(rule);
        }
        let name = listener_of(number * TOGETHER);
        builder = builder.listener(listener_named(&name, &wasm(&configuration).name(&name)));
    }
    builder.start().await.unwrap()
}

/// The outcomes of the row's fetches, each as often as it occurred.
async fn outcomes(envoy: &Envoy, name: &str) -> Vec<String> {
    let prefix = format!("wasmcustom.m2m_auth_fetch.kind.token.name.{name}.outcome.");
    let what = format!("{name} is counted");
    let counted =
        until(&what, async || Some(envoy.stats(&prefix).await).filter(|counted| !counted.is_empty())).await;
    counted.into_keys().map(|key| key[prefix.len()..].to_owned()).collect()
}

#[tokio::test]
async fn whatever_the_provider_answers_a_good_token_is_attached_or_none_and_the_cause_is_counted() {
    let (rows, provider, service) = (rows(), Upstream::start().await, Upstream::start().await);
    let answers: Vec<_> =
        rows.iter().map(|row| (format!("/{}", row.name), row.status, row.body.clone())).collect();
    let elsewhere = [("location", "/plain")];
    // No answer comes before all requests wait for it, so that each gets the first failure or the
    // next one.
    let gate = Gate::default();
    let opened = gate.clone();
    provider.answer_after(move |request| {
        let reply = answers.iter().find(|(path, ..)| *path == request.path).map(|(_, status, body)| {
            let headers: &[_] = if *status == 302 { &elsewhere } else { &[] };
            Reply { body: Some(body.clone()), ..Reply::new(*status, headers) }
        });
        let opened = opened.clone();
        async move {
            opened.opened().await;
            reply
        }
    });
    let envoy = start(&rows, &provider, &service).await;
    let ask = |(number, row): (usize, &Row)| {
        send(client::get(envoy.url(&listener_of(number), &format!("/{}", row.name))).bearer("own"))
    };
    let running: Vec<_> = rows.iter().enumerate().map(ask).collect();
    held(&envoy, u64::try_from(rows.len()).unwrap()).await;
    gate.open();
    for (Row { name, fault, .. }, answer) in rows.iter().zip(running) {
        let answer: Response = answer.await.unwrap();
        let Some((cause, words)) = fault else {
            assert_eq!(arrived(&answer, "authorization"), [format!("Bearer {TOKEN}")], "{name}");
            assert!(outcomes(&envoy, name).await.iter().all(|own| own == "ok" || own == "shared"), "{name}");
            continue;
        };
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        // The longest backoff after one or two failures.
        let most = if *cause == "configuration" { 60 } else { 30 };
        assert!(retry_after(&answer) <= most, "{name}: {answer:?}");
        assert_eq!(answer.json()["reason"], "outbound_token_unavailable", "{name}");
        assert!(!format!("{answer:?}").contains("5ecret"), "{name}: {answer:?}");
        assert_eq!(outcomes(&envoy, name).await, [*cause], "{name}");
        let line = envoy.wait_for_log(&format!("token of credential {name}: {cause}: ")).await;
        assert!(line.contains(words), "{name}: {line}");
    }
    let passed = rows.iter().filter(|row| row.fault.is_none()).count();
    assert_eq!(service.count(), passed, "{:?}", service.requests());
    let log = envoy.logs();
    assert!(!log.contains("5ecret") && !log.contains("x-evil"), "an answer is in the log");
    let plain = provider.requests().into_iter().filter(|request| request.path == "/plain");
    assert!(plain.clone().all(|request| request.method == "POST"), "no redirect is followed");
    assert_eq!(plain.count(), 1);
}
