//! Attacks that worked on others, one regression each; they run against the whole plugin, events in and effects out.
//!
//! Each test names the advisory or the RFC clause that it is about, and has a control: beside what must be refused
//! stands something alike that must get through, so that no test passes because nothing works. What nobody has
//! thought of yet is [`random`]'s.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: failing loudly at once is how they report"
)]

mod random;

use crate::vectors::Host;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use m2m_auth::edits::Edit;
use m2m_auth::io::{Call, Head, Instant, Now, Reply, RequestId};
use m2m_auth::jwk;
use m2m_auth::plugin::{Effect, Plugin, Step};
use m2m_auth::policy::Policy;
use m2m_auth::signature::{Compact, Verify};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{self, Mint};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// When every world begins, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// One plugin, its clock, and the web around it.
struct World {
    plugin: Plugin,
    /// How long the world has existed.
    age: Duration,
    /// What is served, by authority and path; everything else cannot be reached.
    web: BTreeMap<String, Reply>,
    asked: Vec<Call>,
    logs: Vec<String>,
    settled: BTreeMap<RequestId, Step>,
    requests: u32,
}

impl World {
    fn new(configuration: &Value) -> Self {
        Self::verifying_by(Box::new(Compact), configuration)
    }

    fn verifying_by(verifier: Box<dyn Verify>, configuration: &Value) -> Self {
        let environment = |name: &str| (name == "SECRET").then(|| "hush-secret".to_owned());
        let policy = Policy::read(configuration.to_string().as_bytes(), &environment);
        let plugin = Plugin::new(policy.unwrap(), verifier, 1);
        let (web, settled) = (BTreeMap::new(), BTreeMap::new());
        Self {
            plugin,
            age: Duration::ZERO,
            web,
            asked: Vec::new(),
            logs: Vec::new(),
            settled,
            requests: 0,
        }
    }

    /// A world with one provider, whose keys have been fetched a while ago.
    fn with_keys(keys: &[Value]) -> Self {
        let mut world = Self::new(&one_rule());
        world.provider("idp.example.com", keys);
        world.pass(10);
        world
    }

    fn now(&self) -> Now {
        // The monotonic clock has an origin of its own.
        let instant = Instant(Duration::from_secs(1000) + self.age);
        Now {
            instant,
            unix: NOW + self.age.as_secs(),
        }
    }

    /// Serves a provider's metadata, and its keys.
    fn provider(&mut self, host: &str, keys: &[Value]) {
        let metadata = json!({
            "issuer": format!("https://{host}"),
            "jwks_uri": format!("https://{host}/keys"),
            "token_endpoint": format!("https://{host}/token"),
        });
        self.serve(&metadata_of(host), metadata.to_string());
        self.serve(&format!("{host}/keys"), json!({ "keys": keys }).to_string());
    }

    fn serve(&mut self, place: &str, body: impl Into<Vec<u8>>) {
        let reply = Reply {
            status: Some(200),
            body: Some(body.into()),
            ..Reply::default()
        };
        self.web.insert(place.to_owned(), reply);
    }

    /// Makes the calls that are due and drains every effect.
    fn run(&mut self) {
        self.plugin.tick(self.now());
        while let Some(effect) = self.plugin.poll() {
            match effect {
                Effect::Call(ticket, call) => {
                    let place = format!("{}{}", call.endpoint.authority, call.endpoint.path);
                    self.asked.push(call);
                    let nobody = Reply {
                        note: "connection refused",
                        ..Reply::default()
                    };
                    let reply = self.web.get(&place).cloned().unwrap_or(nobody);
                    self.plugin.reply(ticket, &reply, self.now());
                    self.plugin.tick(self.now());
                }
                Effect::Settle(id, step) => drop(self.settled.insert(id, step)),
                Effect::Log(_, line) => self.logs.push(line),
            }
        }
    }

    /// Lets time pass, with everything that is due on the way.
    fn pass(&mut self, seconds: u64) {
        let end = self.age + Duration::from_secs(seconds);
        self.run();
        while let Some(due) = self.next_due().filter(|due| *due < end) {
            self.age = due;
            self.run();
        }
        self.age = end;
        self.run();
    }

    /// When something is due next, at least a millisecond from now.
    fn next_due(&self) -> Option<Duration> {
        let due = self.plugin.deadline(self.now())?;
        Some(self.age + due.since(self.now().instant).max(Duration::from_millis(1)))
    }

    /// A request, and its end, however long that takes.
    fn ask(&mut self, head: Head) -> End {
        let (id, step) = self.begin(head);
        match step {
            Step::Wait => self.end_of(id),
            step => End::of(&step),
        }
    }

    fn begin(&mut self, head: Head) -> (RequestId, Step) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let step = self.plugin.request(id, head, self.now());
        (id, step)
    }

    fn end_of(&mut self, id: RequestId) -> End {
        for _ in 0..100 {
            self.run();
            if let Some(step) = self.settled.remove(&id) {
                return End::of(&step);
            }
            self.age = self.next_due().unwrap();
        }
        panic!("the request still waits")
    }

    fn get(&mut self, path: &str, token: &str) -> End {
        self.ask(head(path, &[("authorization", &format!("Bearer {token}"))]))
    }

    /// Every host that was called.
    fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = self
            .asked
            .iter()
            .map(|call| call.endpoint.authority.as_str())
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    fn has_logged(&self, text: &str) -> bool {
        self.logs.iter().any(|line| line.contains(text))
    }
}

/// How a request ended: its status, 200 for one that was forwarded, and the reason of its refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    status: u16,
    reason: String,
}

impl End {
    fn of(step: &Step) -> Self {
        match step {
            Step::Forward(_) => Self {
                status: 200,
                reason: String::new(),
            },
            Step::Wait => panic!("not an end"),
            Step::Answer(response) => {
                let body: Value = serde_json::from_str(&response.body).unwrap();
                Self {
                    status: response.status,
                    reason: body["reason"].as_str().unwrap().to_owned(),
                }
            }
        }
    }

    fn refused(status: u16, reason: &str) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
        }
    }

    fn is_forwarded(&self) -> bool {
        self.status == 200
    }
}

fn head(path: &str, more: &[(&str, &str)]) -> Head {
    let pseudo = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "orders"),
        (":path", path),
    ];
    pseudo.into_iter().chain(more.iter().copied()).collect()
}

fn metadata_of(host: &str) -> String {
    format!("{host}/.well-known/openid-configuration")
}

fn require(issuer: &str) -> Value {
    json!({ "issuer": issuer, "audiences": ["orders"] })
}

/// One issuer, found by discovery; every request needs a token of it.
fn one_rule() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": [{ "require": require("idp") }] },
    })
}

/// [`one_rule`], with something more asked of the caller.
fn one_rule_with(member: &str, value: Value) -> Value {
    let mut configuration = one_rule();
    configuration["inbound"]["rules"][0]["require"][member] = value;
    configuration
}

fn claims() -> Value {
    json!({ "iss": "https://idp.example.com", "aud": "orders", "sub": "s", "exp": NOW + 3600, "iat": NOW, "typ": "Bearer" })
}

fn with(mut value: Value, member: &str, to: Value) -> Value {
    value[member] = to;
    value
}

fn key(kid: &str) -> Key {
    Key::new(Alg::EdDsa).with_kid(kid)
}

fn good_token(key: &Key) -> String {
    Mint::of(claims()).sign(key)
}

/// CVE-2026-31837 (Istio): a key set that could not be fetched was replaced by a built-in one, whose private key was public.
#[test]
fn without_the_providers_keys_nobody_gets_in() {
    let key = key("k");
    let bodies = [
        "",
        "<html></html>",
        "[]",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":[{"kty":"oct","k":""}]}"#,
    ];
    let replies = bodies.map(|body| Reply {
        status: Some(200),
        body: Some(body.into()),
        ..Reply::default()
    });
    let statuses = [302, 401, 404, 500, 503].map(|status| Reply {
        status: Some(status),
        ..Reply::default()
    });
    for reply in replies.into_iter().chain(statuses).chain([Reply::default()]) {
        let mut world = World::new(&one_rule());
        world.provider("idp.example.com", &[key.jwk()]);
        let good = world
            .web
            .insert("idp.example.com/keys".to_owned(), reply.clone())
            .unwrap();
        for token in [
            good_token(&key),
            Mint::of(claims()).without_header("kid").sign(&key),
            Mint::of(claims()).header("jwk", key.bare_jwk()).sign(&key),
        ] {
            assert_eq!(world.get("/", &token), End::refused(503, "no_keys"), "{reply:?}");
        }
        for token in [
            Mint::of(claims()).unsigned().sign(&key),
            Mint::of(claims()).secret("").sign(&key),
        ] {
            assert_eq!(world.get("/", &token).status, 401, "{reply:?}");
        }
        world.web.insert("idp.example.com/keys".to_owned(), good);
        world.pass(600);
        assert!(world.get("/", &good_token(&key)).is_forwarded(), "{reply:?}");
    }
}

/// CVE-2026-41413 (Istio), RFC 8414 section 3.3: discovery named an address inside the network, and its answer was shown.
#[test]
fn discovery_cannot_send_us_to_another_host() {
    let key = key("k");
    for evil in [
        "https://evil.example.net/keys",
        "https://169.254.169.254/latest/meta-data/",
        "https://idp.example.com.evil.example.net/keys",
        "https://idp.example.com@evil.example.net/keys",
        "https://evil.example.net\\@idp.example.com/keys",
        "https://evil.example.net#@idp.example.com/keys",
        "https://idp.example.com:444/keys",
        "http://idp.example.com/keys",
        "//evil.example.net/keys",
        "file:///etc/passwd",
        "https://idp.example.com/keys\r\nhost: evil.example.net",
    ] {
        let mut world = World::new(&one_rule());
        let metadata = json!({ "issuer": "https://idp.example.com", "jwks_uri": evil });
        world.serve(&metadata_of("idp.example.com"), metadata.to_string());
        for place in [
            "evil.example.net/keys",
            "idp.example.com/keys",
            "idp.example.com:444/keys",
        ] {
            world.serve(place, json!({ "keys": [key.jwk()] }).to_string());
        }
        assert_eq!(
            world.get("/", &good_token(&key)),
            End::refused(503, "no_keys"),
            "{evil}"
        );
        world.pass(600);
        assert!(
            world
                .asked
                .iter()
                .all(|call| call.endpoint.path.contains("/.well-known/")),
            "{evil}: {:?}",
            world.asked
        );
        assert_eq!(world.hosts(), ["idp.example.com"], "{evil}");
        assert!(
            !world.has_logged("evil.example.net") && !world.has_logged("169.254"),
            "{evil}: {:?}",
            world.logs
        );
    }
}

/// The same, for the endpoint that is sent a secret.
#[test]
fn discovery_cannot_send_our_secret_to_another_host() {
    let configuration = json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "outbound": {
            "credentials": { "me": { "issuer": "idp", "client_id": "me", "client_secret": { "env": "SECRET" } } },
            "rules": [{ "credential": "me" }],
        },
    });
    let answer = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 300 }).to_string();
    for (endpoint, status) in [
        ("https://evil.example.net/token", 503),
        ("https://idp.example.com/token", 200),
    ] {
        let mut world = World::new(&configuration);
        let metadata = json!({ "issuer": "https://idp.example.com", "token_endpoint": endpoint });
        world.serve(&metadata_of("idp.example.com"), metadata.to_string());
        world.serve("evil.example.net/token", answer.clone());
        world.serve("idp.example.com/token", answer.clone());
        assert_eq!(world.ask(head("/", &[])).status, status, "{endpoint}");
        assert_eq!(world.hosts(), ["idp.example.com"], "{endpoint}");
    }
}

/// RFC 8414 section 3.3: the metadata of another issuer, on the same host, is not the issuer's.
#[test]
fn the_metadata_of_another_issuer_is_not_believed() {
    let key = key("k");
    for issuer in [
        json!("https://idp.example.com/"),
        json!("https://evil.example.net"),
        json!(["https://idp.example.com"]),
        json!(null),
    ] {
        let mut world = World::new(&one_rule());
        world.provider("idp.example.com", &[key.jwk()]);
        let metadata = json!({ "issuer": issuer, "jwks_uri": "https://idp.example.com/keys" });
        world.serve(&metadata_of("idp.example.com"), metadata.to_string());
        assert_eq!(
            world.get("/", &good_token(&key)),
            End::refused(503, "no_keys"),
            "{issuer}"
        );
    }
}

/// CVE-2026-41413, its second half: whatever a tampered address answered could be read in Istio's debug output.
#[test]
fn an_answer_that_is_no_key_set_is_refused_and_never_repeated() {
    let key = key("k");
    for body in [
        "hush",
        "<html>hush</html>",
        r#"{"hush":"hush"}"#,
        r#"{"hush":1,"hush":2}"#,
        r#"{"keys":"hush"}"#,
        r#"{"keys":["hush"]}"#,
        r#"{"keys":[{"kty":"hush","kid":"hush","alg":"hush","use":"hush"}]}"#,
        r#"{"keys":[{"kty":"RSA","n":"hush","e":"hush"}]}"#,
        "\u{0}hush",
    ] {
        for place in [metadata_of("idp.example.com"), "idp.example.com/keys".to_owned()] {
            let mut world = World::new(&one_rule());
            world.provider("idp.example.com", &[key.jwk()]);
            world.serve(&place, body);
            let (id, step) = world.begin(head(
                "/",
                &[("authorization", &format!("Bearer {}", good_token(&key)))],
            ));
            assert_eq!(step, Step::Wait);
            world.pass(60);
            let Some(Step::Answer(response)) = world.settled.remove(&id) else {
                panic!("{place} {body}")
            };
            assert_eq!(response.status, 503, "{place} {body}");
            assert!(!format!("{response:?}").contains("hush"), "{response:?}");
            assert!(
                !world.logs.is_empty() && !world.has_logged("hush"),
                "{place} {body}: {:?}",
                world.logs
            );
        }
    }
}

/// CVE-2025-64527 (Envoy): two tokens while the keys could not be fetched ended the process.
#[test]
fn two_tokens_while_the_keys_cannot_be_fetched_are_one_bad_request() {
    let key = key("k");
    let mut world = World::new(&one_rule());
    let (first, second) = (
        format!("Bearer {}", good_token(&key)),
        format!("Bearer {}", good_token(&key)),
    );
    let twice = head("/", &[("authorization", &first), ("authorization", &second)]);
    let (waiting, step) = world.begin(head("/", &[("authorization", &first)]));
    assert_eq!(step, Step::Wait);
    assert_eq!(world.ask(twice.clone()), End::refused(400, "several_tokens"));
    world.pass(60);
    assert_eq!(End::of(&world.settled[&waiting]), End::refused(503, "no_keys"));
    assert_eq!(world.ask(twice.clone()), End::refused(400, "several_tokens"));
    world.provider("idp.example.com", &[key.jwk()]);
    world.pass(600);
    assert_eq!(world.ask(twice), End::refused(400, "several_tokens"));
    assert!(world.get("/", &good_token(&key)).is_forwarded());
}

/// CVE-2024-45809 (Envoy): the answer to a fetch met a request that was no longer there.
#[test]
fn a_request_that_hung_up_while_it_waited_is_not_touched_again() {
    let key = key("k");
    let mut world = World::new(&one_rule());
    world.provider("idp.example.com", &[key.jwk()]);
    let bearer = format!("Bearer {}", good_token(&key));
    let (gone, _) = world.begin(head("/", &[("authorization", &bearer)]));
    let (patient, _) = world.begin(head("/", &[("authorization", &bearer)]));
    world.plugin.forget(gone);
    world.pass(60);
    assert!(End::of(&world.settled[&patient]).is_forwarded());
    assert!(!world.settled.contains_key(&gone));
}

/// CVE-2023-27487 (Envoy): a header that only the proxy should set decided about paths.
#[test]
fn headers_that_tell_of_another_request_are_not_believed() {
    let mut world = World::new(&admin_and_public());
    for name in [
        "x-envoy-original-path",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
        "path",
        "x-http-method-override",
    ] {
        assert_eq!(
            world.ask(head("/admin", &[(name, "/public")])),
            End::refused(401, "no_token"),
            "{name}"
        );
        assert!(
            world.ask(head("/public", &[(name, "/admin")])).is_forwarded(),
            "{name}"
        );
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

/// CVE-2020-8595 (Istio) and its many relatives: another spelling of a path that the service reads as the same.
#[test]
fn no_spelling_of_a_path_slips_past_its_rule() {
    let mut world = World::new(&admin_and_public());
    for path in [
        "/admin",
        "/admin/",
        "/admin?x",
        "/admin#x",
        "/admin?/../public",
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
    ] {
        assert_eq!(
            world.ask(head(path, &[])),
            End::refused(401, "no_token"),
            "{path}"
        );
    }
    for path in [
        "",
        "*",
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
        "/admin%",
        "/admin%2",
        "/admin%zz",
        "/\tadmin",
        "/admin%0d%0a",
        "/ad\u{7f}min",
    ] {
        assert_eq!(
            world.ask(head(path, &[])),
            End::refused(400, "ambiguous_path"),
            "{path:?}"
        );
    }
    assert_eq!(
        world
            .ask(
                [(":method", "GET"), (":authority", "orders")]
                    .into_iter()
                    .collect()
            )
            .status,
        400,
        "no path"
    );
    for path in [
        "/",
        "/public",
        "/administrator",
        "/public/admin",
        "/public?next=/admin",
        "/x/../public",
        "/admin/../public",
    ] {
        assert!(world.ask(head(path, &[])).is_forwarded(), "{path}");
    }
}

/// Headers that tell the service who calls are ours alone, on every rule and however the client spells the path.
#[test]
fn a_client_cannot_tell_the_service_who_it_is() {
    let mut configuration = admin_and_public();
    configuration["inbound"]["rules"][0]["claims_to_headers"] = json!({ "X-Caller": "sub" });
    let mut world = World::new(&configuration);
    for path in ["/public", "/", "//public", "/admin/../public"] {
        let (_, step) = world.begin(head(path, &[("x-caller", "admin"), ("x-caller", "root")]));
        let Step::Forward(edits) = step else {
            panic!("{path}")
        };
        assert_eq!(edits.headers, [Edit::Remove("x-caller".into())], "{path}");
    }
}

/// Two issuers that say the same of themselves, with different keys of the same name: nothing but the key tells them apart.
fn twins() -> (Value, Key, Key) {
    let (ours, theirs) = (key("k"), key("k"));
    let issuer = |key: &Key| json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] } });
    let rule =
        |path: &str, issuer: &str| json!({ "match": { "path_prefix": path }, "require": require(issuer) });
    let configuration = json!({
        "issuers": { "ours": issuer(&ours), "theirs": issuer(&theirs) },
        "inbound": { "rules": [rule("/ours", "ours"), rule("/theirs", "theirs")] },
    });
    (configuration, ours, theirs)
}

/// CVE-2026-49998 (Centrifugo), CVE-2026-50202 (Steeltoe), CVE-2025-59936 (get-jwks): keys were cached by `kid` alone.
/// RFC 8725 section 3.8: the key must belong to the issuer.
#[test]
fn a_key_of_one_issuer_verifies_nothing_for_another() {
    let (configuration, ours, theirs) = twins();
    for order in [["/ours", "/theirs"], ["/theirs", "/ours"]] {
        let mut world = World::new(&configuration);
        for path in order {
            let (own, other) = if path == "/ours" {
                (&ours, &theirs)
            } else {
                (&theirs, &ours)
            };
            assert_eq!(
                world.get(path, &good_token(other)),
                End::refused(401, "signature"),
                "{path}"
            );
            assert!(world.get(path, &good_token(own)).is_forwarded(), "{path}");
        }
    }
}

/// The same for tokens that were verified before.
#[test]
fn a_token_known_to_one_issuer_is_not_known_to_another() {
    let (configuration, ours, _) = twins();
    let mut world = World::new(&configuration);
    let token = good_token(&ours);
    for _ in 0..3 {
        assert!(world.get("/ours", &token).is_forwarded());
        assert_eq!(world.get("/theirs", &token), End::refused(401, "signature"));
    }
    assert_eq!(
        world.count("m2m_auth_verified.lookup.hit"),
        2,
        "two of three came from the cache"
    );
}

/// The same for fetches: whoever waits for the keys of one issuer does not get those of another.
#[test]
fn keys_of_one_name_are_fetched_from_each_issuer() {
    let (ours, theirs) = (key("k"), key("k"));
    let issuer = |host: &str| json!({ "issuer": format!("https://{host}"), "cluster": host });
    let rule =
        |path: &str, issuer: &str| json!({ "match": { "path_prefix": path }, "require": require(issuer) });
    let mut world = World::new(&json!({
        "issuers": { "ours": issuer("ours.example"), "theirs": issuer("theirs.example") },
        "inbound": { "rules": [rule("/ours", "ours"), rule("/theirs", "theirs")] },
    }));
    world.provider("ours.example", &[ours.jwk()]);
    world.provider("theirs.example", &[theirs.jwk()]);
    let mut begin = |path: &str, key: &Key, issuer: &str| {
        let token = Mint::of(with(claims(), "iss", json!(issuer))).sign(key);
        let (id, step) = world.begin(head(path, &[("authorization", &format!("Bearer {token}"))]));
        assert_eq!(step, Step::Wait);
        id
    };
    let good = [
        begin("/ours", &ours, "https://ours.example"),
        begin("/theirs", &theirs, "https://theirs.example"),
    ];
    let forged = [
        begin("/ours", &theirs, "https://ours.example"),
        begin("/theirs", &ours, "https://theirs.example"),
    ];
    let crossed = [
        begin("/ours", &theirs, "https://theirs.example"),
        begin("/theirs", &ours, "https://ours.example"),
    ];
    world.run();
    assert!(good.iter().all(|id| End::of(&world.settled[id]).is_forwarded()));
    for id in forged.iter().chain(&crossed) {
        assert_eq!(End::of(&world.settled[id]), End::refused(401, "signature"));
    }
    assert_eq!(world.asked.len(), 4, "metadata and keys, once each");
    let clusters = world
        .asked
        .iter()
        .all(|call| call.endpoint.cluster == call.endpoint.authority);
    assert!(clusters, "each issuer is reached through its own cluster");
}

/// What is not known at one issuer may be known at another.
#[test]
fn a_key_that_one_issuer_does_not_know_may_be_known_to_another() {
    let (ours, theirs) = (key("a"), key("b"));
    let issuer = |host: &str| json!({ "issuer": "https://idp.example.com", "cluster": host, "jwks_uri": format!("https://{host}/keys") });
    let rule =
        |path: &str, issuer: &str| json!({ "match": { "path_prefix": path }, "require": require(issuer) });
    let mut world = World::new(&json!({
        "issuers": { "ours": issuer("ours.example"), "theirs": issuer("theirs.example") },
        "inbound": { "rules": [rule("/ours", "ours"), rule("/theirs", "theirs")] },
    }));
    world.provider("ours.example", &[ours.jwk()]);
    world.provider("theirs.example", &[theirs.jwk()]);
    world.pass(10);
    for _ in 0..2 {
        assert_eq!(world.get("/ours", &good_token(&theirs)), End::refused(401, "key"));
        assert!(world.get("/theirs", &good_token(&theirs)).is_forwarded());
    }
}

/// CVE-2026-89313 (gose): a key that is not in the set was answered with the last one that is.
#[test]
fn an_unknown_kid_is_no_key_at_all() {
    let (known, other) = (key("k"), key("other"));
    let inline = json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [known.jwk()] } });
    let mut fixed = one_rule();
    fixed["issuers"]["idp"] = inline;
    for mut world in [World::new(&fixed), World::with_keys(&[known.jwk()])] {
        for kid in ["other", "", "K", "k ", "k\u{0}", "../k", "' OR 1=1 --"] {
            // Even with the right key, a wrong name for it is a wrong name.
            for key in [&known, &other] {
                assert_eq!(
                    world.get("/", &Mint::of(claims()).kid(kid).sign(key)),
                    End::refused(401, "key"),
                    "{kid:?}"
                );
            }
        }
        for kid in [
            json!(1),
            json!(null),
            json!(["k"]),
            json!({ "k": "k" }),
            json!("k".repeat(1000)),
        ] {
            let token = Mint::of(claims()).header("kid", kid.clone()).sign(&known);
            assert_eq!(world.get("/", &token), End::refused(401, "malformed"), "{kid}");
        }
        assert!(world.get("/", &good_token(&known)).is_forwarded());
    }
}

/// The keys were fetched because this request asked for them: that its key is not among them is known then.
#[test]
fn an_unknown_kid_is_told_by_the_keys_that_were_fetched_for_it() {
    let known = key("k");
    let mut world = World::new(&one_rule());
    world.provider("idp.example.com", &[known.jwk()]);
    assert_eq!(
        world.get("/", &Mint::of(claims()).kid("other").sign(&known)),
        End::refused(401, "key")
    );
    assert!(world.get("/", &good_token(&known)).is_forwarded());
}

/// CVE-2026-35039 (fast-jwt): two tokens shared a place in the cache.
#[test]
fn a_signature_that_was_good_once_opens_nothing_else() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let token = good_token(&key);
    assert!(world.get("/", &token).is_forwarded());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (_, claims) = token::decode(&token);
    for forged in [
        format!(
            "{header}.{}.{signature}",
            encode(&with(claims.clone(), "sub", json!("root")))
        ),
        format!(
            "{header}.{}.{signature}",
            encode(&with(claims, "exp", json!(NOW + 1_000_000)))
        ),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({ "alg": "EdDSA", "kid": "k" }))
        ),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({ "alg": "none", "kid": "k" }))
        ),
        format!("{payload}.{header}.{signature}"),
        format!("{header}{payload}.{signature}"),
        format!("{header}.{payload}.{payload}.{signature}"),
        format!("x{token}"),
        format!("{token}x"),
        format!("{token}="),
        format!("{token},{token}"),
        format!("{token} {token}"),
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        token.to_uppercase(),
    ] {
        assert_eq!(world.get("/", &forged).status, 401, "{forged}");
    }
    assert!(world.get("/", &token).is_forwarded());
    assert_eq!(world.count("m2m_auth_verified.lookup.hit"), 1);
}

/// GHSA-x937-hj6v-793p (fast-jwt): a token without `iat` stayed in the cache beyond its `exp`.
#[test]
fn a_known_token_ends_with_its_exp_whatever_else_it_says() {
    let key = key("k");
    let bare = json!({ "iss": "https://idp.example.com", "aud": "orders", "exp": NOW + 300 });
    let fraction = with(claims(), "exp", json!(300.9 + 1_800_000_000.0));
    for claims in [bare, fraction, with(claims(), "exp", json!(NOW + 300))] {
        let mut world = World::with_keys(&[key.jwk()]);
        let token = Mint::of(claims.clone()).sign(&key);
        world.pass(5);
        assert!(world.get("/", &token).is_forwarded(), "{claims}");
        // The clocks may differ by a minute (RFC 7519 section 4.1.4), and not by a second more.
        world.pass(NOW + 359 - world.now().unix);
        assert!(world.get("/", &token).is_forwarded(), "{claims}");
        assert_eq!(world.count("m2m_auth_verified.lookup.hit"), 1, "{claims}");
        world.pass(1);
        assert_eq!(world.get("/", &token), End::refused(401, "expired"), "{claims}");
    }
}

/// A token that was verified is believed for the sake of its key: once the provider withdraws that, it is not.
#[test]
fn a_withdrawn_key_takes_its_known_tokens_along() {
    let (old, new) = (key("old"), key("new"));
    let mut world = World::with_keys(&[old.jwk(), new.jwk()]);
    let tokens = [good_token(&old), good_token(&new)];
    for _ in 0..2 {
        assert!(tokens.iter().all(|token| world.get("/", token).is_forwarded()));
    }
    assert_eq!(world.count("m2m_auth_verified.lookup.hit"), 2);
    world.provider("idp.example.com", &[new.jwk()]);
    world.pass(301);
    assert_eq!(world.get("/", &tokens[0]), End::refused(401, "key"));
    assert!(world.get("/", &tokens[1]).is_forwarded());
    // The same name with another key behind it is another key.
    world.provider("idp.example.com", &[key("new").jwk()]);
    world.pass(301);
    assert_eq!(world.get("/", &tokens[1]), End::refused(401, "signature"));
}

/// "Keys never expire", the other half of CVE-2026-49998.
#[test]
fn keys_that_cannot_be_renewed_end_and_take_known_tokens_along() {
    let key = key("k");
    let mut configuration = one_rule();
    configuration["issuers"]["idp"]["max_stale"] = json!("20m");
    let mut world = World::new(&configuration);
    world.provider("idp.example.com", &[key.jwk()]);
    let token = Mint::of(with(claims(), "exp", json!(NOW + 100_000))).sign(&key);
    assert!(world.get("/", &token).is_forwarded());
    let web = std::mem::take(&mut world.web);
    world.pass(1199);
    assert!(
        world.get("/", &token).is_forwarded(),
        "an outage shorter than max_stale harms nobody"
    );
    world.pass(1);
    assert_eq!(world.get("/", &token), End::refused(503, "no_keys"));
    world.web = web;
    world.pass(600);
    assert!(world.get("/", &token).is_forwarded());
}

/// GHSA-8wpc-h4q6-8fxv (fast-jwt): an empty key meant that nothing was checked.
#[test]
fn an_empty_key_verifies_nothing() {
    let key = key("k");
    let empty = [
        json!([]),
        json!([{ "kty": "oct", "k": "", "kid": "k" }]),
        json!([{ "kty": "oct", "k": "", "kid": "k", "alg": "HS256", "use": "sig" }]),
        json!([{ "kty": "RSA", "n": "", "e": "", "kid": "k" }]),
        json!([{ "kty": "RSA", "n": "AA", "e": "AQAB", "kid": "k" }]),
        json!([{ "kty": "EC", "crv": "P-256", "x": "", "y": "", "kid": "k" }]),
        json!([{ "kty": "OKP", "crv": "Ed25519", "x": "", "kid": "k" }]),
        json!([{}]),
        json!([null]),
    ];
    for keys in empty {
        let mut inline = one_rule();
        inline["issuers"]["idp"] = json!({ "issuer": "https://idp.example.com", "jwks": { "keys": keys } });
        let mistakes = Policy::read(inline.to_string().as_bytes(), &|_| None).unwrap_err();
        assert!(
            mistakes[0].to_string().starts_with("issuers.idp.jwks: "),
            "{mistakes:?}"
        );
        // Beside a good key, it is as if it were not there.
        for good in [false, true] {
            let mut served = keys.as_array().unwrap().clone();
            served.extend(good.then(|| Key::new(Alg::Es256).with_kid("good").jwk()));
            let mut world = World::with_keys(&served);
            for token in [
                good_token(&key),
                Mint::of(claims()).secret("").kid("k").sign(&key),
                Mint::of(claims()).unsigned().kid("k").sign(&key),
                Mint::of(claims()).unsigned().alg("EdDSA").kid("k").sign(&key),
            ] {
                assert!(
                    [401, 503].contains(&world.get("/", &token).status),
                    "{served:?} {token}"
                );
            }
        }
    }
    // Zeros have the right length: these are keys, of which no signature is good.
    let zeros = URL_SAFE_NO_PAD.encode([0; 32]);
    let (ed, ec) = (
        json!({ "kty": "OKP", "crv": "Ed25519", "x": zeros }),
        json!({ "kty": "EC", "crv": "P-256", "x": zeros, "y": zeros }),
    );
    for (jwk, alg) in [(ed, "EdDSA"), (ec, "ES256")] {
        for signature in [[0; 64], [1; 64]] {
            for verifier in [Box::new(Compact) as Box<dyn Verify>, Box::new(Host)] {
                let mut fixed = one_rule();
                fixed["issuers"]["idp"] =
                    json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [jwk] } });
                let mut world = World::verifying_by(verifier, &fixed);
                let parts =
                    [json!({ "alg": alg }), claims()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
                let token = format!("{}.{}", parts.join("."), URL_SAFE_NO_PAD.encode(signature));
                assert_eq!(world.get("/", &token), End::refused(401, "signature"), "{jwk}");
            }
        }
    }
}

/// CVE-2026-22817 and -22818 (Hono): a key without `alg` was used with whatever the header said. RFC 8725 section 3.1.
#[test]
fn the_header_chooses_among_allowed_algorithms_that_fit_its_key() {
    let [rs, ps, es] = [Alg::Rs256, Alg::Ps256, Alg::Es256].map(|alg| Key::new(alg).with_kid("k"));
    let try_it = |jwk: &Value, algorithms: &Value, key: &Key, header: &str| {
        let mut configuration = one_rule();
        let jwks = json!({ "keys": [with(jwk.clone(), "kid", json!("k"))] });
        configuration["issuers"]["idp"] =
            json!({ "issuer": "https://idp.example.com", "jwks": jwks, "algorithms": algorithms });
        World::new(&configuration).get("/", &Mint::of(claims()).alg(header).sign(key))
    };
    let refused = End::refused(401, "algorithm");
    for (key, own) in [(&rs, "RS256"), (&ps, "PS256"), (&es, "ES256")] {
        let bare = key.bare_jwk();
        assert!(
            try_it(&bare, &json!([]), key, own).is_forwarded(),
            "{own}: every asymmetric algorithm is the default"
        );
        assert!(try_it(&bare, &json!([own]), key, own).is_forwarded(), "{own}");
        assert_eq!(
            try_it(&bare, &json!(["EdDSA"]), key, own),
            refused,
            "{own} is not on the list"
        );
        assert_eq!(
            try_it(&with(bare.clone(), "alg", json!("RS512")), &json!([]), key, own).status,
            401,
            "{own}"
        );
        for header in [
            "HS256", "HS384", "HS512", "none", "None", "NONE", "", "dir", "ES256K", "ES521", "RS1", "rs256",
            " RS256",
        ] {
            assert_eq!(
                try_it(&bare, &json!([]), key, header),
                refused,
                "{own} as {header}"
            );
        }
    }
    assert_eq!(
        try_it(&rs.bare_jwk(), &json!(["ES256", "RS256"]), &rs, "ES256"),
        refused,
        "of another kind"
    );
    assert_eq!(
        try_it(&es.bare_jwk(), &json!(["ES256", "RS256"]), &es, "RS256"),
        refused,
        "of another kind"
    );
    assert_eq!(
        try_it(&es.bare_jwk(), &json!([]), &es, "ES384"),
        refused,
        "of another curve"
    );
    // RFC 7517 section 4.4: a key for RS256 is for nothing else, though its numbers would do.
    assert_eq!(
        try_it(
            &with(ps.bare_jwk(), "alg", json!("RS256")),
            &json!([]),
            &ps,
            "PS256"
        ),
        refused
    );
    for name in ["HS256", "none", "RS1", "*", ""] {
        let mut configuration = one_rule();
        configuration["issuers"]["idp"]["algorithms"] = json!([name]);
        assert!(
            Policy::read(configuration.to_string().as_bytes(), &|_| None).is_err(),
            "{name} cannot be allowed"
        );
    }
}

/// CVE-2026-48526 (PyJWT), RFC 8725 section 2.1: what everybody may know was taken for a shared secret.
#[test]
fn a_public_key_is_no_shared_secret() {
    for alg in [Alg::Rs256, Alg::Es256, Alg::EdDsa] {
        let key = Key::new(alg).with_kid("k");
        let jwk = key.jwk();
        let set = json!({ "keys": [jwk] });
        let keys = jwk::parse(set.to_string().as_bytes()).unwrap().keys;
        let algorithm = jwk::Algorithm::from_name(alg.name()).unwrap();
        let der = keys
            .candidates(Some("k"), algorithm)
            .next()
            .unwrap()
            .spki()
            .to_vec();
        let member = |name: &str| {
            jwk[name]
                .as_str()
                .map(|text| URL_SAFE_NO_PAD.decode(text).unwrap())
                .unwrap_or_default()
        };
        let mut secrets = vec![
            der.clone(),
            STANDARD.encode(&der).into(),
            set.to_string().into(),
            jwk.to_string().into(),
        ];
        secrets.extend([
            key.bare_jwk().to_string().into(),
            serde_json::to_vec_pretty(&jwk).unwrap(),
        ]);
        secrets.extend(pems(&der));
        secrets.extend(["n", "e", "x", "y"].map(member));
        secrets.extend(["n", "x"].map(|name| jwk[name].as_str().unwrap_or_default().into()));
        let mut world = World::with_keys(std::slice::from_ref(&jwk));
        for secret in secrets {
            for token in [
                Mint::of(claims()).secret(secret.clone()).sign(&key),
                Mint::of(claims()).secret(secret.clone()).kid("k").sign(&key),
                Mint::of(claims())
                    .secret(secret.clone())
                    .kid("k")
                    .alg("HS512")
                    .sign(&key),
            ] {
                assert_eq!(world.get("/", &token), End::refused(401, "algorithm"), "{alg:?}");
            }
            let disguised = Mint::of(claims())
                .secret(secret)
                .kid("k")
                .alg(alg.name())
                .sign(&key);
            assert_eq!(
                world.get("/", &disguised),
                End::refused(401, "signature"),
                "{alg:?}"
            );
        }
        assert!(world.get("/", &good_token(&key)).is_forwarded(), "{alg:?}");
    }
}

/// A key as PEM, with the line ends that tools write.
fn pems(der: &[u8]) -> [Vec<u8>; 3] {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
        lines.join("\n")
    );
    [
        format!("{pem}\n").into(),
        pem.replace('\n', "\r\n").into(),
        pem.into(),
    ]
}

/// CVE-2026-75509 (joserfc): a list that holds the right name passed for the name. RFC 7519 sections 4.1.1 and 4.1.2.
#[test]
fn a_list_of_names_is_no_name() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let good = "https://idp.example.com";
    for issuer in [
        json!([good]),
        json!([good, "https://evil.example.net"]),
        json!({ good: true }),
        json!(null),
        json!(true),
    ] {
        let token = Mint::of(with(claims(), "iss", issuer.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "issuer"), "{issuer}");
    }
    for subject in [json!(["s", "root"]), json!({ "s": 1 }), json!(1), json!(null)] {
        let token = Mint::of(with(claims(), "sub", subject.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "claim"), "{subject}");
    }
    for audience in [
        json!({ "orders": true }),
        json!([["orders"]]),
        json!(["order", "orders/"]),
        json!("orders payments"),
        json!(null),
        json!([]),
    ] {
        let token = Mint::of(with(claims(), "aud", audience.clone())).sign(&key);
        assert_eq!(
            world.get("/", &token),
            End::refused(401, "audience"),
            "{audience}"
        );
    }
    assert!(
        world
            .get(
                "/",
                &Mint::of(with(claims(), "aud", json!(["x", "orders"]))).sign(&key)
            )
            .is_forwarded()
    );
}

/// GHSA-jc38-x7x8-2xc8 (jwt-framework): the algorithm came from a header that is not signed. RFC 7515 section 7.2 is not
/// for bearer tokens (RFC 7519 section 1).
#[test]
fn the_json_serialisation_is_no_bearer_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let token = good_token(&key);
    let [protected, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let one = json!({ "protected": protected, "signature": signature });
    let unprotected = json!({ "header": { "alg": "none" }, "protected": "", "signature": "" });
    for json in [
        json!({ "payload": payload, "protected": protected, "signature": signature }),
        json!({ "payload": payload, "signatures": [one] }),
        json!({ "payload": payload, "signatures": [unprotected, one] }),
        json!({ "payload": payload, "header": { "alg": "EdDSA", "kid": "k" }, "signature": signature }),
    ] {
        for spelling in [json.to_string(), URL_SAFE_NO_PAD.encode(json.to_string())] {
            assert_eq!(
                world.get("/", &spelling),
                End::refused(401, "malformed"),
                "{json}"
            );
        }
    }
    assert!(world.get("/", &token).is_forwarded());
}

/// CVE-2025-59420 (Authlib), fast-jwt PR 591: `crit` was not looked at. RFC 7515 section 4.1.11, RFC 7797 section 6.
#[test]
fn an_extension_that_must_be_understood_refuses_the_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    for crit in [
        json!([]),
        json!(["exp"]),
        json!(["alg"]),
        json!(["b64"]),
        json!(["x"]),
        json!("x"),
        json!(null),
        json!({}),
        json!([1]),
    ] {
        let token = Mint::of(claims())
            .header("crit", crit.clone())
            .header("x", 1)
            .header("b64", true)
            .sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "critical"), "{crit}");
    }
    for b64 in [json!(false), json!("false"), json!(0), json!(null)] {
        let token = Mint::of(claims()).header("b64", b64.clone()).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "critical"), "{b64}");
    }
    assert!(
        world
            .get(
                "/",
                &Mint::of(claims()).header("x", 1).header("b64", true).sign(&key)
            )
            .is_forwarded()
    );
}

/// HAProxy `jwt.c`, commit 648b0e7b: a signature of 21,830 characters was written into a buffer for 16 KB.
#[test]
fn a_signature_of_any_length_is_only_a_wrong_one() {
    let key = Key::new(Alg::Es256).with_kid("k");
    let token = good_token(&key);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for verifier in [Box::new(Compact) as Box<dyn Verify>, Box::new(Host)] {
        let mut fixed = one_rule();
        fixed["issuers"]["idp"] =
            json!({ "issuer": "https://idp.example.com", "jwks": { "keys": [key.jwk()] } });
        let mut world = World::verifying_by(verifier, &fixed);
        let mut try_it = |signature: &str| world.get("/", &format!("{signed}.{signature}"));
        assert_eq!(try_it(&"A".repeat(21_830)), End::refused(401, "too_large"));
        for bytes in [1, 2, 32, 63, 65, 70, 71, 72, 96, 128, 132, 256, 4096, 10_000] {
            for byte in [0, 1, 0x30, 0x7f, 0x80, 0xff] {
                let signature = URL_SAFE_NO_PAD.encode(vec![byte; bytes]);
                assert_eq!(
                    try_it(&signature),
                    End::refused(401, "signature"),
                    "{bytes} of {byte}"
                );
            }
        }
        // RFC 7518 section 3.4: the same numbers, longer. A reader of DER would not see the difference.
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let longer = [&[0; 2], &raw[..32], &[0; 2], &raw[32..]].concat();
        assert_eq!(
            try_it(&URL_SAFE_NO_PAD.encode(longer)),
            End::refused(401, "signature")
        );
        assert_eq!(
            try_it(&URL_SAFE_NO_PAD.encode(jwk::der::ecdsa_signature(&raw))),
            End::refused(401, "signature")
        );
        assert!(try_it(signature).is_forwarded());
    }
}

/// istio/istio#59992: names of a policy were read as patterns.
#[test]
fn names_are_compared_and_never_matched() {
    let key = key("k");
    let places: [(&str, fn(&str) -> Value, fn(&str) -> Value); 3] = [
        (
            "realm_roles",
            |name| json!([name]),
            |name| json!({ "realm_access": { "roles": [name] } }),
        ),
        ("scopes", |name| json!([name]), |name| json!({ "scope": name })),
        (
            "client_roles",
            |name| json!({ "a.*": [name] }),
            |name| json!({ "resource_access": { "a.*": { "roles": [name] }, "abc": { "roles": ["other"] } } }),
        ),
    ];
    for (member, asked, held) in places {
        for name in [
            "a.*", "a*", ".*", ".+", "^abc$", "abc|x", "[abc]+", "a?c", "*", "%61bc", "a\\c",
        ] {
            let mut world = World::with_keys(&[key.jwk()]);
            let keys = world.web.clone();
            let mut try_it = |asked: Value, held: Value| {
                let mut claims = claims();
                claims
                    .as_object_mut()
                    .unwrap()
                    .extend(held.as_object().unwrap().clone());
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
            assert_eq!(
                try_it(asked("abc"), held(name)).status,
                403,
                "{member} {name}: held as a pattern"
            );
        }
    }
    // The client of a client role is a name, too.
    let mut world = World::new(&one_rule_with("client_roles", json!({ "a.*": ["role"] })));
    world.provider("idp.example.com", &[key.jwk()]);
    let other = json!({ "abc": { "roles": ["role"] }, "a": { "*": { "roles": ["role"] } } });
    assert_eq!(
        world
            .get(
                "/",
                &Mint::of(with(claims(), "resource_access", other)).sign(&key)
            )
            .status,
        403
    );
}

/// RFC 8725 section 3.10, RFC 7515 section 10.4: a key that comes with the token proves nothing, and nobody asks for it.
#[test]
fn a_token_brings_no_key_of_its_own() {
    let (ours, theirs) = (key("k"), key("evil"));
    let mut world = World::with_keys(&[ours.jwk()]);
    world.serve(
        "evil.example.net/keys",
        json!({ "keys": [theirs.jwk()] }).to_string(),
    );
    let certificate = json!([STANDARD.encode([0x30, 0x82, 0x01, 0x0a])]);
    for (name, value) in [
        ("jwk", theirs.jwk()),
        ("jku", json!("https://evil.example.net/keys")),
        ("x5u", json!("https://evil.example.net/keys")),
        ("x5c", certificate),
        ("x5t", json!("evil")),
        ("x5t#S256", json!("evil")),
        ("keys", json!([theirs.jwk()])),
    ] {
        let mint = Mint::of(claims()).key(&theirs).header(name, value.clone());
        assert_eq!(
            world.get("/", &mint.sign(&theirs)),
            End::refused(401, "key"),
            "{name}"
        );
        assert_eq!(
            world.get("/", &mint.clone().kid("k").sign(&theirs)),
            End::refused(401, "signature"),
            "{name}"
        );
        assert_eq!(
            world.get("/", &mint.without_header("kid").sign(&theirs)),
            End::refused(401, "signature"),
            "{name}"
        );
        // What is not looked at does no harm either (RFC 7515 section 4).
        assert!(
            world
                .get("/", &Mint::of(claims()).header(name, value).sign(&ours))
                .is_forwarded(),
            "{name}"
        );
    }
    world.pass(600);
    assert_eq!(world.hosts(), ["idp.example.com"]);
}

/// RFC 8725 sections 3.11 and 3.12, RFC 9449 section 7.1: another kind of token of the same issuer is no access token.
#[test]
fn another_kind_of_token_is_no_access_token() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    for kind in ["ID", "Refresh", "Offline", "Logout", "DPoP", ""] {
        let token = Mint::of(with(claims(), "typ", json!(kind))).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "kind"), "{kind}");
    }
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "JOSE",
        "application/",
    ] {
        assert_eq!(
            world.get("/", &Mint::of(claims()).header("typ", typ).sign(&key)),
            End::refused(401, "type"),
            "{typ}"
        );
    }
    for bound in [
        json!({ "jkt": "x" }),
        json!({ "x5t#S256": "x" }),
        json!({}),
        json!(null),
    ] {
        let token = Mint::of(with(claims(), "cnf", bound.clone())).sign(&key);
        assert_eq!(world.get("/", &token), End::refused(401, "bound"), "{bound}");
    }
    assert!(world.get("/", &good_token(&key)).is_forwarded());
}

impl World {
    /// A counter's sum since the world began, or since the last look.
    fn count(&mut self, name: &str) -> u64 {
        let mut count = 0;
        self.plugin
            .stats()
            .report(|_, counter, sum| count += if counter.to_string() == name { sum } else { 0 });
        count
    }
}
