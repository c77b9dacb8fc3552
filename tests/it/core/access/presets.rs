//! A token of each provider, in the shape that it has there.

use super::Gate;
use serde_json::{Value, json};

/// The preset, a token, requirements that it meets, requirements that it fails, and its subject and
/// client.
type Shape = (&'static str, Value, Vec<Value>, Vec<Value>, &'static str);

fn shapes() -> Vec<Shape> {
    [of_keycloak_auth0_and_entra(), of_okta_cognito_google_and_kubernetes(), of_any_other()].concat()
}

fn of_keycloak_auth0_and_entra() -> Vec<Shape> {
    vec![
        (
            "keycloak",
            json!({
                "sub": "6f1f2a5e", "typ": "Bearer", "azp": "order-service", "client_id": "other", "scope": "inventory-api profile",
                "realm_access": { "roles": ["operator"] },
                "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
            }),
            vec![
                json!({ "roles": ["operator"], "scopes": ["profile"] }),
                json!({ "client_roles": { "inventory-service": ["inventory:read"] } }),
            ],
            vec![
                json!({ "roles": ["inventory:read"] }),
                json!({ "client_roles": { "inventory": ["inventory:read"] } }),
            ],
            "order-service",
        ),
        (
            "auth0",
            json!({
                "sub": "abc@clients", "azp": "abc", "gty": "client-credentials", "scope": "read:orders",
                "permissions": ["read:orders"], "https://example.com/tier": "gold", "realm_access": { "roles": ["admin"] },
            }),
            vec![
                json!({ "roles": ["read:orders"], "scopes": ["read:orders"] }),
                json!({ "claims": [{ "claim": ["https://example.com/tier"], "equals": "gold" }] }),
            ],
            vec![json!({ "roles": ["admin"] }), json!({ "scopes": ["write:orders"] })],
            "abc",
        ),
        (
            "entra",
            json!({
                "sub": "s", "ver": "2.0", "idtyp": "app", "azp": "5f9c", "appid": "other", "roles": ["Orders.Read"],
                "scope": "Orders.Write", "groups": ["9a1e"], "client_id": "other",
            }),
            vec![json!({ "roles": ["Orders.Read"], "claims": [{ "claim": "groups", "contains": "9a1e" }] })],
            vec![json!({ "scopes": ["Orders.Write"] }), json!({ "roles": ["9a1e"] })],
            "5f9c",
        ),
        (
            "entra",
            json!({ "sub": "s", "ver": "1.0", "appid": "5f9c", "scp": "Orders.Read User.Read" }),
            vec![json!({ "scopes": ["User.Read", "Orders.Read"] })],
            vec![json!({ "roles": ["Orders.Read"] })],
            "5f9c",
        ),
    ]
}

fn of_okta_cognito_google_and_kubernetes() -> Vec<Shape> {
    vec![
        (
            "okta",
            json!({
                "ver": 1, "jti": "AT.x", "sub": "0oa1", "cid": "0oa1", "azp": "other", "scp": ["orders.read", "orders.write"],
                "groups": ["Everyone", "ops"], "scope": "admin",
            }),
            vec![json!({ "scopes": ["orders.write"], "roles": ["ops"] })],
            vec![json!({ "scopes": ["admin"] }), json!({ "scopes": ["orders"] })],
            "0oa1",
        ),
        (
            "cognito",
            json!({
                "sub": "7n2", "client_id": "7n2", "token_use": "access", "scope": "orders/read orders/write", "azp": "other",
                "cognito:groups": ["ops"],
            }),
            vec![json!({ "scopes": ["orders/read"], "roles": ["ops"] })],
            vec![json!({ "scopes": ["orders"] }), json!({ "roles": ["orders/read"] })],
            "7n2",
        ),
        (
            "google",
            json!({
                "azp": "112233", "sub": "112233", "email": "order@project.iam.gserviceaccount.com", "email_verified": true,
                "client_id": "other",
            }),
            vec![json!({ "claims": [
                { "claim": "email", "glob": "*@project.iam.gserviceaccount.com" },
                { "claim": "email_verified", "equals": true },
            ] })],
            vec![
                json!({ "claims": [{ "claim": "email", "one_of": ["other@project.iam.gserviceaccount.com"] }] }),
            ],
            "112233",
        ),
        (
            "kubernetes",
            json!({
                "sub": "system:serviceaccount:shop:order",
                "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "order", "uid": "1" } },
            }),
            vec![json!({ "claims": [
                { "claim": ["kubernetes.io", "namespace"], "equals": "shop" },
                { "claim": ["kubernetes.io", "serviceaccount", "name"], "one_of": ["order", "payment"] },
            ] })],
            vec![json!({ "claims": [{ "claim": ["kubernetes.io", "namespace"], "equals": "kube-system" }] })],
            "system:serviceaccount:shop:order",
        ),
    ]
}

fn of_any_other() -> Vec<Shape> {
    vec![
        (
            "generic",
            json!({
                "sub": "order-service", "client_id": "order-service", "azp": "other", "scope": "orders:read orders:write",
                "roles": ["ops"], "typ": "at+jwt", "realm_access": { "roles": ["admin"] }, "scp": "admin",
            }),
            vec![
                json!({ "scopes": ["orders:write"], "claims": [{ "claim": "roles", "contains": "ops" }] }),
                json!({ "clients": ["order-service"], "subjects": ["order-service"] }),
            ],
            vec![json!({ "scopes": ["admin"] }), json!({ "clients": ["other"] })],
            "order-service",
        ),
        (
            "generic",
            json!({ "sub": "s", "azp": "order-service", "scope": ["orders:read"], "cid": "other", "typ": "ID" }),
            vec![json!({ "scopes": ["orders:read"], "clients": ["order-service"] })],
            vec![json!({ "scopes": ["orders"] })],
            "order-service",
        ),
    ]
}

#[test]
fn roles_and_scopes_are_found_where_each_provider_writes_them() {
    for (preset, token, enough, too_little, _) in shapes() {
        let issuer = json!({ "preset": preset });
        for require in enough {
            let refusal = Gate::of(&issuer, &require).ask(&token, &[]).err();
            assert_eq!(refusal, None, "{preset} {require}");
        }
        for require in too_little {
            let refusal = Gate::of(&issuer, &require).ask(&token, &[]).err();
            assert_eq!(refusal.map(|response| response.status), Some(403), "{preset} {require}");
        }
    }
}

#[test]
fn the_audit_log_names_the_client_as_its_provider_does() {
    for (preset, token, _, _, client) in shapes() {
        let nobody = json!({ "claims": [{ "claim": "nobody", "equals": "has this" }] });
        let mut gate = Gate::of(&json!({ "preset": preset }), &nobody);
        assert_eq!(gate.refusal(&token).0, 403);
        let [line] = &gate.logs[..] else { panic!("{:?}", gate.logs) };
        let audit: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        assert_eq!(audit["client"], client, "{preset}: {line}");
    }
}

#[test]
fn what_a_provider_does_not_write_is_looked_for_nowhere_else() {
    let everything = json!({
        "token_use": "access", "realm_access": { "roles": ["a"] }, "roles": ["a"], "permissions": ["a"], "groups": ["a"],
        "cognito:groups": ["a"], "scope": "a", "scp": ["a"],
    });
    for (preset, roles, scopes) in [
        ("keycloak", "realm_access", "scope"),
        ("auth0", "permissions", "scope"),
        ("entra", "roles", "scp"),
        ("okta", "groups", "scp"),
        ("cognito", "cognito:groups", "scope"),
        ("generic", "", "scope"),
    ] {
        for (require, source, reason) in
            [(json!({ "roles": ["a"] }), roles, "role"), (json!({ "scopes": ["a"] }), scopes, "scope")]
        {
            if source.is_empty() {
                continue; // a configuration error
            }
            let mut gate = Gate::of(&json!({ "preset": preset }), &require);
            assert!(gate.allows(&everything), "{preset} {source}");
            let mut token = everything.clone();
            token.as_object_mut().unwrap().remove(source);
            // Keycloak's preset is the default, and finds the scopes of others.
            let elsewhere = preset == "keycloak" && source == "scope";
            assert_eq!(gate.allows(&token), elsewhere, "{preset} {source}");
            if !elsewhere {
                assert_eq!(gate.refusal(&token).1, reason, "{preset} {source}");
            }
        }
    }
}

#[test]
fn a_token_of_cognito_that_does_not_say_that_it_is_an_access_token_is_none() {
    let mut gate = Gate::of(&json!({ "preset": "cognito" }), &json!({}));
    assert!(gate.allows(&json!({ "token_use": "access" })));
    for token in [json!({}), json!({ "token_use": "id" }), json!({ "token_use": ["access"] })] {
        let (status, reason, _) = gate.refusal(&token);
        assert_eq!((status, reason.as_str()), (401, "not_access_token"), "{token}");
    }
}
