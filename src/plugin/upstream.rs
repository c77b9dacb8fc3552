//! What services answer to requests that left with a token of ours.

use super::Plugin;
use crate::edits::Sent;
use crate::io::{Head, Now};
use crate::stats::Event;

/// Whether the service has answered, and no later filter of this Envoy, by what Envoy says of it. Among the filters of a cluster
/// nothing is said yet of what the service has answered.
fn is_of_the_service(code_details: Option<&[u8]>) -> bool {
    matches!(code_details, None | Some(b"" | b"via_upstream"))
}

impl Plugin {
    /// A request that left with a token was answered: the token may be refused, and the service may want its nonce in the next proof
    /// (RFC 9449 section 9). `code_details` are what Envoy says of who answered: a later filter of it says nothing of the token.
    pub fn answered(
        &mut self,
        sent: &Sent,
        response: &Head,
        now: Now,
        code_details: impl FnOnce() -> Option<Vec<u8>>,
    ) {
        if let Some(origin) = sent.origin.clone() {
            self.store.learn_nonce(origin, response);
        }
        self.judged(sent, response, now, code_details);
    }

    /// What a response, or its trailers, says of the token: that the service refuses it, or accepts it.
    pub fn judged(
        &mut self,
        sent: &Sent,
        response: &Head,
        now: Now,
        code_details: impl FnOnce() -> Option<Vec<u8>>,
    ) {
        let is_refused = sent.is_refused(response);
        let is_news = is_refused || self.remembers_refusals() && sent.is_accepted(response);
        if !is_news || !is_of_the_service(code_details().as_deref()) {
            return;
        }
        if is_refused {
            self.refused_upstream(sent, now);
        } else {
            self.store.accepted_upstream(sent.want, sent.serial, sent.service, now.instant);
        }
    }

    /// The service refused a token of ours.
    pub fn refused_upstream(&mut self, sent: &Sent, now: Now) {
        let credential = sent.want.credential().map_or("?", |id| self.store.credential_name(id));
        self.stats.count(Event::RefusedUpstream, credential, "");
        self.store.refused_upstream(sent.want, sent.serial, sent.service, now.instant);
    }

    /// Whether a service has refused a token lately. Then it matters which one a request goes to, and which ones accept theirs.
    pub fn remembers_refusals(&self) -> bool {
        self.store.remembers_refusals()
    }
}
