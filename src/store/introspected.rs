//! What issuers say of tokens (RFC 7662): one answer for each token, for a short time.

use super::keyed::Keyed;
use super::replies::{Read, gone};
use super::slots::{Entry, Kept};
use super::turn::Turn;
use super::{Missing, Outcome, Store, Ticket, Want, settle};
use crate::assertion::Signer;
use crate::io::{Call, Dice, Instant, Now, Reply};
use crate::jwt::{self, Caller, Reject};
use crate::lease::{Failure, Fresh, Lease, Pace};
use crate::oauth::answer;
use crate::policy::{self, IssuerId};
use std::time::Duration;

/// Who calls by that token, or why nobody does.
pub(super) type Verdict = Result<Caller, Reject>;

/// The answers of one issuer. With each token goes what its signature has proven already, if it has one.
#[derive(Debug)]
pub(super) struct Introspections {
    pub(super) answers: Keyed<Lease<Verdict>, Option<Caller>>,
    /// Which of the client's secrets is tried.
    pub(super) turn: Turn,
}

impl Kept for Lease<Verdict> {
    type Value = Verdict;

    fn new(pace: Pace) -> Self {
        Self::new(pace)
    }

    fn lease(&self) -> &Self {
        self
    }

    fn lease_mut(&mut self) -> &mut Self {
        self
    }

    fn is_known(&self) -> bool {
        matches!(self.held(), Some(Ok(_)))
    }
}

impl Introspections {
    pub(super) fn of(issuer: &policy::Issuer, pace: Pace, patience: Duration) -> Option<Self> {
        let per_second = issuer.introspection.as_ref()?.requests_per_second;
        Some(Self { answers: Keyed::new(pace, Some(per_second), patience), turn: Turn::default() })
    }
}

impl Store {
    /// What the issuer says of this token. `verified` is what its signature has proven.
    #[inline(never)]
    pub fn introspected(
        &mut self,
        issuer: IssuerId,
        token: &str,
        verified: Option<&Caller>,
        now: Now,
        patience: Duration,
    ) -> Result<Result<Caller, Reject>, Missing> {
        let found = self.introspection_endpoint(issuer, now.instant).is_some();
        let unreachable = (!found).then(|| self.until_metadata(issuer, now.instant, patience));
        let Some(introspections) = self.introspections_mut(issuer) else {
            return Err(Missing::Unavailable(Duration::from_secs(1)));
        };
        let verdict = introspections.answers.get(token, verified.cloned(), now.instant, |_| false);
        let verdict = verdict
            .map_err(|not_here| not_here.missing(unreachable, |entry| Want::Introspection(issuer, entry)))?;
        // The answer's own time is measured by a clock that does not step; this one may have.
        Ok(verdict.and_then(|caller| if now.unix < caller.end() { Ok(caller) } else { Err(Reject::Expired) }))
    }

    pub(super) fn introspections(&self, id: IssuerId) -> Option<&Introspections> {
        self.issuers.get(id.0)?.introspections.as_ref()
    }

    pub(super) fn introspections_mut(&mut self, id: IssuerId) -> Option<&mut Introspections> {
        self.issuers.get_mut(id.0)?.introspections.as_mut()
    }

    /// What requests need to be told about.
    pub(super) fn asked_of_issuers(&self) -> impl Iterator<Item = Want> {
        let of = |id| self.introspections(id).into_iter().map(move |own| (id, own));
        let issuers = (0..self.issuers.len()).map(IssuerId).flat_map(of);
        issuers.flat_map(|(id, own)| own.answers.asked().map(move |entry| Want::Introspection(id, entry)))
    }

    pub(super) fn answer(&self, id: IssuerId, entry: Entry) -> Option<&Lease<Verdict>> {
        self.introspections(id)?.answers.kept(entry)
    }

    /// When to look at this fetch again.
    pub(super) fn next_event_of_answer(&self, id: IssuerId, entry: Entry, now: Instant) -> Option<Instant> {
        let lease = self.answer(id, entry)?;
        if lease.in_flight() {
            return Some(lease.next_event());
        }
        let not_before = self.introspections(id)?.answers.not_before(entry)?;
        self.introspection_endpoint(id, now).map(|_| lease.next_event().max(not_before))
    }

    #[inline(never)]
    pub(super) fn introspection_call(
        &self,
        id: IssuerId,
        entry: Entry,
        now: Now,
        signer: &mut Signer,
    ) -> Option<Result<Call, Failure>> {
        let issuer = self.policy.issuers.get(id.0)?;
        let endpoint = self.introspection_endpoint(id, now.instant)?;
        let introspections = self.introspections(id)?;
        let (token, _) = introspections.answers.asking(entry)?;
        let turn = introspections.turn.place();
        Some(issuer.introspection.as_ref()?.call(endpoint, issuer.timeout, token, turn, now.unix, signer))
    }

    /// An answer came, or there will be none: `read` is what it brings. The next secret is tried at once, as for tokens.
    #[inline(never)]
    pub(super) fn finish_introspection(
        &mut self,
        ticket: Ticket,
        reply: &Reply,
        now: Now,
        dice: &mut Dice,
    ) -> Option<Outcome> {
        let Ticket { want, attempt, secret } = ticket;
        let Want::Introspection(id, entry) = want else { return None };
        if !self.answer(id, entry)?.is_running(attempt) {
            return None;
        }
        let read = self.read_introspection(id, entry, reply, now, dice);
        let ways = self.policy.issuers.get(id.0)?.introspection.as_ref()?.auth.len();
        let introspections = self.introspections_mut(id)?;
        if answer::denies_client(reply) {
            introspections.turn.refused(secret, ways);
            let lease = introspections.answers.kept_mut(entry)?;
            if let Err(failure) = &read
                && Turn::has_more(lease.others(), ways)
            {
                lease.again_by_another(attempt);
                let detail = format!("{}; the next secret is tried", failure.detail);
                return Some(Outcome { want, result: Err(Failure { detail, ..failure.clone() }) });
            }
        }
        if matches!(&read, Ok((Fresh { value: Ok(_), .. }, _))) {
            // What fails or is not active keeps nothing of the body.
            introspections.answers.weigh(entry, reply.body.as_deref().unwrap_or_default().len());
        }
        let result = settle(introspections.answers.kept_mut(entry)?, attempt, now.instant, read, dice)?;
        self.ended(want, result.as_ref().err(), reply.status, now.instant, dice);
        Some(Outcome { want, result })
    }

    /// A fetch ended without an answer.
    #[inline(never)]
    pub(super) fn fail_introspection(
        &mut self,
        ticket: Ticket,
        failure: Failure,
        now: Instant,
        dice: &mut Dice,
    ) -> Option<Outcome> {
        let Want::Introspection(id, entry) = ticket.want else { return None };
        let lease = self.introspections_mut(id)?.answers.kept_mut(entry)?;
        let result = settle(lease, ticket.attempt, now, Err(failure), dice)?;
        self.ended(ticket.want, result.as_ref().err(), None, now, dice);
        Some(Outcome { want: ticket.want, result })
    }

    /// Whether the answer to this never came.
    pub(super) fn lost_introspection(
        &mut self,
        id: IssuerId,
        entry: Entry,
        now: Instant,
        dice: &mut Dice,
    ) -> bool {
        let answers = self.introspections_mut(id).map(|introspections| &mut introspections.answers);
        let lease = answers.and_then(|answers| answers.kept_mut(entry));
        lease.is_some_and(|lease| lease.in_flight() && lease.give_up_lost(now, dice))
    }

    fn read_introspection(
        &self,
        id: IssuerId,
        entry: Entry,
        reply: &Reply,
        now: Now,
        dice: &mut Dice,
    ) -> Read<Verdict> {
        let issuer = self.policy.issuers.get(id.0).ok_or_else(gone)?;
        let introspection = issuer.introspection.as_ref().ok_or_else(gone)?;
        let asking = self.introspections(id).and_then(|own| own.answers.asking(entry));
        let (token, verified) = asking.ok_or_else(gone)?;
        let members = introspection.read(reply, token)?;
        let verdict = jwt::introspected(members, verified.as_ref(), &issuer.expect, now.unix);
        let (renew_after, end_after) = match &verdict {
            Ok(caller) => {
                let left = Duration::from_secs(caller.end().saturating_sub(now.unix));
                let end = introspection.cache.min(left);
                // At 80 % of its time, less up to a tenth of it, in the background: who is revoked is found out, and who is
                // not does not wait.
                ((end / 5 * 4).saturating_sub(dice.up_to(end / 10)), end)
            }
            Err(_) => (introspection.negative_cache, introspection.negative_cache),
        };
        Ok((Fresh { value: verdict, renew_after, end_after }, "an answer about a token".to_owned()))
    }
}
