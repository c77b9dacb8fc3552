//! Proofs of possession over time: each is accepted once by all workers of one shared store, and
//! remembered no longer than necessary.

use crate::core::sim::workers::Shared;
use crate::core::sim::world::signer;
use m2m_auth::http::message::{HttpReply, MessageHead, RequestId};
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::store::shared_record::SharedStore;
use m2m_auth::time::{Instant, Now};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::{Mint, dpop_proof};
use serde_json::{Value, json};
use std::time::Duration;

const START: u64 = 1_800_000_000;

/// The `htu` of the proofs.
const URL: &str = "https://api.example.com/items";

struct Scene {
    issuer: Key,
    caller: Key,
    board: Shared,
    configuration: Value,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Value)) -> Self {
        let issuer = Key::new(Alg::EdDsa);
        let mut configuration = json!({
            "issuers": { "idp": { "issuer": "https://idp", "jwks": { "keys": [issuer.jwk()] } } },
            "inbound": {
                "rules": [{ "require": { "issuer": "idp", "audiences": ["svc"], "token_binding": "dpop" } }],
            },
        });
        change(&mut configuration);
        let (caller, board) = (Key::new(Alg::EdDsa), Shared::default());
        Self { issuer, caller, board, configuration }
    }

    /// The same process with another configuration.
    fn pushed(&self, change: impl FnOnce(&mut Value)) -> Self {
        let (issuer, caller, board) = (self.issuer.clone(), self.caller.clone(), self.board.clone());
        let mut configuration = self.configuration.clone();
        change(&mut configuration);
        Self { issuer, caller, board, configuration }
    }

    fn policy(&self) -> Policy {
        Policy::read(self.configuration.to_string().as_bytes(), &|_| None).unwrap()
    }

    /// One of the workers of the process.
    fn worker(&self, seed: u64) -> Plugin {
        self.worker_at(Box::new(self.board.clone()), seed)
    }

    fn worker_at(&self, board: Box<dyn SharedStore>, seed: u64) -> Plugin {
        Plugin::sharing(self.policy(), Box::new(SoftwareCrypto), signer(), board, seed)
    }

    fn token(&self) -> String {
        let claims = json!({
            "iss": "https://idp", "aud": "svc", "sub": "s", "exp": START + 100_000, "cnf": { "jkt": self.caller.thumbprint() },
        });
        Mint::of(claims).key(&self.issuer).sign(&self.issuer)
    }

    /// A request with a new proof, made at that second.
    fn request(&self, second: u64) -> MessageHead {
        let token = self.token();
        let proof = dpop_proof(&self.caller, "GET", URL, Some(&token)).claim("iat", START + second);
        [
            (":method", "GET".to_owned()),
            (":scheme", "https".to_owned()),
            (":authority", "api.example.com".to_owned()),
            (":path", "/items".to_owned()),
            ("authorization", format!("DPoP {token}")),
            ("dpop", proof.sign(&self.caller)),
        ]
        .into_iter()
        .collect()
    }
}

fn at(second: u64) -> Now {
    Now { instant: Instant(Duration::from_secs(1000 + second)), unix: START + second }
}

/// `passed`, `waits`, or the status and the reason.
fn outcome_of(step: &RequestOutcome) -> String {
    match step {
        RequestOutcome::Forward(_) => "passed".to_owned(),
        RequestOutcome::Wait => "waits".to_owned(),
        RequestOutcome::Respond(response) => {
            let body: Value = serde_json::from_str(&response.body).unwrap();
            format!("{} {}", response.status, body["reason"].as_str().unwrap())
        }
    }
}

fn ask(plugin: &mut Plugin, head: &MessageHead, second: u64) -> String {
    outcome_of(&plugin.request(RequestId(7), head.clone(), at(second)))
}

#[test]
fn a_proof_that_one_worker_has_seen_is_used_for_all_of_them_and_for_the_next_configuration() {
    let scene = Scene::new();
    let [mut one, mut two] = [1, 2].map(|seed| scene.worker(seed));
    let request = scene.request(0);
    assert_eq!(ask(&mut one, &request, 0), "passed");
    assert_eq!(ask(&mut one, &request, 0), "401 proof_replayed");
    assert_eq!(ask(&mut two, &request, 1), "401 proof_replayed");
    assert_eq!(ask(&mut scene.worker(3), &request, 60), "401 proof_replayed");
    assert_eq!(ask(&mut two, &request, 61), "401 proof_time");
    assert_eq!(ask(&mut two, &scene.request(1), 1), "passed");
}

#[test]
fn a_request_that_has_to_wait_uses_its_proof_once_and_keeps_it() {
    let scene = Scene::with(|configuration| {
        configuration["issuers"]["out"] =
            json!({ "issuer": "out", "cluster": "out", "token_endpoint": "http://out/token" });
        configuration["outbound"] = json!({
            "credentials": { "c": { "issuer": "out", "client_id": "c", "client_secret": { "inline": "hush" } } },
            "rules": [{ "credential": "c" }],
        });
    });
    let mut worker = scene.worker(1);
    let request = scene.request(0);
    assert_eq!(ask(&mut worker, &request, 0), "waits");
    assert_eq!(ask(&mut worker, &request, 0), "401 proof_replayed", "the first one has it");
    worker.tick(at(1));
    let mut tickets = Vec::new();
    while let Some(effect) = worker.next_effect() {
        if let Effect::Call(ticket, _) = effect {
            tickets.push(ticket);
        }
    }
    let body = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 60 }).to_string();
    let answer = HttpReply { status: Some(200), body: Some(body.into_bytes()), ..HttpReply::default() };
    worker.reply(tickets.pop().unwrap(), &answer, at(2));
    let settled = std::iter::from_fn(|| worker.next_effect()).find_map(|effect| match effect {
        Effect::Resume(_, step) => Some(outcome_of(&step)),
        _ => None,
    });
    assert_eq!(settled.as_deref(), Some("passed"));
}

#[test]
fn a_used_proof_stays_used_whatever_a_new_configuration_changes() {
    type Change = Box<dyn Fn(&mut Value)>;
    let scene = Scene::new();
    let request = scene.request(0);
    assert_eq!(ask(&mut scene.worker(1), &request, 0), "passed");
    let rule = |path: &str| json!({ "match": { "path_prefix": path }, "require": { "issuer": "idp", "audiences": ["x"], "token_binding": "dpop" } });
    let changes: [(&str, Change); 5] = [
        (
            "a rule more",
            Box::new(move |own| own["inbound"]["rules"].as_array_mut().unwrap().insert(0, rule("/x"))),
        ),
        ("a rule's name", Box::new(|own| own["inbound"]["rules"][0]["name"] = json!("other"))),
        (
            "an issuer more",
            Box::new(|own| {
                own["issuers"]["two"] =
                    json!({ "issuer": "https://two", "jwks": own["issuers"]["idp"]["jwks"] });
                own["inbound"]["rules"][0]["require"].as_object_mut().unwrap().remove("issuer");
                own["inbound"]["rules"][0]["require"]["issuers"] = json!(["idp", "two"]);
            }),
        ),
        (
            "an origin",
            Box::new(|own| {
                own["inbound"]["dpop"] =
                    json!({ "origins": ["https://api.example.com", "https://other.example.com"] });
            }),
        ),
        ("the window", Box::new(|own| own["inbound"]["dpop"] = json!({ "window": "120s" }))),
    ];
    for (number, (what, change)) in (2..).zip(changes) {
        let mut worker = scene.pushed(change).worker(number);
        assert_eq!(ask(&mut worker, &request, 1), "401 proof_replayed", "{what}");
        assert_eq!(ask(&mut worker, &scene.request(1), 1), "passed", "{what}: a new proof is good");
    }
}

#[test]
fn a_client_cannot_choose_the_record_of_its_proof() {
    let scene = Scene::new();
    let request = scene.request(0);
    let records = (1..=8).map(|seed| {
        let process = Scene { board: Shared::default(), ..scene.pushed(|_| ()) };
        let mut worker = process.worker(seed);
        let before = process.board.copy();
        assert_eq!(ask(&mut worker, &request, 0), "passed");
        record(&process, &before)
    });
    let records: std::collections::BTreeSet<String> = records.collect();
    assert!(records.len() > 1, "in eight processes one proof is in {records:?}");
}

#[test]
fn a_worker_remembers_the_proofs_that_it_took_whatever_becomes_of_their_record() {
    let scene = Scene::new();
    let [mut one, mut two] = [1, 2].map(|seed| scene.worker(seed));
    let (request, before) = (scene.request(0), scene.board.copy());
    assert_eq!(ask(&mut one, &request, 0), "passed");
    let name = record(&scene, &before);
    for planted in [before.read(&name).unwrap().0, Vec::new(), b"garbage".to_vec()] {
        let (_, version) = scene.board.read(&name).unwrap();
        assert!(scene.board.write(&name, &planted, version), "a neighbour puts something else there");
        assert_eq!(ask(&mut one, &request, 1), "401 proof_replayed");
    }
    // What another worker has taken it can only know from the record: once more each, as without
    // sharing.
    assert_eq!(ask(&mut two, &request, 1), "passed");
    assert_eq!(ask(&mut two, &request, 2), "401 proof_replayed");
}

/// The record in which a request's proof is remembered: the one that has changed.
fn record(scene: &Scene, before: &Shared) -> String {
    let changed = scene.board.names().into_iter().find(|name| scene.board.read(name) != before.read(name));
    changed.unwrap()
}

#[test]
fn no_more_proofs_are_remembered_than_there_is_room_for_and_what_cannot_be_is_not_taken() {
    let scene = Scene::new();
    let mut worker = scene.worker(1);
    let before = scene.board.copy();
    let request = scene.request(0);
    assert_eq!(ask(&mut worker, &request, 0), "passed");
    let name = record(&scene, &before);
    // The same record, as full as it can be of others' proofs.
    let until = u32::try_from(START + 60).unwrap().to_le_bytes();
    let full = |entries: u64| {
        let entry = |n: u64| [n.to_be_bytes().as_slice(), &until].concat();
        [b"m2mp".to_vec(), (0..entries).flat_map(entry).collect()].concat()
    };
    let fill = |bytes: Vec<u8>| {
        let (_, version) = scene.board.read(&name).unwrap();
        assert!(scene.board.write(&name, &bytes, version));
    };
    // Each time a worker that has not seen the proof yet.
    let mut seeds = 2..;
    let mut anew = |second: u64| ask(&mut scene.worker(seeds.next().unwrap()), &request, second);
    fill(full(4096));
    assert_eq!(anew(1), "503 too_many_proofs");
    fill(full(4095));
    assert_eq!(anew(1), "passed");
    fill(full(4096));
    assert_eq!(anew(60), "503 too_many_proofs");
    fill(b"garbage that somebody has planted".to_vec());
    assert_eq!(anew(30), "passed", "what is no record counts as an empty one");
    assert_eq!(anew(30), "401 proof_replayed");
    // At second 61 they have ended, and only then is there room.
    fill(full(4096));
    assert_eq!(ask(&mut worker, &scene.request(61), 61), "passed");
}

/// A shared store in which another writer is always faster.
struct Contended(Shared);

impl SharedStore for Contended {
    fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
        self.0.read(name)
    }

    fn write(&self, _: &str, _: &[u8], _: u32) -> bool {
        false
    }
}

#[test]
fn a_proof_that_cannot_be_remembered_is_not_taken() {
    let scene = Scene::new();
    let mut worker = scene.worker_at(Box::new(Contended(scene.board.clone())), 1);
    assert_eq!(ask(&mut worker, &scene.request(0), 0), "503 too_many_proofs");
}

#[test]
fn of_a_token_that_is_not_good_the_proof_is_not_used_up() {
    let scene = Scene::new();
    let mut worker = scene.worker(1);
    let request = scene.request(0);
    assert_eq!(ask(&mut worker, &request, 200_000), "401 expired");
    let wrong: MessageHead = request
        .iter()
        .map(|(name, value)| (name, if name == b":method" { b"POST" } else { value }))
        .collect();
    assert_eq!(ask(&mut worker, &wrong, 0), "401 proof_method");
    assert_eq!(ask(&mut worker, &request, 0), "passed");
}

#[test]
fn a_dry_run_rule_reports_what_it_found_and_forwards_the_request() {
    let scene = Scene::with(|configuration| {
        configuration["inbound"]["rules"][0]["mode"] = json!("danger_dry_run");
    });
    let mut worker = scene.worker(1);
    let request = scene.request(0);
    assert_eq!([0, 0].map(|second| ask(&mut worker, &request, second)), ["passed", "passed"]);
    let logged = std::iter::from_fn(|| worker.next_effect()).any(|effect| match effect {
        Effect::Log(_, line) => line.contains("proof_replayed"),
        _ => false,
    });
    assert!(logged, "the second one would have been refused");
}
