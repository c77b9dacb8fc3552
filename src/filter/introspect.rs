//! What the issuer says of a token (RFC 7662): in the same manner as keys, what is missing is waited for.

use super::{Request, Stop, wait_or};
use crate::bearer;
use crate::jwt::{Caller, MAX_TOKEN_BYTES, Reject};
use crate::policy::IssuerId;
use crate::reply::Refusal;

impl Request<'_> {
    /// The caller of a token of which the issuer says that it is active; `verified` is what its signature has proven.
    #[inline(never)]
    pub(super) fn introspect(
        &mut self,
        issuer: IssuerId,
        token: &[u8],
        verified: Option<&Caller>,
    ) -> Result<Caller, Stop> {
        // A provider takes no less care of what it is asked than we do of what we are.
        let text = bearer::text(token).filter(|text| text.len() <= MAX_TOKEN_BYTES);
        let text = text.ok_or(Refusal::Token(Reject::Malformed))?;
        let patience = self.store.patience(self.since, self.now.instant);
        let verdict = self.store.introspected(issuer, text, verified, self.now, patience);
        let caller = verdict.map_err(wait_or(Refusal::NoIntrospection))?.map_err(Refusal::Token)?;
        // One that had to wait for the answer was not known before.
        self.seen.known = self.since == self.now.instant;
        Ok(caller)
    }
}
