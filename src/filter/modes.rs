//! What becomes of a rule's decision, by the rule's mode.
//!
//! The decision itself is the same in all modes. The two that never refuse never hold a request either: what would have to be
//! waited for is fetched all the same, and the request goes on as one that could not be judged.

use super::{Authenticated, Interrupt, Request};
use crate::edits::Edits;
use crate::policy::{DECISION, MatchedRule, Mode, Require};
use crate::reply::Refusal;
use crate::route::Target;
use crate::store::FetchKey;
use std::rc::Rc;
use std::time::Duration;

impl<'a> Request<'a> {
    /// The caller, none where the request goes on without one, or why it stops here after all.
    pub(super) fn enforce(
        &mut self,
        matched: &MatchedRule<'a>,
        require: &Require,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Option<Authenticated<'a>>, Interrupt> {
        let mode = matched.rule.mode;
        (self.record.mode, self.record.schemes) = (mode, require.schemes());
        let caller = match (mode, self.admit(matched, require, target, edits)) {
            (Mode::Optional, Err(Interrupt::Refuse(Refusal::NoToken))) => {
                self.record.unauthenticated_because = Some("anonymous");
                return Ok(None);
            }
            (Mode::Enforce | Mode::Optional, admitted) => return admitted.map(Some),
            (_, Ok(caller)) => Some(caller),
            (_, Err(Interrupt::Respond(answer))) => return Err(Interrupt::Respond(answer)),
            (_, Err(Interrupt::Refuse(refusal))) => {
                self.record.suppressed_refusal = Some(refusal);
                None
            }
            (_, Err(Interrupt::Wait(want))) => {
                self.record.suppressed_refusal = Some(timeout_refusal(want));
                None
            }
        };
        if mode == Mode::DangerPermissive {
            let decision = self.record.suppressed_refusal.as_ref().map_or("allowed", Refusal::reason);
            edits.set(&Rc::from(DECISION), decision.into());
        }
        Ok(caller)
    }
}

/// What it comes to when there is no time to wait.
pub fn timeout_refusal(want: FetchKey) -> Refusal {
    let soon = Duration::from_secs(1);
    match want {
        FetchKey::Token(_) | FetchKey::Exchanged(..) => Refusal::NoOutboundToken(soon),
        FetchKey::Introspection(..) => Refusal::IntrospectionUnavailable(soon),
        FetchKey::Keys(_) | FetchKey::Metadata(_) => Refusal::JwksUnavailable(soon),
    }
}
