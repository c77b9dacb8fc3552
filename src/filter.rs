//! One request, from its headers to a decision.
//!
//! In: the headers, the policy, the worker's store, the time. Out: the header edits, or why the request is not forwarded now. It
//! makes no calls. A request that waits is decided again from the top; what is kept is that its DPoP proof has been used.

mod attach_token;
mod authenticate;
mod dpop_proof;
mod enforcement;
pub mod header_edits;
mod introspect;
mod token_binding;

use crate::decision_trace;
use crate::dpop::verify::ReplayKey;
use crate::filter::header_edits::Edits;
use crate::http::message::{Instant, LocalReply, MessageHead, Now};
use crate::http::route::{Ambiguity, Target};
use crate::inbound::authorize::RequestContext;
use crate::inbound::jwt::{Caller, TokenError};
use crate::inbound::refusal::{Refusal, Schemes};
use crate::inbound::token_location;
use crate::jose::verifier::Verify;
use crate::oauth::client_assertion::Signer;
use crate::policy::{Inbound, MatchedRule, Mode, Policy, Require};
use crate::store::{FetchKey, LookupError, Store};
use authenticate::Authenticated;
pub use enforcement::timeout_refusal;
use std::rc::Rc;
use std::time::Duration;

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
    /// Whether it must be forwarded with the token at hand, even if a service has just refused that token.
    pub cannot_wait: bool,
    /// The DPoP proof that it used in an earlier run.
    pub consumed_proof: &'a mut Option<ReplayKey>,
    /// Facts about the decision, for metrics and the audit log.
    pub record: &'a mut DecisionRecord,
}

/// Why a request is not forwarded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It is refused.
    Refuse(Refusal),
    /// The filter itself is asked, as for the resource metadata.
    Respond(LocalReply),
    /// It waits for this fetch, and is decided again.
    Wait(FetchKey),
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
    /// The schemes that the rule accepts, and the one that the client used: challenges depend on them.
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
    /// Inbound: match a rule, verify the caller, enforce the rule. Outbound: attach a token.
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

    /// Matches an inbound rule and enforces it. `allow: true` rules require no token.
    fn match_rule(
        &mut self,
        inbound: &'a Inbound,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Option<Authenticated<'a>>, Interrupt> {
        // Remove a client's copies of headers that the filter sets, and headers that some servers take for those it decides by.
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
        decision_trace::record("rule", true, || rule.name.to_string());
        self.record.rule = Some(Rc::clone(&rule.name));
        if matched.preflight {
            self.record.unauthenticated_because = Some("preflight");
            return Ok(None);
        }
        let Some(require) = &rule.require else {
            return Ok(None);
        };
        edits.strip_tokens(&rule.token_locations, self.head); // in every mode, whether the token is valid or not
        self.enforce(&matched, require, target, edits)
    }

    /// Authenticates the caller and checks the rule's requirements.
    fn admit(
        &mut self,
        matched: &MatchedRule<'a>,
        require: &Require,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Authenticated<'a>, Interrupt> {
        let rule = matched.rule;
        let found = token_location::extract(&rule.token_locations, self.head)?;
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

/// A pending fetch suspends the request; a failed one becomes this refusal, a 503.
fn wait_or_refuse(refusal: fn(Duration) -> Refusal) -> impl Fn(LookupError) -> Interrupt {
    move |missing| match missing {
        LookupError::Wait(want) => Interrupt::Wait(want),
        LookupError::Unavailable(wait) => refusal(wait).into(),
        LookupError::Full => Refusal::TooManyPending.into(),
        LookupError::Denied(_) => Refusal::SubjectToken.into(),
    }
}

impl From<token_location::ExtractError> for Interrupt {
    fn from(absent: token_location::ExtractError) -> Self {
        Self::Refuse(match absent {
            token_location::ExtractError::Missing => Refusal::NoToken,
            token_location::ExtractError::Multiple => Refusal::MultipleCredentials,
            token_location::ExtractError::TooLarge => Refusal::Token(TokenError::TooLarge),
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
