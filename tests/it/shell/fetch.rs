//! Calls to the provider: when they are made, what they look like, what is taken of their answers.

use super::host::Delivery;
use super::pairs;
use super::scene::{
    CLIENT_SECRET, bearing, both_ways, inbound, key_set, outbound, plain, provider, reply, token,
};
use super::vm::Vm;
use m2m_auth::http::message::MAX_REPLY_BYTES;
use serde_json::json;
use std::time::Duration;

/// A little longer than a request waits by default.
const WAITING: Duration = Duration::from_millis(5100);

#[test]
fn the_first_tick_fetches_everything_and_then_the_worker_sleeps() {
    let mut alone = both_ways();
    alone["sharing"] = json!("off");
    let vm = Vm::with(&alone);
    assert_eq!(vm.period(), Duration::from_millis(1));
    vm.record();
    vm.wake();
    assert_eq!(
        vm.record(),
        [
            "proxy_on_tick",
            "  proxy_http_call keycloak: GET /jwks",
            "  proxy_http_call keycloak: POST /token",
            "  proxy_set_tick_period_milliseconds 1000",
        ]
    );
}

#[test]
fn what_is_fetched_in_two_steps_is_asked_for_in_the_answer_to_the_first() {
    let mut configuration = both_ways();
    configuration["issuers"]["keycloak"] = json!({ "issuer": super::scene::ISSUER, "cluster": "keycloak" });
    let vm = Vm::with(&configuration);
    let request = vm.request(bearing(&token()));
    vm.wake();
    let call = vm.the_call();
    assert_eq!(call.path(), "/realms/m2m/.well-known/openid-configuration");
    vm.record();
    let metadata = json!({
        "issuer": super::scene::ISSUER,
        "jwks_uri": "https://idp.example.com/jwks",
        "token_endpoint": "https://idp.example.com/token",
    });
    vm.deliver(&call, reply(200, &metadata.to_string()));
    let calls: Vec<_> = vm.record().into_iter().filter(|line| line.contains("http_call ")).collect();
    assert_eq!(calls, ["  proxy_http_call keycloak: GET /jwks", "  proxy_http_call keycloak: POST /token"]);
    vm.serve();
    assert!(request.is_forwarded());
}

#[test]
fn a_call_is_what_the_host_needs_and_no_more() {
    let vm = Vm::with(&both_ways());
    vm.wake();
    for call in vm.calls() {
        let names: Vec<_> =
            call.headers.iter().map(|(name, _)| String::from_utf8(name.clone()).unwrap()).collect();
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len(), "a header twice: {names:?}");
        assert_eq!(call.header(":authority").as_deref(), Some("idp.example.com"));
        assert_eq!(call.header(":scheme").as_deref(), Some("https"));
        assert!(!names.iter().any(|name| ["host", "content-length"].contains(&name.as_str())), "{names:?}");
        assert_eq!(call.timeout, 5000);
        let asks = call.path() == "/token";
        assert_eq!(call.header(":method").as_deref(), Some(if asks { "POST" } else { "GET" }));
        assert_eq!(call.body.is_empty(), !asks);
        assert_eq!(
            call.header("authorization").is_some(),
            asks,
            "a request that asks for no token sends no secret"
        );
        let form = call.header("content-type");
        assert_eq!(form.as_deref(), asks.then_some("application/x-www-form-urlencoded"));
        assert!(call.header("user-agent").unwrap().starts_with("m2m-auth/"));
    }
}

#[test]
fn the_secret_is_sent_where_it_belongs() {
    use base64::Engine as _;
    let vm = Vm::with(&outbound());
    vm.wake();
    let header = vm.the_call().header("authorization").unwrap();
    let pair =
        base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(String::from_utf8(pair).unwrap(), format!("order-service:{CLIENT_SECRET}"));
}

#[test]
fn every_timeout_is_one_that_the_host_keeps() {
    for (written, millis) in [("1ms", 1), ("1500ms", 1500), ("60s", 60_000)] {
        let mut configuration = inbound();
        configuration["issuers"]["keycloak"]["timeout"] = json!(written);
        let vm = Vm::with(&configuration);
        vm.wake();
        assert_eq!(vm.the_call().timeout, millis);
    }
}

#[test]
fn an_answer_that_is_too_large_is_not_copied() {
    let vm = Vm::with(&inbound());
    let request = vm.request(bearing(&token()));
    vm.wake();
    vm.record();
    let padded = |size: usize| {
        let mut body = key_set().to_string();
        body.push_str(&" ".repeat(size - body.len()));
        reply(200, &body)
    };
    vm.deliver(&vm.the_call(), padded(MAX_REPLY_BYTES + 1));
    let record = vm.record();
    assert!(!record.iter().any(|line| line.contains("get_buffer_bytes")), "{record:#?}");
    assert_eq!(vm.lines("larger than"), 1, "{:?}", vm.log());
    assert!(request.waits());
    vm.pass(Duration::from_secs(2));
    vm.deliver(&vm.the_call(), padded(MAX_REPLY_BYTES));
    assert!(request.is_forwarded(), "as large as may be is not too large");
}

#[test]
fn an_answer_without_a_status_is_no_answer() {
    let vm = Vm::with(&inbound());
    let request = vm.request(bearing(&token()));
    vm.wake();
    vm.deliver(&vm.the_call(), Delivery { headers: pairs::of(&[]), ..reply(200, &key_set().to_string()) });
    assert!(request.waits());
    assert_eq!(vm.lines("unreachable: the connection ended before the answer"), 1, "{:?}", vm.log());
    vm.pass(Duration::from_secs(2));
    vm.deliver(&vm.the_call(), Delivery::default());
    vm.pass(WAITING);
    let answer = request.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (503, "jwks_unavailable"));
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn a_missing_cluster_is_logged_and_retried_after_a_backoff() {
    let vm = Vm::start();
    vm.host(|host| host.clusters.clear());
    assert!(vm.configure(&inbound()));
    let request = vm.request(bearing(&token()));
    vm.wake();
    assert!(request.waits(), "the first failure is not the last word");
    assert_eq!(
        vm.lines(
            r#"keys of issuer keycloak: unreachable: cluster \"keycloak\" not found in Envoy's configuration"#
        ),
        1
    );
    vm.pass(WAITING);
    let answer = request.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (503, "jwks_unavailable"));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    vm.pass(Duration::from_mins(1));
    let held = (0..30).filter(|_| {
        let request = vm.request(bearing(&token()));
        let is_held = request.waits();
        vm.pass(WAITING);
        assert_eq!(request.outcome(), (503, "jwks_unavailable".to_owned()));
        is_held
    });
    assert!(held.count() < 15, "only those are held that the next attempt can still save");

    let logged = vm.lines("not found in Envoy's configuration");
    vm.pass(Duration::from_mins(2));
    let logged = vm.lines("not found in Envoy's configuration") - logged;
    assert!((3..40).contains(&logged), "{logged} attempts in two minutes");

    vm.host(|host| host.clusters.insert("keycloak".to_owned()));
    assert_eq!(vm.live(Duration::from_secs(31)), 1);
    assert!(vm.request(bearing(&token())).is_forwarded());
}

#[test]
fn a_host_that_cannot_call_is_treated_alike() {
    let vm = Vm::with(&outbound());
    // BadArgument and InternalFailure are all that a host answers; the SDK panics on anything else.
    for status in [2, 10] {
        vm.break_calls(status, |_, name| name == "proxy_http_call");
        vm.pass(Duration::from_mins(1));
        let request = vm.request(plain());
        vm.pass(WAITING);
        vm.restore_calls();
        assert_eq!(vm.calls().len(), 0);
        assert_eq!(request.outcome(), (503, "outbound_token_unavailable".to_owned()));
    }
    assert_eq!(vm.live(Duration::from_secs(31)), 1);
    assert!(vm.request(plain()).is_forwarded());
}

#[test]
fn an_answer_that_never_comes_is_given_up_and_asked_for_again() {
    let vm = Vm::with(&inbound());
    vm.host(|host| host.loses_calls = true);
    vm.wake();
    let lost = vm.the_call();
    vm.pass(Duration::from_secs(8));
    assert_eq!(vm.lines("timeout: the answer never came"), 1, "{:?}", vm.log());
    assert_eq!(vm.calls().len(), 2);
    let again = vm.calls().into_iter().find(|call| call.token != lost.token).unwrap();
    vm.deliver(&again, provider(&again));
    assert!(vm.request(bearing(&token())).is_forwarded());
    // The lost answer was only late.
    vm.deliver(&lost, reply(200, "{\"keys\":[]}"));
    assert!(vm.request(bearing(&token())).is_forwarded());
}

#[test]
fn a_failing_provider_never_costs_a_good_token() {
    let vm = Vm::ready(&both_ways());
    let token = token();
    assert!(vm.request(bearing(&token)).is_forwarded());
    for _ in 0..2700 {
        vm.pass(Duration::from_millis(100));
        for call in vm.calls() {
            vm.deliver(&call, reply(503, ""));
        }
        assert!(vm.request(bearing(&token)).is_forwarded());
    }
}

#[test]
fn a_busy_hour_makes_a_handful_of_calls() {
    let vm = Vm::ready(&both_ways());
    let mut calls = 0;
    for _ in 0..3600 {
        vm.pass(Duration::from_secs(1));
        calls += vm.serve();
        vm.request(plain()).end();
    }
    assert!((24..40).contains(&calls), "{calls} calls in an hour: keys every 5 min, tokens of 5 min");
}
