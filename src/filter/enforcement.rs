//! Enforcement of a rule's decision, by the rule's mode.
//!
//! The decision is the same in all modes. `danger_permissive` and `danger_dry_run` refuse no request and hold none: a
//! pending fetch continues in the background, and the request is forwarded as one that could not be decided.

use super::{Authenticated, Interrupt, Request};
use crate::filter::header_edits::HeaderEdits;
use crate::inbound::refusal::Refusal;
use crate::policy::{DECISION, Mode};
use crate::store::FetchKey;
use std::rc::Rc;
use std::time::Duration;

impl<'a> Request<'a> {
    /// The caller, none where the mode forwards the request without one, or why it is not forwarded.
    pub(super) fn enforce(
        &mut self,
        mode: Mode,
        evaluated: Result<Authenticated<'a>, Interrupt>,
        edits: &mut HeaderEdits,
    ) -> Result<Option<Authenticated<'a>>, Interrupt> {
        self.record.mode = mode;
        let caller = match (mode, evaluated) {
            (Mode::Optional, Err(Interrupt::Refuse(Refusal::NoToken))) => {
                self.record.unauthenticated_because = Some("anonymous");
                return Ok(None);
            }
            (Mode::Enforce | Mode::Optional, evaluated) => return evaluated.map(Some),
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
            let decision =
                self.record.suppressed_refusal.as_ref().map_or("allowed", |refusal| refusal.reason().name());
            edits.set(&Rc::from(DECISION), decision.into());
        }
        Ok(caller)
    }
}

/// The refusal of a request that has waited for as long as it may.
pub fn timeout_refusal(key: FetchKey) -> Refusal {
    key.refusal(Duration::from_secs(1))
}
