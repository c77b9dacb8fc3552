//! Several workers and one shared store: which one fetches, which read, and what happens when the
//! one that fetches dies.

use crate::core::sim::provider;
use crate::core::sim::world::{inbound, signer, without_discovery};
use m2m_auth::dpop::ProofKey;
use m2m_auth::filter::header_edits::Edit;
use m2m_auth::http::message::{HttpCall, HttpReply, MessageHead, RequestId};
use m2m_auth::jose::jwk::Algorithm;
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::store::FetchId;
use m2m_auth::store::shared_record::SharedStore;
use m2m_auth::time::{Instant, Now};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Records and their versions, by name.
type Records = HashMap<String, (Vec<u8>, u32)>;

/// The shared data of one process.
#[derive(Clone, Default)]
pub(crate) struct Shared(Rc<RefCell<Records>>);

impl Shared {
    /// The same records, unchanged.
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// What the records are called.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }
}

impl SharedStore for Shared {
    fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
        self.0.borrow().get(name).cloned()
    }

    fn write(&self, name: &str, record: &[u8], version: u32) -> bool {
        let mut records = self.0.borrow_mut();
        let current = records.get(name).map_or(0, |(_, version)| *version);
        // As in Envoy: 0 writes in any case.
        let swaps = version == 0 || version == current;
        if swaps {
            records.insert(name.to_owned(), (record.to_vec(), current + 1));
        }
        swaps
    }
}

/// One worker, and what it asks for.
struct Worker {
    plugin: Plugin,
    calls: Vec<(FetchId, HttpCall)>,
    /// Statuses of settled requests; 200 is forwarded.
    settled: Vec<u16>,
}

struct Process {
    board: Shared,
    workers: Vec<Worker>,
    now: Duration,
}

const TIMEOUT: Duration = Duration::from_secs(5);

fn policy() -> Policy {
    policy_with(|_| ())
}

fn policy_with(change: impl FnOnce(&mut Value)) -> Policy {
    let mut configuration = json!({
        "issuers": { "idp": { "issuer": "idp", "cluster": "idp", "token_endpoint": "http://idp/token", "timeout": "5s" } },
        "outbound": {
            "credentials": { "c": { "issuer": "idp", "client_id": "c", "client_secret": { "inline": "hush" } } },
            "rules": [{ "credential": "c" }],
        },
        "pending_requests": { "timeout": "30s" },
    });
    change(&mut configuration["outbound"]);
    Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap()
}

fn answer(status: u16, token: &str) -> HttpReply {
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 60 }).to_string();
    HttpReply { status: Some(status), body: Some(body.into_bytes()), ..HttpReply::default() }
}

impl Process {
    fn of(workers: u64) -> Self {
        Self::with(workers, policy)
    }

    fn with(workers: u64, policy: impl Fn() -> Policy) -> Self {
        let board = Shared::default();
        let worker = |seed| Worker {
            plugin: Plugin::sharing(
                policy(),
                Box::new(SoftwareCrypto),
                signer(),
                Box::new(board.clone()),
                seed,
            ),
            calls: Vec::new(),
            settled: Vec::new(),
        };
        let workers = (1..=workers).map(worker).collect();
        Self { board, workers, now: Duration::from_secs(1000) }
    }

    fn clock(&self) -> Now {
        Now { instant: Instant(self.now), unix: 1_800_000_000 + self.now.as_secs() }
    }

    /// Time passes in steps of a millisecond, and each worker's timer runs out when it said.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += Duration::from_millis(1);
            let now = self.clock();
            for worker in &mut self.workers {
                if worker.plugin.deadline(now).is_some_and(|at| at <= now.instant)
                    || self.now.subsec_millis() == 0
                {
                    worker.plugin.tick(now);
                    worker.drain();
                }
            }
        }
    }

    /// The same in steps of a second.
    fn pass_seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            let now = self.clock();
            for worker in &mut self.workers {
                worker.plugin.tick(now);
                worker.drain();
            }
        }
    }

    /// Calls that have no answer yet, over all workers.
    fn calls(&self) -> usize {
        self.workers.iter().map(|worker| worker.calls.len()).sum()
    }

    /// The one call that is open, by its worker.
    fn caller(&self) -> usize {
        assert_eq!(self.calls(), 1);
        self.workers.iter().position(|worker| !worker.calls.is_empty()).unwrap()
    }

    fn answer(&mut self, reply: &HttpReply) {
        let (caller, now) = (self.caller(), self.clock());
        let worker = &mut self.workers[caller];
        let (ticket, _) = worker.calls.remove(0);
        worker.plugin.reply(ticket, reply, now);
        worker.drain();
    }

    fn request(&mut self, worker: usize, id: u32) -> RequestOutcome {
        self.request_with(worker, id, &[])
    }

    fn request_with(&mut self, worker: usize, id: u32, more: &[(&str, &str)]) -> RequestOutcome {
        let pseudo = [(":method", "GET"), (":path", "/"), (":authority", "svc")];
        let head: MessageHead = pseudo.iter().chain(more).copied().collect();
        let now = self.clock();
        self.workers[worker].plugin.request(RequestId(id), head, now)
    }
}

impl Process {
    /// What a worker has counted under this name.
    fn counted(&mut self, worker: usize, name: &str) -> u64 {
        let mut found = 0;
        self.workers[worker].plugin.metrics().report(|_, counter, sum| {
            found += if counter.to_string() == name { sum } else { 0 };
        });
        found
    }
}

impl Worker {
    fn drain(&mut self) {
        while let Some(effect) = self.plugin.next_effect() {
            match effect {
                Effect::Call(ticket, call) => self.calls.push((ticket, call)),
                Effect::Resume(_, RequestOutcome::Forward(_)) => self.settled.push(200),
                Effect::Resume(_, RequestOutcome::Respond(response)) => self.settled.push(response.status),
                Effect::Resume(_, RequestOutcome::Wait) => panic!("settled means settled"),
                Effect::Log(..) => {}
            }
        }
    }
}

#[test]
fn one_worker_fetches_and_the_waiting_workers_have_it_a_few_milliseconds_later() {
    let mut process = Process::of(9);
    process.pass(Duration::from_millis(2));
    assert_eq!(process.calls(), 1, "nine workers, one fetch");
    for worker in 0..9 {
        assert_eq!(process.request(worker, 1), RequestOutcome::Wait);
    }
    process.pass(Duration::from_millis(50));
    assert_eq!(process.calls(), 1);
    process.answer(&answer(200, "t1"));
    process.pass(Duration::from_millis(7));
    for worker in &process.workers {
        assert_eq!(worker.settled, [200]);
    }
    process.pass(Duration::from_secs(40));
    assert_eq!(process.calls(), 0, "renewed after 42 s at the earliest");
    process.pass(Duration::from_secs(8));
    assert_eq!(process.calls(), 1, "one renewal for all");
}

#[test]
fn a_worker_that_dies_while_it_fetches_is_replaced_when_a_fetch_would_have_ended() {
    let mut process = Process::of(3);
    process.pass(Duration::from_millis(2));
    let dead = process.caller();
    process.workers.remove(dead);
    assert_eq!(process.request(0, 1), RequestOutcome::Wait);
    process.pass(TIMEOUT);
    assert_eq!(process.calls(), 0, "it might still be fetching");
    process.pass(Duration::from_millis(1100));
    assert_eq!(process.calls(), 1);
    process.answer(&answer(200, "t1"));
    process.pass(Duration::from_millis(7));
    assert_eq!(process.workers[0].settled, [200]);
}

#[test]
fn a_worker_that_is_dismissed_leaves_its_fetch_to_another_at_once() {
    let mut process = Process::of(2);
    process.pass(Duration::from_millis(2));
    let (leaving, now) = (process.caller(), process.clock());
    let mut worker = process.workers.remove(leaving);
    worker.plugin.drain(now);
    process.pass(Duration::from_millis(1100));
    assert_eq!(process.calls(), 1);
}

#[test]
fn workers_back_off_together() {
    let mut process = Process::of(4);
    process.pass(Duration::from_millis(2));
    let mut asked = Vec::new();
    for _ in 0..200 {
        process.pass(Duration::from_millis(100));
        if process.calls() > 0 {
            asked.push(process.now);
            process.answer(&answer(500, ""));
        }
    }
    // Full jitter under 1, 2, 4, 8, 16 s and never closer than a second: some eight in 20 s, not
    // four times as many.
    assert!((3..=14).contains(&asked.len()), "{asked:?}");
    for pair in asked.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(900), "{asked:?}");
    }
    for worker in 0..4 {
        assert_eq!(
            process.request(worker, 1),
            RequestOutcome::Wait,
            "all know that the next attempt is less than 30 s away"
        );
    }
}

#[test]
fn foreign_bytes_in_the_shared_store_cost_a_fetch_and_nothing_else() {
    let mut process = Process::of(2);
    process.pass(Duration::from_millis(2));
    process.answer(&answer(200, "t1"));
    process.pass(Duration::from_secs(2));
    let board = Shared::default();
    let garbage: [&[u8]; 5] =
        [b"", b"m2m1", b"m2m1 and then something that is no record at all", &[0xff; 300], &[0; 60]];
    for bytes in garbage {
        let mut process = Process::of(0);
        let worker = Worker {
            plugin: Plugin::sharing(policy(), Box::new(SoftwareCrypto), signer(), Box::new(board.clone()), 7),
            calls: Vec::new(),
            settled: Vec::new(),
        };
        for (record, version) in board.0.borrow_mut().values_mut() {
            (*record, *version) = (bytes.to_vec(), *version + 1);
        }
        process.workers.push(worker);
        process.pass(Duration::from_secs(1));
        assert_eq!(process.calls(), 1, "{bytes:?}");
        process.answer(&answer(200, "t2"));
        assert!(matches!(process.request(0, 1), RequestOutcome::Forward(_)));
        let unsound = process.counted(0, "m2m_auth_limit_reached.limit.shared_record");
        assert_eq!(unsound, 1, "{bytes:?}");
    }
}

/// The token that a worker attaches.
fn attached(process: &mut Process, worker: usize) -> String {
    let RequestOutcome::Forward(edits) = process.request(worker, 1) else {
        panic!("worker {worker} has no token")
    };
    let token = edits.headers.iter().find_map(|edit| match edit {
        Edit::Set(_, value) => String::from_utf8(value.clone()).ok(),
        Edit::Remove(_) => None,
    });
    token.unwrap()
}

#[test]
fn an_older_record_that_is_put_back_is_news_to_nobody_and_a_new_worker_renews_it_at_once() {
    let mut process = Process::of(1);
    process.pass(Duration::from_millis(2));
    process.answer(&answer(200, "t1"));
    let older = process.board.copy();
    process.pass(Duration::from_secs(49));
    process.answer(&answer(200, "t2"));
    assert_eq!(attached(&mut process, 0), "Bearer t2");
    for name in older.names() {
        let (_, version) = process.board.read(&name).unwrap();
        assert!(process.board.write(&name, &older.read(&name).unwrap().0, version));
    }
    process.pass(Duration::from_secs(3));
    assert_eq!((attached(&mut process, 0).as_str(), process.calls()), ("Bearer t2", 0));
    let board = Box::new(process.board.clone());
    let plugin = Plugin::sharing(policy(), Box::new(SoftwareCrypto), signer(), board, 7);
    process.workers.push(Worker { plugin, calls: Vec::new(), settled: Vec::new() });
    process.pass(Duration::from_millis(10));
    assert_eq!(process.caller(), 1, "it is due by its own time");
    process.answer(&answer(200, "t3"));
    assert_eq!(attached(&mut process, 1), "Bearer t3");
}

#[test]
fn a_token_that_was_refused_is_not_used_again_because_another_worker_begins_to_fetch() {
    let mut process = Process::of(2);
    process.pass(Duration::from_millis(2));
    process.answer(&answer(200, "t1"));
    process.pass(Duration::from_secs(3));
    for worker in 0..2 {
        let RequestOutcome::Forward(edits) = process.request(worker, 1) else { panic!("a token is there") };
        let now = process.clock();
        process.workers[worker].plugin.on_token_rejected(edits.attached_token.as_ref().unwrap(), now);
    }
    // One of them has taken the fetch lock, and the other has seen it.
    process.pass(Duration::from_millis(20));
    assert_eq!(process.calls(), 1);
    for worker in 0..2 {
        assert_eq!(process.request(worker, 2), RequestOutcome::Wait, "worker {worker}");
    }
    process.answer(&answer(200, "t2"));
    process.pass(Duration::from_millis(7));
    assert!(process.workers.iter().all(|worker| worker.settled == [200]));
}

#[test]
fn a_record_by_a_clock_that_is_a_little_ahead_is_read_as_any_other() {
    for (ahead, expected) in [(3, 0), (999, 0), (1100, 1)] {
        let mut process = Process::of(2);
        let mut late = process.workers.pop().unwrap();
        process.pass(Duration::from_millis(2));
        let before = Duration::from_millis(ahead);
        let behind = Now { instant: Instant(process.now - before), ..process.clock() };
        process.answer(&answer(200, "t1"));
        late.plugin.tick(behind);
        late.drain();
        assert_eq!(late.calls.len(), expected, "{ahead} ms");
        if expected == 0 {
            process.workers.push(late);
            assert_eq!(attached(&mut process, 1), "Bearer t1", "{ahead} ms");
        }
    }
}

#[test]
fn a_worker_that_is_new_after_a_sleep_does_not_take_a_token_from_before_it() {
    for (asleep, expected) in [(0, 0), (3, 0), (3600, 1)] {
        let mut process = Process::of(1);
        process.pass(Duration::from_millis(2));
        process.answer(&answer(200, "t1"));
        process.pass(Duration::from_secs(5));
        let board = Box::new(process.board.clone());
        let plugin = Plugin::sharing(policy(), Box::new(SoftwareCrypto), signer(), board, 7);
        let mut new = Worker { plugin, calls: Vec::new(), settled: Vec::new() };
        let now = Now { unix: process.clock().unix + asleep, ..process.clock() };
        new.plugin.tick(now);
        new.drain();
        assert_eq!(new.calls.len(), expected, "{asleep} s");
    }
}

/// A worker with bound tokens, and a key of its own.
fn bound(board: &Shared, number: u8) -> Worker {
    let signer = signer().with_proof_key(ProofKey::from_seed(&[number; 32], Algorithm::EdDsa).map(Rc::new));
    let policy = policy_with(|outbound| {
        outbound["credentials"]["c"]["dpop"] = json!(true);
        outbound["rules"][0]["dpop_origin"] = json!("https://svc");
    });
    let plugin =
        Plugin::sharing(policy, Box::new(SoftwareCrypto), signer, Box::new(board.clone()), u64::from(number));
    Worker { plugin, calls: Vec::new(), settled: Vec::new() }
}

#[test]
fn a_bound_token_is_its_workers_own_and_a_new_configuration_of_the_same_worker_finds_it() {
    let board = Shared::default();
    let workers = (1..=3).map(|number| bound(&board, number)).collect();
    let mut process = Process { board: board.clone(), workers, now: Duration::from_secs(1000) };
    process.pass(Duration::from_millis(2));
    assert_eq!(process.calls(), 3, "each has another key");
    let (now, body) =
        (process.clock(), json!({ "access_token": "t", "token_type": "DPoP", "expires_in": 60 }));
    let body = Some(body.to_string().into_bytes());
    let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
    for worker in &mut process.workers {
        let (ticket, _) = worker.calls.remove(0);
        worker.plugin.reply(ticket, &reply, now);
        worker.drain();
    }
    process.pass(Duration::from_secs(2));
    process.workers.push(bound(&board, 1));
    process.pass(Duration::from_secs(2));
    assert_eq!(process.calls(), 0);
    for worker in 0..4 {
        assert!(matches!(process.request(worker, 1), RequestOutcome::Forward(_)), "worker {worker}");
    }
}

/// One rule, and the location of the issuer's keys.
fn verifying() -> Policy {
    let configuration = json!({
        "issuers": { "idp": {
            "issuer": "idp", "cluster": "idp", "jwks_uri": "http://idp/keys", "jwks_refresh_interval": "60s", "jwks_max_stale": "100s",
        } },
        "inbound": { "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"] } }] },
    });
    Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap()
}

fn etag_sent(call: &HttpCall) -> Option<&str> {
    call.headers.iter().find(|(name, _)| *name == "if-none-match").map(|(_, etag_sent)| etag_sent.as_str())
}

#[test]
fn a_key_set_that_is_unchanged_is_good_for_longer_on_every_worker() {
    let mut process = Process::with(3, verifying);
    process.pass(Duration::from_millis(2));
    let key = provider::Key::number(1);
    let body = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
    let said = || [("etag", "\"v1\""), ("cache-control", "no-cache")].into_iter().collect();
    process.answer(&HttpReply { status: Some(200), head: said(), body: Some(body), ..HttpReply::default() });
    let claims = json!({ "iss": "idp", "aud": "svc", "sub": "s", "exp": 1_800_010_000 });
    let bearer = format!("Bearer {}", key.sign(&claims));
    for round in 0..4 {
        process.pass(Duration::from_secs(2));
        for worker in 0..3 {
            let step = process.request_with(worker, round, &[("authorization", &bearer)]);
            assert!(matches!(step, RequestOutcome::Forward(_)), "worker {worker} in round {round}: {step:?}");
        }
        while process.calls() == 0 {
            process.pass(Duration::from_millis(500));
        }
        let asker = process.caller();
        assert_eq!(etag_sent(&process.workers[asker].calls[0].1), Some("\"v1\""), "worker {asker}");
        process.answer(&HttpReply {
            status: Some(304),
            head: said(),
            body: Some(Vec::new()),
            ..HttpReply::default()
        });
    }
    let mut misses = 0;
    for worker in &mut process.workers {
        worker.plugin.metrics().report(|_, counter, sum| {
            misses += if counter.to_string() == "m2m_auth_token_cache.lookup.miss" { sum } else { 0 };
        });
    }
    assert_eq!(misses, 3, "each worker has verified the token once");
}

#[test]
fn what_is_said_of_a_key_set_at_too_great_a_length_is_not_shared_and_the_keys_are() {
    for (length, reported) in [(255, 0), (256, 1)] {
        let mut process = Process::with(2, verifying);
        process.pass(Duration::from_millis(2));
        let key = provider::Key::number(1);
        let body = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
        let said = [("cache-control", format!("{:x>length$}", ""))].into_iter().collect();
        process.answer(&HttpReply {
            status: Some(200),
            head: said,
            body: Some(body),
            ..HttpReply::default()
        });
        process.pass(Duration::from_secs(2));
        let claims = json!({ "iss": "idp", "aud": "svc", "sub": "s", "exp": 1_800_010_000 });
        let bearer = format!("Bearer {}", key.sign(&claims));
        let mut counted = 0;
        for worker in 0..2 {
            let step = process.request_with(worker, 1, &[("authorization", &bearer)]);
            assert!(matches!(step, RequestOutcome::Forward(_)), "worker {worker}: {step:?}");
            counted += process.counted(worker, "m2m_auth_limit_reached.limit.shared_header");
        }
        assert_eq!((process.calls(), counted), (0, reported));
    }
}

/// A writer to the shared store may put an older record back, even a sealed one. Its expiry does
/// not change.
#[test]
fn an_older_key_set_put_back_into_the_shared_store_is_not_renewed_by_an_answer_about_a_newer_one() {
    let mut process = Process::with(2, verifying);
    process.pass(Duration::from_millis(2));
    let (old, new) = (provider::Key::number(1), provider::Key::number(2));
    let answer = |status: u16, etag: &str, key: Option<&provider::Key>| HttpReply {
        status: Some(status),
        head: [("etag", etag)].into_iter().collect(),
        body: Some(
            key.map(|key| json!({ "keys": [key.jwk()] }).to_string()).unwrap_or_default().into_bytes(),
        ),
        ..HttpReply::default()
    };
    process.answer(&answer(200, "\"old\"", Some(&old)));
    process.pass(Duration::from_secs(2));
    let records = process.board.0.borrow().clone();
    process.pass(Duration::from_secs(60));
    process.answer(&answer(200, "\"new\"", Some(&new)));
    process.pass(Duration::from_secs(2));
    for (name, (record, version)) in process.board.0.borrow_mut().iter_mut() {
        (*record, *version) = (records[name].0.clone(), *version + 1);
    }
    let claims = json!({ "iss": "idp", "aud": "svc", "sub": "s", "exp": 1_800_010_000 });
    let mut asked = 0;
    for _ in 0..200 {
        process.pass(Duration::from_millis(500));
        while let Some(worker) = process.workers.iter().position(|worker| !worker.calls.is_empty()) {
            let (ticket, call) = process.workers[worker].calls.remove(0);
            let now = process.clock();
            let unchanged = etag_sent(&call) == Some("\"new\"");
            let reply =
                if unchanged { answer(304, "\"new\"", None) } else { answer(200, "\"new\"", Some(&new)) };
            process.workers[worker].plugin.reply(ticket, &reply, now);
            process.workers[worker].drain();
            asked += 1;
        }
    }
    assert!(asked > 0);
    for worker in 0..2 {
        let bearer = |key: &provider::Key| format!("Bearer {}", key.sign(&claims));
        let ask = |process: &mut Process, key: &provider::Key| {
            process.request_with(worker, 7, &[("authorization", &bearer(key))])
        };
        assert!(
            !matches!(ask(&mut process, &old), RequestOutcome::Forward(_)),
            "worker {worker} believes a withdrawn key"
        );
        assert!(matches!(ask(&mut process, &new), RequestOutcome::Forward(_)), "worker {worker}");
    }
}

/// A writer to the shared store may destroy a record. The next answer is a 304, so the worker that
/// gets it must fetch the whole set again: otherwise each worker would fetch for itself until the
/// provider changes its keys.
#[test]
fn a_key_set_that_was_destroyed_in_the_shared_store_is_published_again_though_the_provider_changes_nothing() {
    let mut process = Process::with(3, verifying);
    process.pass(Duration::from_millis(2));
    let key = provider::Key::number(1);
    let body = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
    let whole = HttpReply {
        status: Some(200),
        head: [("etag", "\"v1\"")].into_iter().collect(),
        body: Some(body),
        ..HttpReply::default()
    };
    let same = HttpReply { status: Some(304), body: Some(Vec::new()), ..whole.clone() };
    process.answer(&whole);
    process.pass(Duration::from_secs(2));
    for (record, version) in process.board.0.borrow_mut().values_mut() {
        (*record, *version) = (b"gone".to_vec(), *version + 1);
    }
    let claims = json!({ "iss": "idp", "aud": "svc", "sub": "s", "exp": 1_800_010_000 });
    let bearer = format!("Bearer {}", key.sign(&claims));
    let mut asked = Vec::new();
    for second in 0..600 {
        process.pass(Duration::from_secs(1));
        while let Some(worker) = process.workers.iter().position(|worker| !worker.calls.is_empty()) {
            let (ticket, call) = process.workers[worker].calls.remove(0);
            let reply = if etag_sent(&call).is_some() { &same } else { &whole };
            let now = process.clock();
            process.workers[worker].plugin.reply(ticket, reply, now);
            process.workers[worker].drain();
            asked.push(second);
        }
        for worker in 0..3 {
            let step = process.request_with(worker, 1, &[("authorization", &bearer)]);
            assert!(matches!(step, RequestOutcome::Forward(_)), "worker {worker} after {second} s: {step:?}");
        }
    }
    let late = asked.iter().filter(|second| **second >= 120).count();
    // Every 54 to 60 s, by any worker.
    assert!((8..=9).contains(&late), "{asked:?}");
}

/// RFC 9111 section 4.3.4: the headers of a 304 count from then on, also for the workers that did
/// not fetch.
#[test]
fn a_304_with_another_age_counts_on_every_worker() {
    let configuration = json!({
        "issuers": { "idp": { "issuer": "idp", "cluster": "idp", "jwks_uri": "http://idp/keys" } },
        "inbound": { "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"] } }] },
    });
    let policy = || Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap();
    let mut process = Process::with(3, policy);
    process.pass(Duration::from_millis(2));
    let body = json!({ "keys": [provider::Key::number(1).jwk()] }).to_string().into_bytes();
    let said = |age: &str| [("etag", "\"v1\""), ("cache-control", age)].into_iter().collect();
    process.answer(&HttpReply {
        status: Some(200),
        head: said("max-age=600"),
        body: Some(body),
        ..HttpReply::default()
    });
    while process.calls() == 0 {
        process.pass(Duration::from_secs(1));
    }
    assert!(process.now > Duration::from_secs(1000 + 500));
    process.answer(&HttpReply {
        status: Some(304),
        head: said("max-age=60"),
        body: Some(Vec::new()),
        ..HttpReply::default()
    });
    process.pass(Duration::from_secs(2));
    let now = process.clock();
    for (number, worker) in process.workers.iter().enumerate() {
        let next = worker.plugin.deadline(now).unwrap().since(now.instant);
        assert!(next <= Duration::from_secs(60), "worker {number} looks again after {next:?}");
    }
}

#[test]
fn a_shared_record_holds_of_a_token_answer_only_what_is_read_again() {
    let mut process = Process::of(2);
    process.pass(Duration::from_millis(2));
    let body = json!({
        "access_token": "the-access-token", "token_type": "Bearer", "expires_in": 60,
        "refresh_token": "the-refresh-token", "id_token": "the-id-token", "scope": "the-scope",
        "https://idp.example/claim": { "access_token": "the-nested-one" },
    });
    process.answer(&HttpReply { body: Some(body.to_string().into_bytes()), ..answer(200, "") });
    let records = process.board.0.borrow().clone();
    let holds =
        |text: &str| records.values().any(|(record, _)| String::from_utf8_lossy(record).contains(text));
    assert!(holds("the-access-token"));
    for text in ["the-refresh-token", "the-id-token", "the-scope", "the-nested-one"] {
        assert!(!holds(text), "{text}");
    }
    process.pass(Duration::from_millis(1100));
    for worker in 0..2 {
        let RequestOutcome::Forward(edits) = process.request(worker, 1) else {
            panic!("worker {worker} has it too")
        };
        assert_eq!(edits.headers, [Edit::Set("authorization".into(), b"Bearer the-access-token".to_vec())]);
    }
}

#[test]
fn a_record_that_no_configuration_of_the_worker_uses_any_more_holds_no_token() {
    let mut process = Process::of(2);
    process.pass(Duration::from_millis(2));
    process.answer(&answer(200, "the-old-token"));
    process.pass(Duration::from_millis(1100));
    let holds = |process: &Process, text: &str| {
        let records = process.board.0.borrow();
        records.values().any(|(record, _)| String::from_utf8_lossy(record).contains(text))
    };
    let now = process.clock();
    process.workers[0].plugin.remove_records(|_| true, now);
    assert!(holds(&process, "the-old-token"), "another configuration still uses it");
    process.workers[0].plugin.remove_records(|_| false, now);
    assert!(!holds(&process, "the-old-token"));
    // What the other worker has, it keeps until it renews it.
    process.pass(Duration::from_millis(1100));
    assert!(matches!(process.request(1, 1), RequestOutcome::Forward(_)));
    assert_eq!(process.calls(), 0, "an empty record makes nobody fetch");
}

/// A process that has keys, of which each worker is asked for one that is not among them.
fn with_keys(workers: u64) -> Process {
    let configuration = without_discovery(inbound()).to_string();
    let policy = || Policy::read(configuration.as_bytes(), &|_| Some(provider::MARK.to_owned())).unwrap();
    let mut process = Process::with(workers, policy);
    process.pass_seconds(1);
    let body = json!({ "keys": [provider::Key::number(1).jwk()] }).to_string().into_bytes();
    process.answer(&HttpReply { status: Some(200), body: Some(body), ..HttpReply::default() });
    process.pass_seconds(5);
    process
}

#[test]
fn what_a_provider_asks_one_worker_for_holds_for_all_however_urgent_their_requests() {
    let mut process = with_keys(8);
    let bearer = format!("Bearer {}", provider::made_up("new"));
    let fields =
        [(":method", "GET"), (":path", "/inventory"), (":authority", "s"), ("authorization", &bearer)];
    let ask = |process: &mut Process| {
        for worker in 0..8 {
            let (head, now) = (fields.into_iter().collect(), process.clock());
            process.workers[worker].plugin.request(RequestId(1), head, now);
        }
        process.pass_seconds(1);
    };
    ask(&mut process);
    let head: MessageHead = [("retry-after", "200")].into_iter().collect();
    let patience = HttpReply { status: Some(503), head, body: Some(Vec::new()), ..HttpReply::default() };
    process.answer(&patience);
    let mut calls = 0;
    for _ in 0..190 {
        ask(&mut process);
        if process.calls() > 0 {
            calls += 1;
            process.answer(&patience);
        }
    }
    assert_eq!(calls, 0, "asked again within Retry-After");
}

#[test]
fn a_shorter_max_backoff_that_is_pushed_shortens_the_running_pause() {
    let failing = |max_backoff: &str| {
        let configuration = json!({
            "issuers": { "idp": {
                "issuer": "idp", "cluster": "idp", "token_endpoint": "http://idp/token", "max_backoff": max_backoff,
            } },
            "outbound": {
                "credentials": { "c": { "issuer": "idp", "client_id": "c", "client_secret": { "inline": "hush" } } },
                "rules": [{ "credential": "c" }],
            },
        });
        Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap()
    };
    let mut process = Process::with(1, || failing("300s"));
    let denied = json!({ "error": "invalid_scope" }).to_string().into_bytes();
    let denied = HttpReply { status: Some(400), body: Some(denied), ..HttpReply::default() };
    let mut quiet = 0;
    // Until a pause lasts for half a minute.
    while quiet < 30 {
        process.pass_seconds(1);
        quiet += 1;
        if process.calls() > 0 {
            process.answer(&denied);
            quiet = 0;
        }
    }
    process.workers.clear();
    let plugin = Plugin::sharing(
        failing("5s"),
        Box::new(SoftwareCrypto),
        signer(),
        Box::new(process.board.clone()),
        7,
    );
    process.workers.push(Worker { plugin, calls: Vec::new(), settled: Vec::new() });
    process.pass_seconds(6);
    assert_eq!(process.calls(), 1, "within the new bound");
}
