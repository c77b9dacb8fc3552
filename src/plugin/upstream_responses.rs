//! What services answer to requests that left with a token of ours.

use super::Plugin;
use crate::filter::header_edits::AttachedToken;
use crate::http::message::MessageHead;
use crate::metrics::Metric;
use crate::time::Now;

/// Whether the service has answered, and no later filter of this Envoy, by what Envoy says of it.
/// Among the filters of a cluster nothing is said yet of what the service has answered.
fn is_from_upstream(code_details: Option<&[u8]>) -> bool {
    matches!(code_details, None | Some(b"" | b"via_upstream"))
}

impl Plugin {
    /// A request that left with a token was answered: the token may be refused, and the service may
    /// want its nonce in the next proof (RFC 9449 section 9). `code_details` are what Envoy says of
    /// who answered: a later filter of it says nothing of the token.
    pub fn on_upstream_response(
        &mut self,
        sent: &AttachedToken,
        response: &MessageHead,
        now: Now,
        code_details: impl FnOnce() -> Option<Vec<u8>>,
    ) {
        if let Some(origin) = sent.origin.clone() {
            self.store.record_nonce(origin, response);
        }
        self.on_token_verdict(sent, response, now, code_details);
    }

    /// What a response, or its trailers, says of the token: that the service refuses it, or accepts
    /// it.
    pub fn on_token_verdict(
        &mut self,
        sent: &AttachedToken,
        response: &MessageHead,
        now: Now,
        code_details: impl FnOnce() -> Option<Vec<u8>>,
    ) {
        let is_refused = sent.is_rejected(response);
        let is_news = is_refused || self.has_recent_rejections() && sent.is_accepted(response);
        if !is_news || !is_from_upstream(code_details().as_deref()) {
            return;
        }
        if is_refused {
            self.on_token_rejected(sent, now);
        } else {
            self.store.on_token_accepted(sent.fetch_key, sent.serial, sent.service, now.instant);
        }
    }

    /// The service refused a token of ours.
    pub fn on_token_rejected(&mut self, sent: &AttachedToken, now: Now) {
        let credential = sent.fetch_key.credential().map_or("?", |id| self.store.credential_name(id));
        self.metrics.count(Metric::UpstreamRejected, credential, "");
        self.store.on_token_rejected(sent.fetch_key, sent.serial, sent.service, now.instant);
    }

    /// Whether a service has refused a token lately. Then it matters which one a request goes to,
    /// and which ones accept theirs.
    pub fn has_recent_rejections(&self) -> bool {
        self.store.has_recent_rejections()
    }
}
