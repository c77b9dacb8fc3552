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

use crate::access::RequestContext;
use crate::assertion::Signer;
use crate::bearer;
use crate::dpop::shown::ReplayKey;
use crate::edits::Edits;
use crate::io::{Instant, LocalReply, MessageHead, Now};
use crate::jwt::{Caller, TokenError};
use crate::policy::{Inbound, MatchedRule, Mode, Policy, Require};
use crate::reply::{Refusal, Schemes};
use crate::route::{Ambiguity, Target};
use crate::signature::Verify;
use crate::store::{FetchKey, LookupError, Store};
use crate::trace;
use authenticate::Authenticated;
pub use modes::timeout_refusal;
use std::rc::Rc;
use std::time::Duration;

/// One request, and all that its decision may depend on.
pub struct Request<'a> {
    /// What was asked.
    pub head: &'a MessageHead,
    /// When.
    pub now: Now,
    /// When it came, if it had to wait.
    pub arrived_at: Instant,
    /// What the operator meant.
    pub policy: &'a Policy,
    /// What this worker has learnt.
    pub store: &'a mut Store,
    /// How signatures are verified.
    pub verifier: &'a dyn Verify,
    /// How proofs are signed.
    pub signer: &'a mut Signer,
    /// Whether it cannot be held, though it may be for a better token than the one that is there.
    pub cannot_wait: bool,
    /// The proof that it has used, if it had to wait since.
    pub consumed_proof: &'a mut Option<ReplayKey>,
    /// What was seen on the way, for metrics and the audit log.
    pub record: &'a mut DecisionRecord,
}

/// Why a request does not go on, at least not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It is answered.
    Refuse(Refusal),
    /// It asked us, not the service.
    Respond(LocalReply),
    /// It is decided again when this has arrived.
    Wait(FetchKey),
}

/// What was seen on the way to a decision.
#[derive(Clone, Debug, Default)]
pub struct DecisionRecord {
    /// The inbound rule.
    pub rule: Option<Rc<str>>,
    /// Its mode.
    pub mode: Mode,
    /// What it was spared by that mode.
    pub suppressed_refusal: Option<Refusal>,
    /// Why it needed no caller, if a rule wanted one.
    pub unauthenticated_because: Option<&'static str>,
    /// How its callers may show their tokens, and this one did.
    pub schemes: Schemes,
    /// Who calls.
    pub caller: Option<Caller>,
    /// Whether the caller's token had been verified before.
    pub cache_hit: bool,
    /// Whether it waits for a key that its issuer's key set does not hold.
    pub unknown_key: bool,
    /// The outbound rule.
    pub outbound_rule: Option<Rc<str>>,
    /// Whether it came with a token of ours that is not for where it goes.
    pub stripped: bool,
}

impl<'a> Request<'a> {
    /// Match a rule; if it requires a caller, authenticate and admit it; if it attaches a token, attach it.
    pub fn decide(mut self) -> Result<Edits, Interrupt> {
        let mut edits = Edits::default();
        let target = Target::of(self.head);
        let caller = match &self.policy.inbound {
            Some(inbound) => self.match_rule(inbound, target, &mut edits)?,
            None => None,
        };
        if let Some(rule) = self.policy.outbound_rule(target)? {
            self.attach_token(rule, caller.as_ref(), &mut edits)?;
        }
        self.strip_attached(caller.as_ref(), &mut edits);
        Ok(edits)
    }

    /// Which rule is for it? Nobody is asked for a caller where the rule allows everybody.
    fn match_rule(
        &mut self,
        inbound: &'a Inbound,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Option<Authenticated<'a>>, Interrupt> {
        // Never believe a client's copy of what we assert; and what is judged must be what the service reads.
        inbound.reserved_headers.iter().for_each(|name| edits.strip_reserved(name, self.head));
        inbound.decision_headers.iter().for_each(|name| edits.remove_lookalikes(name, self.head));
        if target.drops_any(&inbound.reserved_headers) || target.drops_any(&inbound.decision_headers) {
            return Err(Ambiguity::Header.into());
        }
        if let Some(answer) = inbound.resource.as_ref().and_then(|resource| resource.answer(target)) {
            return Err(Interrupt::Respond(answer));
        }
        let matched = inbound.rule(target)?.ok_or(Refusal::NoRule)?;
        let rule = matched.rule;
        trace::record("rule", true, || rule.name.to_string());
        self.record.rule = Some(Rc::clone(&rule.name));
        if matched.preflight {
            self.record.unauthenticated_because = Some("preflight");
            return Ok(None);
        }
        let Some(require) = &rule.require else {
            return Ok(None);
        };
        edits.strip_tokens(&rule.token_locations, self.head); // in every mode, and whatever the token is
        self.enforce(&matched, require, target, edits)
    }

    /// Who calls, and may they?
    fn admit(
        &mut self,
        matched: &MatchedRule<'a>,
        require: &Require,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Authenticated<'a>, Interrupt> {
        let rule = matched.rule;
        let found = bearer::extract(&rule.token_locations, self.head)?;
        self.record.schemes.used_dpop = found.is_dpop_scheme;
        let (caller, payload) = self.authenticate(require, &found.token)?;
        self.record.caller = Some(caller.clone());
        self.check_token_binding(require, &found, &caller)?;
        let demand = &require.requirements;
        demand.check(&caller, self.now.unix).map_err(|reject| Refusal::for_requirement(reject, demand))?;
        require
            .access
            .allows(&caller, RequestContext { target, captures: &matched.captures })
            .map_err(Refusal::Access)?;
        for (header, path) in &rule.claims_to_headers {
            if let Some(claim) = caller.claim(path) {
                edits.set_claim(header, claim);
            }
        }
        if let Some((header, payload)) = rule.payload_header.as_ref().zip(payload) {
            edits.set(header, payload.to_vec());
        }
        Ok(Authenticated { token: found.token, caller, locations: &rule.token_locations })
    }
}

/// What is on its way is waited for; what cannot be had refuses, and it is never the caller's fault.
fn wait_or_refuse(refusal: fn(Duration) -> Refusal) -> impl Fn(LookupError) -> Interrupt {
    move |missing| match missing {
        LookupError::Wait(want) => Interrupt::Wait(want),
        LookupError::Unavailable(wait) => refusal(wait).into(),
        LookupError::Full => Refusal::TooManyPending.into(),
        LookupError::Denied(_) => Refusal::SubjectToken.into(),
    }
}

impl From<bearer::ExtractError> for Interrupt {
    fn from(absent: bearer::ExtractError) -> Self {
        Self::Refuse(match absent {
            bearer::ExtractError::Missing => Refusal::NoToken,
            bearer::ExtractError::Multiple => Refusal::MultipleCredentials,
            bearer::ExtractError::TooLarge => Refusal::Token(TokenError::TooLarge),
        })
    }
}

impl From<Ambiguity> for Interrupt {
    fn from(ambiguity: Ambiguity) -> Self {
        Self::Refuse(Refusal::Ambiguous(ambiguity))
    }
}

impl From<Refusal> for Interrupt {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}
