//! Token introspection (RFC 7662). A pending answer suspends the request, as a pending key set does.

use super::{Interrupt, Request, wait_or_refuse};
use crate::inbound::jwt::{Caller, MAX_TOKEN_BYTES, TokenError};
use crate::inbound::refusal::Refusal;
use crate::inbound::token_location;
use crate::policy::IssuerId;

impl Request<'_> {
    /// The caller of a token that the issuer says is active; `verified` is the caller by its signature, if that was verified.
    #[inline(never)]
    pub(super) fn introspect(
        &mut self,
        issuer: IssuerId,
        token: &[u8],
        verified: Option<&Caller>,
    ) -> Result<Caller, Interrupt> {
        // A provider takes no less care of what it is asked than we do of what we are.
        let text = token_location::token_str(token).filter(|text| text.len() <= MAX_TOKEN_BYTES);
        let text = text.ok_or(Refusal::Token(TokenError::Malformed))?;
        let patience = self.store.remaining_wait(self.arrived_at, self.now.instant);
        // RFC 7662 section 2.3: an error is no answer about the token.
        let verdict = self.store.introspected(issuer, text, verified, self.now, patience);
        let caller =
            verdict.map_err(wait_or_refuse(Refusal::IntrospectionUnavailable))?.map_err(Refusal::Token)?;
        // One that had to wait for the answer was not known before.
        self.record.cache_hit = self.arrived_at == self.now.instant;
        Ok(caller)
    }
}
