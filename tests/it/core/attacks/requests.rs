//! Requests in disguise, and names that look like patterns.

use super::{End, World, claims, head, key, one_rule_with, require, with};
use m2m_auth::filter::header_edits::Edit;
use m2m_auth::plugin::RequestOutcome;
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};

/// CVE-2023-27487 (Envoy): a header that only the proxy should set decided about paths.
#[test]
fn headers_that_describe_another_request_are_not_believed() {
    let mut world = World::new(&admin_and_public());
    for name in [
        "x-envoy-original-path",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
        "path",
        "x-http-method-override",
    ] {
        assert_eq!(world.ask(head("/admin", &[(name, "/public")])), End::refused(401, "no_token"), "{name}");
        assert!(world.ask(head("/public", &[(name, "/admin")])).is_forwarded(), "{name}");
    }
}

/// `/admin` needs a token; everything else is open.
fn admin_and_public() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": [
            { "name": "admin", "match": { "path_prefix": "/admin" }, "require": require("idp") },
            { "name": "rest", "allow": true },
        ] },
    })
}

/// CVE-2020-8595 (Istio) and its many relatives: another spelling of a path that the service reads
/// as the same.
#[test]
fn no_spelling_of_a_path_slips_past_its_rule() {
    let mut world = World::new(&admin_and_public());
    for path in [
        "/admin",
        "/admin/",
        "/admin?x",
        "/admin?/../public",
        "/admin/x;y",
        "/admin/a%2fb",
        "/admin//x",
        "/admin/x/../y",
    ] {
        assert_eq!(world.ask(head(path, &[])), End::refused(401, "no_token"), "{path}");
    }
    for path in [
        "/admin#x",
        "//admin",
        "///admin",
        "/./admin",
        "/x/../admin",
        "/x/./../admin",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/%41dmin/../admin",
        "/admin;x",
        "/admin;x/y",
        "/;x/admin",
        "/admin%3bx",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "/x/..;/admin",
        "/%2e/admin",
        "/public/../admin/users",
        "/public//..//admin",
        "/admin/../health",
        "/admin/..;/health",
        "/admin/..%3b/health",
        "//public/admin/users",
        "/ADMIN",
        "/aDmin/x",
        "/admin.",
        "/admin%20",
        "/admin%2e",
        "/admin%3fx",
        "/ａdmin",
        "/%ef%bd%81dmin",
        "admin",
        "http://orders/admin",
        "/..",
        "/../admin",
        "/x/../../admin",
        "/x%2f..%2fadmin",
        "/public%2f..%2fadmin",
        "/x\\..\\admin",
        "/x%5c..%5cadmin",
        "/admin%00",
        "/admin\0",
        "/%2561dmin",
        "/%252e%252e/admin",
        "/%c0%ae%c0%ae%2fadmin",
        "/%c0%ae%c0%ae/admin",
        "/x/%c0%ae%c0%ae/admin",
        "/%c0%afadmin",
        "/%e0%80%afadmin",
        "/%u0061dmin",
        "/\tadmin",
        "/admin%0d%0a",
        "/ad\u{7f}min",
        "/admin/../public",
    ] {
        assert_eq!(world.ask(head(path, &[])), End::refused(400, "ambiguous_path"), "{path:?}");
    }
    for path in [
        "/",
        "/public",
        "/administrator",
        "/public/admin",
        "/public?next=/admin",
        "/x/../public",
        "//x//y",
        "/a%2fb",
        "/a;admin",
        "/caf%c3%a9",
        "/caf%e9",
        "/admin%zz",
        "*",
    ] {
        assert!(world.ask(head(path, &[])).is_forwarded(), "{path}");
    }
}

/// The same for exact paths and for paths with placeholders: they are narrower than a prefix, so
/// easier to evade.
#[test]
fn no_spelling_of_a_whole_path_slips_past_its_rule() {
    let rules = json!([
        { "name": "keys", "match": { "path": "/keys" }, "require": require("idp") },
        { "name": "items", "match": { "path_template": "/orders/{id}/items" }, "require": require("idp") },
        { "name": "rest", "allow": true },
    ]);
    let mut world = World::new(&with(admin_and_public(), "inbound", json!({ "rules": rules })));
    for path in [
        "/keys",
        "/keys/",
        "/keys?x",
        "/orders/42/items",
        "/orders/42/items/",
        "/orders/%34%32/items?x",
        "/orders/{id}/items",
        "/orders/*/items",
        "/orders/%7Bid%7D/items",
        "/orders/items/items",
    ] {
        assert_eq!(world.ask(head(path, &[])), End::refused(401, "no_token"), "{path}");
    }
    for path in [
        "/keys//",
        "/keys/.",
        "/keys/x/..",
        "/keys;x",
        "/keys/;x",
        "/keys#/public",
        "//keys",
        "/%6beys",
        "/Keys",
        "/\u{212a}eys",
        "/x/../keys",
        "/x/..;/keys/",
        "/orders//42/items",
        "/orders/42//items",
        "/orders/./42/items",
        "/orders/x/../42/items",
        "/orders/42/x/../items",
        "/orders/42/items;x",
        "/orders/42;v=1/items",
        "/keys;/x",
        "/%6frders/42/items",
        "/orders/42/%69tems",
        "/orders/../orders/42/items",
        "/orders/%20/items",
        "/orders/;/items",
        "/orders/4%2f2/items",
        "/Orders/42/items",
        "/orders/./items",
        "/orders/42/43/../items",
    ] {
        assert_eq!(world.ask(head(path, &[])), End::refused(400, "ambiguous_path"), "{path}");
    }
    for path in [
        "/orders/items",
        "/orders//items",
        "/orders/.../items/x",
        "/orders/42/43/../items/7",
        "/orders/42",
        "/orders/42/items/7",
        "/orders/42/43/items",
        "/keysx",
        "/keys/x",
        "/x/keys",
    ] {
        assert!(world.ask(head(path, &[])).is_forwarded(), "{path}");
    }
}

/// Only the filter sets the identity headers, on every rule and however the client spells the path.
#[test]
fn a_client_cannot_set_the_identity_headers_of_the_service() {
    let mut configuration = admin_and_public();
    configuration["inbound"]["rules"][0]["claims_to_headers"] = json!({ "X-Caller": "sub" });
    let mut world = World::new(&configuration);
    let names = ["x-caller", "x_caller", "x.caller", "x!caller", "x~caller"];
    for path in ["/public", "/", "//public", "/x/../public"] {
        let fields = names.map(|name| (name, "root"));
        let (_, step) = world.begin(head(path, &fields));
        let RequestOutcome::Forward(edits) = step else { panic!("{path}") };
        assert_eq!(edits.headers, names.map(|name| Edit::Remove(name.into())), "{path}");
    }
}

/// Writes a name into a rule, or into a token.
type Writer = fn(&str) -> Value;

/// istio/istio#59992: names of a policy were read as patterns.
#[test]
fn names_are_compared_and_never_matched() {
    let key = key("k");
    let writers: [(&str, Writer, Writer); 3] = [
        ("roles", |name| json!([name]), |name| json!({ "realm_access": { "roles": [name] } })),
        ("scopes", |name| json!([name]), |name| json!({ "scope": name })),
        (
            "client_roles",
            |name| json!({ "a.*": [name] }),
            |name| json!({ "resource_access": { "a.*": { "roles": [name] }, "abc": { "roles": ["other"] } } }),
        ),
    ];
    for (member, asked, held) in writers {
        for name in ["a.*", "a*", ".*", ".+", "^abc$", "abc|x", "[abc]+", "a?c", "*", "%61bc", "a\\c"] {
            let mut world = World::with_keys(&[key.jwk()]);
            let keys = world.web.clone();
            let mut try_it = |asked: Value, held: Value| {
                let mut claims = claims();
                claims.as_object_mut().unwrap().extend(held.as_object().unwrap().clone());
                world = World::new(&one_rule_with(member, asked));
                world.web.clone_from(&keys);
                world.get("/", &Mint::of(claims).sign(&key))
            };
            assert!(try_it(asked(name), held(name)).is_forwarded(), "{member} {name}");
            assert_eq!(
                try_it(asked(name), held("abc")).status,
                403,
                "{member} {name}: asked for as a pattern"
            );
            assert_eq!(try_it(asked("abc"), held(name)).status, 403, "{member} {name}: held as a pattern");
        }
    }
    // The client of a client role is a name too.
    let mut world = World::new(&one_rule_with("client_roles", json!({ "a.*": ["role"] })));
    world.provider("idp.example.com", &[key.jwk()]);
    let other = json!({ "abc": { "roles": ["role"] }, "a": { "*": { "roles": ["role"] } } });
    assert_eq!(world.get("/", &Mint::of(with(claims(), "resource_access", other)).sign(&key)).status, 403);
}

/// Servers make one name of `x-tenant`, `x_tenant` and `x.tenant`: only the one that was judged
/// reaches them.
#[test]
fn no_name_that_a_server_takes_for_a_judged_header_is_forwarded() {
    let rules = json!([
        { "name": "tenant", "match": { "headers": { "x-tenant": "blue" } }, "allow": true },
        { "name": "delete", "match": { "path": "/items", "methods": ["DELETE"] }, "require": require("idp") },
        { "name": "perhaps", "match": { "path": "/perhaps" }, "mode": "optional", "require": require("idp"),
          "token_locations": [{ "header": "x-api-token" }] },
        { "name": "rest", "allow": true },
    ]);
    let mut world = World::new(&with(admin_and_public(), "inbound", json!({ "rules": rules })));
    for (path, judged, name) in [
        ("/x", "x-tenant", "x_tenant"),
        ("/x", "x-tenant", "x.tenant"),
        ("/items", "x-http-method-override", "x_http_method_override"),
        ("/perhaps", "x-api-token", "x_api_token"),
    ] {
        let (_, step) = world.begin(head(path, &[(name, "DELETE")]));
        let RequestOutcome::Forward(edits) = step else { panic!("{judged}") };
        assert_eq!(edits.headers, [Edit::Remove(name.into())], "{judged}");
    }
}
