//! How soon a fleet of any size is back after ten minutes without a connection, and what that costs
//! the provider.
//!
//! The provider answers so many token requests a second, one after the other, and does not notice
//! that one is given up: what a client does not wait for is work for nothing. That is the worst
//! kind; one that turns away what is too much is easier on all.

use super::drive::{Fleet, Requests};
use super::{TOKENS, outgoing, refused};
use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{outbound, secs, without_discovery};
use std::fmt;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// After the outage: two periods of renewal, nearly.
const AFTERWARDS: Duration = secs(400);

struct Row {
    size: usize,
    /// How many token requests a second the provider answers; none: as many as there are.
    capacity: Option<u32>,
    half: Duration,
    /// None if a proxy is still without a token.
    all: Option<Duration>,
    /// Of the requests afterwards, in percent.
    refused: f64,
    peak: u32,
}

fn play(size: usize, capacity: Option<u32>) -> Row {
    play_for(secs(600), size, capacity)
}

fn play_for(outage: Duration, size: usize, capacity: Option<u32>) -> Row {
    let mut fleet = Fleet::new(&without_discovery(outbound()), size);
    fleet.start_within(TOKENS);
    fleet.pass(TOKENS);
    fleet.provider.all(&refused());
    // Each proxy is asked every ten seconds, of ten thousand every tenth.
    let nth = size.div_ceil(1000);
    fleet.ask(outgoing(), nth, secs(10));
    fleet.pass(outage);
    fleet.provider.all(&Mode::Works);
    fleet.provider.capacity = capacity;
    let end = fleet.now;
    fleet.requests = Requests::default();
    fleet.wells.clear();
    fleet.pass(AFTERWARDS);
    let mut wells: Vec<_> = fleet.wells.iter().map(|at| at.saturating_sub(end)).collect();
    wells.sort();
    let row = Row {
        size,
        capacity,
        half: wells.get(size / 2).copied().unwrap_or(Duration::MAX),
        all: fleet.all_well_since().map(|at| at.saturating_sub(end)),
        refused: fleet.requests.refused as f64 / fleet.requests.sent as f64 * 100.0,
        peak: fleet.per_second(Endpoint::Tokens, end, fleet.now).into_iter().max().unwrap(),
    };
    println!("{row}");
    row
}

impl Row {
    fn usual(&self) -> f64 {
        self.size as f64 / TOKENS.as_secs_f64()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.capacity.map_or("any".to_owned(), |capacity| {
            format!("{capacity}/s ({:.0} x usual)", f64::from(capacity) / self.usual())
        });
        let all = self.all.map_or("never".to_owned(), |all| format!("{:.0} s", all.as_secs_f64()));
        let (size, half, refused, peak) = (self.size, self.half.as_secs_f64(), self.refused, self.peak);
        write!(f, "| {size} | {capacity} | {half:.0} s | {all} | {refused:.1} % | {peak} |")
    }
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let small = || {
        let few = [(20, None), (200, None), (200, Some(10)), (200, Some(3))];
        let more = [(1000, None), (1000, Some(50)), (1000, Some(13))];
        few.into_iter().chain(more).map(|(size, capacity)| play(size, capacity)).collect::<Vec<_>>()
    };
    let large = |capacities: &[Option<u32>]| {
        capacities.iter().map(|capacity| play(10_000, *capacity)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| large(&[Some(490)]));
        let second = scope.spawn(|| [small(), large(&[Some(133)])]);
        let ([small, slow], fast) = (second.join().unwrap(), first.join().unwrap());
        small.into_iter().chain(fast).chain(slow).collect()
    })
});

#[test]
fn a_fleet_of_any_size_is_soon_back_and_no_provider_stays_overwhelmed() {
    for row in ROWS.iter() {
        let factor = row.capacity.map_or(f64::MAX, |capacity| f64::from(capacity) / row.usual());
        let (all, refused) = match factor {
            100.0.. => (secs(21), 2.0),
            10.0.. => (secs(45), 4.0),
            // What it takes to answer all of them once is 77 s, and the law before this one took
            // 129 s, 13.2 %.
            _ => (secs(129), 13.2),
        };
        assert!(row.all.is_some_and(|own| own <= all) && row.refused < refused, "{row}");
    }
}

#[test]
fn after_three_minutes_without_a_provider_twenty_proxies_are_soon_back() {
    println!("the provider is gone for 3 minutes:");
    let row = play_for(secs(180), 20, None);
    // A proxy whose token has not expired has time.
    assert!(row.all.is_some_and(|all| all <= secs(45)) && row.refused < 1.0, "{row}");
}

#[test]
fn the_recovery_table_is_printed() {
    println!(
        "| proxies | answered | half of them back | all back | refused in the next 400 s | most asked in one second |"
    );
    println!("|---:|---|---:|---:|---:|---:|");
    // Each is printed as it is played.
    assert!(!ROWS.is_empty());
}
