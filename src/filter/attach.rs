//! The way out: which token a request leaves with.
//!
//! The second half of a decision, in the same manner as the first: what is missing is waited for, and then decided again.

use super::{Request, Stop, wait_or};
use crate::config::{Existing, Unavailable};
use crate::edits::{Edits, Sent};
use crate::policy::Attach;
use crate::reply::Refusal;
use crate::store::Missing;
use std::rc::Rc;
use std::time::Duration;

impl Request<'_> {
    /// Attaches the token of the rule's credential.
    pub(super) fn attach(&mut self, rule: &Attach, edits: &mut Edits) -> Result<(), Stop> {
        self.seen.attach = Some(Rc::clone(&rule.name));
        if rule.existing == Existing::Keep && self.head.first(&rule.header).is_some() {
            return Ok(());
        }
        let may_wait = rule.unavailable == Unavailable::Hold;
        match (self.store.token(rule.credential, self.now.instant, may_wait), rule.unavailable) {
            (Ok(held), _) => {
                edits.set(&rule.header, [rule.prefix.as_bytes(), held.token.reveal().as_bytes()].concat());
                if let Some(second) = &rule.second_header {
                    edits.set(second, held.token.reveal().as_bytes().to_vec());
                }
                edits.sent = Some(Sent { credential: rule.credential, serial: held.serial });
                Ok(())
            }
            (Err(missing), Unavailable::Hold) => Err(wait_or(Refusal::NoOutboundToken)(missing)),
            (Err(Missing::Wait(_)), Unavailable::Fail) => {
                Err(Refusal::NoOutboundToken(Duration::ZERO).into())
            }
            (Err(Missing::Unavailable(wait)), Unavailable::Fail) => {
                Err(Refusal::NoOutboundToken(wait).into())
            }
            (Err(_), Unavailable::DangerPass) => {
                for header in std::iter::once(&rule.header).chain(&rule.second_header) {
                    edits.remove(header, self.head);
                }
                Ok(())
            }
        }
    }
}
