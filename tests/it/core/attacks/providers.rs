//! Providers that are down, tampered with, or impersonated.

use super::{End, NOW, World, claims, good_token, head, key, metadata_of, one_rule, with};
use m2m_auth::http::message::{HttpCall, HttpReply};
use m2m_auth::plugin::RequestOutcome;
use m2m_auth_kit::key::Key;
use m2m_auth_kit::token::Mint;
use serde_json::json;

/// CVE-2026-31837 (Istio): a key set that could not be fetched was replaced by a built-in one,
/// whose private key was public.
#[test]
fn without_the_providers_keys_every_token_is_refused() {
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
    let replies =
        bodies.map(|body| HttpReply { status: Some(200), body: Some(body.into()), ..HttpReply::default() });
    let statuses =
        [302, 401, 404, 500, 503].map(|status| HttpReply { status: Some(status), ..HttpReply::default() });
    for reply in replies.into_iter().chain(statuses).chain([HttpReply::default()]) {
        let mut world = World::new(&one_rule());
        world.provider("idp.example.com", &[key.jwk()]);
        let good = world.web.insert("idp.example.com/keys".to_owned(), reply.clone()).unwrap();
        for token in [
            good_token(&key),
            Mint::of(claims()).without_header("kid").sign(&key),
            Mint::of(claims()).header("jwk", key.bare_jwk()).sign(&key),
        ] {
            assert_eq!(world.get("/", &token), End::refused(503, "jwks_unavailable"), "{reply:?}");
        }
        for token in [Mint::of(claims()).unsigned().sign(&key), Mint::of(claims()).secret("").sign(&key)] {
            assert_eq!(world.get("/", &token).status, 401, "{reply:?}");
        }
        world.web.insert("idp.example.com/keys".to_owned(), good);
        world.pass(600);
        assert!(world.get("/", &good_token(&key)).is_forwarded(), "{reply:?}");
    }
}

/// CVE-2026-41413 (Istio), RFC 8414 section 3.3: discovery named an address inside the network, and
/// its answer was disclosed.
#[test]
fn discovery_cannot_send_us_to_another_host() {
    let key = key("k");
    for evil in [
        "https://evil.example.net/keys",
        "https://169.254.169.254/latest/meta-data/",
        "https://idp.example.com.evil.example.net/keys",
        "https://idp.example.com@evil.example.net/keys",
        "https://user:password@idp.example.com/keys",
        "https://127.0.0.1/keys",
        "https://[::1]/keys",
        "https://[::ffff:169.254.169.254]/keys",
        "https://2852039166/keys",
        "https://idp.example.com./keys",
        "ftp://idp.example.com/keys",
        "gopher://idp.example.com/keys",
        "unix:///var/run/docker.sock",
        "",
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
        for place in ["evil.example.net/keys", "idp.example.com/keys", "idp.example.com:444/keys"] {
            world.serve(place, json!({ "keys": [key.jwk()] }).to_string());
        }
        assert_eq!(world.get("/", &good_token(&key)), End::refused(503, "jwks_unavailable"), "{evil}");
        world.pass(600);
        assert!(
            world.asked.iter().all(|call| call.endpoint.path.contains("/.well-known/")),
            "{evil}: {:?}",
            world.asked
        );
        assert_eq!(world.hosts(), ["idp.example.com"], "{evil}");
        // The log names the host, and nothing of its answer.
        let quoted = ["latest", "password", "docker.sock", "passwd", "host: evil"];
        assert!(!quoted.iter().any(|part| world.has_logged(part)), "{evil}: {:?}", world.logs);
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
    for (endpoint, status) in
        [("https://evil.example.net/token", 503), ("https://idp.example.com/token", 200)]
    {
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
        assert_eq!(world.get("/", &good_token(&key)), End::refused(503, "jwks_unavailable"), "{issuer}");
    }
}

/// CVE-2026-41413, its second half: whatever a tampered address answered could be read in Istio's
/// debug output.
#[test]
fn an_answer_that_is_no_key_set_is_refused_and_never_repeated() {
    let key = key("k");
    for body in [
        "hush",
        "<html>hush</html>",
        r#"{"hush":"hush"}"#,
        r#"{"keys":"hush","keys":"hush"}"#,
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
            let (id, step) =
                world.begin(head("/", &[("authorization", &format!("Bearer {}", good_token(&key)))]));
            assert_eq!(step, RequestOutcome::Wait);
            world.pass(60);
            let Some(RequestOutcome::Respond(response)) = world.settled.remove(&id) else {
                panic!("{place} {body}")
            };
            assert_eq!(response.status, 503, "{place} {body}");
            assert!(!format!("{response:?}").contains("hush"), "{response:?}");
            assert!(!world.logs.is_empty() && !world.has_logged("hush"), "{place} {body}: {:?}", world.logs);
        }
    }
}

/// CVE-2025-64527 (Envoy): two tokens while the keys could not be fetched ended the process.
#[test]
fn two_tokens_while_the_keys_cannot_be_fetched_are_one_bad_request() {
    let key = key("k");
    let mut world = World::new(&one_rule());
    let (first, second) = (format!("Bearer {}", good_token(&key)), format!("Bearer {}", good_token(&key)));
    let twice = head("/", &[("authorization", &first), ("authorization", &second)]);
    let (waiting, step) = world.begin(head("/", &[("authorization", &first)]));
    assert_eq!(step, RequestOutcome::Wait);
    assert_eq!(world.ask(twice.clone()), End::refused(400, "multiple_credentials"));
    world.pass(60);
    assert_eq!(End::of(&world.settled[&waiting]), End::refused(503, "jwks_unavailable"));
    assert_eq!(world.ask(twice.clone()), End::refused(400, "multiple_credentials"));
    world.provider("idp.example.com", &[key.jwk()]);
    world.pass(600);
    assert_eq!(world.ask(twice), End::refused(400, "multiple_credentials"));
    // Two lines of one header are one line with a comma (RFC 9110 section 5.2).
    for joined in [format!("{first}, {second}"), format!("{first},{second}"), format!("Basic eDp5, {first}")]
    {
        let joined = head("/", &[("authorization", &joined)]);
        assert_eq!(world.ask(joined), End::refused(400, "multiple_credentials"));
    }
    assert!(world.get("/", &good_token(&key)).is_forwarded());
}

/// The same, as it happened there: the rule allowed requests without a token, or with a bad one.
#[test]
fn two_tokens_while_the_keys_cannot_be_fetched_are_what_the_mode_makes_of_them() {
    let first = format!("Bearer {}", good_token(&key("k")));
    for (mode, with_two, with_one, with_none) in
        [("optional", 400, 503, 200), ("danger_permissive", 200, 200, 200), ("danger_dry_run", 200, 200, 200)]
    {
        let mut configuration = one_rule();
        configuration["inbound"]["rules"][0]["mode"] = serde_json::json!(mode);
        let mut world = World::new(&configuration);
        for wait in [0, 60] {
            world.pass(wait);
            let twice = head("/", &[("authorization", &first), ("authorization", &first)]);
            assert_eq!(world.ask(twice).status, with_two, "{mode}");
            assert_eq!(world.ask(head("/", &[("authorization", &first)])).status, with_one, "{mode}");
            assert_eq!(world.ask(head("/", &[])).status, with_none, "{mode}");
        }
    }
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
    world.plugin.cancel(gone);
    world.pass(60);
    assert!(End::of(&world.settled[&patient]).is_forwarded());
    assert!(!world.settled.contains_key(&gone));
}

/// "Keys never expire", the other half of CVE-2026-49998.
#[test]
fn keys_that_cannot_be_renewed_end_and_take_known_tokens_along() {
    let key = key("k");
    let mut configuration = one_rule();
    configuration["issuers"]["idp"]["jwks_max_stale"] = json!("20m");
    let mut world = World::new(&configuration);
    world.provider("idp.example.com", &[key.jwk()]);
    let token = Mint::of(with(claims(), "exp", json!(NOW + 100_000))).sign(&key);
    assert!(world.get("/", &token).is_forwarded());
    let web = std::mem::take(&mut world.web);
    world.pass(1199);
    assert!(world.get("/", &token).is_forwarded(), "an outage shorter than max_stale harms nobody");
    world.pass(1);
    assert_eq!(world.get("/", &token), End::refused(503, "jwks_unavailable"));
    world.web = web;
    world.pass(600);
    assert!(world.get("/", &token).is_forwarded());
}

/// RFC 9110 section 8.8.3: an `ETag` belongs to one URL; the same value at another URL may mean
/// something else.
#[test]
fn the_etag_of_one_location_is_not_sent_to_another() {
    let (old, new) = (key("old"), key("new"));
    let mut world = World::new(&one_rule());
    world.provider("idp.example.com", &[old.jwk()]);
    let tagged = |key: &Key| HttpReply {
        status: Some(200),
        head: [("etag", "\"1\"")].into_iter().collect(),
        body: Some(json!({ "keys": [key.jwk()] }).to_string().into_bytes()),
        ..HttpReply::default()
    };
    world.web.insert("idp.example.com/keys".to_owned(), tagged(&old));
    world.web.insert("idp.example.com/new-keys".to_owned(), tagged(&new));
    world.pass(400);
    let metadata =
        json!({ "issuer": "https://idp.example.com", "jwks_uri": "https://idp.example.com/new-keys" });
    world.serve(&metadata_of("idp.example.com"), metadata.to_string());
    world.pass(4000);
    for path in ["/keys", "/new-keys"] {
        let calls = world.asked.iter().filter(|call| call.endpoint.path == path);
        let sends = |call: &HttpCall| call.headers.iter().any(|(name, _)| *name == "if-none-match");
        let sent: Vec<bool> = calls.map(sends).collect();
        assert!(sent.len() > 1 && !sent[0] && sent[1..].iter().all(|sent| *sent), "{path}: {sent:?}");
    }
    let token = Mint::of(with(claims(), "exp", json!(NOW + 10_000))).sign(&new);
    assert!(world.get("/", &token).is_forwarded());
}
