//! What `check` finds among the rules of a configuration.

use super::findings::{found, outbound};
use super::{Folder, run};
use m2m_auth::http::message::RequestId;
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::plugin::{Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::rng::OsRandom;
use m2m_auth::time::{Instant, Now};
use serde_json::{Value, json};
use std::time::Duration;

/// A bare configuration with these inbound rules; a `match` is all they have.
fn inbound(matches: &[&Value]) -> Value {
    let require = json!({ "issuer": "idp", "audiences": ["a"] });
    let rules: Vec<Value> = matches.iter().map(|own| rule(own, json!({ "require": require }))).collect();
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": rules },
    })
}

/// A rule for these requests; an empty `match` is left out.
fn rule(matches: &Value, mut rest: Value) -> Value {
    if matches.as_object().is_some_and(|matches| !matches.is_empty()) {
        rest["match"] = matches.clone();
    }
    rest
}

fn names(document: &Value) -> Vec<[String; 2]> {
    found(document).into_iter().map(|[_, name, path]| [name, path]).collect()
}

#[track_caller]
fn shadows(first: &Value, second: &Value, certain: bool) {
    let expected = [["shadowed-rule", "inbound.rules[1]"].map(str::to_owned)];
    let found = names(&inbound(&[first, second]));
    assert_eq!(found, expected[..usize::from(certain)], "{first} before {second}");
}

#[test]
fn a_rule_that_an_earlier_one_always_decides_is_an_error() {
    for (first, second) in [
        (json!({}), json!({})),
        (json!({}), json!({ "path": "/a", "methods": ["GET"], "host": "a", "headers": { "x": "y" } })),
        (json!({ "path_prefix": "/" }), json!({})),
        (json!({ "path_template": "/**" }), json!({ "path_prefix": "/a" })),
        (json!({ "path_template": "/{all=**}" }), json!({})),
        (json!({ "path": "/a" }), json!({ "path": "/a" })),
        (json!({ "path": "/a" }), json!({ "path": "/a/" })),
        (json!({ "path": "/" }), json!({ "path": "/" })),
        (json!({ "path_prefix": "/a" }), json!({ "path": "/a" })),
        (json!({ "path_prefix": "/a" }), json!({ "path": "/a/b" })),
        (json!({ "path_prefix": "/a/" }), json!({ "path_prefix": "/a" })),
        (json!({ "path_prefix": "/a" }), json!({ "path_prefix": "/a/b" })),
        (json!({ "path_prefix": "/a" }), json!({ "path_template": "/a/{id}/c" })),
        (json!({ "path_template": "/a/**" }), json!({ "path_prefix": "/a" })),
        (json!({ "path_template": "/a/{id}" }), json!({ "path": "/a/7" })),
        (json!({ "path_template": "/a/{id}" }), json!({ "path_template": "/a/*" })),
        (json!({ "path_template": "/*/b/**" }), json!({ "path_prefix": "/a/b" })),
        (json!({ "methods": ["GET", "HEAD"] }), json!({ "methods": ["GET"] })),
        (json!({ "host": "a" }), json!({ "host": "A" })),
        (json!({ "host": "*.example.com" }), json!({ "host": "a.example.com" })),
        (json!({ "host": "*.example.com" }), json!({ "host": "*.a.example.com" })),
        (json!({ "headers": { "x": "y" } }), json!({ "headers": { "X": { "exact": "y" }, "z": "w" } })),
        (json!({ "headers": { "x": { "prefix": "y" } } }), json!({ "headers": { "x": "yy" } })),
        (json!({ "headers": { "x": { "prefix": "y" } } }), json!({ "headers": { "x": { "prefix": "yy" } } })),
        (
            json!({ "headers": { "x": { "present": true } } }),
            json!({ "headers": { "x": { "prefix": "y" } } }),
        ),
        (
            json!({ "headers": { "x": { "present": false } } }),
            json!({ "headers": { "x": { "present": false } } }),
        ),
    ] {
        shadows(&first, &second, true);
    }
}

#[test]
fn a_rule_that_some_request_reaches_is_none() {
    for (first, second) in [
        (json!({ "path": "/a" }), json!({})),
        (json!({ "path": "/a" }), json!({ "path": "/A" })),
        (json!({ "path": "/a" }), json!({ "path_prefix": "/a" })),
        (json!({ "path": "/" }), json!({ "path_prefix": "/" })),
        (json!({ "path_prefix": "/a" }), json!({ "path": "/ab" })),
        (json!({ "path_prefix": "/a/b" }), json!({ "path_prefix": "/a" })),
        (json!({ "path_prefix": "/a" }), json!({ "path_template": "/{x}/b" })),
        (json!({ "path_template": "/{x}" }), json!({ "path": "/" })),
        (json!({ "path_template": "/{x}" }), json!({ "path_prefix": "/" })),
        (json!({ "path_template": "/a/{x}" }), json!({ "path_prefix": "/a" })),
        (json!({ "path_template": "/a/{x}/**" }), json!({ "path_prefix": "/a" })),
        (json!({ "path_template": "/a/{x}" }), json!({ "path_template": "/a/{x}/b" })),
        (json!({ "path_template": "/a/b" }), json!({ "path_template": "/a/*" })),
        (json!({ "methods": ["GET"] }), json!({ "methods": ["GET", "POST"] })),
        (json!({ "methods": ["GET"] }), json!({ "path": "/a" })),
        (json!({ "host": "a" }), json!({ "path": "/a" })),
        (json!({ "host": "a" }), json!({ "host": "b" })),
        (json!({ "host": "a:80" }), json!({ "host": "a" })),
        (json!({ "host": "a.example.com" }), json!({ "host": "*.example.com" })),
        (json!({ "host": "*.example.com" }), json!({ "host": "example.com" })),
        (json!({ "host": "*.a.example.com" }), json!({ "host": "*.example.com" })),
        (json!({ "headers": { "x": "y" } }), json!({ "path": "/a" })),
        (json!({ "headers": { "x": "y" } }), json!({ "headers": { "x": { "prefix": "y" } } })),
        (json!({ "headers": { "x": "y" } }), json!({ "headers": { "z": "y" } })),
        (json!({ "headers": { "x": { "prefix": "yy" } } }), json!({ "headers": { "x": { "prefix": "y" } } })),
        (
            json!({ "headers": { "x": { "present": true } } }),
            json!({ "headers": { "x": { "present": false } } }),
        ),
    ] {
        shadows(&first, &second, false);
    }
}

#[test]
fn each_rule_is_compared_with_every_earlier_one() {
    let (health, all) = (json!({ "path": "/health" }), json!({}));
    let document = inbound(&[&health, &all, &json!({ "path": "/x" }), &health]);
    let at = |index: usize| ["shadowed-rule".to_owned(), format!("inbound.rules[{index}]")];
    assert_eq!(names(&document), [at(2), at(3)]);
}

#[test]
fn a_preflight_is_matched_by_what_it_announces() {
    let mut document = inbound(&[&json!({ "methods": ["GET"] }), &json!({ "methods": ["GET"] })]);
    document["inbound"]["rules"][1]["cors_preflight"] = json!(true);
    assert_eq!(names(&document), Vec::<[String; 2]>::new(), "only the second one matches preflights");
    document["inbound"]["rules"][0]["cors_preflight"] = json!(true);
    assert_eq!(names(&document).len(), 1);
    let mut document = inbound(&[&json!({}), &json!({ "methods": ["GET"] })]);
    document["inbound"]["rules"][1]["cors_preflight"] = json!(true);
    assert_eq!(names(&document).len(), 1);
}

#[test]
fn outbound_rules_are_compared_too() {
    let with = |first: Value, second: Value| {
        let mut document = outbound();
        document["outbound"]["rules"] = json!([first, second]);
        names(&document)
    };
    let shadowed = [["shadowed-rule", "outbound.rules[1]"].map(str::to_owned)];
    let by = |own: Value| rule(&own, json!({ "credential": "order" }));
    assert_eq!(with(by(json!({})), by(json!({ "cluster": "a" }))), shadowed);
    assert_eq!(with(by(json!({ "cluster": "a" })), by(json!({ "cluster": "a" }))), shadowed);
    assert!(with(by(json!({ "cluster": "a" })), by(json!({}))).is_empty());
    assert!(with(by(json!({ "cluster": "a" })), by(json!({ "cluster": "b" }))).is_empty());
    let by_route = json!({ "route_metadata": true });
    assert!(with(by_route.clone(), by(json!({}))).is_empty(), "not every route names a credential");
    assert_eq!(with(by(json!({})), by_route), shadowed);
}

#[test]
fn a_star_in_a_literal_path_is_an_error() {
    for (name, path) in [("path", "/a/*"), ("path_prefix", "/a/*"), ("path_prefix", "/a*"), ("path", "/**")] {
        let document = inbound(&[&json!({ name: path })]);
        let at = format!("inbound.rules[0].match.{name}");
        assert_eq!(found(&document), [["error".to_owned(), "star-in-path".to_owned(), at]]);
    }
    let mut document = outbound();
    document["outbound"]["rules"][0]["match"] = json!({ "path_prefix": "/a/*" });
    let at = ["star-in-path", "outbound.rules[0].match.path_prefix"].map(str::to_owned);
    assert_eq!(names(&document), [at]);
    assert!(names(&inbound(&[&json!({ "path_template": "/a/*" })])).is_empty());
}

#[test]
fn a_rule_that_allows_everything_is_a_warning() {
    let with = |second: Value| {
        let mut document = inbound(&[&json!({ "path": "/a" })]);
        document["inbound"]["rules"].as_array_mut().unwrap().push(second);
        found(&document)
    };
    let warning = ["warning", "allow-all", "inbound.rules[1]"].map(str::to_owned);
    for all in [json!({}), json!({ "path_prefix": "/" }), json!({ "path_template": "/**" })] {
        assert_eq!(with(rule(&all, json!({ "allow": true }))), std::slice::from_ref(&warning), "{all}");
    }
    assert_eq!(with(json!({ "allow": true })), [warning]);
    for some in [
        json!({ "path": "/" }),
        json!({ "path_prefix": "/health" }),
        json!({ "methods": ["GET"] }),
        json!({ "host": "a" }),
        json!({ "path_prefix": "/", "headers": { "x": "y" } }),
    ] {
        assert!(with(rule(&some, json!({ "allow": true }))).is_empty(), "{some}");
    }
}

/// Two rules: no request that the second one decides may pass by the first, and such a one is
/// answered with 401.
fn pair(first: &Value, second: &Value) -> Value {
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let rules = json!([
        rule(first, json!({ "allow": true })),
        rule(second, json!({ "require": { "issuer": "idp", "audiences": ["a"] } })),
    ]);
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "jwks": { "keys": [key] } } },
        "inbound": { "rules": rules },
    })
}

/// Whether a request that the second of two rules decides is among some hundred.
fn second_decides(document: &Value) -> bool {
    let policy = Policy::read(document.to_string().as_bytes(), &|_| None).unwrap();
    let signer = Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom));
    let mut plugin = Plugin::new(policy, Box::new(SoftwareCrypto), signer, 1);
    let now = Now { instant: Instant(Duration::from_secs(1)), unix: 1_800_000_000 };
    let paths =
        ["/", "/a", "/a/", "/ab", "/A", "/a/b", "/a/b/", "/a/7", "/a/b/c", "/a/7/c", "/x/b", "//a/./b;v=1?q"];
    for path in paths {
        for host in ["a.example.com", "a.example.com:8080", "a.b.example.com", "example.com"] {
            for method in ["GET", "POST"] {
                for headers in [&[][..], &[("x", "y")], &[("x", "yy")], &[("x", ""), ("z", "y")]] {
                    let pseudo = [(":method", method), (":authority", host), (":path", path)];
                    let head = pseudo.into_iter().chain(headers.iter().copied()).collect();
                    let step = plugin.request(RequestId(1), head, now);
                    while plugin.next_effect().is_some() {}
                    if matches!(step, RequestOutcome::Respond(response) if response.status == 401) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

#[test]
fn no_request_reaches_a_rule_that_is_reported_as_never_used() {
    let paths = [
        json!({}),
        json!({ "path": "/" }),
        json!({ "path": "/a" }),
        json!({ "path": "/a/b" }),
        json!({ "path_prefix": "/" }),
        json!({ "path_prefix": "/a" }),
        json!({ "path_prefix": "/a/b" }),
        json!({ "path_template": "/**" }),
        json!({ "path_template": "/*" }),
        json!({ "path_template": "/*/**" }),
        json!({ "path_template": "/a/{id}" }),
        json!({ "path_template": "/a/{id}/c" }),
        json!({ "path_template": "/a/**" }),
        json!({ "path_template": "/{x}/b" }),
    ];
    let others = [
        json!({ "host": "a.example.com" }),
        json!({ "host": "A.example.com:8080" }),
        json!({ "host": "*.example.com" }),
        json!({ "host": "*.b.example.com" }),
        json!({ "host": "example.com" }),
        json!({ "methods": ["GET"] }),
        json!({ "methods": ["POST", "GET"] }),
        json!({ "headers": { "x": "y" } }),
        json!({ "headers": { "X": { "prefix": "y" } } }),
        json!({ "headers": { "x": { "prefix": "y" } } }),
        json!({ "headers": { "x": { "present": true } } }),
        json!({ "headers": { "x": { "present": false } } }),
        json!({ "headers": { "x": { "prefix": "y" }, "z": "y" } }),
        json!({ "path_prefix": "/a", "methods": ["GET"], "host": "*.example.com" }),
    ];
    let all: Vec<&Value> = paths.iter().chain(&others).collect();
    let pairs: Vec<Value> =
        all.iter().flat_map(|first| all.iter().map(move |second| pair(first, second))).collect();
    let folder = Folder::new();
    let texts: Vec<String> = pairs.iter().map(Value::to_string).collect();
    let file = folder.file("pairs.yaml", texts.join("\n---\n"));
    let report = run(&["check", "--format", "json", &file]).json();
    let report = report["files"][0]["plugins"].as_array().unwrap();
    assert_eq!(report.len(), pairs.len());
    let mut reported = 0;
    for (document, plugin) in pairs.iter().zip(report) {
        assert_eq!(plugin["errors"], json!([]), "{document}");
        let findings = plugin["findings"].as_array().unwrap();
        if findings.iter().any(|own| own["name"] == "shadowed-rule") {
            reported += 1;
            assert!(!second_decides(document), "{document}");
        }
    }
    assert!(reported > 150, "{reported}");
}
