//! `explain`: the filter's own decision, with every step on the way, and never a token.

use super::{Folder, Ran, root, run};
use crate::core::vectors::cases;
use m2m_auth::plugin::RequestOutcome;
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn authorization() -> String {
    let path = root().join("tests/data/cli/authorization.txt");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn explained(more: &[&str]) -> Ran {
    let (now, header) = (NOW.to_string(), authorization());
    let base = ["explain", "--config", "tests/data/cli/config.yaml", "--now", &now, "--header", &header];
    run(&[&base, more].concat())
}

const KEYS: [&str; 2] = ["--jwks", "keycloak=tests/data/cli/keys.json"];

#[test]
fn every_step_to_a_refusal_is_reported() {
    let ran = explained(&[&KEYS[..], &["--path", "/inventory/./items?x=1"]].concat());
    let expected = r#"path          ok /inventory/./items
rule          no /health: {"path":"/health"}, path does not match
rule          ok /inventory/**: {"path_prefix":"/inventory"}
token         ok header authorization, scheme Bearer, 492 bytes
header        ok alg EdDSA, kid rfc8037, typ jwt
typ           ok jwt
algorithm     ok EdDSA
key           ok kid rfc8037, 1 usable keys
signature     ok EdDSA
issuer        ok iss "https://keycloak.example.com/realms/my-realm", one of https://keycloak.example.com/realms/my-realm is needed
access token  ok typ "Bearer", Bearer is needed
expiry        ok exp 1800000300, clock_skew 60 s, now 1800000000
start         ok iat 1800000000, clock_skew 60 s, now 1800000000
audience      ok aud "inventory-service", one of inventory-service is needed
access        no required role of client inventory-service: inventory:read
refused: 403 Insufficient permissions (client_role): required role of client inventory-service: inventory:read
www-authenticate: Bearer realm="m2m", error="insufficient_scope", error_description="required role of client inventory-service: inventory:read"
what to do: Assign the role to the caller at the provider, and fetch a new token.
"#;
    assert_eq!(ran.says, expected);
    assert_eq!((ran.code, ran.complains.as_str()), (1, ""));
}

/// What is left in a cookie or a query beside the token may be a token too, and what a token
/// contains must not write lines of its own.
#[test]
fn what_explain_prints_has_no_other_token_and_no_line_of_the_tokens_own() {
    let (folder, key) = (Folder::new(), Key::new(Alg::EdDsa).with_kid("k1\naccepted\u{1b}[2K\u{202e}"));
    let locations = json!([{ "cookie": "session" }, { "danger_query": "q" }, { "header": "authorization" }]);
    let configuration = json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] } } },
        "inbound": {
            "token_locations": locations,
            "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"] } }],
        },
    });
    let config = folder.file("config.json", configuration.to_string());
    let token =
        Mint::of(json!({ "iss": "https://idp.example.com", "aud": "svc", "exp": NOW + 300 })).sign(&key);
    let (now, cookie) = (NOW.to_string(), format!("cookie: session={token}; refresh_token=hush; plain"));
    let base = ["explain", "--config", &config, "--now", &now];
    let query = format!("/a?q={token}&id_token=hush&x");
    for (request, left) in [
        (["--header", &cookie], "cookie: refresh_token=<4 bytes>; plain"),
        (["--path", &query], ":path: /a?id_token=<4 bytes>&x"),
    ] {
        let text = run(&[&base[..], &request].concat());
        assert!(text.says.contains(left), "{text:?}");
        let json = run(&[&base[..], &request, &["--format", "json"]].concat());
        assert!(!format!("{text:?}{json:?}").contains("hush"), "{text:?}\n{json:?}");
        let accepted = text.says.lines().filter(|line| *line == "accepted").count();
        assert_eq!(accepted, 1, "{}", text.says);
        let control = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.says.contains(control), "{}", text.says);
    }
}

/// A rule that is not enforced accepts the request: that is no proof of a good token.
#[test]
fn a_refusal_that_the_rules_mode_suppresses_is_reported() {
    let folder = Folder::new();
    let written = std::fs::read_to_string(root().join("tests/data/cli/config.yaml")).unwrap();
    for mode in ["danger_dry_run", "danger_permissive"] {
        let trial = written.replace("      require:", &format!("      mode: {mode}\n      require:"));
        let config = folder.file("trial.yaml", &trial);
        let (now, header) = (NOW.to_string(), authorization());
        let base = ["explain", "--config", &config, "--now", &now, "--path", "/inventory"];
        let without_role = run(&[&base[..], &KEYS, &["--header", &header]].concat());
        let end = "accepted, because the rule is not enforced
would be refused: 403 Insufficient permissions (client_role): required role of client inventory-service: inventory:read
what to do: Assign the role to the caller at the provider, and fetch a new token.
";
        assert!(without_role.says.ends_with(end), "{mode}: {}", without_role.says);
        assert_eq!(without_role.code, 0, "the request is forwarded");
        let without_token = run(&[&base[..], &KEYS, &["--format", "json"]].concat()).json();
        assert_eq!(without_token["decision"], "accept");
        assert_eq!(without_token["would_refuse"]["reason"], "no_token", "{without_token}");
    }
    let allowed = explained(&[&KEYS[..], &["--path", "/health"]].concat());
    assert!(allowed.says.ends_with("\naccepted\n"), "{}", allowed.says);
}

#[test]
fn keys_that_are_needed_and_not_here_are_no_decision() {
    let ran = explained(&["--path", "/inventory/items"]);
    assert_eq!((ran.code, ran.says.as_str()), (2, ""));
    let expected = "m2m-auth: missing key set of keycloak, expected --jwks keycloak=FILE\nfetch it:\n";
    assert!(ran.complains.starts_with(expected), "{ran:?}");
    let folder = Folder::new();
    let file = format!("keycloak={}", folder.file("keys.json", "{\"keys\": []}"));
    let ran = explained(&["--path", "/inventory/items", "--jwks", &file]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.complains.contains("no usable key set") && ran.complains.contains("the key set is empty"),
        "{ran:?}"
    );
    assert_eq!(explained(&["--path", "/health"]).code, 0, "where nobody is asked, none are needed");
}

#[test]
fn the_token_to_be_attached_is_named_and_not_printed() {
    let ran = run(&[
        "explain",
        "--config",
        "envoy/envoy.yaml",
        "--plugin",
        "m2m_auth_egress",
        "--host",
        "inventory-service",
        "--path",
        "/a",
    ]);
    let expected = r#"path          ok /a
outbound rule ok inventory-service: {"host":"inventory-service"}
credential    ok order-service
set           ok authorization: Bearer <its token>
accepted
"#;
    assert_eq!((ran.code, ran.says.as_str()), (0, expected));
    let ran = run(&[
        "explain",
        "--config",
        "envoy/envoy.yaml",
        "--plugin",
        "m2m_auth_egress",
        "--host",
        "b",
        "--path",
        "/a",
    ]);
    assert!(
        ran.says.contains(
            "outbound rule no inventory-service: {\"host\":\"inventory-service\"}, host does not match"
        ),
        "{ran:?}"
    );
    assert_eq!(ran.code, 0);
}

#[test]
fn no_token_is_printed() {
    let header = authorization();
    let token = header.rsplit(' ').next().unwrap();
    for format in ["text", "json"] {
        for path in ["/inventory/items", "/health", "/odd"] {
            let ran = explained(&[&KEYS[..], &["--path", path, "--format", format]].concat());
            for part in token.split('.') {
                assert!(!format!("{ran:?}").contains(part), "{path} {format}: {ran:?}");
            }
        }
    }
}

/// One issuer and every kind of rule; a credential that exchanges the caller's token.
fn configuration() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": [
            { "name": "open", "match": { "path": "/open" }, "allow": true },
            { "name": "items", "match": { "path_prefix": "/items", "methods": ["GET"] },
              "require": { "issuer": "idp", "audiences": ["svc"], "scopes": ["read"] },
              "claims_to_headers": { "x-caller": "azp" }, "forward_token": false },
            { "name": "pay", "match": { "path": "/pay" },
              "require": { "issuer": "idp", "audiences": ["svc"], "roles": { "any_of": ["a", "b"] } } },
        ] },
        "outbound": {
            "credentials": {
                "own": { "issuer": "idp", "client_id": "c", "client_secret": { "env": "SECRET" } },
                "exchanged": { "issuer": "idp", "client_id": "c", "client_secret": { "env": "SECRET" }, "grant_type": "token_exchange" },
            },
            "rules": [
                { "name": "by-route", "route_metadata": true },
                { "name": "swap", "match": { "host": "payment" }, "credential": "exchanged" },
                { "name": "up", "match": { "cluster": "up" }, "credential": "own", "header": "x-token" },
            ],
        },
    })
}

/// A key, and files that go with it.
struct Setup {
    folder: Folder,
    key: Key,
    config: String,
    keys: String,
}

impl Setup {
    fn new(alg: Alg) -> Self {
        let (folder, key) = (Folder::new(), Key::new(alg).with_kid("k"));
        let config = folder.file("config.json", configuration().to_string());
        let keys = folder.file("keys.json", json!({ "keys": [key.jwk()] }).to_string());
        Self { folder, key, config, keys: format!("idp={keys}") }.checked()
    }

    fn checked(self) -> Self {
        assert!(self.folder.0.path().exists());
        self
    }

    fn token(&self, changes: &Value) -> String {
        let mut claims = json!({ "iss": "https://idp.example.com", "aud": "svc", "exp": NOW + 300, "azp": "me", "scope": "read" });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        Mint::of(claims).sign(&self.key)
    }

    fn explain(&self, token: Option<&str>, more: &[&str]) -> (i32, Value) {
        let (now, header) = (NOW.to_string(), format!("Authorization: Bearer {}", token.unwrap_or_default()));
        let mut arguments = vec![
            "explain",
            "--format",
            "json",
            "--config",
            &self.config,
            "--jwks",
            &self.keys,
            "--now",
            &now,
        ];
        if token.is_some() {
            arguments.extend(["--header", &header]);
        }
        arguments.extend(more);
        let ran = run(&arguments);
        assert!(ran.complains.is_empty(), "{ran:?}");
        (ran.code, ran.json())
    }
}

/// A token, the request; the status, the reason, the rule, and the step that failed.
type Case<'a> = (Option<&'a str>, &'a [&'a str], Value, &'a str, Value, &'a str);

#[test]
fn each_reason_is_reported_with_its_status_its_rule_and_the_step_that_failed() {
    let setup = Setup::new(Alg::EdDsa);
    let good = setup.token(&json!({}));
    let other = Setup::new(Alg::EdDsa).token(&json!({}));
    let of = |changes: Value| setup.token(&changes);
    let deep: Value = serde_json::from_str(&format!("{}{}", "[".repeat(40), "]".repeat(40))).unwrap();
    let (headless, cut) = (good.split_once('.').unwrap().1, good.get(..good.len() - 2).unwrap());
    let cases: Vec<Case<'_>> = vec![
        (None, &["--path", "/open"], json!(null), "", json!("open"), ""),
        (None, &["--path", "/items"], json!(401), "no_token", json!("items"), "token"),
        (None, &["--path", "/odd"], json!(403), "no_rule", json!(null), "rule"),
        (None, &["--path", "/a/%2e%2e/../.."], json!(400), "ambiguous_path", json!(null), "path"),
        (None, &["--path", "/items", "--method", "POST"], json!(403), "no_rule", json!(null), "rule"),
        (Some(&good), &["--path", "/items"], json!(null), "", json!("items"), ""),
        (
            Some(&good),
            &["--path", "/items", "--header", "authorization: Bearer x"],
            json!(400),
            "multiple_credentials",
            json!("items"),
            "token",
        ),
        (Some(&other), &["--path", "/items"], json!(401), "signature", json!("items"), "signature"),
        (Some(headless), &["--path", "/items"], json!(401), "malformed", json!("items"), "header"),
        (Some("x"), &["--path", "/items"], json!(401), "malformed", json!("items"), "header"),
        (Some(cut), &["--path", "/items"], json!(401), "signature", json!("items"), "signature"),
        (Some(&good), &["--path", "/pay"], json!(403), "role", json!("pay"), "access"),
        (Some(&good), &["--path", "/items", "--cluster", "up"], json!(null), "", json!("items"), ""),
        (
            Some(&good),
            &["--path", "/items", "--route-credential", "own"],
            json!(null),
            "",
            json!("items"),
            "",
        ),
        (
            Some(&good),
            &["--path", "/items", "--route-credential", "none"],
            json!(null),
            "",
            json!("items"),
            "",
        ),
        (
            Some(&good),
            &["--path", "/items", "--route-credential", "odd"],
            json!(503),
            "unknown_credential",
            json!("items"),
            "credential",
        ),
        (
            None,
            &["--path", "/open", "--host", "payment"],
            json!(401),
            "no_token",
            json!("open"),
            "subject token",
        ),
        (Some(&good), &["--path", "/items", "--host", "payment"], json!(null), "", json!("items"), ""),
    ];
    let claims: [(Value, &str, &str); 13] = [
        (json!({ "iss": "https://other.example.com" }), "issuer", "issuer"),
        (json!({ "exp": NOW - 100 }), "expired", "expiry"),
        (json!({ "exp": null }), "invalid_claim", "date"),
        (json!({ "exp": 1e30 }), "invalid_claim", "date"),
        (json!({ "iss": ["x"] }), "issuer", "issuer"),
        (json!({ "sub": 1 }), "invalid_claim", "claims"),
        (json!({ "deep": deep }), "too_deep", "claims"),
        (json!({ "nbf": NOW + 100 }), "not_yet_valid", "start"),
        (json!({ "iat": NOW + 100 }), "not_yet_valid", "start"),
        (json!({ "aud": ["other"] }), "audience", "audience"),
        (json!({ "typ": "ID" }), "not_access_token", "access token"),
        (json!({ "cnf": { "jkt": "x" } }), "binding_mismatch", "binding"),
        (json!({ "scope": "write" }), "scope", "access"),
    ];
    let tokens: Vec<String> = claims.iter().map(|(changes, ..)| of(changes.clone())).collect();
    let all = cases.into_iter().chain(claims.iter().zip(&tokens).map(|((_, reason, step), token)| {
        let status = if *reason == "scope" { 403 } else { 401 };
        (Some(token.as_str()), &["--path", "/items"][..], json!(status), *reason, json!("items"), *step)
    }));
    let mut count = 0;
    for (token, more, status, reason, rule, failed) in all {
        let (code, report) = setup.explain(token, more);
        assert_eq!(report["status"], status, "{reason} {more:?}: {report:#}");
        assert_eq!(report["reason"].as_str().unwrap_or_default(), reason, "{more:?}: {report:#}");
        let (expected, decision) = if reason.is_empty() { (0, "accept") } else { (1, "refuse") };
        assert_eq!((code, report["decision"].as_str()), (expected, Some(decision)), "{report:#}");
        assert_eq!(report["rule"], rule, "{report:#}");
        let last = report["steps"].as_array().unwrap().last().unwrap();
        assert!(failed.is_empty() || (last["step"] == failed && last["ok"] == false), "{reason}: {report:#}");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn each_requirement_of_a_rule_is_reported_and_the_location_of_the_token() {
    let (folder, key) = (Folder::new(), Key::new(Alg::EdDsa).with_kid("k"));
    let configuration = json!({
        "issuers": {
            "idp": { "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] }, "max_lifetime": "1h" },
            "strict": { "issuer": "https://strict.example.com", "jwks": { "keys": [key.jwk()] }, "rfc9068": true },
        },
        "inbound": {
            "token_locations": [{ "header": "authorization", "scheme": "Bearer" }, { "header": "x-token", "prefix": "t:" }, { "header": "x-bare" }, { "cookie": "c" }, { "danger_query": "q" }],
            "rules": [
                { "match": { "path": "/strict" }, "require": { "issuer": "strict", "audiences": ["svc"] } },
                { "require": {
                    "issuer": "idp", "audiences": ["svc"], "clients": ["me"], "subjects": ["s"], "acr_values": ["gold"], "max_age": "60s",
                } },
            ],
        },
    });
    let config = folder.file("config.json", configuration.to_string());
    let mint = |changes: &Value| {
        let mut claims = json!({
            "iss": "https://idp.example.com", "aud": "svc", "exp": NOW + 300, "iat": NOW, "azp": "me", "sub": "s", "acr": "gold",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        Mint::of(claims).header("typ", changes["typ"].as_str().unwrap_or("JWT")).sign(&key)
    };
    let now = NOW.to_string();
    let explain = |path: &str, header: &str| {
        let base = ["explain", "--format", "json", "--config", &config, "--now", &now, "--path", path];
        run(&[&base[..], &["--header", header]].concat()).json()
    };
    for (path, changes, reason, step) in [
        ("/", json!({ "azp": "other" }), "client_not_allowed", "client"),
        ("/", json!({ "sub": null }), "subject_not_allowed", "subject"),
        ("/", json!({ "acr": "bronze" }), "acr", "acr"),
        ("/", json!({ "auth_time": NOW - 61 }), "auth_time", "age"),
        ("/", json!({ "iat": NOW - 61 }), "token_too_old", "age"),
        ("/", json!({ "iat": null }), "invalid_claim", "lifetime"),
        ("/", json!({ "exp": NOW + 3601 }), "lifetime", "lifetime"),
        ("/strict", json!({ "iss": "https://strict.example.com" }), "invalid_typ", "typ"),
    ] {
        let report = explain(path, &format!("authorization: Bearer {}", mint(&changes)));
        let last = report["steps"].as_array().unwrap().last().unwrap();
        assert_eq!(
            (&report["reason"], &last["step"], &last["ok"]),
            (&json!(reason), &json!(step), &json!(false)),
            "{report:#}"
        );
    }
    let good = mint(&json!({}));
    let query = format!("/?q={good}");
    for (path, header, place) in [
        ("/", format!("authorization: Bearer {good}"), "header authorization, scheme Bearer"),
        ("/", format!("x-token: t:{good}"), "header x-token, behind \"t:\""),
        ("/", format!("x-bare: {good}"), "header x-bare"),
        ("/", format!("cookie: a=b; c={good}"), "cookie c"),
        (query.as_str(), "x: y".to_owned(), "query parameter q"),
    ] {
        let report = explain(path, &header);
        assert_eq!(report["decision"], "accept", "{report:#}");
        let step = report["steps"].as_array().unwrap().iter().find(|step| step["step"] == "token").unwrap();
        assert_eq!(step["detail"], format!("{place}, {} bytes", good.len()));
    }
}

#[test]
fn what_is_forwarded_and_what_is_attached_is_reported() {
    let setup = Setup::new(Alg::Es256);
    let good = setup.token(&json!({}));
    let (_, report) = setup.explain(Some(&good), &["--path", "/items", "--header", "x-caller: admin"]);
    let changes = json!([
        { "header": "x-caller", "value": null },
        { "header": "authorization", "value": null },
        { "header": "x-caller", "value": "me" },
    ]);
    assert_eq!(report["changes"], changes, "{report:#}");
    let (_, report) = setup.explain(Some(&good), &["--path", "/items", "--host", "payment"]);
    assert_eq!(
        (&report["outbound_rule"], &report["credential"]),
        (&json!("swap"), &json!("exchanged")),
        "{report:#}"
    );
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected = "path rule rule token header typ algorithm key signature issuer expiry audience access outbound rule credential";
    assert_eq!(steps.join(" "), expected, "though the request waited in between: {report:#}");
    let (_, report) = setup.explain(Some(&good), &["--path", "/items", "--cluster", "up"]);
    assert_eq!(
        (&report["outbound_rule"], &report["credential"]),
        (&json!("up"), &json!("own")),
        "{report:#}"
    );
    assert_eq!(report["changes"][2], json!({ "header": "x-token", "value": "<its token>" }), "{report:#}");
}

#[test]
fn every_token_of_the_jwt_cases_is_explained_as_the_filter_decides() {
    let folder = Folder::new();
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for case in cases::asked() {
        let config = folder.file("config.json", &case.configuration);
        let keys = format!("idp={}", folder.file("keys.json", &case.keys));
        let now = case.now.to_string();
        let headers: Vec<String> =
            case.authorization.iter().map(|value| format!("authorization: {value}")).collect();
        let mut arguments = vec![
            "explain",
            "--format",
            "json",
            "--config",
            &config,
            "--jwks",
            &keys,
            "--now",
            &now,
            "--host",
            "orders",
            "--path",
            "/orders/7",
        ];
        for header in &headers {
            arguments.extend(["--header", header]);
        }
        let ran = run(&arguments);
        let (code, status, error, reason) = match &case.decided {
            RequestOutcome::Forward(_) => (0, json!(null), json!(null), json!(null)),
            RequestOutcome::Respond(answer) => {
                let body: Value = serde_json::from_str(&answer.body).unwrap();
                // Unusable keys are an error of the command line, not of the request.
                let code = if body["reason"] == "jwks_unavailable" { 2 } else { 1 };
                (code, json!(answer.status), body["error"].clone(), body["reason"].clone())
            }
            RequestOutcome::Wait => panic!("{}", case.name),
        };
        let report = if code == 2 {
            json!({ "status": status, "error": error, "reason": reason })
        } else {
            ran.json()
        };
        let same = (ran.code, &report["status"], &report["error"], &report["reason"])
            == (code, &status, &error, &reason);
        // The last step that is reported is the one that refuses.
        let explained =
            code != 1 || report["steps"].as_array().unwrap().last().is_some_and(|step| step["ok"] == false);
        if !same || !explained {
            wrong.push(format!("{}: the filter {status} {reason}, the tool {ran:?}", case.name));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 90, "{cases}");
}

/// The steps that say whether a token is an access token, under a preset and its settings.
#[test]
fn what_makes_a_token_an_access_token_is_a_step() {
    let (folder, key) = (Folder::new(), Key::new(Alg::EdDsa).with_kid("k"));
    let now = NOW.to_string();
    let steps = |issuer: &Value, claims: &Value| -> Vec<(bool, String)> {
        let mut configuration = json!({
            "issuers": { "idp": { "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] } } },
            "inbound": { "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"] } }] },
        });
        let own = configuration["issuers"]["idp"].as_object_mut().unwrap();
        own.extend(issuer.as_object().unwrap().clone());
        let mut all = json!({ "iss": "https://idp.example.com", "aud": "svc", "exp": NOW + 300 });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let line = format!("authorization: Bearer {}", Mint::of(all).sign(&key));
        let config = folder.file("config.json", configuration.to_string());
        let header = format!("@{}", folder.file("headers.txt", line));
        let arguments =
            ["explain", "--format", "json", "--config", &config, "--now", &now, "--header", &header];
        let report = run(&arguments).json();
        let steps = report["steps"].as_array().unwrap().iter().filter(|step| step["step"] == "access token");
        let step = |step: &Value| (step["ok"] == true, step["detail"].as_str().unwrap().to_owned());
        steps.map(step).collect()
    };
    let generic = |claims: Value| json!({ "preset": "generic", "access_token_claims": claims });
    for (issuer, claims, expected) in [
        (json!({}), json!({ "typ": "ID" }), vec![(false, "typ \"ID\", Bearer is needed")]),
        (json!({}), json!({}), vec![]),
        (
            json!({ "preset": "generic" }),
            json!({ "typ": "invoice" }),
            vec![(true, "without at_hash and c_hash; the issuer has no access_token_claims")],
        ),
        (
            json!({ "preset": "generic" }),
            json!({ "at_hash": "h" }),
            vec![(false, "at_hash \"h\", none is needed")],
        ),
        (
            generic(json!({ "token_use": "access", "nonce": "absent", "typ": ["absent", "at", "m2m"] })),
            json!({ "token_use": "access", "typ": "id" }),
            vec![
                (true, "nonce missing, absent is needed"),
                (true, "token_use \"access\", access is needed"),
                (false, "typ \"id\", absent or at or m2m is needed"),
            ],
        ),
        (json!({ "preset": "cognito" }), json!({}), vec![(false, "token_use missing, access is needed")]),
        (json!({ "preset": "google" }), json!({ "at_hash": "h" }), vec![]),
    ] {
        let expected: Vec<(bool, String)> =
            expected.into_iter().map(|(ok, detail)| (ok, detail.to_owned())).collect();
        assert_eq!(steps(&issuer, &claims), expected, "{issuer} {claims}");
    }
}
