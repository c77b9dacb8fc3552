//! What is compared: one listener per row, each with its filters, on one and the same Envoy.

use m2m_auth_kit::{
    Value,
    envoy::{self, Wasm},
    idp::{Endpoint, Idp},
    json,
};
use std::path::Path;

/// One line of the table.
pub(crate) struct Row {
    /// The name of its listener.
    pub(crate) id: &'static str,
    /// The label in the table.
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    pub(crate) check: Check,
    filters: Vec<Value>,
    /// The upstream, in a listener of its own, if requests are forwarded to one.
    behind: Option<Vec<Value>>,
}

/// What the requests of a row carry.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// No token: outbound requests.
    Bare,
    /// No token: an outbound listener attaches one, with a proof for each request, and a second
    /// listener judges it.
    Proven,
    /// Always the same token, so that a filter that caches tokens knows it.
    OneToken,
    /// Always the same token, with a hundred roles, of which the last one counts.
    ManyRoles,
    /// One token after the other, more of them than any cache here holds.
    NewTokens,
}

/// What the filters of a row must do, or the row is not measured.
#[derive(Clone, Copy)]
pub(crate) enum Check {
    /// Every request passes as it is.
    Passes,
    /// 401 without a token, 200 with it.
    NeedsToken,
    /// The same, and 403 without the role.
    NeedsRole,
    /// The upstream gets a token.
    Attaches,
}

/// One comparison of the second table: ours, and Envoy's own filters that do the same.
pub(crate) struct Pair {
    pub(crate) what: &'static str,
    pub(crate) native: &'static str,
    pub(crate) ours: &'static str,
}

pub(crate) const PAIRS: &[Pair] = &[
    Pair { what: "inbound, token never seen", native: "new-jwt-rbac", ours: "new-m2m" },
    Pair { what: "inbound, token seen before", native: "one-jwt-rbac", ours: "one-m2m" },
    Pair { what: "inbound, token seen before, 100 roles", native: "roles-jwt-rbac", ours: "roles-m2m" },
    Pair { what: "outbound", native: "out-native", ours: "out-m2m" },
];

/// The rows, those of ours only with a module.
pub(crate) fn rows(idp: &Idp, noop: &Path, ours: Option<&Path>) -> Vec<Row> {
    use Check::{Attaches, NeedsRole, NeedsToken, Passes};
    use Load::{Bare, ManyRoles, NewTokens, OneToken};
    let row = |id, name, load, check, filters| Row { id, name, load, check, filters, behind: None };
    let wasm = |config: &Value, id: &str, module: &Path| Wasm::new(config).vm_id(id).module(module).filter();
    let noop = wasm(&json!({}), "noop", noop);
    let jwt = |cache| jwt_authn(idp, cache);

    let mut rows = vec![
        row("new-none", "no filter", NewTokens, Passes, vec![]),
        row("new-jwt", "`jwt_authn`", NewTokens, NeedsToken, vec![jwt(Cache::Off)]),
        row("new-jwt-rbac", "`jwt_authn` + `rbac`", NewTokens, NeedsRole, vec![jwt(Cache::Off), rbac()]),
        row("one-none", "no filter", OneToken, Passes, vec![]),
        row("one-noop", "wasm that does nothing", OneToken, Passes, vec![noop]),
        row("one-jwt", "`jwt_authn`, `jwt_cache_config`", OneToken, NeedsToken, vec![jwt(Cache::On)]),
        row(
            "one-jwt-rbac",
            "`jwt_authn`, `jwt_cache_config` + `rbac`",
            OneToken,
            NeedsRole,
            vec![jwt(Cache::On), rbac()],
        ),
        row("roles-none", "no filter", ManyRoles, Passes, vec![]),
        row(
            "roles-jwt-rbac",
            "`jwt_authn`, `jwt_cache_config` + `rbac`",
            ManyRoles,
            NeedsRole,
            vec![jwt(Cache::On), rbac()],
        ),
        row("out-none", "no filter", Bare, Passes, vec![]),
        row("out-native", "`credential_injector`", Bare, Attaches, vec![credential_injector(idp)]),
    ];
    if let Some(module) = ours {
        let filter = |id| {
            let configuration = match id {
                "out-m2m" => outbound(idp),
                "out-dpop" => bound(idp),
                "one-m2m-200" => behind_199(inbound(idp)),
                "new-m2m-ten" | "one-m2m-ten" => ten_issuers(idp),
                "one-asked" => introspected(idp),
                _ => inbound(idp),
            };
            vec![wasm(&configuration, id, module)]
        };
        rows.extend([
            row("new-m2m", "m2m-auth", NewTokens, NeedsRole, filter("new-m2m")),
            row("new-m2m-ten", "m2m-auth, 10 issuers", NewTokens, NeedsRole, filter("new-m2m-ten")),
            row("one-m2m", "m2m-auth", OneToken, NeedsRole, filter("one-m2m")),
            row(
                "one-m2m-200",
                "m2m-auth, by the last of 200 rules",
                OneToken,
                NeedsRole,
                filter("one-m2m-200"),
            ),
            row("roles-m2m", "m2m-auth", ManyRoles, NeedsRole, filter("roles-m2m")),
            row("one-m2m-ten", "m2m-auth, 10 issuers", OneToken, NeedsRole, filter("one-m2m-ten")),
            row("one-asked", "m2m-auth, `introspect: always`", OneToken, NeedsRole, filter("one-asked")),
            row("out-m2m", "m2m-auth", Bare, Attaches, filter("out-m2m")),
            row("out-dpop", "m2m-auth, `dpop: true`", Bare, Attaches, filter("out-dpop")),
        ]);
        let proven = |id, name, behind| Row {
            behind: Some(behind),
            ..row(id, name, Load::Proven, Passes, vec![wasm(&bound(idp), "out-dpop", module)])
        };
        rows.extend([
            proven("proof-none", "no filter in the second listener", vec![]),
            proven(
                "proof-m2m",
                "m2m-auth, `token_binding: dpop`",
                vec![wasm(&proving(idp), "proof-m2m", module)],
            ),
        ]);
    }
    rows.sort_by_key(|row| row.load.order());
    rows
}

impl Row {
    /// The row without a filter, for the same requests.
    pub(crate) fn baseline(&self) -> &'static str {
        match self.load {
            Load::Bare => "out-none",
            Load::Proven => "proof-none",
            Load::OneToken => "one-none",
            Load::ManyRoles => "roles-none",
            Load::NewTokens => "new-none",
        }
    }

    /// Envoy answers itself, so that only its own work is measured; `/check` goes to the upstream.
    pub(crate) fn listener(&self) -> Value {
        let answers = json!({
            "match": { "prefix": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": "ok" } },
        });
        let last = match &self.behind {
            None => answers,
            Some(_) => json!({ "match": { "prefix": "/" }, "route": { "cluster": self.id } }),
        };
        let routes = vec![json!({ "match": { "path": "/check" }, "route": { "cluster": "upstream" } }), last];
        Self::quiet(envoy::listener(self.id, self.filters.clone(), envoy::route_config(routes)))
    }

    /// The second listener, if there is one, and the cluster that leads there: through a socket in
    /// `folder`.
    pub(crate) fn second(&self, folder: &Path) -> Option<(Value, Value)> {
        let answers = json!({
            "match": { "prefix": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": "ok" } },
        });
        let name = format!("{}-second", self.id);
        let socket = json!({ "pipe": { "path": folder.join(&name) } });
        let filters = self.behind.clone()?;
        let mut listener = envoy::listener(&name, filters, envoy::route_config(vec![answers]));
        listener["address"] = socket.clone();
        let endpoint = json!({ "lb_endpoints": [{ "endpoint": { "address": socket } }] });
        let cluster = json!({
            "name": self.id,
            "type": "STATIC",
            "load_assignment": { "cluster_name": self.id, "endpoints": [endpoint] },
        });
        Some((Self::quiet(listener), cluster))
    }

    fn quiet(mut listener: Value) -> Value {
        let manager = envoy::manager_mut(&mut listener);
        // Writing a log line per request would cost more than most of the filters.
        manager.as_object_mut().expect("an object").remove("access_log");
        for (name, value) in [
            ("normalize_path", json!(true)),
            ("merge_slashes", json!(true)),
            ("path_with_escaped_slashes_action", json!("REJECT_REQUEST")),
        ] {
            manager[name] = value;
        }
        listener
    }
}

impl Load {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NewTokens => "inbound, every request with a token never seen before",
            Self::OneToken => "inbound, every request with the same token",
            Self::ManyRoles => "inbound, every request with the same token, which has 100 roles",
            Self::Bare => "outbound",
            Self::Proven => "inbound, every request with a proof of its own, which a first listener makes",
        }
    }

    fn order(self) -> usize {
        match self {
            Self::NewTokens => 0,
            Self::OneToken => 1,
            Self::ManyRoles => 2,
            Self::Bare => 3,
            Self::Proven => 4,
        }
    }
}

/// The inbound half of the smallest configuration.
fn inbound(idp: &Idp) -> Value {
    let roles = json!({ "inventory-service": ["inventory:read"] });
    let require = json!({ "issuer": "keycloak", "audiences": ["inventory-service"], "client_roles": roles });
    let rule = json!({ "match": { "path_prefix": "/inventory" }, "require": require });
    json!({ "issuers": issuers(idp), "inbound": { "rules": [rule] } })
}

/// The same, after 199 rules for other paths: a third each exact, by prefix, and with placeholders.
fn behind_199(mut configuration: Value) -> Value {
    let rules = configuration["inbound"]["rules"].as_array_mut().expect("a list");
    let require = rules[0]["require"].clone();
    let others = (0..199).map(|number| {
        let (member, path) = match number % 3 {
            0 => ("path", format!("/inventory/items-{number}")),
            1 => ("path_prefix", format!("/inventory-{number}")),
            _ => ("path_template", format!("/inventory/{{id}}/items-{number}")),
        };
        json!({ "match": { member: path }, "require": require })
    });
    rules.splice(0..0, others);
    configuration
}

/// The same for the callers of ten issuers; the tokens are of the one that is tried last.
fn ten_issuers(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    let mut names = Vec::new();
    for number in 1..10 {
        let name = format!("other-{number}");
        let mut other = configuration["issuers"]["keycloak"].clone();
        other["issuer"] = json!(format!("https://{name}.example.com"));
        other["jwks_uri"] = json!(idp.url(Endpoint::Keys));
        configuration["issuers"][&name] = other;
        names.push(name);
    }
    names.push("keycloak".to_owned());
    let require = &mut configuration["inbound"]["rules"][0]["require"];
    require.as_object_mut().expect("an object").remove("issuer");
    require["issuers"] = json!(names);
    configuration
}

/// The same for a token that the issuer is asked about, and has been.
fn introspected(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    configuration["issuers"]["keycloak"]["introspection"] =
        json!({ "client_id": "order-service", "client_secret": { "inline": SECRET } });
    configuration["inbound"]["rules"][0]["require"]["introspect"] = json!("always");
    configuration
}

/// The outbound half.
fn outbound(idp: &Idp) -> Value {
    let credential = json!({
        "issuer": "keycloak",
        "client_id": "order-service",
        "client_secret": { "inline": SECRET },
        "scopes": ["inventory-api"],
    });
    let rule = json!({ "match": { "host": HOST }, "credential": "order-service" });
    json!({
        "issuers": issuers(idp),
        "outbound": { "credentials": { "order-service": credential }, "rules": [rule] },
    })
}

/// The same with a token that is bound to a key: each request has a proof.
fn bound(idp: &Idp) -> Value {
    let mut configuration = outbound(idp);
    configuration["outbound"]["credentials"]["order-service"]["dpop"] = json!(true);
    configuration
}

/// The inbound half for such tokens.
fn proving(idp: &Idp) -> Value {
    let mut configuration = inbound(idp);
    configuration["inbound"]["rules"][0]["name"] = json!("proven");
    configuration["inbound"]["rules"][0]["require"]["token_binding"] = json!("dpop");
    configuration
}

fn issuers(idp: &Idp) -> Value {
    json!({ "keycloak": { "issuer": idp.issuer(), "cluster": "keycloak" } })
}

/// The host of every request.
pub(crate) const HOST: &str = "inventory-service";
/// The path of every measured request.
pub(crate) const PATH: &str = "/inventory/items";
/// How many tokens `jwt_authn` may remember.
const JWT_CACHE_SIZE: u32 = 1000;

#[derive(Clone, Copy, PartialEq)]
enum Cache {
    On,
    Off,
}

// What follows is `envoy/native/envoy.yaml`.

fn jwt_authn(idp: &Idp, cache: Cache) -> Value {
    let mut provider = json!({
        "issuer": idp.issuer(),
        "audiences": ["inventory-service"],
        "remote_jwks": {
            "http_uri": { "uri": idp.url(Endpoint::Keys), "cluster": "keycloak", "timeout": "5s" },
            "cache_duration": "300s",
            "async_fetch": {},
        },
        "from_headers": [{ "name": "Authorization", "value_prefix": "Bearer " }],
        "require_expiration": true,
        "forward": true,
        "payload_in_metadata": "keycloak",
    });
    if cache == Cache::On {
        provider["jwt_cache_config"] = json!({ "jwt_cache_size": JWT_CACHE_SIZE });
    }
    let rule = json!({
        "match": { "path_separated_prefix": "/inventory" },
        "requires": { "provider_name": "keycloak" },
    });
    filter(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        &json!({ "providers": { "keycloak": provider }, "rules": [rule] }),
    )
}

fn rbac() -> Value {
    let path = |matcher: Value| json!({ "url_path": { "path": matcher } });
    let paths = json!([path(json!({ "exact": "/inventory" })), path(json!({ "prefix": "/inventory/" }))]);
    let keys = ["keycloak", "resource_access", "inventory-service", "roles"].map(|key| json!({ "key": key }));
    let matcher = json!({
        "filter": "envoy.filters.http.jwt_authn",
        "path": keys,
        "value": { "list_match": { "one_of": { "string_match": { "exact": "inventory:read" } } } },
    });
    let policy = json!({
        "permissions": [{ "or_rules": { "rules": paths } }],
        "principals": [{ "sourced_metadata": { "metadata_matcher": matcher } }],
    });
    filter(
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        &json!({ "rules": { "action": "ALLOW", "policies": { "inventory-read": policy } } }),
    )
}

fn credential_injector(idp: &Idp) -> Value {
    envoy::credential_injector(&idp.url(Endpoint::Token), "keycloak", "order-service", &["inventory-api"])
}

/// The secret of `order-service`, for the bootstrap.
pub(crate) fn secrets() -> Value {
    json!([envoy::static_secret("order-service", SECRET)])
}

/// The secret of `order-service` at the simulated provider.
const SECRET: &str = "order-secret";

fn filter(name: &str, kind: &str, config: &Value) -> Value {
    let mut config = config.clone();
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({ "name": name, "typed_config": config })
}
