//! What becomes of a rule's decision, by the rule's mode.
//!
//! The decision itself is the same in all modes. The two that never refuse never hold a request either: what would have to be
//! waited for is fetched all the same, and the request goes on as one that could not be judged.

use super::{Authenticated, Request, Stop};
use crate::edits::Edits;
use crate::policy::{DECISION, MatchedRule, Mode, Require};
use crate::reply::Refusal;
use crate::route::Target;
use crate::store::Want;
use std::rc::Rc;
use std::time::Duration;

impl<'a> Request<'a> {
    /// The caller, none where the request goes on without one, or why it stops here after all.
    pub(super) fn by_mode(
        &mut self,
        matched: &MatchedRule<'a>,
        require: &Require,
        target: Target<'_>,
        edits: &mut Edits,
    ) -> Result<Option<Authenticated<'a>>, Stop> {
        let mode = matched.rule.mode;
        (self.seen.mode, self.seen.schemes) = (mode, require.schemes());
        let caller = match (mode, self.admit(matched, require, target, edits)) {
            (Mode::Optional, Err(Stop::Refuse(Refusal::NoToken))) => {
                self.seen.without = Some("anonymous");
                return Ok(None);
            }
            (Mode::Enforce | Mode::Optional, admitted) => return admitted.map(Some),
            (_, Ok(caller)) => Some(caller),
            (_, Err(Stop::Answer(answer))) => return Err(Stop::Answer(answer)),
            (_, Err(Stop::Refuse(refusal))) => {
                self.seen.spared = Some(refusal);
                None
            }
            (_, Err(Stop::Wait(want))) => {
                self.seen.spared = Some(ran_out(want));
                None
            }
        };
        if mode == Mode::DangerPermissive {
            let decision = self.seen.spared.as_ref().map_or("allowed", Refusal::reason);
            edits.set(&Rc::from(DECISION), decision.into());
        }
        Ok(caller)
    }
}

/// What it comes to when there is no time to wait.
pub fn ran_out(want: Want) -> Refusal {
    let soon = Duration::from_secs(1);
    match want {
        Want::Token(_) | Want::Exchanged(..) => Refusal::NoOutboundToken(soon),
        Want::Introspection(..) => Refusal::NoIntrospection(soon),
        Want::Keys(_) | Want::Metadata(_) => Refusal::NoKeys(soon),
    }
}
