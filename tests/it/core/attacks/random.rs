//! Random tokens, documents, answers and requests, for attacks that are not known yet. None may end
//! the worker (a panic takes a whole VM with it: CVE-2019-12995), and none may be accepted.

use super::{World, claims, good_token, head, key, metadata_of, one_rule};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::filter::header_edits::Edit;
use m2m_auth::http::message::{HttpReply, MessageHead};
use m2m_auth::plugin::RequestOutcome;
use m2m_auth_kit::key::Key;
use m2m_auth_kit::token::{Mint, sign_bytes};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::cell::RefCell;

/// A change of one byte is a change of the token, wherever it is. RFC 7515 section 2: there is one
/// spelling of each part, so no change decodes to the same bytes.
#[test]
fn no_token_with_one_bit_changed_is_accepted() {
    let key = key("k");
    let mut world = World::with_keys(&[key.jwk()]);
    let token = good_token(&key);
    let mut tried = 0;
    for position in 0..token.len() {
        for bit in 0..8 {
            let mut spoilt = token.clone().into_bytes();
            spoilt[position] ^= 1 << bit;
            assert_refused(&mut world, &spoilt);
            tried += 1;
        }
        assert_refused(
            &mut world,
            &[&token.as_bytes()[..position], &token.as_bytes()[position + 1..]].concat(),
        );
    }
    assert!(tried > 2000, "{tried}");
    assert!(world.get("/", &token).is_forwarded(), "the token itself does");
}

/// The same once the token is known, and with whole bytes.
#[test]
fn no_token_that_is_close_to_a_known_one_is_accepted() {
    let key = key("k");
    let world = RefCell::new(World::with_keys(&[key.jwk()]));
    let token = good_token(&key);
    assert!(world.borrow_mut().get("/", &token).is_forwarded());
    let spoil = (0..token.len(), any::<u8>(), 0..token.len());
    proptest!(ProptestConfig::with_cases(2000), |((position, byte, swap) in spoil)| {
        let mut changed = token.clone().into_bytes();
        changed[position] = byte;
        let mut swapped = token.clone().into_bytes();
        swapped.swap(position, swap);
        let mut inserted = token.clone().into_bytes();
        inserted.insert(position, byte);
        for spoilt in [changed, swapped, inserted] {
            if meaning(&spoilt) == token.as_bytes() {
                assert!(present(&mut world.borrow_mut(), &spoilt).is_some());
            } else {
                assert_refused(&mut world.borrow_mut(), &spoilt);
            }
        }
    });
}

/// The credential without the spaces around it.
fn meaning(credential: &[u8]) -> &[u8] {
    credential.trim_ascii()
}

proptest! {
    #[test]
    fn no_bytes_are_a_token(token: Vec<u8>) {
        let mut world = World::with_keys(&[key("k").jwk()]);
        assert_refused(&mut world, &token);
    }

    #[test]
    fn no_three_parts_are_a_token(
        header in members(&["alg", "kid", "typ", "crit", "b64", "jwk", "jku"]),
        payload in members(&["iss", "aud", "exp", "nbf", "iat", "sub", "typ", "cnf"]),
        signature in prop_oneof![Just(vec![0; 64]), any::<[u8; 64]>().prop_map(Vec::from), any::<Vec<u8>>()],
    ) {
        let mut world = World::with_keys(&[key("k").jwk()]);
        let parts = [Value::Object(header).to_string().into_bytes(), Value::Object(payload).to_string().into(), signature];
        assert_refused(&mut world, parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".").as_bytes());
    }

    /// Signed by the issuer, with arbitrary claims: only tokens with the right claims are accepted.
    #[test]
    fn only_sound_claims_of_the_issuer_are_accepted(
        odd in members(&["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "typ", "token_use", "cnf", "scope"]),
    ) {
        let key = key("k");
        let mut world = World::with_keys(&[key.jwk()]);
        let mut all = claims();
        all.as_object_mut().unwrap().extend(odd);
        let admitted = present(&mut world, Mint::of(all.clone()).sign(&key).as_bytes()).is_some();
        if admitted {
            let audience = &all["aud"];
            assert_eq!(all["iss"], "https://idp.example.com");
            assert!(*audience == "orders" || audience.as_array().is_some_and(|list| list.contains(&json!("orders"))));
            assert!(all["exp"].as_f64().unwrap() + 60.0 > 1_800_000_000.0, "{all}");
            assert!(all.get("cnf").is_none(), "{all}");
        }
    }

    #[test]
    fn signed_bytes_that_are_no_claims_are_refused(header: Vec<u8>, payload: Vec<u8>) {
        let key = key("k");
        let mut world = World::with_keys(&[key.jwk()]);
        assert_refused(&mut world, sign_bytes(&key, &header, &payload).as_bytes());
        assert_refused(&mut world, sign_bytes(&key, br#"{"alg":"EdDSA"}"#, &payload).as_bytes());
    }

    #[test]
    fn no_bytes_are_a_key_set(document: Vec<u8>) {
        serve_keys(document);
    }

    #[test]
    fn no_json_is_a_key_set_that_accepts_a_strangers_token(
        keys in proptest::collection::vec(members(&["kty", "crv", "alg", "use", "key_ops", "kid", "n", "e", "x", "y", "k"]), 0..5),
        top in members(&["keys", "kty"]),
        nested: bool,
    ) {
        let mut document = Value::Object(top);
        if nested {
            document["keys"] = keys.into_iter().map(Value::Object).collect();
        }
        serve_keys(document.to_string().into());
    }

    #[test]
    fn no_bytes_are_metadata(document: Vec<u8>) {
        serve_metadata(document);
    }

    #[test]
    fn no_metadata_send_us_to_another_host(jwks_uri in uri(), token_endpoint in uri(), odd in members(&["issuer", "jwks_uri", "x"]), right: bool) {
        let mut document = Value::Object(odd);
        document["token_endpoint"] = json!(token_endpoint);
        if right {
            document["issuer"] = json!("https://idp.example.com");
            document["jwks_uri"] = json!(jwks_uri);
        }
        serve_metadata(document.to_string().into());
    }

    #[test]
    fn no_token_answer_breaks_a_request(body: Vec<u8>, status in 0..700_u16, headers in fields()) {
        serve_token(HttpReply { status: Some(status), head: headers, body: Some(body), ..HttpReply::default() });
    }

    #[test]
    fn no_json_of_a_token_endpoint_breaks_a_request(answer in members(&["access_token", "token_type", "expires_in", "scope", "error"]), token: Option<String>) {
        let mut answer = Value::Object(answer);
        if let Some(token) = token {
            answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": answer["expires_in"] });
        }
        serve_token(HttpReply { status: Some(200), body: Some(answer.to_string().into()), ..HttpReply::default() });
    }

    /// Removing a token from a query or from cookies changes no byte beside it, and leaves no
    /// token.
    #[test]
    fn everything_beside_a_token_is_kept(
        query in proptest::collection::vec("(access_token|access%5[Ff]token|[a-c;%+]{0,3})(=[ -%'-~]{0,4})?", 0..6),
        cookies in proptest::collection::vec("(session|[a-c\\[]{1,3})=[!-:<-~]{0,4}", 0..6),
    ) {
        let mut configuration = one_rule();
        configuration["inbound"]["token_locations"] = json!([{ "cookie": "session" }, { "danger_query": "access_token" }]);
        configuration["inbound"]["rules"][0]["mode"] = json!("danger_dry_run");
        let query: Vec<String> = query.into_iter().map(|piece| piece.replace('#', "")).collect();
        let (path, line) = (format!("/?{}", query.join("&")), cookies.join("; "));
        let (_, step) = World::new(&configuration).begin(head(&path, &[("cookie", &line)]));
        let RequestOutcome::Forward(edits) = step else { panic!("{path} {line}") };
        let set = |name: &str, was: &str| {
            edits.headers.iter().fold(was.to_owned(), |was, edit| match edit {
                Edit::Set(own, value) if **own == *name => String::from_utf8(value.clone()).unwrap(),
                Edit::Remove(own) if **own == *name => String::new(),
                _ => was,
            })
        };
        let ours = |piece: &str| ["access_token", "access%5Ftoken", "access%5ftoken"].contains(&piece.split('=').next().unwrap());
        let left: Vec<&str> = query.iter().map(String::as_str).filter(|piece| !ours(piece)).collect();
        let left = if left.len() == query.len() { path.clone() } else { format!("/?{}", left.join("&")) };
        let left = if left == "/?" && left != path { "/" } else { left.as_str() };
        prop_assert_eq!(set(":path", &path), left);
        let left: Vec<&str> = cookies.iter().map(String::as_str).filter(|pair| !pair.starts_with("session=")).collect();
        prop_assert_eq!(set("cookie", &line), left.join("; "));
    }

    #[test]
    fn no_bytes_in_any_location_are_a_token(query: Vec<u8>, cookies: Vec<u8>, header: Vec<u8>) {
        let mut configuration = one_rule();
        configuration["inbound"]["token_locations"] =
            json!([{ "header": "x-token", "prefix": "t" }, { "cookie": "a" }, { "danger_query": "b" }]);
        let mut world = World::new(&configuration);
        world.provider("idp.example.com", &[key("k").jwk()]);
        world.pass(10);
        let (path, cookies) = ([b"/?b=", query.as_slice()].concat(), [b"a=", cookies.as_slice()].concat());
        let fields: [(&[u8], &[u8]); 5] = [
            (b":method", b"GET"), (b":authority", b"orders"), (b":path", &path), (b"cookie", &cookies),
            (b"x-token", &header),
        ];
        let end = world.ask(fields.into_iter().collect());
        prop_assert!([400, 401].contains(&end.status), "{:?}", end);
    }

    #[test]
    fn no_request_without_a_token_is_accepted(fields in fields()) {
        let mut configuration = one_rule();
        let require = configuration["inbound"]["rules"][0]["require"].clone();
        configuration["inbound"]["rules"] = json!([
            { "name": "a", "match": { "path_prefix": "/a", "methods": ["GET"], "host": "*.example.com" }, "require": require },
            { "name": "b", "match": { "path": "/b", "host": "orders" }, "require": require },
            { "name": "c", "require": require, "claims_to_headers": { "x-caller": "sub" }, "forward_token": false },
        ]);
        let mut world = World::new(&configuration);
        world.provider("idp.example.com", &[key("k").jwk()]);
        world.pass(10);
        let nothing = fields.iter().next().is_none();
        let end = world.ask(fields);
        prop_assert!([400, 401].contains(&end.status) || (nothing && end.status == 503), "{:?}", end);
    }
}

/// Values as they are found in tokens and keys, and some that are not.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        4 => proptest::sample::select(vec![
            "", "k", "EdDSA", "Ed25519", "RS256", "ES256", "HS256", "none", "JWT", "at+jwt", "Bearer", "ID", "access", "RSA", "EC",
            "OKP", "oct", "P-256", "P-521", "sig", "enc", "verify", "AQAB", "AA", "orders", "https://idp.example.com",
            "https://evil.example.net", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "1800000300", "\r\nx: y", "\u{0}", "ü",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (1_799_999_000_u64..1_800_001_000).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        5 => text.prop_map(Value::from),
        2 => number,
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object with some of these members.
fn members(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
    let pair = (proptest::sample::select(names), value()).prop_map(|(name, value)| (name.to_owned(), value));
    proptest::collection::vec(pair, 0..names.len()).prop_map(|pairs| pairs.into_iter().collect())
}

/// URLs put together from pieces that parsers disagree about.
fn uri() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "https",
        "http",
        "HTTPS",
        "file",
        ":",
        "/",
        "//",
        "://",
        "\\",
        "@",
        "#",
        "?",
        "%2f",
        "%00",
        ".",
        ":443",
        ":",
        "idp.example.com",
        "evil.example.net",
        "127.0.0.1",
        "[::1]",
        "keys",
        " ",
        "\t",
        "\r\n",
        "ü",
        "\u{ff0f}",
    ]);
    let tail = proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    let start = proptest::sample::select(vec![
        "",
        "https://",
        "https://idp.example.com",
        "https://idp.example.com/",
        "http://idp.example.com",
    ]);
    (start, tail).prop_map(|(start, tail)| format!("{start}{tail}"))
}

/// Header fields of any bytes, often with names that mean something; never with a good token.
fn fields() -> impl Strategy<Value = MessageHead> {
    let name = prop_oneof![
        6 => proptest::sample::select(vec![
            ":path", ":method", ":authority", ":scheme", "authorization", "host", "x-caller", "x-envoy-original-path", "retry-after",
            "date", "content-type", "grpc-timeout",
        ]).prop_map(|name| name.as_bytes().to_vec()),
        1 => any::<Vec<u8>>(),
    ];
    let value = prop_oneof![
        proptest::sample::select(vec![
            "",
            "/",
            "/a",
            "/b",
            "//a/../b",
            "/%61",
            "GET",
            "orders",
            "x.example.com:80",
            "Bearer",
            "Bearer ",
            "bearer a.b.c",
            "Basic eDp5",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "120",
            "Sun, 06 Nov 1994 08:49:37 GMT",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
        any::<Vec<u8>>(),
    ];
    proptest::collection::vec((name, value), 0..12).prop_map(|fields| fields.into_iter().collect())
}

/// Whether a request with this credential is accepted.
fn present(world: &mut World, token: &[u8]) -> Option<()> {
    let value = [b"Bearer ", token].concat();
    let pseudo: [(&[u8], &[u8]); 3] = [(b":method", b"GET"), (b":authority", b"orders"), (b":path", b"/")];
    let end = world.ask(pseudo.into_iter().chain([(&b"authorization"[..], value.as_slice())]).collect());
    end.is_forwarded().then_some(())
}

fn assert_refused(world: &mut World, token: &[u8]) {
    assert!(present(world, token).is_none(), "{}", String::from_utf8_lossy(token));
}

/// Tokens of a stranger, one for each way to choose a key.
fn strangers() -> [String; 2] {
    let stranger: Key = key("k");
    [good_token(&stranger), Mint::of(claims()).without_header("kid").sign(&stranger)]
}

fn serve_keys(document: Vec<u8>) {
    let mut world = World::new(&one_rule());
    world.provider("idp.example.com", &[]);
    world.serve("idp.example.com/keys", document);
    for token in strangers() {
        assert_refused(&mut world, token.as_bytes());
    }
    world.pass(60);
}

/// Whatever the metadata say, no call leaves the issuer's host, and each is one that can be made.
fn serve_metadata(document: Vec<u8>) {
    let mut configuration = one_rule();
    let credential = json!({ "issuer": "idp", "client_id": "me", "client_secret": { "env": "SECRET" } });
    configuration["outbound"] =
        json!({ "credentials": { "me": credential }, "rules": [{ "credential": "me" }] });
    let mut world = World::new(&configuration);
    world.serve(&metadata_of("idp.example.com"), document);
    for token in strangers() {
        assert_refused(&mut world, token.as_bytes());
    }
    world.pass(60);
    for call in &world.asked {
        let endpoint = &call.endpoint;
        let to = (endpoint.cluster.as_str(), endpoint.scheme, endpoint.authority.as_str());
        assert_eq!(to, ("idp", "https", "idp.example.com"), "{endpoint:?}");
        assert!(
            endpoint.path.starts_with('/') && endpoint.path.bytes().all(|byte| byte.is_ascii_graphic()),
            "{endpoint:?}"
        );
    }
}

/// Whatever the token endpoint answers, a request is forwarded with a valid header or is answered
/// 503.
fn serve_token(reply: HttpReply) {
    let mut world = World::new(&json!({
        "issuers": { "idp": { "issuer": "idp", "cluster": "idp", "token_endpoint": "https://idp.example.com/token" } },
        "outbound": {
            "credentials": { "me": { "issuer": "idp", "client_id": "me", "client_secret": { "env": "SECRET" } } },
            "rules": [{ "credential": "me" }],
        },
    }));
    world.web.insert("idp.example.com/token".to_owned(), reply);
    world.pass(5);
    let (_, step) = world.begin(head("/", &[]));
    match step {
        RequestOutcome::Respond(response) => assert_eq!(response.status, 503),
        RequestOutcome::Wait => {}
        RequestOutcome::Forward(edits) => {
            let [Edit::Set(name, value)] = edits.headers.as_slice() else { panic!("{edits:?}") };
            let token = value.strip_prefix(b"Bearer ").unwrap();
            assert!(
                **name == *"authorization" && !token.is_empty() && token.iter().all(u8::is_ascii_graphic)
            );
        }
    }
    world.pass(60);
    assert!(!world.has_logged("hush-secret"));
}
