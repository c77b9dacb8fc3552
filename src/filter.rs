//! One request, from its head to a decision.
//!
//! In: the head, the policy, what this worker has learnt, the time. Out: edits to make, or why the request stops here.
//! It performs no I/O and keeps nothing between runs: a request that waits is simply decided again, from the top.

mod attach;
mod authenticate;
mod introspect;
mod modes;
mod possess;
mod prove;

use crate::access::Asked;
use crate::assertion::Signer;
use crate::bearer;
use crate::dpop::shown::Used;
use crate::edits::Edits;
use crate::io::{Head, Instant, Now, Response};
use crate::jwt::{Caller, Reject};
use crate::policy::{Inbound, MatchedRule, Mode, Policy, Require};
use crate::reply::{Refusal, Schemes};
use crate::route::{Ambiguity, Target};
use crate::signature::Verify;
use crate::store::{Missing, Store, Want};
use crate::trace;
use authenticate::Authenticated;
pub use modes::ran_out;
use std::rc::Rc;
use std::time::Duration;

/// One request, and all that its decision may depend on.
pub struct Request<'a> {
    /// What was asked.
    pub head: &'a Head,
    /// When.
    pub now: Now,
    /// When it came, if it had to wait.
    pub since: Instant,
    /// What the operator meant.
    pub policy: &'a Policy,
    /// What this worker has learnt.
    pub store: &'a mut Store,
    /// How signatures are verified.
    pub verifier: &'a dyn Verify,
    /// How proofs are signed.
    pub signer: &'a mut Signer,
    /// Whether it cannot be held, though it may be for a better token than the one that is there.
    pub in_hurry: bool,
    /// The proof that it has used, if it had to wait since.
    pub spent: &'a mut Option<Used>,
    /// What was seen on the way, for metrics and the audit log.
    pub seen: &'a mut Seen,
}

/// Why a request does not go on, at least not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is answered.
    Refuse(Refusal),
    /// It asked us, not the service.
    Answer(Response),
    /// It is decided again when this has arrived.
    Wait(Want),
}

/// What was seen on the way to a decision.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The inbound rule.
    pub rule: Option<Rc<str>>,
    /// Its mode.
    pub mode: Mode,
    /// What it was spared by that mode.
    pub spared: Option<Refusal>,
    /// Why it needed no caller, if a rule wanted one.
    pub without: Option<&'static str>,
    /// How its callers may show their tokens, and this one did.
    pub schemes: Schemes,
    /// Who calls.
    pub caller: Option<Caller>,
    /// Whether the caller's token had been verified before.
    pub known: bool,
    /// Whether it waits for a key that its issuer's key set does not hold.
    pub unknown_key: bool,
    /// The outbound rule.
    pub attach: Option<Rc<str>>,
    /// Whether it came with a token of ours that is not for where it goes.
    pub stripped: bool,
}

impl<'a> Request<'a> {
    /// Match a rule; if it requires a caller, authenticate and admit it; if it attaches a token, attach it.
    pub fn decide(mut self) -> Result<Edits, Stop> {
        let mut edits = Edits::default();
        let target = Target::of(self.head);
        let caller = match &self.policy.inbound {
            Some(inbound) => self.enter(inbound, target, &mut edits)?,
            None => None,
        };
        if let Some(rule) = self.policy.attach(target)? {
            self.attach(rule, caller.as_ref(), &mut edits)?;
        }
        self.strip_attached(caller.as_ref(), &mut edits);
        Ok(edits)
    }

    /// Which rule is for it? Nobody is asked for a caller where the rule allows everybody.
    fn enter(
        &mut self,
        inbound: &'a Inbound,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Option<Authenticated<'a>>, Stop> {
        // Never believe a client's copy of what we assert; and what is judged must be what the service reads.
        inbound.own_headers.iter().for_each(|name| edits.remove_own(name, self.head));
        inbound.judged_headers.iter().for_each(|name| edits.remove_lookalikes(name, self.head));
        if target.drops_any(&inbound.own_headers) || target.drops_any(&inbound.judged_headers) {
            return Err(Ambiguity::Header.into());
        }
        if let Some(answer) = inbound.resource.as_ref().and_then(|resource| resource.answer(target)) {
            return Err(Stop::Answer(answer));
        }
        let matched = inbound.rule(target)?.ok_or(Refusal::NoRule)?;
        let rule = matched.rule;
        trace::tell("rule", true, || rule.name.to_string());
        self.seen.rule = Some(Rc::clone(&rule.name));
        if matched.preflight {
            self.seen.without = Some("preflight");
            return Ok(None);
        }
        let Some(require) = &rule.require else {
            return Ok(None);
        };
        edits.take_out(&rule.tokens, self.head); // in every mode, and whatever the token is
        self.by_mode(&matched, require, target, edits)
    }

    /// Who calls, and may they?
    fn admit(
        &mut self,
        matched: &MatchedRule<'a>,
        require: &Require,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Authenticated<'a>, Stop> {
        let rule = matched.rule;
        let found = bearer::find(&rule.tokens, self.head)?;
        self.seen.schemes.by_dpop = found.by_dpop;
        let (caller, payload) = self.authenticate(require, &found.token)?;
        self.seen.caller = Some(caller.clone());
        self.possess(require, &found, &caller)?;
        let demand = &require.demand;
        demand.holds(&caller, self.now.unix).map_err(|reject| Refusal::of_demand(reject, demand))?;
        require
            .access
            .allows(&caller, Asked { target, captures: &matched.captures })
            .map_err(Refusal::Access)?;
        for (header, path) in &rule.claims_to_headers {
            if let Some(claim) = caller.claim(path) {
                edits.set_claim(header, claim);
            }
        }
        if let Some((header, payload)) = rule.payload_header.as_ref().zip(payload) {
            edits.set(header, payload.to_vec());
        }
        Ok(Authenticated { token: found.token, caller, places: &rule.tokens })
    }
}

/// What is on its way is waited for; what cannot be had refuses, and it is never the caller's fault.
fn wait_or(refusal: fn(Duration) -> Refusal) -> impl Fn(Missing) -> Stop {
    move |missing| match missing {
        Missing::Wait(want) => Stop::Wait(want),
        Missing::Unavailable(wait) => refusal(wait).into(),
        Missing::NoRoom => Refusal::TooManyWaiting.into(),
        Missing::Denied(_) => Refusal::SubjectToken.into(),
    }
}

impl From<bearer::Absent> for Stop {
    fn from(absent: bearer::Absent) -> Self {
        Self::Refuse(match absent {
            bearer::Absent::None => Refusal::NoToken,
            bearer::Absent::Several => Refusal::SeveralTokens,
            bearer::Absent::TooLarge => Refusal::Token(Reject::TooLarge),
        })
    }
}

impl From<Ambiguity> for Stop {
    fn from(ambiguity: Ambiguity) -> Self {
        Self::Refuse(Refusal::Ambiguous(ambiguity))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}
