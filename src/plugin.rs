//! One worker: events in, effects out. It holds the requests that wait, and runs them again when something has arrived.
//!
//! After each event the driver drains [`Plugin::poll`] and sleeps until [`Plugin::deadline`]. It knows no host and no
//! clock, so an hour of token life is a test of microseconds.

mod upstream;
mod waiters;

use crate::assertion::Signer;
use crate::audit::Audit;
use crate::dpop::shown::Used;
use crate::edits::Edits;
use crate::filter::{Request, Seen, Stop, ran_out};
use crate::io::{Call, Dice, Head, Instant, Now, Reply, RequestId, Response};
use crate::lease::Cause;
use crate::policy::{Mode, Policy};
use crate::reply::{Manner, Refusal};
use crate::share::{Alone, Board};
use crate::signature::Verify;
use crate::state;
use crate::stats::{Event, Stats};
use crate::store::{Outcome, Store, Ticket, Want};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use waiters::{Full, PORTION, Waiter, Waiters};

/// From one portion to the next: as soon as the host can.
const NEXT_PORTION: Duration = Duration::from_millis(1);

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on, with these changes.
    Forward(Edits),
    /// It is answered.
    Answer(Response),
    /// It stays where it is; an [`Effect::Settle`] follows.
    Wait,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// Make this call; its reply comes back with the ticket.
    Call(Ticket, Call),
    /// A request that waited waits no more.
    Settle(RequestId, Step),
    /// Tell the operator.
    Log(log::Level, String),
}

/// One worker.
pub struct Plugin {
    policy: Rc<Policy>,
    store: Store,
    verifier: Box<dyn Verify>,
    signer: Signer,
    /// Usually none.
    waiters: Waiters,
    /// How many of them may be decided before the next tick.
    turns: usize,
    effects: VecDeque<Effect>,
    stats: Stats,
    audit: Audit,
    /// Lines about requests that went on all the same take no room from those about refusals.
    spared: Audit,
    /// Nor do those about tokens, of which callers who exchange theirs can cause many.
    tokens: Audit,
    /// Nor do those about introspection, of which anybody can cause many.
    introspections: Audit,
    dice: Dice,
}

impl Plugin {
    /// A worker that has learnt nothing yet, and has no others beside it.
    pub fn new(policy: Policy, verifier: Box<dyn Verify>, signer: Signer, seed: u64) -> Self {
        Self::sharing(policy, verifier, signer, Box::new(Alone), seed)
    }

    /// A worker that shares what it fetches with those at the same board; their seeds must differ.
    pub fn sharing(
        policy: Policy,
        verifier: Box<dyn Verify>,
        signer: Signer,
        board: Box<dyn Board>,
        seed: u64,
    ) -> Self {
        let (policy, mut dice) = (Rc::new(policy), Dice::new(seed));
        let store = Store::sharing(Rc::clone(&policy), board, dice.roll().max(1), signer.thumbprint());
        Self {
            policy,
            store,
            verifier,
            signer,
            waiters: Waiters::default(),
            turns: PORTION,
            effects: VecDeque::new(),
            stats: Stats::default(),
            audit: Audit::default(),
            spared: Audit::default(),
            tokens: Audit::default(),
            introspections: Audit::default(),
            dice,
        }
    }

    /// A request came.
    pub fn request(&mut self, id: RequestId, head: Head, now: Now) -> Step {
        if head.iter().next().is_none() {
            return Step::Answer(Refusal::NotReady.plain()); // the host has handed over no request
        }
        let (since, deadline) = (now.instant, now.instant + self.policy.waiting.timeout);
        let mut spent = None;
        let (decision, seen) = self.decide(&head, since, now, false, &mut spent);
        let (want, seen) = match self.step(decision, seen, &head, now) {
            Ok(step) => return step,
            Err(waits) => waits,
        };
        let (is_known, unknown_key) = (seen.caller.is_some(), seen.unknown_key);
        let waiter =
            Waiter { id, head, want, since, deadline, spent, is_known, unknown_key, dismissed: false };
        self.hold(None, waiter, &seen, now).unwrap_or_else(|| {
            self.stats.count(Event::Held, &self.store.describe(want), "");
            Step::Wait
        })
    }

    /// A call ended.
    pub fn reply(&mut self, ticket: Ticket, reply: &Reply, now: Now) {
        let outcome = self.store.finish(ticket, reply, now, &mut self.dice);
        self.conclude(outcome.as_ref(), now);
    }

    /// A fetch ended; whoever waited for it is decided again.
    fn conclude(&mut self, outcome: Option<&Outcome>, now: Now) {
        if let Some(outcome) = outcome {
            self.tell(outcome, now.instant);
            self.waiters.release(outcome.want);
            self.take_turns(now);
        }
    }

    /// The timer has run out. Never inside another callback: so another portion of those that wait may be answered.
    pub fn tick(&mut self, now: Now) {
        self.turns = PORTION;
        self.take_turns(now);
        self.proceed(now);
    }

    /// What is due is done.
    pub fn proceed(&mut self, now: Now) {
        for outcome in self.store.give_up_lost(now.instant, &mut self.dice) {
            self.conclude(Some(&outcome), now);
        }
        for (want, news) in self.store.look(now, &mut self.dice) {
            if let Some(news) = news {
                let what = self.store.describe(want);
                self.stats.count(Event::Fetch, &what, "shared");
                let line = format!("{what}: {news}, fetched by another worker");
                self.effects.push_back(Effect::Log(log::Level::Info, line));
            }
            self.waiters.release(want);
        }
        for want in self.store.ended_holds(now.instant) {
            self.waiters.release(want);
        }
        self.take_turns(now);
        while let Some((ticket, call)) = self.store.begin(now, &mut self.signer) {
            match call {
                Ok(call) => self.effects.push_back(Effect::Call(ticket, call)),
                Err(failure) => {
                    let outcome = self.store.fail(ticket, failure, now, &mut self.dice);
                    self.conclude(outcome.as_ref(), now);
                }
            }
        }
        self.waiters.release_due(now.instant);
        self.take_turns(now);
    }

    /// A request is over, whether it waited or not.
    pub fn forget(&mut self, id: RequestId) {
        if let Some(want) = self.waiters.forget(id) {
            self.abandon(want);
        }
    }

    /// This worker is replaced: whoever waits is answered, and those that are too many for one callback are left to
    /// [`Plugin::succeed`].
    pub fn dismiss(&mut self, now: Now) {
        self.retire(now);
        self.waiters.dismiss();
        self.take_turns(now);
    }

    /// The host ends this worker's calls: another worker may fetch at once what it was fetching.
    pub fn retire(&mut self, now: Now) {
        self.store.retire(now.instant);
    }

    /// This worker, which is new, answers those that a dismissed one has left behind.
    pub fn succeed(&mut self, dismissed: &mut Self) {
        self.waiters = std::mem::take(&mut dismissed.waiters);
    }

    /// The machine has slept, as the wall clock says.
    pub fn slept(&mut self, now: Now) {
        self.store.slept(now.instant, &mut self.dice);
    }

    /// The next thing to do, if there is one.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What the records are called in which it shares tokens.
    pub fn records(&self) -> Vec<String> {
        let records = self.store.records().filter(|(want, _)| want.credential().is_some());
        records.map(|(_, name)| name.to_owned()).collect()
    }

    /// This worker is over: no token of its credentials stays behind where others could read it.
    pub fn vacate(&mut self, is_used: impl Fn(&str) -> bool, now: Now) {
        self.store.vacate(is_used, now);
    }

    /// When to call [`Plugin::tick`] next.
    pub fn deadline(&self, now: Now) -> Option<Instant> {
        if self.waiters.has_turns() {
            return Some(now.instant + NEXT_PORTION);
        }
        let fetches = self.store.next_event(now.instant, |want| self.waiters.waits_for(want));
        fetches.into_iter().chain(self.waiters.deadline()).min()
    }

    /// What has been counted.
    pub fn stats(&mut self) -> &mut Stats {
        let Self { store, stats, audit, spared, .. } = self;
        let mut told = |whose: &str, which, count| {
            if count > 0 {
                stats.add(Event::Limit, whose, which, count);
            }
        };
        store.crossed(&mut told);
        for audit in [audit, spared] {
            told("", "audit_text", audit.cut.take());
        }
        stats
    }

    fn decide(
        &mut self,
        head: &Head,
        since: Instant,
        now: Now,
        in_hurry: bool,
        spent: &mut Option<Used>,
    ) -> (Result<Edits, Stop>, Seen) {
        let mut seen = Seen::default();
        let Self { policy, store, verifier, signer, .. } = self;
        let verifier = verifier.as_ref();
        let seen_here = &mut seen;
        let request =
            Request { head, now, since, policy, store, verifier, signer, in_hurry, spent, seen: seen_here };
        (request.decide(), seen)
    }

    /// Those that need not wait any more are decided again, with what is known by now: first come, first served, and no more
    /// between two ticks than the host bears.
    fn take_turns(&mut self, now: Now) {
        while self.turns > 0
            && let Some((number, waiter)) = self.waiters.next_turn()
        {
            self.turns = self.turns.saturating_sub(1);
            let id = waiter.id;
            if let Some(step) = self.decide_again(number, waiter, now) {
                self.effects.push_back(Effect::Settle(id, step));
            }
        }
    }

    /// What becomes of a request that has waited; nothing yet, if it has to wait for something else.
    fn decide_again(&mut self, number: u64, mut waiter: Waiter, now: Now) -> Option<Step> {
        if waiter.dismissed {
            return Some(self.refuse(&Refusal::NotReady, &Seen::default(), &waiter.head, now));
        }
        // Whose time is up takes the token that is there.
        let in_hurry = waiter.deadline <= now.instant;
        let (decision, seen) = self.decide(&waiter.head, waiter.since, now, in_hurry, &mut waiter.spent);
        let (want, seen) = match self.step(decision, seen, &waiter.head, now) {
            Ok(step) => return Some(step),
            Err(waits) => waits,
        };
        if in_hurry {
            self.abandon(want);
            return Some(self.refuse(&ran_out(want), &seen, &waiter.head, now));
        }
        let (is_known, unknown_key) = (seen.caller.is_some(), seen.unknown_key);
        self.hold(Some(number), Waiter { want, is_known, unknown_key, ..waiter }, &seen, now)
    }

    /// What becomes of a request, or what it waits for.
    fn step(
        &mut self,
        decision: Result<Edits, Stop>,
        seen: Seen,
        head: &Head,
        now: Now,
    ) -> Result<Step, (Want, Seen)> {
        match decision {
            Ok(edits) => Ok(self.forward(edits, &seen, head, now)),
            Err(Stop::Refuse(refusal)) => Ok(self.refuse(&refusal, &seen, head, now)),
            Err(Stop::Answer(response)) => Ok(self.answer(response)),
            Err(Stop::Wait(want)) => Err((want, seen)),
        }
    }

    /// The request waits, at the place that it had if it had one. Where there is no room, it leaves with a token that a service
    /// has refused, if there is one that has not ended; else it is refused.
    fn hold(&mut self, number: Option<u64>, mut waiter: Waiter, seen: &Seen, now: Now) -> Option<Step> {
        let full = match (self.waiters.room(&waiter, &self.policy.waiting), number) {
            (Ok(()), Some(number)) => {
                self.waiters.hold_as(number, waiter);
                return None;
            }
            (Ok(()), None) => {
                self.waiters.hold(waiter);
                return None;
            }
            (Err(full), _) => full,
        };
        self.abandon(waiter.want);
        if self.store.has_token(waiter.want, now.instant) {
            let (decision, seen) = self.decide(&waiter.head, waiter.since, now, true, &mut waiter.spent);
            if let Ok(step) = self.step(decision, seen, &waiter.head, now) {
                return Some(step);
            }
        }
        Some(self.refuse_one_too_many(full, &waiter, seen, now))
    }

    fn refuse_one_too_many(&mut self, full: Full, waiter: &Waiter, seen: &Seen, now: Now) -> Step {
        let (whose, which) = match full {
            Full::Requests => (self.store.describe(waiter.want), "waiting_requests"),
            Full::UnknownKeys => (self.store.describe(waiter.want), "waiting_unknown_keys"),
            Full::Bytes => (String::new(), "waiting_bytes"),
        };
        self.stats.count(Event::Limit, &whose, which);
        self.refuse(&Refusal::TooManyWaiting, seen, &waiter.head, now)
    }

    /// A request waits for this no more; perhaps it was the last one that did.
    fn abandon(&mut self, want: Want) {
        let of_one = matches!(want, Want::Exchanged(..) | Want::Introspection(..));
        if of_one && !self.waiters.waits_for(want) {
            self.store.abandon(want);
        }
    }

    fn forward(&mut self, mut edits: Edits, seen: &Seen, head: &Head, now: Now) -> Step {
        if self.policy.tells_state() {
            let (state, left_out) = state::forwarded(seen);
            edits.left_out = edits.left_out.saturating_add(left_out);
            edits.state = state;
        }
        self.count_left_out(edits.left_out, seen);
        if let Some(rule) = &seen.rule {
            let event = match seen.mode {
                Mode::Enforce | Mode::Optional => Event::Inbound,
                Mode::DangerPermissive => Event::Permissive,
                Mode::DangerDryRun => Event::DryRun,
            };
            let decision = seen.spared.as_ref().map(Refusal::reason).or(seen.without);
            self.stats.count(event, rule, decision.unwrap_or("allowed"));
            self.count_lookup(seen);
        }
        if let Some(refusal) = &seen.spared {
            let line = self.spared.line("would_refuse", refusal, seen, head, now.instant);
            self.tell_audit(log::Level::Info, line);
        }
        if seen.stripped {
            self.stats.count(Event::Outbound, "none", "token_removed");
        }
        if let Some(rule) = &seen.attach {
            let detail = if edits.sent.is_some() { "attached" } else { "passed" };
            self.stats.count(Event::Outbound, rule, detail);
        }
        Step::Forward(edits)
    }

    fn refuse(&mut self, refusal: &Refusal, seen: &Seen, head: &Head, now: Now) -> Step {
        let (event, rule) = match (&seen.attach, &seen.rule) {
            (Some(rule), _) => (Event::Outbound, rule.as_ref()),
            (None, Some(rule)) => (Event::Inbound, rule.as_ref()),
            (None, None) => (Event::Inbound, "none"),
        };
        self.stats.count(event, rule, refusal.reason());
        self.count_lookup(seen);
        let line = self.audit.line("refused", refusal, seen, head, now.instant);
        self.tell_audit(log::Level::Info, line);
        let plain = Manner::default();
        let manner = self.policy.inbound.as_ref().map_or(&plain, |inbound| &inbound.manner);
        let mut response = refusal.response(manner, seen.schemes, head.is_grpc());
        if self.policy.tells_state() {
            let (state, left_out) = state::refused(seen, refusal.reason());
            response.state = state;
            self.count_left_out(left_out, seen);
        }
        Step::Answer(response)
    }

    fn count_left_out(&mut self, count: u32, seen: &Seen) {
        for _ in 0..count {
            self.stats.count(Event::LeftOut, seen.rule.as_deref().unwrap_or_default(), "");
        }
    }

    fn tell_audit(&mut self, level: log::Level, line: Option<String>) {
        match line {
            Some(line) => self.effects.push_back(Effect::Log(level, line)),
            None => self.stats.count(Event::AuditSuppressed, "", ""),
        }
    }

    /// What the resource says of itself.
    fn answer(&mut self, response: Response) -> Step {
        self.stats.count(Event::Inbound, "resource_metadata", "answered");
        Step::Answer(response)
    }

    fn count_lookup(&mut self, seen: &Seen) {
        if seen.caller.is_some() {
            self.stats.count(Event::Verified, "", if seen.known { "hit" } else { "miss" });
        }
    }

    fn tell(&mut self, outcome: &Outcome, now: Instant) {
        let what = self.store.describe(outcome.want);
        let (level, detail, text) = match &outcome.result {
            Ok(news) => (log::Level::Info, "ok", format!("{what}: {news}")),
            Err(failure) => {
                let by_design = matches!(failure.cause, Cause::Nonce | Cause::Elsewhere);
                let level = if by_design { log::Level::Info } else { log::Level::Warn };
                (level, failure.cause.label(), format!("{what}: {failure}"))
            }
        };
        self.stats.count(Event::Fetch, &what, detail);
        if let Some(id) = outcome.want.credential() {
            let line = self.tokens.token(self.store.credential_name(id), detail, text, now);
            self.tell_audit(level, line);
            return;
        }
        // What comes of one caller's token is as frequent as callers are, and no news.
        if !matches!(outcome.want, Want::Introspection(..)) {
            self.effects.push_back(Effect::Log(level, text));
        } else if outcome.result.is_err() {
            let line = self.introspections.plain(text, now);
            self.tell_audit(level, line);
        }
    }
}
