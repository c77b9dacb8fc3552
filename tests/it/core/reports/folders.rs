//! The folders, each with its provider.

use super::play::{NOW, Play, answer, json as good};
use super::{folder, text};
use crate::core::cli::run;
use crate::core::sim::provider::Key;
use m2m_auth::http::message::HttpReply;
use m2m_auth_kit::key::{Alg, Key as PrivateKey};
use serde_json::{Value, json};
use std::time::Duration;

/// Those that are decided offline.
pub(super) const OFFLINE: &[&str] =
    &["12-ec-coordinate-31-bytes", "13b-null-members", "13c-alg-null", "15a-bom", "28a-hydra-empty-aud"];

/// Those that need a provider; each is a test here.
pub(super) const PLAYED: &[&str] = &[
    "E01-kubernetes-jwks-406",
    "E02c-keycloak-backchannel-dynamic",
    "E03-jwks-uri-with-default-port",
    "E06a-apigee-bearertoken",
    "E06b-no-token-type",
    "E06f-bom-in-token-answer",
    "E07-mtls-endpoint-aliases",
    "E09-403-where-openid-has-its-document",
    "E10-hydra-introspection-empty-aud",
    "E14-429-with-retry-after",
    "E26-hold-and-retry-after",
    "E28-google-id-token-by-assertion",
    "E31a-subject-token-in-its-own-header",
    "E31b-exchanged-token-in-its-own-header",
];

#[test]
fn what_can_be_decided_offline_is_accepted() {
    let mut wrong = Vec::new();
    for name in OFFLINE {
        let request = text(name, "request.txt");
        let header = request.lines().find(|line| line.starts_with("authorization")).unwrap();
        let config = folder(name).join("config.yaml");
        let keys = format!("idp={}", folder(name).join("keys.json").display());
        let ran = run(&[
            "explain",
            "--config",
            config.to_str().unwrap(),
            "--jwks",
            &keys,
            "--now",
            "1800000000",
            "--host",
            "api.example.com",
            "--path",
            "/orders",
            "--header",
            header,
        ]);
        if ran.code != 0 {
            wrong.push(format!("{name}: {} {}", ran.says, ran.complains));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn configuration(name: &str) -> Value {
    serde_json::from_str(&text(name, "config.json")).unwrap()
}

fn secret(name: &str) -> Option<String> {
    (name == "SECRET").then(|| "hush-hush".to_owned())
}

fn play(name: &str, provider: impl FnMut(&super::play::Asked) -> HttpReply + 'static) -> Play {
    Play::new(&configuration(name), &secret, provider)
}

/// A token of this issuer, for `orders-api`.
fn token(issuer: &str) -> String {
    Key::number(1).sign(&json!({
        "iss": issuer, "aud": ["orders-api"], "sub": "system:serviceaccount:shop:checkout", "iat": NOW, "exp": NOW + 300,
    }))
}

fn keys() -> Value {
    json!({ "keys": [Key::number(1).jwk()] })
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn not_found() -> HttpReply {
    answer(404, &[], "")
}

fn metadata(issuer: &str) -> Value {
    json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token") })
}

const OPENID: &str = "https://idp.example.com/.well-known/openid-configuration";
const RFC8414: &str = "https://idp.example.com/.well-known/oauth-authorization-server";
const TOKEN: &str = "https://idp.example.com/token";

#[test]
fn the_key_set_of_a_kubernetes_api_server_is_fetched() {
    let issuer = "https://kubernetes.default.svc";
    let mut play = play("E01-kubernetes-jwks-406", move |asked| match asked.url.as_str() {
        "https://kubernetes.default.svc/.well-known/openid-configuration" => {
            good(&json!({ "issuer": issuer, "jwks_uri": "https://kubernetes.default.svc/openid/v1/jwks" }))
        }
        "https://kubernetes.default.svc/openid/v1/jwks" => {
            let admits = ["application/jwk-set+json", "application/*", "*/*"];
            if asked.accept.split(',').any(|kind| admits.contains(&kind.split(';').next().unwrap().trim())) {
                answer(200, &[("content-type", "application/jwk-set+json")], &keys().to_string())
            } else {
                answer(406, &[], "")
            }
        }
        _ => not_found(),
    });
    let end = play.ask("/orders", &[("authorization", &bearer(&token(issuer)))]);
    assert_eq!(end.status, 200, "{:#?}", play.logs);
}

#[test]
fn where_only_the_scheme_differs_the_log_says_what_to_write() {
    let issuer = "https://auth.example.com/realms/r";
    let provider = move |asked: &super::play::Asked| match asked.url.as_str() {
        "https://auth.example.com/realms/r/.well-known/openid-configuration" => {
            good(&json!({ "issuer": issuer, "jwks_uri": "http://auth.example.com/realms/r/keys" }))
        }
        "http://auth.example.com/realms/r/keys" | "https://auth.example.com/realms/r/keys" => good(&keys()),
        _ => not_found(),
    };
    let mut plain = play("E02c-keycloak-backchannel-dynamic", provider);
    let authorization = bearer(&token(issuer));
    assert_eq!(plain.ask("/orders", &[("authorization", &authorization)]).status, 503);
    let words = "the metadata's jwks_uri is at http://auth.example.com, the issuer at https://auth.example.com, expected the \
                 same scheme; `jwks_uri: https://auth.example.com/realms/r/keys` can be set instead";
    assert!(plain.logged(words), "{:#?}", plain.logs);
    let mut configuration = configuration("E02c-keycloak-backchannel-dynamic");
    configuration["issuers"]["idp"]["jwks_uri"] = json!("https://auth.example.com/realms/r/keys");
    let mut written = Play::new(&configuration, &secret, provider);
    assert_eq!(written.ask("/orders", &[("authorization", &authorization)]).status, 200);
}

#[test]
fn a_default_port_is_the_same_host() {
    let issuer = "https://idp.example.com";
    let mut play = play("E03-jwks-uri-with-default-port", move |asked| match asked.url.as_str() {
        OPENID => good(&json!({ "issuer": issuer, "jwks_uri": "https://idp.example.com:443/keys" })),
        "https://idp.example.com/keys" | "https://idp.example.com:443/keys" => good(&keys()),
        _ => not_found(),
    });
    let end = play.ask("/orders", &[("authorization", &bearer(&token(issuer)))]);
    assert_eq!(end.status, 200, "{:#?}", play.logs);
}

/// A provider of the issuer `https://idp.example.com` with this answer of its token endpoint.
fn tokens(reply: impl Fn() -> HttpReply + 'static) -> impl FnMut(&super::play::Asked) -> HttpReply + 'static {
    move |asked| match asked.url.as_str() {
        OPENID => good(&metadata("https://idp.example.com")),
        TOKEN => reply(),
        _ => not_found(),
    }
}

#[test]
fn a_token_type_of_the_providers_own_is_named_and_can_be_accepted() {
    let of = |name: &str, answer: Value, words: &str| {
        let provider = move || good(&answer);
        let mut plain = play(name, tokens(provider.clone()));
        assert_eq!(plain.ask("/", &[]).status, 503, "{name}");
        assert!(plain.logged(words), "{:#?}", plain.logs);
        let mut configuration = configuration(name);
        configuration["outbound"]["credentials"]["me"]["token_types"] = json!(["BearerToken", "absent"]);
        let mut set = Play::new(&configuration, &secret, tokens(provider));
        assert_eq!(set.ask("/", &[]).set("authorization").as_deref(), Some("Bearer t1"), "{:#?}", set.logs);
    };
    let odd = json!({ "access_token": "t1", "token_type": "BearerToken", "expires_in": 300 });
    of(
        "E06a-apigee-bearertoken",
        odd,
        "token_type is BearerToken, expected Bearer; `token_types` can allow it",
    );
    let none = json!({ "access_token": "t1", "expires_in": 300 });
    of(
        "E06b-no-token-type",
        none,
        "the answer has no token_type, expected Bearer; `token_types` can allow it",
    );
}

#[test]
fn a_byte_order_mark_before_an_answer_is_ignored() {
    let body = "\u{feff}{\"access_token\":\"t1\",\"token_type\":\"Bearer\",\"expires_in\":300}";
    let mut play = play("E06f-bom-in-token-answer", tokens(move || answer(200, &[], body)));
    assert_eq!(play.ask("/", &[]).set("authorization").as_deref(), Some("Bearer t1"), "{:#?}", play.logs);
}

#[test]
fn a_client_with_a_certificate_asks_at_the_alias() {
    let alias = "https://mtls.idp.example.com/token";
    let mut play = play("E07-mtls-endpoint-aliases", move |asked| match asked.url.as_str() {
        OPENID => {
            let mut document = metadata("https://idp.example.com");
            document["mtls_endpoint_aliases"] = json!({ "token_endpoint": alias });
            good(&document)
        }
        TOKEN => answer(401, &[], "{\"error\":\"invalid_client\"}"),
        _ if asked.url == alias => {
            good(&json!({ "access_token": "t1", "token_type": "Bearer", "expires_in": 300 }))
        }
        _ => not_found(),
    });
    let end = play.ask("/", &[]);
    assert_eq!(end.set("authorization").as_deref(), Some("Bearer t1"), "{:#?}", play.logs);
    assert_eq!((play.count(alias), play.count(TOKEN)), (1, 0));
}

#[test]
fn the_other_location_is_asked_at_once_whatever_says_that_the_first_has_no_metadata() {
    for status in [302, 400, 401, 403, 404, 405, 406, 410] {
        let mut play = play("E09-403-where-openid-has-its-document", move |asked| match asked.url.as_str() {
            OPENID => answer(status, &[], ""),
            RFC8414 => good(&metadata("https://idp.example.com")),
            TOKEN => good(&json!({ "access_token": "t1", "token_type": "Bearer", "expires_in": 300 })),
            _ => not_found(),
        });
        let end = play.ask("/", &[]);
        assert_eq!(end.set("authorization").as_deref(), Some("Bearer t1"), "{status}: {:#?}", play.logs);
        assert!(end.after < Duration::from_millis(100), "{status}: {:?}", end.after);
    }
}

#[test]
fn an_introspected_audience_that_names_nobody_is_absent_beside_clients() {
    let mut play = play("E10-hydra-introspection-empty-aud", |asked| {
        let mut said = json!({
            "active": true, "aud": [], "client_id": "checkout", "scope": "orders.read", "token_type": "Bearer",
            "token_use": "access_token", "exp": NOW + 300, "iat": NOW, "sub": "checkout", "iss": "https://hydra.example.com",
        });
        match asked.url.as_str() {
            "http://hydra-admin:4445/admin/oauth2/introspect" => {
                if asked.body.contains("ory_rt_") {
                    said["token_use"] = json!("refresh_token");
                    said.as_object_mut().unwrap().remove("token_type");
                }
                good(&said)
            }
            "https://hydra.example.com/.well-known/openid-configuration" => good(
                &json!({ "issuer": "https://hydra.example.com", "jwks_uri": "https://hydra.example.com/keys" }),
            ),
            _ => good(&keys()),
        }
    });
    assert_eq!(play.ask("/orders", &[("authorization", "Bearer ory_at_1")]).status, 200, "{:#?}", play.logs);
    assert_eq!(play.ask("/orders", &[("authorization", "Bearer ory_rt_1")]).status, 401);
}

#[test]
fn keys_tokens_and_introspection_may_be_on_three_hosts_behind_three_clusters() {
    let (issuer, hosts) =
        ("https://idp.example.com", ["https://keys.example.com", "https://tokens.example.com"]);
    let introspect = "https://introspect.example.com/i";
    let mut configuration = json!({
        "issuers": { "idp": {
            "issuer": issuer, "cluster": "meta", "jwks_cluster": "keys", "token_cluster": "tokens",
            "introspection_cluster": "introspect", "introspection": { "auth_method": "external" },
            "allowed_hosts": ["keys.example.com", "tokens.example.com", "introspect.example.com"],
        } },
        "inbound": { "rules": [{ "require": { "issuer": "idp", "audiences": ["orders-api"], "introspect": "always" } }] },
        "outbound": {
            "credentials": { "me": { "issuer": "idp", "client_id": "c", "client_secret": { "env": "SECRET" } } },
            "rules": [{ "credential": "me" }],
        },
    });
    let provider = move |asked: &super::play::Asked| match (asked.url.as_str(), asked.cluster.as_str()) {
        (OPENID, "meta") => good(&json!({
            "issuer": issuer, "jwks_uri": format!("{}/k", hosts[0]), "token_endpoint": format!("{}/t", hosts[1]),
            "introspection_endpoint": introspect,
        })),
        ("https://keys.example.com/k", "keys") => good(&keys()),
        ("https://tokens.example.com/t", "tokens") => {
            good(&json!({ "access_token": "t1", "token_type": "Bearer", "expires_in": 300 }))
        }
        (_, "introspect") if asked.url == introspect => good(&json!({ "active": true })),
        other => panic!("{other:?}"),
    };
    let authorization = bearer(&token(issuer));
    let mut discovered = Play::new(&configuration, &secret, provider);
    let end = discovered.ask("/", &[("authorization", &authorization)]);
    assert_eq!(end.set("authorization").as_deref(), Some("Bearer t1"), "{:#?}", discovered.logs);
    // Where all of them are given, nothing needs the issuer's own.
    let own = configuration["issuers"]["idp"].as_object_mut().unwrap();
    own.remove("cluster");
    own.insert("jwks_uri".to_owned(), json!("https://keys.example.com/k"));
    own.insert("token_endpoint".to_owned(), json!("https://tokens.example.com/t"));
    own.insert("introspection_endpoint".to_owned(), json!(introspect));
    let mut given = Play::new(&configuration, &secret, provider);
    let end = given.ask("/", &[("authorization", &authorization)]);
    assert_eq!(end.set("authorization").as_deref(), Some("Bearer t1"), "{:#?}", given.logs);
}

/// A provider that answers the first token request with 429 and `Retry-After: 3`.
fn busy_at_first() -> impl FnMut(&super::play::Asked) -> HttpReply + 'static {
    let mut count = 0;
    move |asked| match asked.url.as_str() {
        OPENID => good(&metadata("https://idp.example.com")),
        TOKEN => {
            count += 1;
            if count == 1 {
                return answer(429, &[("retry-after", "3")], "");
            }
            good(&json!({ "access_token": "t1", "token_type": "Bearer", "expires_in": 300 }))
        }
        _ => not_found(),
    }
}

#[test]
fn a_provider_that_asks_for_three_seconds_is_asked_once_more_after_them() {
    let mut play = play("E14-429-with-retry-after", busy_at_first());
    play.ask("/", &[]);
    play.pass(Duration::from_secs(5));
    let times: Vec<Duration> =
        play.asked.iter().filter(|asked| asked.url == TOKEN).map(|asked| asked.at).collect();
    assert_eq!(times.len(), 2, "{times:?}");
    assert!((3000..4000).contains(&(times[1] - times[0]).as_millis()), "{times:?}");
}

#[test]
fn a_held_request_waits_as_long_as_the_provider_asks_and_the_configuration_allows() {
    let mut play = play("E26-hold-and-retry-after", busy_at_first());
    let end = play.ask("/", &[]);
    assert_eq!(end.set("authorization").as_deref(), Some("Bearer t1"), "{end:?} {:#?}", play.logs);
}

#[test]
fn an_id_token_that_was_asked_for_is_attached() {
    let key = PrivateKey::new(Alg::EdDsa).private_pem();
    let environment = move |name: &str| (name == "KEY").then(|| key.clone());
    let url = "https://oauth2.googleapis.com/token";
    let name = "E28-google-id-token-by-assertion";
    let provider = move |asked: &super::play::Asked| {
        if asked.url == url { good(&json!({ "id_token": "eyJ.x.y" })) } else { not_found() }
    };
    let mut play = Play::new(&configuration(name), &environment, provider);
    let end = play.ask("/", &[]);
    assert_eq!(end.set("authorization").as_deref(), Some("Bearer eyJ.x.y"), "{:#?}", play.logs);
    let mut other = configuration(name);
    other["outbound"]["credentials"]["me"]["assertion_claims"] = json!({ "scope": "x" });
    let mut play = Play::new(&other, &environment, provider);
    assert_eq!(play.ask("/", &[]).status, 503, "nobody asked for an ID token");
}

fn exchanges() -> impl FnMut(&super::play::Asked) -> HttpReply + 'static {
    |_| {
        good(&json!({
            "access_token": "exchanged", "token_type": "Bearer", "expires_in": 300,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }))
    }
}

#[test]
fn a_subject_token_in_a_header_of_its_own_does_not_reach_the_service() {
    let mut play = play("E31a-subject-token-in-its-own-header", exchanges());
    let end = play.ask("/", &[("x-subject-token", "theirs")]);
    assert_eq!(end.set("authorization").as_deref(), Some("Bearer exchanged"), "{:#?}", play.logs);
    assert!(end.removes("x-subject-token"), "{end:?}");
}

#[test]
fn a_callers_authorization_does_not_reach_the_service_beside_the_exchanged_token() {
    let mut play = play("E31b-exchanged-token-in-its-own-header", exchanges());
    let end = play.ask("/", &[("authorization", "Bearer theirs")]);
    assert_eq!(end.set("x-upstream-token").as_deref(), Some("exchanged"), "{:#?}", play.logs);
    assert!(end.removes("authorization"), "{end:?}");
}
