//! New callers beside tokens that the provider fails or hangs at, where no known caller proves that
//! it works.

use crate::core::sim::exchange;
use crate::core::sim::introspection;
use crate::core::sim::provider::{Endpoint, Mode};
use crate::core::sim::world::{World, items, millis, secs};
use m2m_auth::http::message::RequestId;
use std::time::Duration;

/// What the provider is asked for.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    Introspection,
    Exchange,
}

const BOTH: [Fetch; 2] = [Fetch::Introspection, Fetch::Exchange];

impl Fetch {
    fn world(self) -> World {
        World::warm(&match self {
            Self::Introspection => introspection::config(),
            Self::Exchange => exchange::config(),
        })
    }

    fn endpoint(self) -> Endpoint {
        match self {
            Self::Introspection => Endpoint::Introspection,
            Self::Exchange => Endpoint::Tokens,
        }
    }

    fn fails(self, world: &mut World, mode: &Mode) {
        match self {
            Self::Introspection => world.provider.introspection = mode.clone(),
            Self::Exchange => world.provider.tokens = mode.clone(),
        }
    }

    /// How the provider may fail at a token, without asking for patience.
    fn poisons(self) -> Vec<Mode> {
        let asks = |mode: &Mode| matches!(mode, Mode::Says { headers, .. } if !headers.is_empty());
        let all = introspection::poisons().into_iter().filter(|mode| !asks(mode));
        // Both are judged by the same code, and signatures of subject tokens take their time.
        match self {
            Self::Introspection => all.collect(),
            Self::Exchange => vec![Mode::status(500), Mode::Resets],
        }
    }

    /// A new caller; if there is a mode, the provider behaves so at its token.
    fn send(self, world: &mut World, mode: Option<&Mode>) -> RequestId {
        let token = match self {
            Self::Introspection => world.opaque(&serde_json::json!({})),
            Self::Exchange => exchange::caller(world, 3000),
        };
        if let Some(mode) = mode {
            world.provider.poison.insert(token.clone(), mode.clone());
        }
        let request = items(&token);
        world.send(&match self {
            Self::Introspection => request,
            Self::Exchange => request.host("payment"),
        })
    }
}

/// For a minute, good callers and bad ones come every so often, the bad ones some time before; of
/// the good ones the share that passes, in percent, how many they were, and how many calls were in
/// flight at most.
fn share(
    fetch: Fetch,
    mode: &Mode,
    (bad, good): (Duration, Duration),
    burst: usize,
    before: Duration,
) -> (usize, usize, usize) {
    let mut world = fetch.world();
    let (mut next_bad, mut next_good) = (world.now, world.now + before);
    let end = next_good + secs(60);
    let (mut sent, mut most) = (Vec::new(), 0);
    while world.now < end {
        if world.now >= next_bad {
            for _ in 0..burst {
                fetch.send(&mut world, Some(mode));
            }
            next_bad += bad;
        }
        if world.now >= next_good {
            sent.push(fetch.send(&mut world, None));
            next_good += good;
        }
        world.pass(millis(1).max(next_bad.min(next_good) - world.now));
        most = most.max(world.in_flight());
    }
    world.pass(secs(6));
    let passed = sent.iter().filter(|id| world.outcome(**id).status() == 200).count();
    (passed * 100 / sent.len(), sent.len(), most)
}

#[test]
fn new_callers_pass_beside_a_few_tokens_that_the_provider_fails_at() {
    for fetch in BOTH {
        for mode in fetch.poisons() {
            let (share, count, _) = share(fetch, &mode, (millis(500), secs(3)), 1, secs(20));
            assert!(count == 20 && share >= 95, "{share} % of {count}, {fetch:?} {mode:?}");
        }
    }
}

#[test]
fn new_callers_pass_beside_more_tokens_that_the_provider_fails_at_than_it_is_probed_with() {
    for fetch in BOTH {
        for mode in fetch.poisons().into_iter().take(2) {
            let (share, count, _) = share(fetch, &mode, (millis(125), millis(500)), 1, secs(20));
            assert!(share >= 90, "{share} % of {count}, {fetch:?} {mode:?}");
        }
    }
}

#[test]
fn new_callers_pass_beside_tokens_that_the_provider_fails_at_all_together() {
    for fetch in BOTH {
        let (share, count, _) = share(fetch, &Mode::status(500), (secs(8), millis(500)), 30, secs(20));
        assert!(share >= 75, "{share} % of {count}, {fetch:?}");
    }
}

#[test]
fn new_callers_pass_beside_more_tokens_that_the_provider_hangs_at_than_may_be_asked_about_at_one_time() {
    for fetch in BOTH {
        for mode in [Mode::Hangs, Mode::Silent] {
            // Where none has been answered for a while, it is found out by chance that the provider
            // works.
            for (before, least) in [(secs(0), 95), (secs(20), 70)] {
                let (share, count, most) = share(fetch, &mode, (secs(1) / 12, millis(500)), 1, before);
                assert!(share >= least, "{share} % of {count}, {fetch:?} {mode:?}");
                assert!((50..=250).contains(&most), "{most} at one time");
            }
        }
    }
}

#[test]
fn a_provider_that_is_slow_for_everybody_is_asked_no_more_at_one_time() {
    for fetch in BOTH {
        for (latency, each) in [(4, 20), (6, 20), (2, 40)] {
            let mut world = fetch.world();
            world.provider.latency = secs(latency);
            let mut most = 0;
            for n in 0..60 * each {
                // No two answers take the same time.
                world.provider.latency = secs(latency) + millis(n * 7919 % 1900);
                fetch.send(&mut world, None);
                world.pass(secs(1) / u32::try_from(each).unwrap());
                most = most.max(world.in_flight());
            }
            assert!(most <= 50, "{most} at one time, {fetch:?}, {latency} s");
        }
    }
}

#[test]
fn a_provider_that_fails_is_probed_five_times_a_second_and_is_found_again_within_one() {
    for fetch in BOTH {
        for mode in fetch.poisons().into_iter().take(2) {
            let mut world = fetch.world();
            fetch.fails(&mut world, &mode);
            let start = world.now;
            for _ in 0..300 {
                fetch.send(&mut world, None);
                world.pass(millis(100));
            }
            let times = world.provider.times(fetch.endpoint());
            let most = (0..29)
                .map(|n| (start + secs(n + 1), start + secs(n + 2)))
                .map(|(from, to)| times.iter().filter(|at| (from..to).contains(at)).count())
                .max();
            assert!(most <= Some(6), "{most:?} in a second, {fetch:?} {mode:?}");
            world.pass(secs(6));
            let refused = world.outcomes().filter(|outcome| outcome.status() == 503).count();
            assert!(refused >= 280, "{refused} of 300");
            for _ in 0..60 {
                fetch.send(&mut world, None);
                world.pass(millis(100));
            }
            fetch.fails(&mut world, &Mode::Works);
            world.pass(millis(500));
            let new: Vec<_> = (0..30).map(|_| fetch.send(&mut world, None)).collect();
            world.pass(secs(3));
            let passed = new.iter().filter(|id| world.outcome(**id).status() == 200).count();
            assert!(passed == 30, "{passed} of 30, {fetch:?} {mode:?}");
        }
    }
}
