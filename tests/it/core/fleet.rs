//! A fleet: ten thousand workers before one provider, in virtual time. What does the provider see
//! of them, how soon do they all recover, and which requests are refused meanwhile?
//!
//! `cargo test --test it fleet -- --nocapture` prints the table of `docs/operations/sizing.md`.

#![allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    reason = "a table has fractions, and virtual time does not go back"
)]

mod drive;
mod recovery;

use crate::core::sim::provider::{Endpoint, ISSUER, Key, Mode};
use crate::core::sim::world::{inbound, outbound, secs, without_discovery};
use drive::{Fleet, Requests};
use m2m_auth::http::message::MessageHead;
use serde_json::{Value, json};
use std::fmt;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// How many proxies.
const SIZE: usize = 10_000;

/// A token lives 300 s, as Keycloak's do, and is renewed after 210 to 240 s.
const TOKENS: Duration = secs(225);

/// Keys are renewed after 270 to 300 s.
const KEYS: Duration = secs(285);

/// One line of the table.
struct Row {
    scenario: &'static str,
    /// The provider's requests per second when nothing is wrong: each proxy asks once in a renewal
    /// period.
    mean: f64,
    /// In the last minute of what happened, if it lasted.
    meanwhile: f64,
    /// The most in one second, from what happened, or from its end, on.
    peak: f64,
    /// In all of that time.
    fetches: u32,
    /// Until all of the fleet had what they need.
    recovery: Duration,
    /// In all of that time.
    requests: Requests,
}

impl Row {
    /// What has been seen since `then`, when everything was well again.
    fn of(scenario: &'static str, fleet: &Fleet, endpoint: Endpoint, then: Duration) -> Self {
        let period = if endpoint == Endpoint::Keys { KEYS } else { TOKENS };
        let meanwhile = fleet.per_second(endpoint, then.saturating_sub(secs(60)), then);
        let since = fleet.per_second(endpoint, then, fleet.now);
        Self {
            scenario,
            mean: fleet.size() as f64 / period.as_secs_f64(),
            meanwhile: f64::from(meanwhile.iter().sum::<u32>()) / 60.0,
            peak: since.iter().max().copied().unwrap_or_default().into(),
            fetches: since.iter().sum(),
            recovery: fleet.all_well_since().unwrap().saturating_sub(then),
            requests: fleet.requests,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, mean, peak, recovery, requests: Requests { sent, refused }, .. } = self;
        let (ratio, seconds, share) =
            (peak / mean, recovery.as_secs_f64(), *refused as f64 / *sent as f64 * 100.0);
        write!(f, "| {scenario} | {mean:.0} | {peak:.0} | {ratio:.1} | {seconds:.1} s | {share:.1} % |")
    }
}

const START: &str = "all start within 10 s";
const RESTART: &str = "all restart at once";
const SHORT: &str = "the provider is gone for 20 s";
const LONG: &str = "the provider is gone for 10 minutes";
const FAILS: &str = "the provider answers 500 for 10 minutes";
const KEYS_GONE: &str = "the provider of keys is gone for 10 minutes";
const IN_TIME: &str = "a key is published 5 minutes before it is used";
const AT_ONCE: &str = "a key is published and used at once";
const SECRET: &str = "a secret is replaced, the fleet gets the new one from 60 s to 120 s later";

/// Each scenario runs once, for the first test that needs it.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    thread::scope(|scope| {
        let threads = [starts, outages, keys_gone, rotations, secret].map(|play| scope.spawn(play));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
});

fn row(scenario: &str) -> &'static Row {
    ROWS.iter().find(|row| row.scenario == scenario).unwrap()
}

/// A request that needs a token of ours.
fn outgoing() -> MessageHead {
    [(":method", "GET"), (":path", "/public/pay"), (":authority", "payment")].into_iter().collect()
}

/// What Envoy answers when it cannot connect.
fn refused() -> Mode {
    let body = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, \
                transport failure reason: delayed connect error: Connection refused";
    Mode::Says { status: 503, headers: Vec::new(), body: body.to_owned() }
}

/// Proxies that need tokens, started one after the other over a renewal period; a few of them are
/// asked all the time.
fn at_work() -> Fleet {
    let mut fleet = Fleet::new(&without_discovery(outbound()), SIZE);
    fleet.start_within(TOKENS);
    fleet.pass(TOKENS);
    fleet.ask(outgoing(), 100, secs(5));
    fleet
}

fn starts() -> Vec<Row> {
    let mut fleet = Fleet::new(&without_discovery(outbound()), SIZE);
    fleet.start_within(secs(10));
    fleet.ask(outgoing(), 100, secs(5));
    // As long as no proxy renews.
    fleet.pass(secs(200));
    let first = Row::of(START, &fleet, Endpoint::Tokens, secs(0));
    let then = fleet.now;
    fleet.requests = Requests::default();
    fleet.start_within(secs(0));
    fleet.pass(secs(200));
    vec![first, Row::of(RESTART, &fleet, Endpoint::Tokens, then)]
}

fn outages() -> Vec<Row> {
    let outage = |fleet: &mut Fleet, name: &'static str, span: Duration, mode: &Mode| {
        fleet.provider.all(mode);
        fleet.pass(span);
        fleet.provider.all(&Mode::Works);
        let end = fleet.now;
        fleet.requests = Requests::default();
        // Until those that came back together have renewed once more.
        fleet.pass(secs(300));
        Row::of(name, fleet, Endpoint::Tokens, end)
    };
    let mut fleet = at_work();
    vec![
        outage(&mut fleet, SHORT, secs(20), &refused()),
        outage(&mut fleet, LONG, secs(600), &refused()),
        // Another fleet, as that one renews in step now.
        outage(&mut at_work(), FAILS, secs(600), &Mode::status(500)),
    ]
}

/// Proxies that check callers, and have keys all the time.
fn keys_gone() -> Vec<Row> {
    let mut fleet = Fleet::new(&without_discovery(inbound()), SIZE);
    let key = fleet.provider.published[0].clone();
    fleet.start_within(KEYS);
    fleet.pass(KEYS);
    fleet.ask(guarded(&key), 100, secs(5));
    fleet.provider.all(&refused());
    fleet.pass(secs(600));
    fleet.provider.all(&Mode::Works);
    let end = fleet.now;
    fleet.requests = Requests::default();
    fleet.pass(secs(300));
    vec![Row::of(KEYS_GONE, &fleet, Endpoint::Keys, end)]
}

/// Proxies that check callers, each of them asked once in ten seconds.
fn rotations() -> Vec<Row> {
    let mut fleet = Fleet::new(&without_discovery(inbound()), SIZE);
    fleet.start_within(KEYS);
    fleet.pass(KEYS);
    let [in_time, at_once] = [2, 3].map(Key::number);
    fleet.provider.published.push(in_time.clone());
    fleet.all_need();
    fleet.pass(secs(300));
    let then = fleet.now;
    fleet.ask(guarded(&in_time), 1, secs(10));
    fleet.pass(secs(11));
    let first = Row::of(IN_TIME, &fleet, Endpoint::Keys, then);
    let then = fleet.now;
    fleet.requests = Requests::default();
    fleet.provider.published.push(at_once.clone());
    fleet.all_need();
    fleet.request = guarded(&at_once);
    fleet.pass(secs(11));
    vec![first, Row::of(AT_ONCE, &fleet, Endpoint::Keys, then)]
}

/// A request with a token of this key.
fn guarded(key: &Key) -> MessageHead {
    let claims: Value = json!({
        "iss": ISSUER, "sub": "someone", "aud": "inventory-service", "exp": 1_800_100_000,
        "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
    });
    let bearer = format!("Bearer {}", key.sign(&claims));
    let fields =
        [(":method", "GET"), (":path", "/inventory"), (":authority", "s"), ("authorization", &bearer)];
    fields.into_iter().collect()
}

fn secret() -> Vec<Row> {
    let mut fleet = at_work();
    let then = fleet.now;
    fleet.secret_rotated = true;
    fleet.pass(secs(60));
    fleet.start_within(secs(60));
    fleet.pass(secs(200));
    let row = Row::of(SECRET, &fleet, Endpoint::Tokens, then);
    vec![Row { recovery: row.recovery.saturating_sub(secs(120)), ..row }]
}

#[test]
fn a_fleet_that_starts_or_restarts_asks_once_for_each_proxy_and_refuses_nobody() {
    for row in [START, RESTART].map(row) {
        assert_eq!((row.fetches, row.requests.refused), (u32::try_from(SIZE).unwrap(), 0), "{row}");
        assert!(row.recovery <= secs(11), "{row}");
    }
}

/// A provider that is down for too many requests never comes back if its clients ask for more of
/// them then.
#[test]
fn a_provider_that_comes_back_is_asked_no_more_than_three_times_as_often_as_usual() {
    for row in [SHORT, FAILS, KEYS_GONE].map(row) {
        assert!(row.peak <= row.mean * 3.0, "{row}");
        assert!(row.meanwhile <= row.mean * 3.0, "{row}: {} meanwhile", row.meanwhile);
        assert!(row.recovery <= secs(161), "the widest gap between attempts is 160 s: {row}");
    }
}

/// For a small deployment, or a provider that bears the load.
#[test]
fn a_shorter_backoff_is_the_operators_to_choose() {
    let mut configuration = without_discovery(outbound());
    configuration["issuers"]["idp"]["max_backoff"] = json!("15s");
    let mut fleet = Fleet::new(&configuration, 100);
    fleet.start_within(TOKENS);
    fleet.pass(TOKENS);
    fleet.provider.all(&Mode::Resets);
    fleet.pass(secs(600));
    fleet.provider.all(&Mode::Works);
    let end = fleet.now;
    fleet.pass(secs(60));
    let recovery = fleet.all_well_since().unwrap().saturating_sub(end);
    assert!(recovery <= secs(16), "{recovery:?}");
}

#[test]
fn an_outage_shorter_than_what_is_left_of_a_tokens_life_refuses_nobody() {
    let row = row(SHORT);
    assert_eq!(row.requests.refused, 0, "{row}");
}

#[test]
fn a_key_that_is_published_in_time_costs_nothing() {
    let row = row(IN_TIME);
    assert_eq!(row.requests.refused, 0, "{row}");
    assert!(row.peak <= row.mean * 3.0, "{row}");
}

#[test]
fn a_key_that_is_used_at_once_costs_each_proxy_one_fetch_and_no_caller() {
    let row = row(AT_ONCE);
    assert_eq!(row.requests.refused, 0, "{row}");
    assert!(row.fetches <= u32::try_from(SIZE).unwrap() * 11 / 10, "those, and the usual ones: {row}");
}

#[test]
fn a_secret_that_is_refused_is_not_tried_in_haste() {
    let row = row(SECRET);
    let rolled_out = SIZE as f64 / 60.0;
    assert!(row.peak <= (rolled_out + row.mean) * 1.5, "those that start again, and the usual ones: {row}");
}

#[test]
fn the_table_is_printed() {
    println!("| {SIZE} proxies | mean/s | peak/s | peak / mean | all well after | refused |");
    println!("|---|---:|---:|---:|---:|---:|");
    ROWS.iter().for_each(|row| println!("{row}"));
}
