//! Answers that no correct provider gives. None makes a request pass or ends the worker, and none
//! gets a secret or a token into the log.

use super::host::Delivery;
use super::pairs;
use super::scene::{bearing, inbound, outbound, reply, token};
use super::vm::Vm;
use base64::Engine as _;
use serde_json::{Value, json};
use std::time::Duration;

/// Answers of a provider that is broken, or is not the provider.
fn odd_answers() -> Vec<(&'static str, Delivery)> {
    let good = super::scene::key_set().to_string();
    let with_status = |status: &[u8], body: &str| Delivery {
        headers: vec![(b":status".to_vec(), status.to_vec())],
        raw: None,
        body: body.as_bytes().to_vec(),
    };
    let raw = |raw: &[u8]| Delivery { raw: Some(raw.to_vec()), ..reply(200, &good) };
    vec![
        ("nothing at all", Delivery::default()),
        (
            "no status",
            Delivery { headers: pairs::of(&[("content-type", "application/json")]), ..reply(200, &good) },
        ),
        ("a status that is no number", with_status(b"ok", &good)),
        ("a status that is not ASCII", with_status(&[0xff, 0xfe], &good)),
        ("a status out of range", with_status(b"4294967496", &good)),
        ("an empty status", with_status(b"", &good)),
        ("headers cut short", raw(&[1, 0, 0, 0, 7, 0])),
        ("headers that lie", raw(&[0xff; 40])),
        ("an empty body", reply(200, "")),
        ("half a body", reply(200, &good[..good.len() / 2])),
        ("no JSON", reply(200, "<html>welcome</html>")),
        ("no UTF-8", Delivery { body: vec![0xff; 100], ..reply(200, "") }),
        ("a deep hole", reply(200, &"[".repeat(100_000))),
        ("no content", reply(204, "")),
        ("a redirect", reply(302, "")),
        ("a failure", reply(500, &good)),
        ("nothing there", reply(404, &good)),
        ("too many requests", reply(429, &good)),
    ]
}

#[test]
fn no_odd_answer_of_the_provider_allows_a_request_or_ends_the_worker() {
    for (name, answer) in odd_answers() {
        for configuration in [inbound(), outbound()] {
            let vm = Vm::with(&configuration);
            let request = vm.request(bearing(&token()));
            for _ in 0..10 {
                vm.wake();
                for call in vm.calls() {
                    vm.deliver(&call, answer.clone());
                }
            }
            assert!(matches!(request.outcome().0, 0 | 503), "{name}: {:?}", request.outcome());
            vm.pass(Duration::from_secs(6));
            assert_eq!(request.outcome().0, 503, "{name}");
            // A provider that recovers is used again within the longest backoff.
            vm.live(Duration::from_secs(400));
            assert!(vm.settled(bearing(&token())).is_forwarded(), "{name}");
        }
    }
}

#[test]
fn a_header_of_the_provider_in_odd_bytes_is_only_ignored() {
    let vm = Vm::with(&inbound());
    let request = vm.request(bearing(&token()));
    vm.wake();
    let call = vm.the_call();
    let mut answer = super::scene::provider(&call);
    answer.headers.push((b"retry-after".to_vec(), vec![0xff]));
    answer.headers.push((vec![0xff, 0x00], vec![0xfe]));
    vm.deliver(&call, answer);
    assert!(request.is_forwarded());
}

/// The next call, whenever it comes, is answered like this.
fn answer_next(vm: &Vm, answer: &Delivery) {
    for _ in 0..1000 {
        if let [call, ..] = vm.calls().as_slice() {
            return vm.deliver(call, answer.clone());
        }
        vm.pass(Duration::from_millis(500));
    }
    panic!("no call in 500 s");
}

#[test]
fn a_provider_that_repeats_our_secret_does_not_get_it_into_the_log() {
    let vm = Vm::with(&outbound());
    vm.wake();
    let call = vm.the_call();
    let credential = call.header("authorization").unwrap();
    let secret = super::scene::CLIENT_SECRET;
    for text in [format!("wrong secret {secret}"), format!("wrong {credential}"), secret.to_owned()] {
        for body in [
            json!({ "error": text, "error_description": "x" }),
            json!({ "error": "x", "error_description": text }),
        ] {
            for status in [200, 400, 401, 500] {
                answer_next(&vm, &reply(status, &body.to_string()));
            }
        }
    }
    assert_eq!(vm.violations(), [""; 0]);
}

#[test]
fn no_spelling_of_a_repeated_secret_gets_into_the_log() {
    let basic = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    // A secret that looks like an error code; one that form-encoding changes; one that is not
    // ASCII.
    for (secret, encoded) in [
        ("whisper_it_to_nobody_else", "whisper_it_to_nobody_else"),
        ("whisper & tell=nobody/else+", "whisper+%26+tell%3Dnobody%2Felse%2B"),
        ("wh\u{fc}sper it to nobody else", "wh%C3%BCsper+it+to+nobody+else"),
    ] {
        for method in ["client_secret_basic", "client_secret_post"] {
            let mut configuration = outbound();
            configuration["outbound"]["credentials"]["order-service"]["client_secret"] =
                json!({ "inline": secret });
            configuration["outbound"]["credentials"]["order-service"]["auth_method"] = json!(method);
            let vm = Vm::with(&configuration);
            let credential = basic(&format!("order-service:{encoded}"));
            for text in [secret, encoded, &credential] {
                vm.hush(text);
                let sentence = format!("no client has client_secret={text}");
                for body in [json!({ "error": text }), json!({ "error": "x", "error_description": sentence })]
                {
                    answer_next(&vm, &reply(401, &body.to_string()));
                }
            }
            assert_eq!(vm.lines("status 401"), 6, "{:?}", vm.log());
            assert_eq!(vm.violations(), [""; 0], "{method}");
        }
    }
}

#[test]
fn a_provider_that_answers_with_a_token_and_a_fault_keeps_the_token_out_of_the_log() {
    let vm = Vm::with(&outbound());
    vm.hush("opaque-token-that-nobody-may-see");
    let answers: [Value; 4] = [
        json!({ "access_token": "opaque-token-that-nobody-may-see", "token_type": "DPoP" }),
        json!({ "access_token": "opaque-token-that-nobody-may-see with a space", "token_type": "Bearer" }),
        json!({ "access_token": ["opaque-token-that-nobody-may-see"], "token_type": "Bearer" }),
        json!({ "access_token": "opaque-token-that-nobody-may-see", "token_type": "Bearer", "expires_in": "never" }),
    ];
    for answer in answers {
        answer_next(&vm, &reply(200, &answer.to_string()));
    }
    assert!(!vm.log().is_empty());
    assert_eq!(vm.violations(), [""; 0]);
}

#[test]
fn a_provider_that_errors_the_token_for_its_type_does_not_get_it_into_the_log() {
    let vm = Vm::with(&outbound());
    vm.hush("opaque-token-that-nobody-may-see");
    let answer = json!({ "access_token": 300, "token_type": "opaque-token-that-nobody-may-see" });
    answer_next(&vm, &reply(200, &answer.to_string()));
    assert_eq!(vm.violations(), [""; 0]);
}
