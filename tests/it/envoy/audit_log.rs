//! The audit log in Envoy's own log: at which level a line is written, what it looks like there,
//! and how it is taken out. `docs/reference/log-fields.md` describes it, and is right about it.

use crate::envoy::scene::{Scene, builder, inbound, listener, outbound, wasm};
use m2m_auth::plugin::audit_log::AuditEvent;
use m2m_auth_kit::envoy::Builder;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// What Istio starts Envoy with by default: the values `global.proxy.logLevel` and
/// `global.proxy.componentLogLevel` of its chart.
const ISTIO: &[&str] = &["warning", "--component-log-level", "misc:error"];

/// The level that Envoy has by default.
const ENVOY: &[&str] = &["info"];

/// The format of the lines in Istio.
const ISTIO_FORMAT: &str = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t";

const SUCCESS: &str = r#""outcome":"ok""#;

/// Rules that refuse and that would, a credential that works, and one that does not.
fn configuration(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    let mut trial = configuration["inbound"]["rules"][0].clone();
    trial["match"]["path_prefix"] = json!("/trial");
    trial["mode"] = json!("danger_dry_run");
    let open = json!({ "match": { "path_prefix": "/orders" }, "allow": true });
    configuration["inbound"]["rules"].as_array_mut().unwrap().extend([trial, open]);
    configuration["outbound"] = outbound(idp)["outbound"].clone();
    configuration["outbound"]["credentials"]["wrong"] = json!({
        "issuer": "keycloak", "client_id": "order-service", "client_secret": { "inline": "wr0ng" },
    });
    configuration["outbound"]["rules"] = json!([
        { "match": { "path_prefix": "/orders" }, "credential": "order-service" },
        { "match": { "path_prefix": "/wrong" }, "credential": "wrong" },
    ]);
    configuration
}

/// One worker, started with this level and these arguments, once each kind of line has been written
/// that can be.
async fn written(arguments: &[&str]) -> Scene {
    let (level, arguments) = arguments.split_first().unwrap();
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let start = builder(&idp, &upstream)
        .concurrency(1)
        .log_level(level)
        .listener(listener(&wasm(&configuration(&idp))));
    let start = arguments.iter().fold(start, |start: Builder, argument| start.argument(*argument));
    let scene = Scene::of(idp, upstream, start).await;
    // Both fetches of the credential that works, and of the keys, have succeeded.
    assert_eq!(scene.get("/orders").send().await.status, 200);
    let mut stranger = scene.idp.claims();
    stranger["aud"] = json!("another-service");
    let refused = scene.get("/inventory?access_token=hush").bearer(scene.idp.mint(stranger)).send().await;
    assert_eq!(refused.json()["reason"], "audience");
    assert_eq!(scene.get("/trial").send().await.status, 200);
    for line in
        [r#""event":"refused""#, r#""event":"would_refuse""#, r#""name":"wrong","outcome":"configuration""#]
    {
        scene.envoy.wait_for_log(line).await;
    }
    scene
}

/// The page.
fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/log-fields.md")).unwrap()
}

/// The code blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let (page, opening) = (page(), format!("```{language}\n"));
    let rests = page.split(&opening).skip(1);
    rests.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The lines of the audit log.
fn audit(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("m2m-auth: {"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn refusals_and_failed_fetches_are_written_at_istios_default_level_and_successes_are_not() {
    let (quiet, wasm_only) =
        tokio::join!(written(ISTIO), written(&["info", "--component-log-level", "wasm:warning"]));
    for scene in [quiet, wasm_only] {
        let log = scene.envoy.logs();
        assert!(!log.contains(SUCCESS), "{log}");
        assert!(audit(&log).iter().all(|line| line.contains("[warning]")), "{log}");
    }
}

#[tokio::test]
async fn at_envoys_default_level_successes_are_written_too_and_the_level_can_be_raised_later() {
    let scene = written(ENVOY).await;
    scene.envoy.wait_for_log(SUCCESS).await;
    let is_warning = |line: &String| line.contains("[warning]");
    for line in audit(&scene.envoy.logs()) {
        let success = [SUCCESS, r#""outcome":"shared""#].iter().any(|outcome| line.contains(outcome));
        assert_eq!(is_warning(&line), !success, "{line}");
    }

    let mut scene = written(ISTIO).await;
    assert!(scene.envoy.admin_post("/logging?wasm=info").await.contains("wasm: info"));
    let next = listener(&wasm(&json!({
        "issuers": configuration(&scene.idp)["issuers"],
        "outbound": { "credentials": { "new": {
            "issuer": "keycloak", "client_id": "payment-service", "client_secret": { "inline": "payment-secret" },
        } }, "rules": [{ "credential": "new" }] },
    })));
    scene.envoy.push([next]).await;
    scene.envoy.wait_for_log(r#""name":"new","outcome":"ok""#).await;
}

/// Digits become `0`, one for all that follow each other: what is left is the shape of a line.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if shape.ends_with('0') => {}
            '0'..='9' => shape.push('0'),
            other => shape.push(other),
        }
    }
    shape
}

/// A line as Envoy writes it: the shape of what stands before the JSON, and the JSON.
fn split(line: &str) -> (String, Value) {
    let (before, json) = line.split_at(line.find('{').unwrap());
    (shape(before), serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {line}")))
}

#[tokio::test]
async fn the_lines_of_the_page_look_as_those_of_envoy() {
    let scene = written(ENVOY).await;
    scene.envoy.wait_for_log(SUCCESS).await;
    let log = scene.envoy.logs();
    if std::env::var_os("SHOW").is_some() {
        println!("{}", audit(&log).join("\n"));
    }
    let real: Vec<(String, Value)> = audit(&log).iter().map(|line| split(line)).collect();
    let mut events = BTreeSet::new();
    let fields = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for line in blocks("text").iter().flat_map(|block| block.lines()).filter(|line| line.contains("] [")) {
        let (before, json) = split(line);
        let alike = |(real, values): &(String, Value)| {
            let same = |name: &str| values[name] == json[name];
            *real == before
                && fields(values) == fields(&json)
                && ["event", "reason", "outcome"].iter().all(|name| same(name))
        };
        assert!(real.iter().any(alike), "no line looks like {line}\n{log}");
        events.insert(json["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(events.len(), AuditEvent::ALL.len(), "{events:?}");
}

/// Runs a command of the page over a log.
fn run(command: &str, log: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("envoy.log"), log).unwrap();
    let ran =
        Command::new("bash").args(["-euo", "pipefail", "-c", command]).current_dir(folder.path()).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test]
async fn the_commands_of_the_page_read_the_log_of_a_plain_envoy_and_of_istio() {
    let arguments = [ISTIO, &["--log-format", ISTIO_FORMAT]].concat();
    let (plain, istio) = tokio::join!(written(ENVOY), written(&arguments));
    let commands = blocks("sh");
    let commands: Vec<&String> = commands.iter().filter(|command| command.contains("envoy.log")).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    // What a client writes into an access log in the same stream is no line of the filter.
    let forged = r#"[2026-11-29T01:03:44.056Z] "GET / HTTP/1.1" 401 - 0 90 0 - "-" "wasm log m2m-auth: {"event":"refused"}" "-" "a" "-""#;
    assert_eq!(run(commands[0], &format!("{forged}\n")), "");
    for scene in [plain, istio] {
        let log = scene.envoy.logs();
        let written: Vec<Value> = audit(&log)
            .iter()
            .map(|line| {
                serde_json::from_str(&line[line.find('{').unwrap()..=line.rfind('}').unwrap()]).unwrap()
            })
            .collect();
        let read = run(commands[0], &log);
        let read: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, written);
        let counted = run(commands[1], &log);
        assert_eq!(
            counted.split_whitespace().collect::<Vec<_>>(),
            ["1", "refused", "/inventory", "audience"],
            "{counted}"
        );
        let failed = run(commands[2], &log);
        assert!(failed.contains("token wrong configuration"), "{failed}");
        assert!(!failed.contains(" ok"), "{failed}");
    }
}
