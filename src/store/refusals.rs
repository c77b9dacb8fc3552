//! Services that refuse one token: for how long their requests wait for its renewal, and when a renewal is worth it at all.
//!
//! It knows services by a digest and tokens by a number, and keeps a bounded number of both. It renews nothing itself.

use super::{REJECTION_HOLD, RENEWAL_INTERVAL};
use crate::io::{Instant, Service};
use std::time::Duration;

/// The longest time between two renewals for the sake of one service that refuses every token. What was last refused this long
/// ago is forgotten.
pub(super) const MAX_RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

/// A service that has accepted a token for this long is believed at once when it refuses it.
const ACCEPTED_FOR: Duration = Duration::from_secs(60);

/// Services that are told apart, for each token; all others count as one. More than one client calls, unless it makes them up.
pub(super) const MAX_SERVICES: usize = 16;

/// The services that have refused a token, or those before it.
#[derive(Debug, Default)]
pub(super) struct ServiceRejections(Vec<ServiceRejection>);

/// One of them.
#[derive(Debug)]
struct ServiceRejection {
    /// None stands for all that are too many.
    service: Option<Service>,
    /// The token that it refused last, and when.
    serial: u64,
    at: Instant,
    /// How long a new token is kept although it is refused.
    patience: Duration,
    /// Since when it has accepted the present token, if it has.
    accepted_since: Option<Instant>,
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
        self.0.retain(|own| now < own.at + MAX_RENEWAL_INTERVAL);
        let place = self.position(service).or_else(|| {
            let is_full = self.0.len() >= MAX_SERVICES;
            self.0.iter().position(|own| is_full && own.service.is_none())
        });
        let service = Some(service).filter(|_| self.0.len() < MAX_SERVICES);
        let Some(own) = place.and_then(|place| self.0.get_mut(place)) else {
            let held_until = service.map(|_| now + REJECTION_HOLD);
            let patience = Duration::ZERO;
            self.0.push(ServiceRejection {
                service,
                serial,
                at: now,
                patience,
                accepted_since: None,
                held_until,
            });
            return Consequence { patience, held_until };
        };
        let accepted_for = own.accepted_since.take().map(|since| now.since(since));
        let was_good = accepted_for >= Some(own.patience.clamp(RENEWAL_INTERVAL, ACCEPTED_FOR));
        let is_news = was_good || own.serial != serial;
        if was_good {
            own.patience = Duration::ZERO;
        } else if is_news {
            // The new token is refused as well, so another one would hardly help.
            own.patience = own.patience.saturating_mul(2).clamp(RENEWAL_INTERVAL, MAX_RENEWAL_INTERVAL);
        }
        (own.serial, own.at) = (serial, now);
        let held_until = own.service.filter(|_| is_news).map(|_| now + REJECTION_HOLD);
        own.held_until = held_until.or(own.held_until);
        Consequence { patience: own.patience, held_until }
    }

    /// The service has accepted the present token.
    pub(super) fn accepted(&mut self, service: Service, now: Instant) {
        if let Some(own) = self.position(service).and_then(|place| self.0.get_mut(place)) {
            own.accepted_since.get_or_insert(now);
        }
    }

    /// The service itself, or the one of the same host whose cluster is not known on either side.
    fn position(&self, service: Service) -> Option<usize> {
        let is = |own: &ServiceRejection| own.service == Some(service);
        let may_be = |own: &ServiceRejection| own.service.is_some_and(|own| own.may_equal(service));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MessageHead;

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
    fn those_that_are_too_many_count_as_one_and_their_requests_do_not_wait() {
        let mut refusals = ServiceRejections::default();
        for n in 0..1000_u64 {
            let host = format!("host-{n}");
            let consequence = refusals.refused(service(&host), 0, at(0));
            assert_eq!(refusals.holds(service(&host), 0, at(0)), n < 16, "{n}");
            assert_eq!(consequence.held_until.is_some(), n < 16, "{n}");
        }
        assert_eq!(refusals.0.len(), MAX_SERVICES + 1);
        assert_eq!(patience(&mut refusals, "host-500", 1, 1), 10);
        assert_eq!(patience(&mut refusals, "host-501", 2, 1), 20);
        assert!(!refusals.holds(service("host-0"), 0, at(1)), "a second is over");
    }
}
