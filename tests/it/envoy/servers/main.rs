//! Needs Envoy, the module and the servers of `make servers` (`make test`: three of them), and
//! takes half a minute.
//!
//! What is judged must be what runs: real servers behind a real Envoy and the filter, and requests
//! in thousands of spellings.
//!
//! The law: without a token, or with one that is too weak, no handler of `/admin`, of the host
//! `admin.example.com`, or of `DELETE` below `/items` ever runs, and no header that the filter owns
//! is read by a handler as a client has sent it; what is harmless is allowed. `make test` asks the
//! servers that start fast; `make test-servers` asks all of them, with more requests.
//!
//! - `SERVERS`: `all`, or names with commas between them.
//! - `SPELLINGS`: how many requests are made.
//! - `SPELLINGS_SEED`: the seed that they are made from.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot continue fails, and this one reports what it has done"
)]

mod law;
mod report;

use law::{Outcome, Reading};
use m2m_auth_kit::client::{self, Request};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::servers::grammar::spellings;
use m2m_auth_kit::servers::spelling::{FORGED, Spelling};
use m2m_auth_kit::servers::wire::{Protocol, Sender};
use m2m_auth_kit::servers::{Running, SERVERS, Server};
use m2m_auth_kit::token::{self, Mint};
use m2m_auth_kit::{Value, json};
use report::Report;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests the short form makes.
const SPELLINGS: usize = 600;

/// How many connections are open at a time: each has one request under way.
const CONNECTIONS: usize = 12;

/// One way of sending every spelling to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pass {
    /// `open` has no filter; `hardened` has Envoy's own options against strange paths.
    listener: &'static str,
    protocol: Protocol,
    /// Whether the requests have a token that is good for everything but what is protected.
    token: bool,
}

const PASSES: [Pass; 6] = [
    Pass { listener: "open", protocol: Protocol::Http1, token: false },
    Pass { listener: "default", protocol: Protocol::Http1, token: false },
    Pass { listener: "default", protocol: Protocol::Http2, token: false },
    Pass { listener: "default", protocol: Protocol::Http1, token: true },
    Pass { listener: "hardened", protocol: Protocol::Http1, token: false },
    Pass { listener: "hardened", protocol: Protocol::Http2, token: false },
];

/// A server, behind an Envoy with the three listeners.
struct Stage {
    idp: Idp,
    envoy: Envoy,
    _running: Running,
}

impl Stage {
    async fn start(server: Server) -> Self {
        let (idp, running) = (Idp::start().await, server.start().await);
        let service = envoy::cluster("service", running.address());
        let filter = Wasm::new(&configuration(&idp));
        let envoy = Envoy::builder()
            .cluster(envoy::cluster("keycloak", idp.address()))
            .cluster(if server.http2 { alone(envoy::http2(service)) } else { service })
            .listener(listener("open", None))
            .listener(listener("default", Some(&filter)))
            .listener(hardened(listener("hardened", Some(&filter))))
            .start()
            .await
            .unwrap();
        Self { idp, envoy, _running: running }
    }

    /// A token of those roles.
    fn token(&self, roles: &[&str]) -> String {
        let mut claims = token::claims(&self.idp.issuer());
        claims["exp"] = json!(token::now() + 3600);
        claims["resource_access"] = json!({ "inventory-service": { "roles": roles } });
        self.idp.mint_with(&Mint::of(claims))
    }

    async fn ran(&self, request: Request) -> String {
        let answer = request.send().await;
        answer.header("x-ran").unwrap_or_else(|| format!("{answer:?}"))
    }

    /// Without the filter each handler runs on every request; with it, only for allowed callers.
    async fn works(&self) {
        let url = |listener, path| self.envoy.url(listener, path);
        let admin_host = |request: Request| request.header("host", "admin.example.com");
        for (listener, token) in [("open", "none"), ("default", &self.token(&["admin"]))] {
            for (request, handler) in [
                (client::get(url(listener, "/admin")), "admin"),
                (client::get(url(listener, "/admin/users")), "admin"),
                (Request::new("DELETE", url(listener, "/items/1")), "delete"),
                (admin_host(client::get(url(listener, "/anything"))), "admin-host"),
                (client::post(url(listener, "/items/1")), "items"),
                (client::get(url(listener, "/public/a/b")), "public"),
                (client::get(url(listener, "/health")), "health"),
            ] {
                assert_eq!(self.ran(request.clone().bearer(token)).await, handler, "{listener}: {request:?}");
            }
        }
        let forged = client::get(url("open", "/health")).header("x-caller", FORGED).send().await.text();
        assert!(forged.contains(&format!("caller: {FORGED}")), "{forged}");
    }

    /// Sends every spelling, and returns what became of each.
    async fn send(&self, pass: Pass, spellings: &Arc<Vec<Spelling>>) -> Vec<Outcome> {
        let next = Arc::new(AtomicUsize::new(0));
        let token = pass.token.then(|| self.token(&["inventory:read"]));
        let work = (0..CONNECTIONS).map(|_| {
            let mut sender = Sender::new(self.envoy.address(pass.listener), pass.protocol);
            let (next, spellings, token) = (Arc::clone(&next), Arc::clone(spellings), token.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Some((index, spelling)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    spellings.get(index).map(|spelling| (index, spelling))
                } {
                    seen.push((index, Outcome::of(&sender.send(spelling, token.as_deref()).await)));
                }
                seen
            })
        });
        let work: Vec<_> = work.collect();
        let mut outcomes = Vec::new();
        for task in work {
            outcomes.extend(task.await.unwrap());
        }
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// The same cluster with one stream for each of its connections: a server that closes one because
/// of a request takes no other request with it.
fn alone(mut cluster: Value) -> Value {
    let options = cluster.pointer_mut("/typed_extension_protocol_options").and_then(Value::as_object_mut);
    for options in options.unwrap().values_mut() {
        options["explicit_http_config"]["http2_protocol_options"] = json!({ "max_concurrent_streams": 1 });
    }
    cluster
}

fn listener(name: &str, filter: Option<&Wasm>) -> Value {
    let filters = filter.map(Wasm::filter).into_iter().collect();
    let mut listener = envoy::listener(name, filters, envoy::route_to("service"));
    let manager = envoy::manager_mut(&mut listener);
    manager["access_log"] = json!([]);
    // A malformed request costs its own stream, not the connection: it is refused all the same.
    manager["http2_protocol_options"] = json!({ "override_stream_error_on_invalid_http_message": true });
    listener
}

/// With what Envoy has against strange paths.
fn hardened(mut listener: Value) -> Value {
    let manager = envoy::manager_mut(&mut listener);
    manager["normalize_path"] = json!(true);
    manager["merge_slashes"] = json!(true);
    manager["path_with_escaped_slashes_action"] = json!("REJECT_REQUEST");
    listener
}

/// The protected paths, the public ones, and a weaker requirement for everything else.
fn configuration(idp: &Idp) -> Value {
    let caller = json!({ "issuer": "keycloak", "audiences": ["inventory-service"] });
    let mut admin = caller.clone();
    admin["client_roles"] = json!({ "inventory-service": ["admin"] });
    let protected = |matches: Value| json!({ "match": matches, "require": admin, "claims_to_headers": { "x-caller": "azp" } });
    let allowed = |matches: Value| json!({ "match": matches, "allow": true });
    // One rule in this mode, so that the filter owns the decision header.
    let permissive =
        json!({ "match": { "path": "/permissive" }, "require": caller, "mode": "danger_permissive" });
    json!({
        "issuers": { "keycloak": { "issuer": idp.issuer(), "cluster": "keycloak" } },
        "inbound": { "rules": [
            protected(json!({ "host": "admin.example.com" })),
            protected(json!({ "path_prefix": "/admin" })),
            protected(json!({ "path_prefix": "/items", "methods": ["DELETE"] })),
            allowed(json!({ "path_prefix": "/items" })),
            allowed(json!({ "path": "/health" })),
            allowed(json!({ "path_prefix": "/public" })),
            permissive,
            { "require": caller },
        ] },
    })
}

fn number(variable: &str, otherwise: usize) -> usize {
    env::var(variable).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}: {text:?}, expected a number"))
    })
}

/// The servers that are asked for.
fn asked_for() -> Vec<Server> {
    let names = env::var("SERVERS").unwrap_or_default();
    match names.as_str() {
        "" => SERVERS.into_iter().filter(|server| server.fast).collect(),
        "all" => SERVERS.to_vec(),
        names => {
            let named = |name: &str| SERVERS.into_iter().find(|server| server.name == name);
            names.split(',').map(|name| named(name).unwrap_or_else(|| panic!("SERVERS: no {name}"))).collect()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_request_runs_what_its_sender_may_not() {
    let seed = number("SPELLINGS_SEED", 1);
    let spellings = Arc::new(spellings(seed.try_into().unwrap(), number("SPELLINGS", SPELLINGS)));
    let mut report = Report::new(seed, &spellings);
    for server in asked_for() {
        let stage = Stage::start(server).await;
        stage.works().await;
        for pass in PASSES {
            let outcomes = stage.send(pass, &spellings).await;
            report.add(server, pass, &outcomes);
        }
        println!("{}", report.line(server));
    }
    report.finish();
}

#[test]
fn a_handler_that_ran_and_a_header_that_it_read_are_seen() {
    let body = format!("ran: health\nmethod: GET\ncaller: \ndecision: \nheader: X.Caller: {FORGED}\n");
    let outcome = |ran: &str, body: &str| Outcome::Ran(Reading::of(ran, body));
    assert_eq!(
        outcome("health", &body).breach(),
        Some("a forged header that CGI reads as HTTP_X_CALLER".to_owned())
    );
    assert_eq!(outcome("health", &body.replace("X.Caller", "X-Callers")).breach(), None);
    assert_eq!(outcome("health", &body.replace(FORGED, "order-service")).breach(), None);
    let read = body.replace("caller: ", &format!("caller: {FORGED}"));
    assert_eq!(
        outcome("health", &read).breach(),
        Some("a forged x-caller, which the handler reads".to_owned())
    );
    for ran in ["admin", "admin-host", "delete"] {
        assert_eq!(outcome(ran, "").breach(), Some(format!("the handler {ran}")));
    }
    assert_eq!(Outcome::Refused("no_token".to_owned()).breach(), None);
}
