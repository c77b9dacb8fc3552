//! Services that refuse one token: for how long their requests wait for its renewal, and when a
//! renewal is worth it at all.
//!
//! It knows services by a digest and tokens by a number, and keeps a bounded number of both. It
//! renews nothing itself.

use super::{REJECTION_HOLD, RENEWAL_INTERVAL};
use crate::http::message::Service;
use crate::time::Instant;
use std::time::Duration;

/// The longest time between two renewals for the sake of one service that refuses every token. What
/// was last refused this long ago is forgotten.
pub(super) const MAX_RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

/// A service that has accepted a token for this long is believed at once when it refuses it.
const ACCEPTED_FOR: Duration = Duration::from_secs(60);

/// After so many refusals in a row, for at least a second, a service that accepted the token before
/// refuses it for everybody, and not for one path or one client alone.
const REFUSALS_IN_A_ROW: u32 = 10;

/// Services that are remembered, for each token: more than refuse at one time, unless clients make
/// hosts up. The one that refused longest ago is forgotten first, so that made-up ones take nothing
/// from a service that refuses a token now.
pub(super) const MAX_SERVICES: usize = 16;

/// The services that have refused a token, or those before it.
#[derive(Debug, Default)]
pub(super) struct ServiceRejections(Vec<ServiceRejection>);

/// One of them.
#[derive(Debug)]
struct ServiceRejection {
    service: Service,
    /// The token that it refused last, and when.
    serial: u64,
    at: Instant,
    /// How long a new token is kept although it is refused.
    patience: Duration,
    /// Since when it has accepted the present token, if it has.
    accepted_since: Option<Instant>,
    /// When it last accepted a token.
    accepted_at: Option<Instant>,
    /// Refusals since then, and whether they count as refusals to everybody.
    in_a_row: u32,
    stopped: bool,
    /// Until when its requests wait for a new token.
    held_until: Option<Instant>,
}

/// What follows from a refusal.
pub(super) struct Consequence {
    /// How long after its fetch the token is to be renewed, at the earliest.
    pub(super) patience: Duration,
    /// Until when requests to this service wait for a new one, if that is news.
    pub(super) held_until: Option<Instant>,
}

impl ServiceRejections {
    /// The service has answered 401 to the token of this number, which is the present one.
    pub(super) fn refused(&mut self, service: Service, serial: u64, now: Instant) -> Consequence {
        self.0.retain(|known| now < known.at + MAX_RENEWAL_INTERVAL);
        let Some(known) = self.position(service).and_then(|position| self.0.get_mut(position)) else {
            return self.refused_first(service, serial, now);
        };
        let accepted_for = known.accepted_since.take().map(|since| now.since(since));
        let was_good = accepted_for >= Some(known.patience.clamp(RENEWAL_INTERVAL, ACCEPTED_FOR));
        known.in_a_row = known.in_a_row.saturating_add(1);
        let stops = !known.stopped && known.has_stopped_accepting(now);
        known.stopped |= stops;
        let is_news = was_good || known.serial != serial || stops;
        if was_good {
            known.patience = Duration::ZERO;
        } else if known.serial != serial {
            // The new token is refused as well, so another one would hardly help.
            known.patience =
                known.patience.saturating_mul(2).clamp(RENEWAL_INTERVAL, known.max_patience(now));
        }
        (known.serial, known.at) = (serial, now);
        if is_news {
            known.held_until = Some(now + REJECTION_HOLD);
        }
        let patience = if known.stopped { known.patience.min(RENEWAL_INTERVAL) } else { known.patience };
        Consequence { patience, held_until: known.held_until.filter(|_| is_news) }
    }

    fn refused_first(&mut self, service: Service, serial: u64, now: Instant) -> Consequence {
        if self.0.len() >= MAX_SERVICES {
            let oldest =
                self.0.iter().enumerate().min_by_key(|(_, known)| known.at).map(|(position, _)| position);
            oldest.map(|position| self.0.swap_remove(position));
        }
        let (patience, held_until) = (Duration::ZERO, Some(now + REJECTION_HOLD));
        self.0.push(ServiceRejection {
            service,
            serial,
            at: now,
            patience,
            accepted_since: None,
            accepted_at: None,
            in_a_row: 1,
            stopped: false,
            held_until,
        });
        Consequence { patience, held_until }
    }

    /// The service has accepted the present token.
    pub(super) fn accepted(&mut self, service: Service, now: Instant) {
        if let Some(known) = self.position(service).and_then(|position| self.0.get_mut(position)) {
            known.accepted_since.get_or_insert(now);
            (known.accepted_at, known.in_a_row, known.stopped) = (Some(now), 0, false);
        }
    }

    /// The service itself, or the one of the same host whose cluster is not known on either side.
    fn position(&self, service: Service) -> Option<usize> {
        let is = |known: &ServiceRejection| known.service == service;
        let may_be = |known: &ServiceRejection| known.service.may_equal(service);
        self.0.iter().position(is).or_else(|| self.0.iter().position(may_be))
    }

    /// Whether requests to this service wait, as it has just refused the token of this number.
    pub(super) fn holds(&self, service: Service, serial: u64, now: Instant) -> bool {
        let held =
            |own: &ServiceRejection| own.serial == serial && own.held_until.is_some_and(|until| now < until);
        self.position(service).and_then(|place| self.0.get(place)).is_some_and(held)
    }

    /// Nobody waits any more: there is a new token, or the old one is the best there is.
    pub(super) fn end_holds(&mut self) {
        for own in &mut self.0 {
            own.held_until = None;
        }
    }
}

impl ServiceRejection {
    /// Whether it accepted the token for some requests, and has refused it for all since.
    fn has_stopped_accepting(&self, now: Instant) -> bool {
        let quiet = self.accepted_at.is_some_and(|at| at + REJECTION_HOLD <= now);
        quiet && self.in_a_row >= REFUSALS_IN_A_ROW
    }

    /// A client that asks for what it may not have gets 401 for ever from a service that accepts
    /// the token for others: they must not wait long if it is revoked.
    fn max_patience(&self, now: Instant) -> Duration {
        let accepts = self.accepted_at.is_some_and(|at| now < at + MAX_RENEWAL_INTERVAL);
        if accepts { ACCEPTED_FOR } else { MAX_RENEWAL_INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::MessageHead;

    fn service(host: &str) -> Service {
        Service::of(&[(":authority", host)].into_iter().collect::<MessageHead>())
    }

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    fn patience(refusals: &mut ServiceRejections, host: &str, serial: u64, now: u64) -> u64 {
        refusals.refused(service(host), serial, at(now)).patience.as_secs()
    }

    #[test]
    fn each_new_token_that_is_refused_doubles_the_patience_up_to_a_bound() {
        let mut refusals = ServiceRejections::default();
        let found: Vec<_> = (0..10)
            .map(|n| (patience(&mut refusals, "a", n, n), patience(&mut refusals, "a", n, n)))
            .collect();
        let expected = [0, 10, 20, 40, 80, 160, 320, 600, 600, 600];
        assert_eq!(found, expected.map(|seconds| (seconds, seconds)));
        assert_eq!(patience(&mut refusals, "b", 9, 9), 0, "another service");
        assert_eq!(patience(&mut refusals, "a", 10, 609), 0, "it is forgotten");
    }

    #[test]
    fn a_service_that_has_taken_the_token_for_a_while_is_believed_at_once_and_one_that_takes_and_refuses_is_not()
     {
        let mut refusals = ServiceRejections::default();
        for serial in 0..6 {
            patience(&mut refusals, "a", serial, 0);
        }
        refusals.accepted(service("a"), at(1));
        assert_eq!(
            patience(&mut refusals, "a", 5, 2),
            160,
            "it accepts the token for one path and not for another"
        );
        refusals.accepted(service("a"), at(3));
        refusals.accepted(service("a"), at(62));
        assert_eq!(patience(&mut refusals, "a", 5, 63), 0);
        refusals.accepted(service("a"), at(64));
        assert_eq!(patience(&mut refusals, "a", 6, 73), 10);
    }

    #[test]
    fn made_up_services_take_nothing_from_one_that_refuses_now() {
        let mut refusals = ServiceRejections::default();
        for n in 0..1000_u64 {
            let host = format!("host-{n}");
            let consequence = refusals.refused(service(&host), 0, at(0));
            assert!(refusals.holds(service(&host), 0, at(0)) && consequence.held_until.is_some(), "{n}");
        }
        assert_eq!(refusals.0.len(), MAX_SERVICES);
        assert_eq!(patience(&mut refusals, "good", 1, 1), 0, "it is believed at once");
        assert!(!refusals.holds(service("host-999"), 0, at(1)), "a second is over");
    }

    #[test]
    fn a_service_that_refuses_one_client_is_believed_when_it_refuses_all() {
        let mut refusals = ServiceRejections::default();
        for serial in 0..20 {
            for second in 0..10 {
                refusals.refused(service("a"), serial, at(serial * 10 + second));
                refusals.accepted(service("a"), at(serial * 10 + second));
            }
        }
        assert_eq!(patience(&mut refusals, "a", 19, 199), 60, "it accepts the token for others");
        let in_a_row: Vec<u64> = (0..12).map(|_| patience(&mut refusals, "a", 19, 201)).collect();
        assert_eq!(in_a_row, [[60; 8].as_slice(), &[10; 4]].concat(), "and then for nobody");
        assert!(refusals.holds(service("a"), 19, at(201)), "its requests wait for the next token");
    }

    #[test]
    fn many_refusals_in_the_first_second_hold_its_requests_as_soon_as_it_is_over() {
        let mut refusals = ServiceRejections::default();
        refusals.refused(service("a"), 0, at(0));
        refusals.accepted(service("a"), at(100));
        let at_once = (0..100).filter(|_| refusals.refused(service("a"), 0, at(100)).held_until.is_some());
        assert_eq!(at_once.count(), 0, "it may be one client's");
        let later = (0..100).filter(|_| refusals.refused(service("a"), 0, at(101)).held_until.is_some());
        assert_eq!(later.count(), 1, "once");
    }
}
