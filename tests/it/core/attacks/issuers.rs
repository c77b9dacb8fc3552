//! Rules of several issuers: a token's `iss` chooses whose keys count, and nothing else that a
//! token says gains a thing.

use super::{End, NOW, World, claims, key, with};
use m2m_auth_kit::key::Key;
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};

const A: &str = "https://a.example";
const B: &str = "https://b.example";

/// Two issuers; `/both` takes the tokens of either, `/a` and `/b` of one each.
fn configuration() -> Value {
    let issuer = |iss: &str| json!({ "issuer": iss, "cluster": iss.trim_start_matches("https://") });
    let rule = |path: &str, mut require: Value| {
        require["audiences"] = json!(["orders"]);
        json!({ "match": { "path_prefix": path }, "require": require })
    };
    json!({
        "issuers": { "a": issuer(A), "b": issuer(B) },
        "inbound": { "rules": [
            rule("/both", json!({ "issuers": ["a", "b"] })),
            rule("/a", json!({ "issuer": "a" })),
            rule("/b", json!({ "issuers": ["b"] })),
        ] },
    })
}

/// A world in which both have keys, of one name.
fn world(a: &Key, b: &Key) -> World {
    let mut world = World::new(&configuration());
    world.provider("a.example", &[a.jwk()]);
    world.provider("b.example", &[b.jwk()]);
    world.pass(10);
    world
}

fn token(iss: &str, key: &Key) -> String {
    Mint::of(with(claims(), "iss", json!(iss))).sign(key)
}

/// RFC 8725 section 3.8: the key must belong to the issuer that the token names.
#[test]
fn the_name_in_a_token_chooses_the_only_keys_that_count() {
    let (a, b) = (key("k"), key("k"));
    let mut world = world(&a, &b);
    for _ in 0..2 {
        assert!(world.get("/both", &token(A, &a)).is_forwarded());
        assert!(world.get("/both", &token(B, &b)).is_forwarded());
        assert_eq!(world.get("/both", &token(A, &b)), End::refused(401, "signature"));
        assert_eq!(world.get("/both", &token(B, &a)), End::refused(401, "signature"));
    }
}

#[test]
fn a_token_of_an_issuer_that_the_rule_does_not_name_is_refused_and_costs_no_fetch() {
    let (a, b, stranger) = (key("k"), key("k"), key("unknown"));
    let mut world = world(&a, &b);
    let asked = world.asked.len();
    for (path, token) in [
        ("/a", token(B, &b)),
        ("/b", token(A, &a)),
        ("/a", token(B, &stranger)),
        ("/both", token("https://c.example", &stranger)),
        ("/both", token("https://a.example/", &a)),
        ("/both", token("", &a)),
        ("/both", Mint::of(with(claims(), "iss", json!([A, B]))).sign(&a)),
    ] {
        assert_eq!(world.get(path, &token), End::refused(401, "issuer"), "{path}");
    }
    world.pass(60);
    assert_eq!(world.asked.len(), asked, "nobody's keys are looked for");
    assert!(world.get("/b", &token(B, &b)).is_forwarded());
}

/// Each issuer has its own cache of verified callers: a hit in one is a miss in another.
#[test]
fn a_caller_is_known_to_every_rule_of_its_issuer_and_to_no_other() {
    let (a, b) = (key("k"), key("k"));
    let mut world = world(&a, &b);
    let (of_a, of_b) = (token(A, &a), token(B, &b));
    assert!(world.get("/both", &of_b).is_forwarded());
    assert!(world.get("/b", &of_b).is_forwarded());
    assert!(world.get("/both", &of_a).is_forwarded());
    assert!(world.get("/a", &of_a).is_forwarded());
    assert_eq!(world.count("m2m_auth_token_cache.lookup.hit"), 2);
    assert_eq!(world.get("/a", &of_b), End::refused(401, "issuer"));
    assert_eq!(world.get("/b", &of_a), End::refused(401, "issuer"));
}

#[test]
fn a_key_that_one_issuer_withdraws_ends_its_own_tokens_and_no_others() {
    let (a, b, new) = (key("k"), key("k"), key("new"));
    let mut world = world(&a, &b);
    let (of_a, of_b) = (token(A, &a), token(B, &b));
    assert!(world.get("/both", &of_a).is_forwarded() && world.get("/both", &of_b).is_forwarded());
    world.provider("a.example", &[new.jwk()]);
    world.pass(301);
    assert_eq!(world.get("/both", &of_a), End::refused(401, "unknown_key"));
    assert!(world.get("/both", &of_b).is_forwarded());
    assert_eq!(world.count("m2m_auth_token_cache.lookup.hit"), 1, "the other's caller is still known");
    assert!(world.get("/both", &token(A, &new)).is_forwarded());
}

#[test]
fn an_issuer_that_is_down_is_503_for_its_own_callers_and_nobody_else() {
    let (a, b) = (key("k"), key("k"));
    let mut world = World::new(&configuration());
    world.provider("b.example", &[b.jwk()]);
    world.pass(30);
    for _ in 0..2 {
        assert_eq!(world.get("/both", &token(A, &a)), End::refused(503, "jwks_unavailable"));
        assert!(world.get("/both", &token(B, &b)).is_forwarded());
    }
    world.provider("a.example", &[a.jwk()]);
    world.pass(60);
    assert!(world.get("/both", &token(A, &a)).is_forwarded());
}

/// A provider that moves to another host name: tokens of before and after, one key set.
#[test]
fn a_provider_of_two_names_has_one_key_set() {
    let own = key("k");
    let mut configuration = configuration();
    configuration["issuers"]["a"]["issuer"] = json!([A, "https://old.example"]);
    let mut world = World::new(&configuration);
    world.provider("a.example", &[own.jwk()]);
    world.provider("b.example", &[key("k").jwk()]);
    world.pass(10);
    for iss in [A, "https://old.example"] {
        assert!(world.get("/both", &token(iss, &own)).is_forwarded(), "{iss}");
    }
    assert_eq!(world.get("/both", &token("https://older.example", &own)), End::refused(401, "issuer"));
    assert_eq!(world.hosts(), ["a.example", "b.example"]);
}

/// Entra ID: one key set signs for all tenants, so only `iss` and `tid` distinguish the tenants.
#[test]
fn of_a_provider_of_many_tenants_those_that_are_named_may_and_each_only_as_itself() {
    let own = key("k");
    let mut configuration = configuration();
    configuration["issuers"]["a"] = json!({
        "issuer": "https://login.example/{tenantid}/v2.0", "tenants": ["t-1", "t-2"], "cluster": "login.example",
    });
    let mut world = World::new(&configuration);
    let metadata =
        json!({ "issuer": "https://login.example/t-1/v2.0", "jwks_uri": "https://login.example/keys" });
    world.serve("login.example/t-1/v2.0/.well-known/openid-configuration", metadata.to_string());
    world.serve("login.example/keys", json!({ "keys": [own.jwk()] }).to_string());
    world.pass(10);
    let token = |tenant: &str, tid: Value| {
        let claims = with(claims(), "iss", json!(format!("https://login.example/{tenant}/v2.0")));
        Mint::of(with(claims, "tid", tid)).sign(&own)
    };
    for tenant in ["t-1", "t-2"] {
        assert!(world.get("/a", &token(tenant, json!(tenant))).is_forwarded(), "{tenant}");
    }
    for (tenant, tid, reason) in [
        ("t-1", json!("t-2"), "tenant"),
        ("t-1", json!("t-3"), "tenant"),
        ("t-1", json!(["t-1"]), "tenant"),
        ("t-1", json!(null), "tenant"),
        ("t-3", json!("t-3"), "issuer"),
        ("t-3", json!("t-1"), "issuer"),
        ("{tenantid}", json!("{tenantid}"), "issuer"),
        ("", json!(""), "issuer"),
    ] {
        assert_eq!(world.get("/a", &token(tenant, tid.clone())), End::refused(401, reason), "{tenant} {tid}");
    }
}

/// The requirements of a rule are checked again for a cached caller: the cache keeps its identity,
/// not its rights.
#[test]
fn a_known_caller_is_asked_by_every_rule_and_every_time() {
    let own = key("k");
    let mut configuration = configuration();
    let rule = |path: &str, more: Value| {
        let mut require = json!({ "issuer": "a", "audiences": ["orders"] });
        require.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "match": { "path_prefix": path }, "require": require })
    };
    configuration["inbound"]["rules"] = json!([
        rule("/plain", json!({})),
        rule("/age", json!({ "max_age": "60s" })),
        rule("/clients", json!({ "clients": ["order-service"] })),
        rule("/subjects", json!({ "subjects": ["somebody"] })),
        rule("/audiences", json!({ "audiences": { "all_of": ["orders", "payments"] } })),
        rule("/acr", json!({ "acr_values": ["gold"] })),
        rule("/b", json!({ "issuer": "b" })),
    ]);
    let mut world = World::new(&configuration);
    world.provider("a.example", &[own.jwk()]);
    world.pass(10);
    let claims = with(with(claims(), "iss", json!(A)), "azp", json!("another-service"));
    let token = Mint::of(with(claims, "iat", json!(NOW))).sign(&own);
    assert!(world.get("/plain", &token).is_forwarded());
    assert!(world.get("/age", &token).is_forwarded());
    for (path, status, reason) in [
        ("/clients", 403, "client_not_allowed"),
        ("/subjects", 403, "subject_not_allowed"),
        ("/audiences", 401, "audience"),
        ("/acr", 401, "acr"),
    ] {
        assert_eq!(world.get(path, &token), End::refused(status, reason), "{path}");
    }
    world.pass(51);
    assert_eq!(world.get("/age", &token), End::refused(401, "token_too_old"));
    assert!(world.get("/plain", &token).is_forwarded(), "nothing else has ended");
}
