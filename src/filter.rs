//! One request, from its headers to a decision.
//!
//! In: the headers, the policy, the worker's store, the time. Out: the header edits, or why the
//! request is not forwarded now. It makes no calls. A request that waits is decided again from the
//! top, with one thing kept from the earlier run.
//!
//! A decision has one effect: a DPoP proof that has been verified is written to the shared data as
//! used, at once. It cannot be an effect of later, since another worker may decide about the same
//! proof meanwhile: the check and the write are one step (`Store::check_and_insert`).
//! [`Request::consumed_proof`] remembers that the proof was this request's own.

mod attach_token;
mod authenticate;
mod dpop_proof;
mod enforcement;
pub mod header_edits;
mod interrupt;
mod introspect;
mod token_binding;

use crate::decision_trace;
use crate::dpop::verify::ReplayKey;
use crate::filter::header_edits::HeaderEdits;
use crate::http::message::MessageHead;
use crate::http::route::{Ambiguity, Target};
use crate::inbound::authorize::RequestContext;
use crate::inbound::jwt::Caller;
use crate::inbound::refusal::{Refusal, Schemes};
use crate::inbound::token_location;
use crate::jose::verifier::Verify;
use crate::oauth::client_assertion::Signer;
use crate::policy::{Inbound, MatchedRule, Mode, Policy, Require};
use crate::store::Store;
use crate::time::{Instant, Now};
use authenticate::Authenticated;
pub use enforcement::timeout_refusal;
pub use interrupt::Interrupt;
use interrupt::wait_or_refuse;
use std::rc::Rc;

/// One request, and everything that its decision may depend on.
pub struct Request<'a> {
    /// Its headers, and its route.
    pub head: &'a MessageHead,
    /// The time of this run.
    pub now: Now,
    /// When it arrived; earlier than `now` if it has waited.
    pub arrived_at: Instant,
    /// The compiled configuration.
    pub policy: &'a Policy,
    /// Keys, tokens and verified callers of this worker.
    pub store: &'a mut Store,
    /// Verifies signatures.
    pub verifier: &'a dyn Verify,
    /// Signs DPoP proofs and client assertions.
    pub signer: &'a mut Signer,
    /// Whether it must be forwarded with the token at hand, even if a service has just refused that
    /// token.
    pub cannot_wait: bool,
    /// The DPoP proof that it used in an earlier run.
    pub consumed_proof: &'a mut Option<ReplayKey>,
    /// Facts about the decision, for metrics and the audit log.
    pub record: &'a mut DecisionRecord,
}

/// Facts about a decision, for metrics, the audit log and the filter state.
#[derive(Clone, Debug, Default)]
pub struct DecisionRecord {
    /// The name of the inbound rule.
    pub rule: Option<Rc<str>>,
    /// Its mode.
    pub mode: Mode,
    /// The refusal that the rule's mode suppressed.
    pub suppressed_refusal: Option<Refusal>,
    /// Why the request is forwarded without a caller although its rule requires one.
    pub unauthenticated_because: Option<&'static str>,
    /// The schemes that the rule accepts, and the one that the client used: challenges depend on
    /// them.
    pub schemes: Schemes,
    /// The verified caller.
    pub caller: Option<Caller>,
    /// Whether the verified caller came from the cache.
    pub cache_hit: bool,
    /// Whether it waits for a key that is not in the issuer's key set.
    pub unknown_key: bool,
    /// The name of the outbound rule.
    pub outbound_rule: Option<Rc<str>>,
    /// Whether a token of ours was removed that no rule attaches here.
    pub stripped: bool,
}

impl<'a> Request<'a> {
    /// Inbound: match a rule, evaluate it, enforce it by its mode. Outbound: attach a token.
    pub fn decide(mut self) -> Result<HeaderEdits, Interrupt> {
        let mut edits = HeaderEdits::default();
        let target = Target::of(self.head);
        let caller = match &self.policy.inbound {
            Some(inbound) => self.check_inbound(inbound, target, &mut edits)?,
            None => None,
        };
        if let Some(rule) = self.policy.outbound_rule(target)? {
            self.attach_token(rule, caller.as_ref(), &mut edits)?;
        }
        self.strip_attached(caller.as_ref(), &mut edits);
        Ok(edits)
    }

    /// The caller, if the request may pass; none where its rule requires none.
    fn check_inbound(
        &mut self,
        inbound: &'a Inbound,
        target: Target<'_>,
        edits: &mut HeaderEdits,
    ) -> Result<Option<Authenticated<'a>>, Interrupt> {
        let matched = self.match_rule(inbound, target, edits)?;
        let Some(require) = matched.rule.require.as_ref().filter(|_| !matched.preflight) else {
            return Ok(None); // `allow: true`, or a CORS preflight
        };
        edits.strip_tokens(&matched.rule.token_locations, self.head); // in every mode, whether the token is valid or not
        self.record.schemes = require.schemes();
        let evaluated = self.evaluate(&matched, require, target, edits);
        self.enforce(matched.rule.mode, evaluated, edits)
    }

    /// Matches an inbound rule. A request that matches none is refused.
    fn match_rule(
        &mut self,
        inbound: &'a Inbound,
        target: Target<'_>,
        edits: &mut HeaderEdits,
    ) -> Result<MatchedRule<'a>, Interrupt> {
        // Remove a client's copies of headers that the filter sets, and headers that some servers
        // take for those it decides by.
        inbound.reserved_headers.iter().for_each(|name| edits.strip_reserved(name, self.head));
        inbound.decision_headers.iter().for_each(|name| edits.remove_lookalikes(name, self.head));
        if target.drops_any(&inbound.reserved_headers) || target.drops_any(&inbound.decision_headers) {
            return Err(Ambiguity::Header.into());
        }
        if let Some(metadata) = inbound.resource.as_ref().and_then(|resource| resource.answer(target)) {
            return Err(Interrupt::Respond(metadata));
        }
        let matched = inbound.rule(target)?.ok_or(Refusal::NoRule)?;
        decision_trace::record("rule", true, || matched.rule.name.to_string());
        self.record.rule = Some(Rc::clone(&matched.rule.name));
        if matched.preflight {
            self.record.unauthenticated_because = Some("preflight");
        }
        Ok(matched)
    }

    /// Authenticates the caller and checks the rule's requirements: the same in every mode.
    fn evaluate(
        &mut self,
        matched: &MatchedRule<'a>,
        require: &Require,
        target: Target<'_>,
        edits: &mut HeaderEdits,
    ) -> Result<Authenticated<'a>, Interrupt> {
        let rule = matched.rule;
        let found = token_location::extract(&rule.token_locations, self.head)?;
        self.record.schemes.used_dpop = found.is_dpop_scheme;
        let (caller, payload) = self.authenticate(require, &found.token)?;
        self.record.caller = Some(caller.clone());
        self.check_token_binding(require, &found, &caller)?;
        let requirements = &require.requirements;
        let failed = |error| Refusal::for_requirement(error, requirements);
        requirements.check(&caller, self.now.unix).map_err(failed)?;
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
