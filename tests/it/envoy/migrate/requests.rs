//! The inbound requests that every pair gets: a token, a location, a path at a time.

use super::page::Row;
use crate::envoy::differential::said;
use m2m_auth_kit::client::{Request, Response};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::token::{self, Mint};
use m2m_auth_kit::{Value, json};

pub(super) const ISSUER: &str = "https://keycloak.example.com/realms/my-realm";

/// Where a request is sent, with tokens of this provider.
pub(super) struct Target<'a> {
    pub(super) idp: &'a Idp,
    /// `http://127.0.0.1:PORT`.
    pub(super) origin: String,
}

impl Target<'_> {
    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, format!("{}{path}", self.origin))
    }

    fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A token of a reader, with this change to its claims.
    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims(self.idp);
        change(&mut claims);
        self.idp.mint(claims)
    }

    fn reader(&self) -> String {
        self.token(|_| ())
    }

    fn admin(&self) -> String {
        self.token(|claims| roles(claims, &["inventory:read", "inventory:admin"]))
    }

    fn items(&self, change: impl FnOnce(&mut Value)) -> Request {
        self.get("/inventory/items").bearer(self.token(change))
    }

    fn reads(&self, path: &str) -> Request {
        self.get(path).bearer(self.reader())
    }
}

/// Claims of a client with what each policy asks of a reader.
fn claims(idp: &Idp) -> Value {
    let mut claims = idp.claims();
    claims["groups"] = json!(["inventory-readers"]);
    claims
}

fn roles(claims: &mut Value, names: &[&str]) {
    claims["resource_access"]["inventory-service"]["roles"] = json!(names);
}

fn without(claims: &mut Value, names: &[&str]) {
    for name in names {
        claims.as_object_mut().unwrap().remove(*name);
    }
}

type Make = fn(&Target<'_>) -> Request;

/// The name of each request, and how it is made.
pub(super) const REQUESTS: &[(&str, Make)] = &[
    ("a good token", |to| to.reads("/inventory/items")),
    ("no token", |to| to.get("/inventory/items")),
    ("an expired token", |to| to.items(|claims| claims["exp"] = json!(token::now() - 600))),
    ("a token that is not yet valid (`nbf`)", |to| {
        to.items(|claims| claims["nbf"] = json!(token::now() + 600))
    }),
    ("`iat` in an hour", |to| to.items(|claims| claims["iat"] = json!(token::now() + 3600))),
    ("no `exp`", |to| to.items(|claims| without(claims, &["exp"]))),
    ("another issuer", |to| to.items(|claims| claims["iss"] = json!("https://other.example.com"))),
    ("a key that the provider does not publish", |to| {
        let mint = Mint::of(claims(to.idp)).key(&Idp::foreign_key());
        to.get("/inventory/items").bearer(to.idp.mint_with(&mint))
    }),
    ("a changed signature", |to| {
        let mut token = to.reader();
        let signature = token.rfind('.').unwrap() + 1;
        let first = if token[signature..].starts_with('A') { "B" } else { "A" };
        token.replace_range(signature..=signature, first);
        to.get("/inventory/items").bearer(token)
    }),
    ("`alg: none`", |to| {
        to.get("/inventory/items").bearer(to.idp.mint_with(&Mint::of(claims(to.idp)).unsigned()))
    }),
    ("`Bearer garbage`", |to| to.get("/inventory/items").bearer("garbage")),
    ("a good token with a dot behind it", |to| {
        to.get("/inventory/items").bearer(format!("{}.", to.reader()))
    }),
    ("another `aud`", |to| to.items(|claims| claims["aud"] = json!("payment-service"))),
    ("no `aud`", |to| to.items(|claims| without(claims, &["aud"]))),
    ("`aud` is a list with this service in it", |to| {
        to.items(|claims| claims["aud"] = json!(["account", "inventory-service"]))
    }),
    ("`aud` is `inventory-service/`", |to| to.items(|claims| claims["aud"] = json!("inventory-service/"))),
    ("an ID token of Keycloak (`typ: ID`)", |to| to.items(|claims| claims["typ"] = json!("ID"))),
    ("a token that is bound to a DPoP key, sent as `Bearer`", |to| {
        to.items(|claims| claims["cnf"] = json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }))
    }),
    ("without the role", |to| to.items(|claims| without(claims, &["resource_access", "groups"]))),
    ("the role of another client", |to| {
        to.items(|claims| {
            claims["resource_access"] = json!({ "payment-service": { "roles": ["inventory:read"] } });
            claims["groups"] = json!(["payment-readers"]);
        })
    }),
    ("`bearer` in lower case", |to| {
        to.get("/inventory/items").header("authorization", format!("bearer {}", to.reader()))
    }),
    ("`Basic`", |to| to.get("/inventory/items").header("authorization", "Basic b3JkZXI6c2VjcmV0")),
    ("`foo Bearer TOKEN`", |to| {
        to.get("/inventory/items").header("authorization", format!("foo Bearer {}", to.reader()))
    }),
    ("two `Authorization` lines, both good", |to| to.reads("/inventory/items").bearer(to.reader())),
    ("the token in the query (`access_token`)", |to| {
        to.get(&format!("/inventory/items?access_token={}", to.reader()))
    }),
    ("a good token, and garbage in the query (`access_token`)", |to| {
        to.reads("/inventory/items?access_token=garbage")
    }),
    ("the token in a cookie", |to| {
        to.get("/inventory/items").header("cookie", format!("access_token={}", to.reader()))
    }),
    ("HEAD without a token", |to| to.request("HEAD", "/inventory/items")),
    ("POST with a good token", |to| to.request("POST", "/inventory/items").bearer(to.reader())),
    ("OPTIONS without a token", |to| to.request("OPTIONS", "/inventory/items")),
    ("the client's own `x-caller`, with a good token", |to| {
        to.reads("/inventory/items").header("x-caller", "root")
    }),
    ("`/inventory/admin` with the role of a reader", |to| to.reads("/inventory/admin")),
    ("`/inventory/admin` with its role", |to| to.get("/inventory/admin").bearer(to.admin())),
    ("a reader at `/inventory/admin/`", |to| to.reads("/inventory/admin/")),
    ("a reader at `/inventory/administrators`", |to| to.reads("/inventory/administrators")),
    ("a reader at `//inventory/admin`", |to| to.reads("//inventory/admin")),
    ("a reader at `/inventory/x/../admin`", |to| to.reads("/inventory/x/../admin")),
    ("a reader at `/inventory/%61dmin`", |to| to.reads("/inventory/%61dmin")),
    ("a reader at `/inventory%2fadmin`", |to| to.reads("/inventory%2fadmin")),
    ("a reader at `/inventory/admin;x`", |to| to.reads("/inventory/admin;x")),
    ("a reader at `/inventory/ADMIN`", |to| to.reads("/inventory/ADMIN")),
    ("a reader at `/inventory/a%2Fb`", |to| to.reads("/inventory/a%2Fb")),
    ("a reader at `/inventoryx`, which no rule is for", |to| to.reads("/inventoryx")),
    ("a reader at `/`, which no rule is for", |to| to.reads("/")),
    ("nobody at `/elsewhere`, which no rule is for", |to| to.get("/elsewhere")),
    ("nobody at `/health`", |to| to.get("/health")),
    ("a bad token at `/health`", |to| to.get("/health").bearer("garbage")),
    ("the client's own `x-caller` at `/health`", |to| to.get("/health").header("x-caller", "root")),
    ("nobody at `/healthx`", |to| to.get("/healthx")),
    ("nobody at `/health/../inventory/items`", |to| to.get("/health/../inventory/items")),
    ("nobody at `/health/%2e%2e/inventory/items`", |to| to.get("/health/%2e%2e/inventory/items")),
    ("nobody at `/health;/../inventory/items`", |to| to.get("/health;/../inventory/items")),
    ("nobody at `/inventory/items?/health`", |to| to.get("/inventory/items?/health")),
];

/// The answer; of an allowed request, also that header as the service received it.
fn describe(answer: &Response, header: &str) -> String {
    // A page has an id of the request in it.
    if answer.text().trim_start().starts_with("<!DOCTYPE html>") {
        return format!("{} a web page", answer.status);
    }
    let said = said(answer);
    if answer.status != 200 || answer.text().is_empty() {
        return said;
    }
    let arrived = crate::envoy::scene::arrived(answer, header);
    if arrived.is_empty() { said } else { format!("{said} {header}: {}", arrived.join(", ")) }
}

/// Sends each request to the native filters and to ours.
pub(super) async fn ask(native: &Target<'_>, ours: &Target<'_>, header: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, make) in REQUESTS {
        let mut answers = Vec::new();
        for target in [native, ours] {
            let answer = make(target).try_send().await;
            let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            answers.push(describe(&answer, header));
        }
        let [native, ours] = <[String; 2]>::try_from(answers).unwrap();
        rows.push(Row { request: (*name).to_owned(), native, ours });
    }
    rows
}
