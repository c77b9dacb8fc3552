//! `on_configure`: the one callback in which a rejection is dangerous. If it accepted on the trial
//! instance and rejected on a worker, Envoy would forward requests on that worker unchecked. So it
//! rejects an invalid configuration, and nothing else.

use super::clock;
use super::host::{NOT_FOUND, Verifier};
use super::scene::{
    bearing, both_ways, inbound, inbound_with_claim, issuers, outbound, plain, provider, token,
};
use super::vm::Vm;
use serde_json::{Value, json};
use std::time::Duration;

/// Five errors in one configuration.
fn wrong() -> Value {
    json!({
        "issuers": { "keycloak": { "issuer": "https://idp", "cluster": "keycloak", "clock_skew": "soon", "colour": 1 } },
        "inbound": { "rules": [{ "require": { "issuer": "keycloak" } }, {}] },
        "pending_requests": { "max": 20_000 },
    })
}

#[test]
fn it_reads_the_configuration_probes_the_host_and_arms_the_timer() {
    let vm = Vm::start();
    vm.record();
    assert!(vm.configure(&both_ways()));
    assert_eq!(
        vm.record(),
        [
            "proxy_on_configure",
            "  proxy_get_buffer_bytes plugin configuration",
            "  proxy_get_property plugin_vm_id",
            "  proxy_call_foreign_function verify_signature",
            "  proxy_call_foreign_function sign",
            // The records of the key set and of the token: from now on there is something to
            // compare and swap.
            "  proxy_get_shared_data",
            "  proxy_set_shared_data",
            "  proxy_get_shared_data",
            "  proxy_set_shared_data",
            "  proxy_set_tick_period_milliseconds 1",
        ]
    );
}

#[test]
fn the_module_starts_without_a_host_call() {
    let vm = Vm::start();
    assert_eq!(vm.record(), ["proxy_on_context_create", "proxy_on_vm_start"]);
}

#[test]
fn a_wrong_configuration_is_refused_and_each_error_has_its_line() {
    let vm = Vm::start();
    vm.record();
    assert!(!vm.configure(&wrong()));
    let log = vm.log();
    for place in [
        "issuers.keycloak.clock_skew:",
        "issuers.keycloak.colour:",
        "inbound.rules[0].require.audiences:",
        "inbound.rules[1]:",
        "pending_requests.max:",
    ] {
        assert_eq!(vm.lines(place), 1, "{place} in {log:#?}");
    }
    assert!(log.iter().all(|line| line.starts_with("m2m-auth: ") && !line.contains('\n')), "{log:#?}");
    assert_eq!(log[0], "m2m-auth: 5 errors in the configuration");
    assert_eq!(log.len(), 6, "{log:#?}");
    let errors = vm.host(|host| host.log.iter().filter(|(level, _)| *level == 4).count());
    assert_eq!(errors, 6, "at level error");
    let mut expected = vec!["proxy_on_configure", "  proxy_get_buffer_bytes plugin configuration"];
    expected.extend(["  proxy_log error"; 6]);
    assert_eq!(vm.record(), expected, "and no timer");
}

#[test]
fn what_is_no_configuration_at_all_is_refused_with_a_line() {
    for nothing in [&b""[..], b" ", b"null", b"[]", b"{}", b"{", b"\xff\xfe", b"\0", b"\"text\""] {
        let vm = Vm::start();
        assert!(!vm.configure_bytes(nothing), "{nothing:?}");
        assert_eq!(vm.log().len(), 2, "{:?}", vm.log());
        assert_eq!(vm.request(plain()).outcome(), (503, "not_ready".to_owned()));
    }
}

#[test]
fn an_absent_configuration_is_not_even_asked_for() {
    let vm = Vm::start();
    vm.record();
    assert!(!vm.configure_bytes(b""));
    assert_eq!(vm.record(), ["proxy_on_configure", "  proxy_log error", "  proxy_log error"]);
}

#[test]
fn before_a_configuration_is_accepted_every_request_gets_503() {
    let vm = Vm::start();
    vm.record();
    let answer = vm.request(bearing(&token())).answer();
    assert_eq!((answer.status, answer.details.as_str()), (503, "m2m_auth_not_ready"));
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    assert_eq!(
        vm.record(),
        ["proxy_on_context_create", "proxy_on_request_headers", "  proxy_send_local_response 503"]
    );
    assert!(!vm.configure(&wrong()));
    assert_eq!(vm.request(bearing(&token())).outcome(), (503, "not_ready".to_owned()));
    vm.tick(vm.root());
    assert_eq!(vm.calls().len(), 0);
    assert!(vm.configure(&inbound()));
    assert!(vm.settled(bearing(&token())).is_forwarded());
}

#[test]
fn a_refused_second_configuration_leaves_the_first_in_force() {
    let vm = Vm::ready(&inbound());
    assert!(!vm.configure(&wrong()));
    assert!(vm.request(bearing(&token())).is_forwarded());
    assert_eq!(vm.request(plain()).outcome(), (401, "no_token".to_owned()));
}

#[test]
fn an_accepted_second_configuration_takes_over() {
    let vm = Vm::ready(&inbound());
    let mut other = inbound();
    other["inbound"]["rules"][0]["require"]["audiences"] = json!(["billing-service"]);
    assert!(vm.configure(&other));
    assert_eq!(vm.settled(bearing(&token())).outcome(), (401, "audience".to_owned()));
}

#[test]
fn a_request_that_waits_when_a_second_configuration_comes_is_answered() {
    let vm = Vm::with(&inbound());
    let waiting = vm.request(bearing(&token()));
    assert!(!vm.configure(&wrong()));
    assert!(waiting.waits(), "a refused one changes nothing");
    vm.record();
    assert!(vm.configure(&inbound_with_claim()));
    assert_eq!(waiting.outcome(), (503, "not_ready".to_owned()));
    assert_eq!(
        vm.record(),
        [
            "proxy_on_configure",
            "  proxy_get_buffer_bytes plugin configuration",
            "  proxy_get_property plugin_vm_id",
            "  proxy_log warn",
            "  proxy_set_effective_context request 1",
            "  proxy_send_local_response 503",
            "  proxy_set_effective_context root",
            "  proxy_call_foreign_function verify_signature",
            "  proxy_call_foreign_function sign",
            "  proxy_get_shared_data",
            "  proxy_set_tick_period_milliseconds 1",
        ]
    );
}

#[test]
fn a_record_that_another_worker_has_just_made_is_not_made_again() {
    let mut configuration = both_ways();
    configuration["inbound"]["rules"][0]["require"]["token_binding"] = json!("dpop");
    let vm = Vm::start();
    vm.host(|host| host.vm_id = "own".to_owned());
    assert!(vm.configure(&configuration));
    vm.wake();
    vm.serve();
    let records = vm.host(|host| host.shared.clone());
    assert!(records.len() > 256, "keys, a token and proofs: {}", records.len());
    // Two workers start at once: this one looks before the other has written, and writes after it.
    vm.break_calls(NOT_FOUND, |_, name| name == "proxy_get_shared_data");
    assert!(vm.configure(&configuration));
    assert!(vm.host(|host| host.shared == records), "what the other has left there is gone");
}

#[test]
fn an_answer_to_a_call_of_the_former_configuration_is_dropped() {
    let vm = Vm::with(&inbound());
    vm.wake();
    let call = vm.the_call();
    assert!(vm.configure(&inbound()));
    vm.deliver(&call, super::scene::reply(200, "{\"keys\":[]}"));
    assert!(vm.settled(bearing(&token())).is_forwarded());
}

#[test]
fn two_configurations_in_one_vm_do_not_meet() {
    let vm = Vm::ready(&inbound());
    let drained_later = vm.root();
    let root = vm.another_root();
    let mut other = inbound();
    other["inbound"]["rules"][0]["require"]["audiences"] = json!(["billing-service"]);
    assert!(vm.configure_root(root, other.to_string().as_bytes()));
    vm.pass(Duration::from_secs(1));
    assert_eq!(vm.serve(), 0, "the new root finds what the old one has fetched");
    let token = token();
    assert!(vm.request_of(drained_later, bearing(&token), None).is_forwarded());
    assert_eq!(vm.request_of(root, bearing(&token), None).outcome(), (401, "audience".to_owned()));
    vm.delete_root(drained_later);
    assert_eq!(vm.request_of(root, bearing(&token), None).outcome(), (401, "audience".to_owned()));
}

#[test]
fn a_request_that_outlives_its_root_ends_in_peace() {
    let vm = Vm::with(&inbound());
    vm.wake();
    let (call, waiting) = (vm.the_call(), vm.request(bearing(&token())));
    vm.delete_root(vm.root());
    vm.deliver(&call, super::scene::reply(200, "{}"));
    waiting.end();
}

/// One possible difference of an instance from the trial instance.
type Circumstance = (&'static str, Box<dyn Fn(&Vm)>);

/// All that `on_configure` must not depend on.
fn circumstances() -> Vec<Circumstance> {
    let mut all: Vec<Circumstance> = vec![
        ("1970", Box::new(|_| clock::set_wall(0))),
        ("before 1970", Box::new(|_| clock::set_wall(-86_400))),
        ("the year 2262 and later", Box::new(|_| clock::set_wall(i64::MAX / 1_000_000_000 + 1))),
        ("a century later", Box::new(|_| clock::pass(Duration::from_hours(876_600)))),
        ("no verifier", Box::new(|vm| vm.host(|host| host.verifier = Verifier::Absent))),
        ("an odd verifier", Box::new(|vm| vm.host(|host| host.verifier = Verifier::Says(vec![0xff; 100])))),
        ("no cluster", Box::new(|vm| vm.host(|host| host.clusters.clear()))),
        ("requests before", Box::new(|vm| vm.request(plain()).end())),
        ("ticks before", Box::new(|vm| vm.tick(vm.root()))),
        (
            "another root",
            Box::new(|vm| assert!(vm.configure_root(vm.another_root(), outbound().to_string().as_bytes()))),
        ),
        ("a configuration before", Box::new(|vm| assert!(vm.configure(&outbound())))),
        (
            "somebody waits",
            Box::new(|vm| {
                assert!(vm.configure(&inbound()));
                assert!(vm.request(bearing(&token())).waits());
            }),
        ),
        ("a wrong one before", Box::new(|vm| assert!(!vm.configure(&wrong())))),
    ];
    for status in [1, 2, 3, 4, 7, 8, 10, 12, 99] {
        all.push((
            "all but the configuration fails",
            Box::new(move |vm| vm.break_calls(status, |_, name| name != "proxy_get_buffer_bytes")),
        ));
    }
    all
}

#[test]
fn the_verdict_depends_on_the_configuration_alone() {
    let good = [inbound(), inbound_with_claim(), outbound(), both_ways()];
    let bad = [wrong(), json!({ "issuers": issuers() })];
    let configurations = good.iter().map(|good| (good, true)).chain(bad.iter().map(|bad| (bad, false)));
    for (configuration, accepted) in configurations {
        let first = verdict(configuration, &|_| ());
        assert_eq!(first.0, accepted, "{first:?}");
        for (name, circumstance) in circumstances() {
            assert_eq!(verdict(configuration, &*circumstance), first, "{name}");
        }
    }
}

/// Whether it was accepted, and the errors that were logged (or would have been, had the host taken
/// the lines).
fn verdict(configuration: &Value, circumstance: &dyn Fn(&Vm)) -> (bool, Vec<String>) {
    let vm = Vm::start();
    circumstance(&vm);
    vm.record();
    vm.host(|host| host.log.clear());
    let accepted = vm.configure(configuration);
    let waited = vm.host(|host| host.fault.is_none() && host.streams.len() == 1);
    for call in &vm.record()[1..] {
        let own = [
            "  proxy_get_buffer_bytes plugin configuration",
            "  proxy_log error",
            "  proxy_get_property plugin_vm_id",
            "  proxy_call_foreign_function verify_signature",
            "  proxy_call_foreign_function sign",
            "  proxy_get_shared_data",
            "  proxy_set_shared_data",
            "  proxy_set_tick_period_milliseconds 1",
        ];
        // Requests that wait under the former configuration are answered.
        let of_a_waiter = ["proxy_log warn", "proxy_set_effective_context", "proxy_send_local_response 503"];
        let known = own.contains(&call.as_str())
            || waited && of_a_waiter.iter().any(|known| call.trim().starts_with(known));
        assert!(known, "{call}");
    }
    let errors =
        vm.host(|host| host.log.iter().filter(|(level, _)| *level == 4).cloned().collect::<Vec<_>>());
    (accepted, errors.into_iter().map(|(_, line)| line).collect())
}

#[test]
fn an_instance_that_is_deleted_while_it_fetches_leaves_the_fetch_to_another_at_once() {
    let vm = Vm::with(&inbound());
    vm.wake();
    let first = vm.the_call();
    let second = vm.another_root();
    assert!(vm.configure_root(second, inbound().to_string().as_bytes()));
    let request = vm.request_of(second, bearing(&token()), None);
    vm.pass(Duration::from_millis(200));
    assert!(request.waits() && vm.calls().len() == 1, "one of them fetches");
    vm.delete_root(vm.root());
    vm.pass(Duration::from_millis(200));
    let call = vm.the_call();
    assert_ne!(call.token, first.token);
    vm.deliver(&call, provider(&call));
    vm.pass(Duration::from_millis(10));
    assert!(request.is_forwarded(), "{:?}", request.outcome());
}

#[test]
fn no_worker_rolls_other_dice_than_the_trial_instance() {
    let verdicts: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(|| (verdict(&both_ways(), &|_| ()), verdict(&wrong(), &|_| ()))))
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{verdicts:?}");
}

#[test]
fn a_configuration_that_the_host_withholds_is_not_ready_but_no_refusal() {
    for status in [1, 2, 3, 4, 7, 8, 10, 99] {
        let vm = Vm::start();
        vm.break_calls(status, |_, name| name == "proxy_get_buffer_bytes");
        let accepted = vm.configure(&inbound());
        vm.restore_calls();
        assert_eq!(vm.request(bearing(&token())).outcome(), (503, "not_ready".to_owned()), "status {status}");
        assert!(
            accepted,
            "a rejection on one worker alone would leave its requests unchecked; status {status}"
        );
        assert_eq!(vm.lines("does not hand over the configuration"), 1);
    }
}

#[test]
fn a_second_configuration_that_the_host_withholds_leaves_the_first_in_force() {
    let vm = Vm::ready(&inbound());
    vm.break_calls(10, |_, name| name == "proxy_get_buffer_bytes");
    assert!(vm.configure(&inbound_with_claim()));
    vm.restore_calls();
    assert!(vm.request(bearing(&token())).is_forwarded());
    assert_eq!(vm.request(plain()).outcome(), (401, "no_token".to_owned()));
}
