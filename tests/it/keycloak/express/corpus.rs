//! The requests of the comparison: what Keycloak gives, and what its key could be made to sign.

use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::token::{self, Mint, now, sign_bytes};
use m2m_auth_kit::{Value, json};

type Made = Box<dyn Fn(&str) -> Request + Send>;

/// A request, made for one of the three.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) request: Made,
}

/// Real tokens, and the realm's own key to forge others with.
pub(super) struct Tokens {
    /// Signs for the realm.
    key: Key,
    /// Of order-service, for the inventory, with the role.
    good: String,
    /// Of order-service, for the inventory and the payment service.
    two_audiences: String,
    /// Of billing-service: the audience, but no role.
    without_role: String,
    /// Of payment-service: no audience.
    without_audience: String,
    /// order-service's ID token.
    id: String,
    /// order-service's refresh token.
    refresh: String,
    /// order-service's, signed with ES256 and RS512.
    other_algorithms: [String; 2],
    /// order-service's of another realm of the same server.
    other_realm: String,
    /// Of a client that has been disabled since.
    of_disabled: String,
}

impl Tokens {
    pub(super) async fn of(keycloak: &Keycloak, realm: &Keycloak) -> Self {
        let key = Key::new(Alg::Rs256);
        let key = key.clone().with_kid(realm.sign_with(&key).await.kid);
        let of = async |realm: &Keycloak, client: &str, scope: &str| {
            realm.token(client, &keycloak::secret(client), scope).await
        };
        let signed_with = async |alg: &str| {
            let alg = json!(alg);
            realm
                .change_client("order-service", |client| {
                    client["attributes"]["access.token.signed.response.alg"] = alg;
                })
                .await;
            of(realm, "order-service", "").await
        };
        let other_algorithms = [signed_with("ES256").await, signed_with("RS512").await];
        let good = signed_with("RS256").await;
        let of_disabled = of(realm, "order-service", "").await;
        let secret = keycloak::secret("order-service");
        realm
            .change_client("order-service", |client| {
                client["attributes"]["client_credentials.use_refresh_token"] = json!("true");
            })
            .await;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "order-service"),
            ("client_secret", &secret),
            ("scope", "openid"),
        ];
        let all = realm.ask_token(&form).await.json();
        let text = |name: &str| all[name].as_str().unwrap_or_else(|| panic!("no {name}: {all}")).to_owned();
        let tokens = Self {
            key,
            good,
            two_audiences: of(realm, "order-service", "payment-api").await,
            without_role: of(realm, "billing-service", "").await,
            without_audience: of(realm, "payment-service", "").await,
            id: text("id_token"),
            refresh: text("refresh_token"),
            other_algorithms,
            other_realm: of(keycloak, "order-service", "").await,
            of_disabled,
        };
        realm.change_client("order-service", |client| client["enabled"] = json!(false)).await;
        tokens
    }

    /// The claims of the good token.
    fn claims(&self) -> Value {
        token::decode(&self.good).1
    }

    /// The good token with other claims, signed by the realm's own key.
    fn with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.mint(claims).sign(&self.key)
    }

    fn without(&self, claim: &str) -> String {
        self.with(|claims| drop(claims.as_object_mut().unwrap().remove(claim)))
    }

    fn mint(&self, claims: Value) -> Mint {
        Mint::of(claims).key(&self.key)
    }

    fn roles(&self, roles: Value) -> String {
        self.with(|claims| claims["resource_access"]["inventory-service"]["roles"] = roles)
    }
}

fn get(base: &str) -> Request {
    client::get(format!("{base}/inventory/items"))
}

fn bearer(name: &'static str, token: impl AsRef<str>) -> Case {
    header(name, format!("Bearer {}", token.as_ref()))
}

fn header(name: &'static str, value: impl AsRef<str>) -> Case {
    let value = value.as_ref().to_owned();
    case(name, move |base| get(base).header("authorization", &value))
}

fn case(name: &'static str, request: impl Fn(&str) -> Request + Send + 'static) -> Case {
    Case { name, request: Box::new(request) }
}

/// The good token, one of its three parts changed.
fn tampered(token: &str, part: usize, change: impl FnOnce(&str) -> String) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[part] = change(&parts[part]);
    parts.join(".")
}

/// The same string with another character in the middle.
fn flipped(text: &str) -> String {
    let middle = text.len() / 2;
    let other = if text[middle..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &text[..middle], &text[middle + 1..])
}

pub(super) fn cases(tokens: &Tokens) -> Vec<Case> {
    let good = &tokens.good;
    let mut cases = requests(tokens);
    cases.extend(real(tokens));
    cases.extend(signatures(tokens));
    cases.extend(claims(tokens));
    cases.push(bearer("a good token of a client that has been disabled since", &tokens.of_disabled));
    // Whatever came before: neither side has lost its keys over it.
    cases.push(bearer("the good token, after all of these", good));
    cases
}

/// How the token is presented.
fn requests(tokens: &Tokens) -> Vec<Case> {
    let good = tokens.good.clone();
    let (twice, query) = (format!("Bearer {good}"), format!("/inventory/items?access_token={good}"));
    vec![
        header("a good token", format!("Bearer {good}")),
        case("no `Authorization`", get),
        header("`Authorization: Bearer` without a token", "Bearer "),
        header("`bearer` in small letters", format!("bearer {good}")),
        header("`BEARER` in capitals", format!("BEARER {good}")),
        header("two spaces before the token", format!("Bearer  {good}")),
        header("a word behind the token", format!("Bearer {good} please")),
        header("a second token behind the token, with a comma", format!("Bearer {good}, Bearer {good}")),
        header("the token without `Bearer`", &good),
        header("`Basic`, with the client's secret", "Basic b3JkZXItc2VydmljZTpvcmRlci1zZWNyZXQ="),
        header("`foo Bearer TOKEN`", format!("foo Bearer {good}")),
        case("two `Authorization` lines", move |base| {
            get(base).header("authorization", &twice).header("authorization", &twice)
        }),
        case("the token in the query alone", move |base| client::get(format!("{base}{query}"))),
    ]
}

/// Tokens as Keycloak gives them.
fn real(tokens: &Tokens) -> Vec<Case> {
    vec![
        bearer("a token for two services, the inventory one of them", &tokens.two_audiences),
        bearer("the audience, but not the role (billing-service)", &tokens.without_role),
        bearer("another client's token without the audience (payment-service)", &tokens.without_audience),
        bearer("an ID token", &tokens.id),
        bearer("a refresh token", &tokens.refresh),
        bearer("signed by Keycloak with ES256", &tokens.other_algorithms[0]),
        bearer("signed by Keycloak with RS512", &tokens.other_algorithms[1]),
        bearer("a token of another realm", &tokens.other_realm),
    ]
}

/// What is no token, and what Keycloak has not signed.
fn signatures(tokens: &Tokens) -> Vec<Case> {
    let (good, key) = (&tokens.good, &tokens.key);
    let (header, claims) = token::decode(good);
    let stranger = Key::new(Alg::Rs256);
    let write = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        m2m_auth_kit::key::encode(claims.to_string())
    };
    let admin = write(&|claims| claims["azp"] = json!("admin"));
    let payload = claims.to_string();
    let twice = format!("{{\"aud\":\"payment-service\",{}", &payload[1..]);
    vec![
        bearer("`garbage`", "garbage"),
        bearer("`a.b.c`", "a.b.c"),
        bearer("`null`", "null"),
        bearer("a token without its signature", good.rsplit_once('.').unwrap().0),
        bearer("the signature changed", tampered(good, 2, flipped)),
        bearer("the signature left empty", tampered(good, 2, |_| String::new())),
        bearer("the payload changed", tampered(good, 1, |_| admin)),
        bearer("`alg: none`, no signature", tokens.mint(claims.clone()).unsigned().sign(key)),
        bearer("`alg: none`, with Keycloak's signature", tokens.mint(claims.clone()).alg("none").sign(key)),
        bearer("`alg: NONE`, no signature", tokens.mint(claims.clone()).unsigned().alg("NONE").sign(key)),
        bearer(
            "HS256 with the public key for a secret",
            tokens.mint(claims.clone()).secret(key.public_pem()).kid(key.kid()).sign(key),
        ),
        bearer(
            "HS256 with the client's secret",
            tokens.mint(claims.clone()).secret("order-secret").sign(key),
        ),
        bearer("signed by a stranger, with Keycloak's `kid`", {
            Mint::of(claims.clone()).key(&stranger).kid(key.kid()).sign(&stranger)
        }),
        bearer(
            "signed by a stranger, with the stranger's `kid`",
            Mint::of(claims.clone()).key(&stranger).sign(key),
        ),
        bearer("signed by a stranger, with the key in the header", {
            Mint::of(claims.clone()).key(&stranger).header("jwk", stranger.bare_jwk()).sign(&stranger)
        }),
        bearer("a `kid` that does not exist", tokens.mint(claims.clone()).kid("nobody").sign(key)),
        bearer("without a `kid`", tokens.mint(claims.clone()).without_header("kid").sign(key)),
        bearer("an extension that must be understood (`crit`)", {
            tokens.mint(claims.clone()).header("crit", json!(["exp2"])).header("exp2", 1).sign(key)
        }),
        bearer(
            "`aud` twice, the second one right",
            sign_bytes(key, header.to_string().as_bytes(), twice.as_bytes()),
        ),
    ]
}

/// What Keycloak's own key has signed, for whatever reason.
fn claims(tokens: &Tokens) -> Vec<Case> {
    let now = now();
    vec![
        bearer("expired 5 minutes ago", tokens.with(|claims| claims["exp"] = json!(now - 300))),
        bearer("expired 10 seconds ago", tokens.with(|claims| claims["exp"] = json!(now - 10))),
        bearer("without `exp`", tokens.without("exp")),
        bearer("`exp` as a string", tokens.with(|claims| claims["exp"] = json!((now + 300).to_string()))),
        bearer("`nbf` in 10 minutes", tokens.with(|claims| claims["nbf"] = json!(now + 600))),
        bearer("`iat` in 10 minutes", tokens.with(|claims| claims["iat"] = json!(now + 600))),
        bearer("another `iss`", tokens.with(|claims| claims["iss"] = json!("https://evil.example.com"))),
        bearer("`iss` with a slash at the end", {
            tokens.with(|claims| claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap())))
        }),
        bearer("without `iss`", tokens.without("iss")),
        bearer("`aud` is another service", tokens.with(|claims| claims["aud"] = json!("payment-service"))),
        bearer("`aud` is a list of other services", {
            tokens.with(|claims| claims["aud"] = json!(["payment-service", "inventory-service-2"]))
        }),
        bearer("without `aud`", tokens.without("aud")),
        bearer("without `resource_access`", tokens.without("resource_access")),
        bearer("the role at another client", {
            let roles = json!({ "payment-service": { "roles": ["inventory:read"] } });
            tokens.with(|claims| claims["resource_access"] = roles)
        }),
        bearer("the role as a realm role", {
            tokens.with(|claims| {
                claims["resource_access"] = json!({});
                claims["realm_access"] = json!({ "roles": ["inventory:read"] });
            })
        }),
        bearer("another role (`inventory:write`)", tokens.roles(json!(["inventory:write"]))),
        bearer("a longer role (`inventory:read-all`)", tokens.roles(json!(["inventory:read-all"]))),
        bearer("a string for the list of roles, with the role in it", {
            tokens.roles(json!("not-inventory:read-at-all"))
        }),
        bearer("payload `typ: ID`, all else good", tokens.with(|claims| claims["typ"] = json!("ID"))),
        bearer(
            "payload `typ: Refresh`, all else good",
            tokens.with(|claims| claims["typ"] = json!("Refresh")),
        ),
        bearer("bound to a client certificate (`cnf`)", {
            tokens.with(|claims| claims["cnf"] = json!({ "x5t#S256": "A".repeat(43) }))
        }),
    ]
}
