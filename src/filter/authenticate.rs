//! Authentication: the caller of a token, by its signature, by introspection, or by both.

use super::{Interrupt, Request, wait_or_refuse};
use crate::config::Introspect;
use crate::decision_trace;
use crate::inbound::jwt::{self, Caller, TokenError};
use crate::inbound::refusal::Refusal;
use crate::inbound::token_location::TokenLocation;
use crate::jose::jws;
use crate::jose::verification_budget::BudgetedVerifier;
use crate::policy::{IssuerId, Require};
use std::borrow::Cow;

/// The error for tokens that are not JWTs.
const NOT_A_JWT: Interrupt = Interrupt::Refuse(Refusal::Token(TokenError::Malformed));

/// A verified caller, and its token.
pub(super) struct Authenticated<'a> {
    pub(super) token: Cow<'a, [u8]>,
    pub(super) caller: Caller,
    /// The token locations of the rule.
    pub(super) locations: &'a [TokenLocation],
}

impl Request<'_> {
    /// The caller of a token, by its signature, by introspection, or by both, as the rule requires;
    /// and the token's payload, if its signature was verified.
    pub(super) fn authenticate<'t>(
        &mut self,
        require: &Require,
        token: &'t [u8],
    ) -> Result<(Caller, Option<&'t [u8]>), Interrupt> {
        match self.verify(require, token) {
            Ok((id, caller)) => {
                let caller = match require.introspect {
                    Some(Introspect::Always) => self.introspect(id, token, Some(&caller))?,
                    Some(Introspect::Opaque) | None => caller,
                };
                Ok((caller, jwt::payload(token)))
            }
            Err(stop) if stop == NOT_A_JWT && require.introspect.is_some() && !jws::is_mangled(token) => {
                // It does not say whose it is.
                let id = self.policy.introspecting(&require.issuers).ok_or(stop)?;
                Ok((self.introspect(id, token, None)?, None))
            }
            Err(stop) => Err(stop),
        }
    }

    /// Verifies a JWT: its caller, and the issuer whose key has signed it.
    fn verify(&mut self, require: &Require, token: &[u8]) -> Result<(IssuerId, Caller), Interrupt> {
        let mut issuers = require.issuers.iter();
        let known = issuers.find_map(|id| Some((*id, self.store.verified(*id, token, self.now)?)));
        if let Some(known) = known {
            decision_trace::record("remembered", true, String::new);
            self.record.cache_hit = true;
            return Ok(known);
        }
        let claimed = jwt::read(token).map_err(|error| {
            let refusal = Refusal::Token(error);
            decision_trace::record("header", false, || refusal.message().to_owned());
            refusal
        })?; // shape only; nothing in it is believed yet
        let iss = claimed.issuer().map_err(Refusal::Token)?; // it chooses whose keys are tried (RFC 8725 section 3.8)
        let named = self.policy.issuer_named(&require.issuers, iss);
        let (id, issuer) = named.ok_or(Refusal::Token(TokenError::Issuer))?;
        let keys = self.store.keys(id, claimed.kid(), self.arrived_at, self.now);
        self.record.unknown_key = keys.is_err() && self.store.has_keys(id, self.now);
        decision_trace::record_if(keys.is_err(), "key set", || issuer.name.clone());
        let keys = keys.map_err(wait_or_refuse(Refusal::JwksUnavailable))?;
        let verifier = BudgetedVerifier::new(self.verifier, &self.store.token_budget, self.now.instant);
        let verified = claimed.verify(&keys, &verifier, &issuer.profile, self.now.unix);
        if verified.is_err() && verifier.is_exceeded() {
            return Err(Refusal::TooManySignatures.into()); // nobody has looked at it, so it is not called wrong
        }
        let caller = verified.map_err(Refusal::Token)?;
        self.store.remember(id, token, &caller, self.now);
        Ok((id, caller))
    }
}
