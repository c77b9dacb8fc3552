//! How much of a worker's time signatures may take that the module verifies itself.
//!
//! In: a verifier, and what each of its signatures costs. Out: the same verifier, which takes no more than its budget: what is
//! beyond it is not verified, and so is no signature, and the caller learns that it was not verified. What the host verifies
//! costs nothing here. It knows neither tokens nor proofs.

use crate::jose::jwk::{Algorithm, Jwk};
use crate::jose::verifier::Verify;
use crate::metrics::Tally;
use crate::time::Instant;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// Units of [`Verify::cost`] a second. One takes 2.6 ms at most, so that a flood of forged signatures leaves three quarters of the
/// worker to clients that send none; and 100 new callers a second are more than a service has whose tokens live for minutes.
const UNITS_PER_SECOND: u32 = 100;

/// What is saved while nobody asks: as much as comes in this time.
const BURST: Duration = Duration::from_secs(1);

/// One budget of a worker (the virtual scheduling of GCRA, ITU-T I.371).
#[derive(Debug, Default)]
pub struct Budget {
    /// When all of it will have come back, if nobody takes more.
    full_at: Cell<Instant>,
    /// Signatures that were not verified.
    pub exceeded: Tally,
}

impl Budget {
    fn take(&self, units: u32, now: Instant) -> bool {
        if units == 0 {
            return true;
        }
        let full_at = self.full_at.get().max(now) + (BURST / UNITS_PER_SECOND).saturating_mul(units);
        let affordable = full_at.since(now) <= BURST;
        if affordable {
            self.full_at.set(full_at);
        }
        self.exceeded.add(u64::from(!affordable));
        affordable
    }
}

/// A verifier within a budget, for one question.
pub struct BudgetedVerifier<'a> {
    verifier: &'a dyn Verify,
    budget: &'a Budget,
    now: Instant,
    exceeded: Cell<bool>,
}

impl<'a> BudgetedVerifier<'a> {
    /// The verifier, as long as the budget lasts at this moment.
    pub fn new(verifier: &'a dyn Verify, budget: &'a Budget, now: Instant) -> Self {
        Self { verifier, budget, now, exceeded: Cell::new(false) }
    }

    /// Whether a signature was not verified for want of budget: that it is none says nothing then.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }
}

impl Verify for BudgetedVerifier<'_> {
    fn verify(&self, algorithm: Algorithm, key: &Jwk, message: &[u8], signature: &[u8]) -> bool {
        if !self.budget.take(self.cost(algorithm, key), self.now) {
            self.exceeded.set(true);
            return false;
        }
        self.verifier.verify(algorithm, key, message, signature)
    }

    fn cost(&self, algorithm: Algorithm, key: &Jwk) -> u32 {
        self.verifier.cost(algorithm, key)
    }
}

impl fmt::Debug for BudgetedVerifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetedVerifier").field("budget", self.budget).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(Duration::from_millis(1_000_000 + millis))
    }

    fn taken(budget: &Budget, units: u32, now: Instant) -> usize {
        (0..1000).take_while(|_| budget.take(units, now)).count()
    }

    #[test]
    fn a_second_has_a_hundred_units_and_no_more_are_saved() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, 1, at(0)), 100);
        assert_eq!(taken(&budget, 1, at(9)), 0);
        assert_eq!(taken(&budget, 1, at(50)), 5);
        assert_eq!(taken(&budget, 1, at(1_050)), 100);
        assert_eq!(taken(&budget, 1, at(100_000)), 100);
        assert_eq!(budget.exceeded.take(), 5);
    }

    #[test]
    fn a_dear_signature_takes_as_much_as_it_costs_and_one_of_the_host_nothing() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, 16, at(0)), 6);
        assert_eq!(taken(&budget, 1, at(0)), 4, "what is left");
        assert_eq!(taken(&budget, 0, at(0)), 1000);
    }
}
