//! Requirements beyond roles: claims, the request's own headers, and alternatives.

use super::{challenge, stage};
use serde_json::{Value, json};

#[tokio::test]
async fn claims_are_compared_with_the_request_and_one_alternative_is_enough() {
    let stage = stage().await;
    let level = "https://example.com/level";
    let good = json!({ "tenant": "blue", level: 2, "scope": "tenants:read" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let mut admin = with("scope", json!("other"));
    admin["realm_access"] = json!({ "roles": ["admin"] });
    for (number, (claims, tenants, reason)) in [
        (good.clone(), vec!["blue"], None),
        (admin, vec!["blue"], None),
        (good.clone(), vec!["red"], Some("required_claim")),
        (good.clone(), vec![], Some("required_claim")),
        (good.clone(), vec!["blue", "red"], Some("required_claim")),
        (with("tenant", json!("*")), vec!["blue"], Some("required_claim")),
        (with(level, json!(1)), vec!["blue"], Some("required_claim")),
        (with(level, json!("2")), vec!["blue"], Some("required_claim")),
        (with("scope", json!("other tenants")), vec!["blue"], Some("no_condition_met")),
    ]
    .into_iter()
    .enumerate()
    {
        let token =
            stage.mint(|own| own.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone()));
        let path = format!("/tenants/orders?{number}");
        let request = stage.scene.get(&path).bearer(&token);
        let request = tenants.iter().fold(request, |request, tenant| request.header("x-tenant", tenant));
        // The second time the token has been seen before.
        for request in [request.clone(), request.http2()] {
            let answer = request.send().await;
            let answered =
                (answer.status == 403).then(|| answer.json()["reason"].as_str().unwrap().to_owned());
            assert_eq!(answered.as_deref(), reason, "{claims} {tenants:?}: {answer:?}");
            assert_eq!(answer.status, if reason.is_some() { 403 } else { 200 }, "{answer:?}");
            let refused = challenge(&answer).contains("error=\"insufficient_scope\"");
            assert_eq!(refused, reason.is_some(), "{answer:?}");
        }
        assert_eq!(stage.scene.seen(&path).len(), if reason.is_some() { 0 } else { 2 }, "{claims}");
    }
}

#[tokio::test]
async fn a_caller_reaches_only_what_is_its_own_by_the_path() {
    let stage = stage().await;
    let token = stage.mint(|claims| claims["tenant"] = json!("blue"));
    for (path, status) in [
        ("/customers/blue/orders", 200),
        ("/customers/%62lue/orders", 200),
        ("/customers/red/orders", 403),
        ("/customers/blue/../red/orders", 400),
        ("/customers/red/..;/blue/orders", 400),
        ("/customers/blue;x/orders", 400),
        ("/customers/blue%2f..%2fred/orders", 400),
    ] {
        let answer = stage.scene.get(path).bearer(&token).send().await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(stage.scene.seen(path).len(), usize::from(status == 200), "{path}");
    }
}
