//! Bytes that no correct client or host sends. None of them ends the worker's VM, and none makes a
//! request pass.

use super::clock;
use super::host::State;
use super::pairs::{self, Pairs};
use super::scene::{bearing, both_ways, inbound, inbound_with_claim, outbound, plain, token, with_header};
use super::vm::Vm;
use std::sync::LazyLock;
use std::time::Duration;

/// A worker with one rule for the whole service, and with keys.
fn guarded() -> Vm {
    Vm::ready(&inbound())
}

/// Refused, and the worker lives: a good request is forwarded.
fn refused_and_alive(vm: &Vm, headers: Pairs, statuses: &[u32]) {
    let request = vm.request(headers);
    let (status, reason) = request.outcome();
    assert!(statuses.contains(&status), "{status} {reason}");
    request.end();
    let good = vm.request(bearing(&GOOD));
    assert!(good.is_forwarded(), "{:?}", good.outcome());
    good.end();
}

/// A token that is good for the first five minutes.
static GOOD: LazyLock<String> = LazyLock::new(|| clock::at_start(token));

#[test]
fn bytes_that_are_no_utf8_are_only_bytes() {
    let vm = guarded();
    let odd = [&[0xff][..], &[0xc3, 0x28], &[0xed, 0xa0, 0x80], b"\0", b"a\r\nb: c", &[0x80; 300]];
    for value in odd {
        let tokens = [b"Bearer ".as_slice(), value].concat();
        refused_and_alive(&vm, with_header("authorization", tokens), &[401]);
        refused_and_alive(&vm, with_header("authorization", value), &[401]);
        for name in [":method", ":authority", ":scheme", "x-request-id", "cookie"] {
            let mut headers = plain();
            headers.retain(|(own, _)| own != name.as_bytes());
            headers.push((name.as_bytes().to_vec(), value.to_vec()));
            refused_and_alive(&vm, headers, &[401]);
        }
        let mut headers = plain();
        headers[3].1 = [b"/".as_slice(), value].concat();
        refused_and_alive(&vm, headers, &[400, 401]);
    }
    let mut headers = plain();
    headers.push((vec![0xff, 0xfe], b"x".to_vec()));
    headers.push((Vec::new(), Vec::new()));
    refused_and_alive(&vm, headers, &[401]);
}

#[test]
fn a_token_with_one_odd_byte_in_it_is_refused() {
    let vm = guarded();
    let good = token();
    for place in (0..good.len()).step_by(97) {
        for odd in [0x00, 0x0a, 0x20, 0x7f, 0x80, 0xff] {
            let mut bytes = format!("Bearer {good}").into_bytes();
            bytes[7 + place] = odd;
            refused_and_alive(&vm, with_header("authorization", bytes), &[401]);
        }
    }
}

#[test]
fn odd_bytes_beside_a_good_token_harm_nobody() {
    let vm = Vm::ready(&inbound_with_claim());
    let mut headers = bearing(&token());
    headers.push((b"x-caller".to_vec(), vec![0xff; 10]));
    headers.push((b"x-caller".to_vec(), b"admin".to_vec()));
    headers.push((vec![0xff], vec![0xff]));
    let request = vm.request(headers);
    assert!(request.is_forwarded());
    assert_eq!(request.header("x-caller"), [m2m_auth_kit::token::SUBJECT.as_bytes()]);
}

#[test]
fn odd_bytes_do_not_keep_a_token_from_being_attached() {
    let vm = Vm::ready(&outbound());
    let mut headers = with_header("authorization", [0xff, 0xfe]);
    headers.push((b"authorization".to_vec(), b"Basic \xff".to_vec()));
    headers.push((vec![0xff], vec![0xff]));
    let request = vm.request(headers);
    assert!(request.is_forwarded());
    assert!(
        matches!(&request.header("authorization")[..], [value] if value.starts_with(b"Bearer opaque-token"))
    );
}

#[test]
fn no_client_can_make_a_metric() {
    let vm = guarded();
    let mut known = None;
    for round in 0..3 {
        for number in 0..300 {
            let mut headers = bearing(&format!("{round}.{number}.x"));
            headers[0].1 = format!("M{round}{number}").into_bytes();
            headers[2].1 = format!("host-{round}-{number}").into_bytes();
            headers[3].1 = format!("/{round}/{number}").into_bytes();
            vm.request(headers).end();
        }
        vm.pass(Duration::from_secs(1));
        let now = vm.host(|host| host.metrics.len());
        assert!(known.replace(now).is_none_or(|before| before == now), "{now} metrics");
    }
}

#[test]
fn no_headers_at_all_are_refused() {
    for configuration in [inbound(), outbound(), both_ways()] {
        let vm = Vm::ready(&configuration);
        assert_eq!(vm.request(Pairs::new()).outcome().0, 503);
        assert_eq!(vm.request_in_bytes(plain(), pairs::write(&Pairs::new())).outcome().0, 503);
    }
}

#[test]
fn a_header_map_that_is_cut_short_is_refused_wherever_it_is_cut() {
    let vm = guarded();
    let headers = bearing(&token());
    let whole = pairs::write(&headers);
    for length in 0..whole.len() {
        let request = vm.request_in_bytes(headers.clone(), whole[..length].to_vec());
        assert!(matches!(request.outcome().0, 400 | 401 | 403 | 503), "{length}: {:?}", request.outcome());
    }
    assert!(vm.request_in_bytes(headers, whole).is_forwarded());
}

#[test]
fn a_header_map_that_lies_about_its_lengths_is_refused() {
    let vm = guarded();
    let whole = pairs::write(&plain());
    let words = whole.len().min(4 + plain().len() * 8) / 4;
    for word in 0..words {
        for lie in [0, 1, 2, 0x7fff_ffff, 0x8000_0000, u32::MAX - 8, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[word * 4..word * 4 + 4].copy_from_slice(&lie.to_le_bytes());
            let request = vm.request_in_bytes(plain(), bytes);
            assert!(matches!(request.outcome().0, 400 | 401 | 503), "{word}={lie}: {:?}", request.outcome());
        }
    }
}

#[test]
fn no_garbage_for_a_header_map_allows_a_request() {
    let vm = guarded();
    let whole = pairs::write(&with_header("authorization", "Bearer x.y.z"));
    let mut dice = m2m_auth::rng::Rng::new(20_260_727);
    for _ in 0..5000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice.next_u64() % 8 {
            let place = dice.next_u64() as usize % bytes.len();
            bytes[place] = dice.next_u64() as u8;
        }
        if dice.next_u64().is_multiple_of(4) {
            bytes.truncate(dice.next_u64() as usize % bytes.len());
        }
        let request = vm.request_in_bytes(plain(), bytes);
        assert!(matches!(request.outcome().0, 400 | 401 | 503), "{:?}", request.outcome());
        request.end();
    }
}

#[test]
fn headers_as_large_as_envoy_accepts_are_refused_or_forwarded_by_their_token_alone() {
    let vm = guarded();
    let large = "x".repeat(60 * 1024);
    refused_and_alive(&vm, with_header("x-large", &large), &[401]);
    refused_and_alive(&vm, bearing(&large), &[401]);
    refused_and_alive(&vm, bearing(&format!("{large}.{large}.{large}")), &[401]);
    refused_and_alive(&vm, bearing(&".".repeat(60 * 1024)), &[401]);
    let mut long_path = plain();
    long_path[3].1 = [b"/".as_slice(), "y".repeat(60 * 1024).as_bytes()].concat();
    refused_and_alive(&vm, long_path, &[401]);
    let mut many = plain();
    many.extend((0..1000).map(|number| (format!("x-{number}").into_bytes(), b"y".to_vec())));
    refused_and_alive(&vm, many, &[401]);
    let mut both = bearing(&token());
    both.push((b"x-large".to_vec(), large.into_bytes()));
    assert!(vm.request(both).is_forwarded());
}

#[test]
fn what_a_client_writes_does_not_break_a_line_of_the_log() {
    let vm = guarded();
    let mut headers = plain();
    headers[0].1 = b"GET\nm2m-auth: forged".to_vec();
    headers[2].1 = b"host\r\nforged".to_vec();
    vm.request(headers).answer();
    assert!(vm.log().iter().all(|line| !line.contains(['\n', '\r'])), "{:?}", vm.log());
}

#[test]
fn a_token_in_the_query_is_neither_a_credential_nor_seen() {
    let vm = guarded();
    let token = token();
    vm.hush(&token);
    let mut headers = plain();
    headers[3].1 = format!("/inventory?access_token={token}").into_bytes();
    assert_eq!(vm.request(headers).outcome().0, 401);
    assert_eq!(vm.violations(), [""; 0]);
}

#[test]
fn this_suite_sees_a_leak() {
    let vm = guarded();
    let token = token();
    vm.request(bearing(&token));
    let line = format!("m2m-auth: what a token: {}", &token[300..330]);
    vm.host(|host| host.write_log(2, line.as_bytes()));
    assert_eq!(vm.violations(), ["a secret in the log"]);
    vm.host(super::host::Host::unsay);
}

#[test]
fn this_suite_sees_what_must_not_be() {
    let vm = guarded();
    let request = vm.request(bearing(&token()));
    assert_eq!(request.state(), State::Forwarded);
    vm.host(|host| {
        host.begin("proxy_on_tick", 0);
        host.resume(0);
        host.arm(0);
        host.write_log(2, b"m2m-auth: two\nlines");
        host.change(super::host::Map::Request, b"x", None);
        host.answer(super::host::Answer {
            status: 401,
            details: String::new(),
            headers: pairs::of(&[("x", "a\r\nb")]),
            body: String::new(),
        });
        host.end();
    });
    assert_eq!(
        vm.violations(),
        [
            "a resume of what does not wait",
            "a timer of 0 ms: off, or so slow that nothing is noticed",
            "a log line that is not one line of ours",
            "a header change that comes too late, or concerns nothing",
            "an answer with a header that Envoy does not stop",
            "an answer to what does not wait for one",
        ]
    );
}
