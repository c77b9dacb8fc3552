//! What `check` finds among the rules of a configuration.

use super::findings::{found, outbound};
use serde_json::{Value, json};

/// A bare configuration with these inbound rules; a `match` is all they have.
fn inbound(matches: &[&Value]) -> Value {
    let require = json!({ "issuer": "idp", "audiences": ["a"] });
    let rules: Vec<Value> = matches.iter().map(|own| json!({ "match": own, "require": require })).collect();
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": rules },
    })
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

/// The filter's own code decides the same: what is said to be covered is matched by the first rule.
#[test]
fn rules_that_stand_in_any_order_are_told_by_their_index() {
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
    let by = |own: Value| json!({ "match": own, "credential": "order" });
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
    let with = |rule: Value| {
        let mut document = inbound(&[&json!({ "path": "/a" })]);
        document["inbound"]["rules"].as_array_mut().unwrap().push(rule);
        found(&document)
    };
    let warning = ["warning", "allow-all", "inbound.rules[1]"].map(str::to_owned);
    for all in [json!({}), json!({ "path_prefix": "/" }), json!({ "path_template": "/**" })] {
        assert_eq!(with(json!({ "match": all, "allow": true })), [warning.clone()], "{all}");
    }
    assert_eq!(with(json!({ "allow": true })), [warning]);
    for some in [
        json!({ "path": "/" }),
        json!({ "path_prefix": "/health" }),
        json!({ "methods": ["GET"] }),
        json!({ "host": "a" }),
        json!({ "path_prefix": "/", "headers": { "x": "y" } }),
    ] {
        assert!(with(json!({ "match": some, "allow": true })).is_empty(), "{some}");
    }
}
