//! One worker: events in, effects out. It holds the requests that wait, and runs them again when
//! something has arrived.
//!
//! After each event the driver drains [`Plugin::next_effect`] and sleeps until
//! [`Plugin::deadline`]. It knows no host and no clock, so an hour of token life is a test of
//! microseconds.

pub mod audit_log;
pub mod filter_state;
mod pending_requests;
mod report;
mod upstream_responses;

use crate::dpop::verify::ReplayKey;
use crate::filter::header_edits::HeaderEdits;
use crate::filter::{DecisionRecord, Interrupt, Request, timeout_refusal};
use crate::http::message::{HttpCall, HttpReply, LocalReply, MessageHead, RequestId};
use crate::inbound::refusal::Refusal;
use crate::jose::verifier::Verify;
use crate::metrics::{Metric, Metrics};
use crate::oauth::client_assertion::Signer;
use crate::plugin::audit_log::{AuditLog, unlimited_fetch_line};
use crate::policy::Policy;
use crate::rng::Rng;
use crate::store::shared_record::{NoSharing, SharedStore};
use crate::store::{FetchId, FetchKey, FetchOutcome, FileRead, Store};
use crate::time::{Instant, Now};
use pending_requests::{MAX_PER_TICK, PendingRequest, QueueFull, RequestQueue};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// From one portion to the next: as soon as the host can.
const NEXT_PORTION: Duration = Duration::from_millis(1);

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It is forwarded, with these changes.
    Forward(HeaderEdits),
    /// It is answered.
    Respond(LocalReply),
    /// It stays where it is; an [`Effect::Resume`] follows.
    Wait,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// Make this call; its reply comes back with the ticket.
    Call(FetchId, HttpCall),
    /// A request that waited waits no more.
    Resume(RequestId, RequestOutcome),
    /// Write to the log.
    Log(log::Level, String),
}

/// One worker.
pub struct Plugin {
    policy: Rc<Policy>,
    store: Store,
    verifier: Box<dyn Verify>,
    signer: Signer,
    /// Usually none.
    queue: RequestQueue,
    /// Whether this worker has received a request. Envoy's main thread never does.
    has_served: bool,
    /// How many of them may be decided before the next tick.
    remaining_turns: usize,
    effects: VecDeque<Effect>,
    metrics: Metrics,
    audit: AuditLog,
    /// Lines about requests that were forwarded nevertheless take no room from those about
    /// refusals.
    suppressed_audit: AuditLog,
    /// Nor do those about tokens, of which callers who exchange theirs can cause many.
    tokens: AuditLog,
    /// Nor do those about introspection, of which anybody can cause many.
    introspections: AuditLog,
    rng: Rng,
}

impl Plugin {
    /// A worker that has learnt nothing yet, and has no others beside it.
    pub fn new(policy: Policy, verifier: Box<dyn Verify>, signer: Signer, seed: u64) -> Self {
        Self::sharing(policy, verifier, signer, Box::new(NoSharing), seed)
    }

    /// A worker that shares what it fetches with those at the same board; their seeds must differ.
    pub fn sharing(
        policy: Policy,
        verifier: Box<dyn Verify>,
        signer: Signer,
        board: Box<dyn SharedStore>,
        seed: u64,
    ) -> Self {
        let (policy, mut rng) = (Rc::new(policy), Rng::new(seed));
        let store = Store::sharing(Rc::clone(&policy), board, rng.next_u64().max(1), signer.thumbprint());
        Self {
            policy,
            store,
            verifier,
            signer,
            queue: RequestQueue::default(),
            has_served: false,
            remaining_turns: MAX_PER_TICK,
            effects: VecDeque::new(),
            metrics: Metrics::default(),
            audit: AuditLog::default(),
            suppressed_audit: AuditLog::default(),
            tokens: AuditLog::default(),
            introspections: AuditLog::default(),
            rng,
        }
    }

    /// A request came.
    pub fn request(&mut self, id: RequestId, head: MessageHead, now: Now) -> RequestOutcome {
        self.has_served = true;
        if head.iter().next().is_none() {
            return RequestOutcome::Respond(Refusal::NotReady.plain()); // the host has handed over no request
        }
        let (since, deadline) = (now.instant, now.instant + self.policy.pending_requests.timeout);
        let mut consumed_proof = None;
        let (want, seen) = match self.decide(&head, since, now, false, &mut consumed_proof) {
            Ok(outcome) => return outcome,
            Err(waits) => waits,
        };
        let (is_known, unknown_key) = (seen.caller.is_some(), seen.unknown_key);
        let waiter = PendingRequest {
            id,
            head,
            waiting_for: want,
            arrived_at: since,
            deadline,
            consumed_proof,
            is_verified: is_known,
            unknown_key,
            drained: false,
        };
        self.hold(None, waiter, &seen, now).unwrap_or_else(|| {
            self.metrics.count(Metric::Pending, self.store.metric_subject(want), "");
            RequestOutcome::Wait
        })
    }

    /// A call ended.
    pub fn reply(&mut self, ticket: FetchId, reply: &HttpReply, now: Now) {
        let outcome = self.store.finish(ticket, reply, now, &mut self.rng);
        self.conclude(outcome.as_ref(), now);
    }

    /// A fetch ended; the requests that waited for it are decided again.
    fn conclude(&mut self, outcome: Option<&FetchOutcome>, now: Now) {
        if let Some(outcome) = outcome {
            self.report(outcome, now.instant);
            self.queue.release(outcome.key);
            // Nothing is fetched without the file, so that no other end of a fetch releases them.
            if let FetchKey::File(FileRead(id)) = outcome.key
                && outcome.result.is_err()
            {
                self.store.dependents(id).into_iter().for_each(|key| self.queue.release(key));
            }
            self.decide_released(now);
        }
    }

    /// The timer has run out. Never inside another callback: so another portion of those that wait
    /// may be answered.
    pub fn tick(&mut self, now: Now) {
        self.remaining_turns = MAX_PER_TICK;
        self.decide_released(now);
        self.run_due(now);
    }

    /// What is due is done.
    pub fn run_due(&mut self, now: Now) {
        for outcome in self.store.give_up_lost(now.instant, &mut self.rng) {
            self.conclude(Some(&outcome), now);
        }
        for (want, news) in self.store.poll(now, &mut self.rng) {
            if let Some(news) = news {
                let fetch = self.store.metric_subject(want);
                self.metrics.count(Metric::Fetch, fetch, "shared");
                let text = format!("{}: {news}, fetched by another worker", self.store.describe(want));
                let line = unlimited_fetch_line(fetch, "shared", text);
                self.effects.push_back(Effect::Log(log::Level::Info, line));
            }
            self.queue.release(want);
        }
        for want in self.store.ended_holds(now.instant) {
            self.queue.release(want);
        }
        self.decide_released(now);
        while let Some((ticket, call)) = self.store.begin(now, &mut self.signer) {
            match call {
                Ok(call) => self.effects.push_back(Effect::Call(ticket, call)),
                Err(failure) => {
                    let outcome = self.store.fail(ticket, failure, now, &mut self.rng);
                    self.conclude(outcome.as_ref(), now);
                }
            }
        }
        self.queue.release_due(now.instant);
        self.decide_released(now);
    }

    /// A request is over, whether it waited or not.
    pub fn cancel(&mut self, id: RequestId) {
        if let Some(want) = self.queue.cancel(id) {
            self.abandon(want);
        }
    }

    /// This worker is replaced: pending requests are answered, and those that are too many for one
    /// callback are left to [`Plugin::take_over`].
    pub fn drain(&mut self, now: Now) {
        self.retire(now);
        self.queue.drain();
        self.decide_released(now);
    }

    /// The host ends this worker's calls: another worker may fetch at once what it was fetching.
    pub fn retire(&mut self, now: Now) {
        self.store.retire(now.instant);
    }

    /// This worker, which is new, answers those that a dismissed one has left behind.
    pub fn take_over(&mut self, dismissed: &mut Self) {
        self.queue = std::mem::take(&mut dismissed.queue);
    }

    /// The machine has slept, as the wall clock says.
    pub fn on_wake(&mut self, now: Now) {
        self.store.on_wake(now.instant, &mut self.rng);
    }

    /// The next thing to do, if there is one.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What the records are called in which it shares tokens.
    pub fn records(&self) -> Vec<String> {
        let records = self.store.records().filter(|(want, _)| want.credential().is_some());
        records.map(|(_, name)| name.to_owned()).collect()
    }

    /// This worker is over: no token of its credentials stays behind where others could read it.
    pub fn remove_records(&mut self, is_used: impl Fn(&str) -> bool, now: Now) {
        self.store.remove_records(is_used, now);
    }

    /// When to call [`Plugin::tick`] next.
    pub fn deadline(&self, now: Now) -> Option<Instant> {
        if self.queue.has_released() {
            return Some(now.instant + NEXT_PORTION);
        }
        let fetches = self.store.next_event(now.instant, |want| self.queue.waits_for(want));
        fetches.into_iter().chain(self.queue.deadline()).min()
    }

    /// What has been counted.
    pub fn metrics(&mut self) -> &mut Metrics {
        let Self { store, metrics: stats, audit, suppressed_audit, .. } = self;
        let mut add = |name: &str, limit, count| {
            if count > 0 {
                stats.add(Metric::LimitReached, name.into(), limit, count);
            }
        };
        store.limit_metrics(&mut add);
        for audit in [audit, suppressed_audit] {
            add("", "audit_text", audit.truncated.take());
        }
        stats
    }

    /// Decides a request: what becomes of it, or what it waits for.
    fn decide(
        &mut self,
        head: &MessageHead,
        since: Instant,
        now: Now,
        in_hurry: bool,
        consumed_proof: &mut Option<ReplayKey>,
    ) -> Result<RequestOutcome, (FetchKey, DecisionRecord)> {
        let mut seen = DecisionRecord::default();
        let Self { policy, store, verifier, signer, .. } = self;
        let verifier = verifier.as_ref();
        let seen_here = &mut seen;
        let request = Request {
            head,
            now,
            arrived_at: since,
            policy,
            store,
            verifier,
            signer,
            cannot_wait: in_hurry,
            consumed_proof,
            record: seen_here,
        };
        match request.decide() {
            Ok(edits) => Ok(self.forward(edits, &seen, head, now)),
            Err(Interrupt::Refuse(refusal)) => Ok(self.refuse(&refusal, &seen, head, now)),
            Err(Interrupt::Respond(response)) => Ok(self.answer(response)),
            Err(Interrupt::Wait(want)) => Err((want, seen)),
        }
    }

    /// Those that need not wait any more are decided again, with what is known by now: first come,
    /// first served, and no more between two ticks than the host bears.
    fn decide_released(&mut self, now: Now) {
        while self.remaining_turns > 0
            && let Some((number, waiter)) = self.queue.pop_released()
        {
            self.remaining_turns = self.remaining_turns.saturating_sub(1);
            let id = waiter.id;
            if let Some(step) = self.decide_again(number, waiter, now) {
                self.effects.push_back(Effect::Resume(id, step));
            }
        }
    }

    /// What becomes of a request that has waited; nothing yet, if it has to wait for something
    /// else.
    fn decide_again(&mut self, number: u64, mut waiter: PendingRequest, now: Now) -> Option<RequestOutcome> {
        if waiter.drained {
            return Some(self.refuse(&Refusal::NotReady, &DecisionRecord::default(), &waiter.head, now));
        }
        // Whose time is up takes the token that is there.
        let in_hurry = waiter.deadline <= now.instant;
        let decided = self.decide(&waiter.head, waiter.arrived_at, now, in_hurry, &mut waiter.consumed_proof);
        let (want, seen) = match decided {
            Ok(outcome) => return Some(outcome),
            Err(waits) => waits,
        };
        if in_hurry {
            self.abandon(want);
            return Some(self.refuse(&timeout_refusal(want), &seen, &waiter.head, now));
        }
        let (is_known, unknown_key) = (seen.caller.is_some(), seen.unknown_key);
        self.hold(
            Some(number),
            PendingRequest { waiting_for: want, is_verified: is_known, unknown_key, ..waiter },
            &seen,
            now,
        )
    }

    /// The request waits, at the place that it had if it had one. Where there is no room, it leaves
    /// with a token that a service has refused, if there is one that has not ended; else it is
    /// refused.
    fn hold(
        &mut self,
        number: Option<u64>,
        mut waiter: PendingRequest,
        seen: &DecisionRecord,
        now: Now,
    ) -> Option<RequestOutcome> {
        let full = match (self.queue.check_capacity(&waiter, &self.policy.pending_requests), number) {
            (Ok(()), Some(number)) => {
                self.queue.requeue(number, waiter);
                return None;
            }
            (Ok(()), None) => {
                self.queue.enqueue(waiter);
                return None;
            }
            (Err(full), _) => full,
        };
        self.abandon(waiter.waiting_for);
        if self.store.has_token(waiter.waiting_for, now.instant) {
            let decided = self.decide(&waiter.head, waiter.arrived_at, now, true, &mut waiter.consumed_proof);
            if let Ok(outcome) = decided {
                return Some(outcome);
            }
        }
        Some(self.refuse_over_limit(full, &waiter, seen, now))
    }

    fn refuse_over_limit(
        &mut self,
        full: QueueFull,
        waiter: &PendingRequest,
        seen: &DecisionRecord,
        now: Now,
    ) -> RequestOutcome {
        let fetch = self.store.metric_subject(waiter.waiting_for);
        let (subject, limit) = match full {
            QueueFull::Requests => (fetch, "pending_requests"),
            QueueFull::UnknownKeys => (fetch, "pending_unknown_keys"),
            QueueFull::Bytes => ("".into(), "pending_bytes"),
        };
        self.metrics.count(Metric::LimitReached, subject, limit);
        self.refuse(&Refusal::TooManyPending, seen, &waiter.head, now)
    }

    /// A request waits for this no more; perhaps it was the last one that did.
    fn abandon(&mut self, want: FetchKey) {
        if !self.queue.waits_for(want) {
            self.store.abandon(want);
        }
    }
}
