//! The DPoP proof for a bound token (RFC 9449 section 7), signed anew for each run of a request.

use super::{Interrupt, Request};
use crate::dpop::{self, ProofClaims};
use crate::filter::header_edits::{AttachedToken, HeaderEdits};
use crate::http::message::Service;
use crate::http::url;
use crate::inbound::refusal::Refusal;
use crate::policy::{DpopTarget, OutboundRule};
use crate::store::IssuedToken;
use std::rc::Rc;

impl Request<'_> {
    /// Adds the proof to a request whose token needs one, in place of the client's own.
    pub(super) fn add_dpop_proof(
        &mut self,
        rule: &OutboundRule,
        held: &IssuedToken,
        service: Service,
        edits: &mut HeaderEdits,
    ) -> Result<(), Interrupt> {
        let mut origin = None;
        if held.digest.is_some() {
            let proof = rule.dpop_target.as_ref().ok_or(Refusal::DpopSigningFailed)?;
            let claimed = self.origin(proof).ok_or(Refusal::DpopSigningFailed)?;
            let signed = self.sign_proof(&claimed, held).ok_or(Refusal::DpopSigningFailed)?;
            edits.set(&Rc::from(dpop::HEADER), signed.into_bytes());
            origin = Some(claimed);
        } else if let Some(header) = &rule.proof_header {
            edits.remove(header, self.head);
        }
        let grpc = self.head.is_grpc();
        edits.attached_token =
            Some(AttachedToken { fetch_key: held.fetch_key, serial: held.serial, service, origin, grpc });
        Ok(())
    }

    /// The origin of the request's URL, as the called service sees it.
    fn origin(&self, proof: &DpopTarget) -> Option<Rc<str>> {
        proof.origin.clone().or_else(|| {
            let scheme = self.head.first(":scheme").unwrap_or_default();
            Some(url::origin(scheme, self.head.host())?.into())
        })
    }

    fn sign_proof(&mut self, origin: &str, held: &IssuedToken) -> Option<String> {
        let nonce = self.store.nonce(origin);
        let claims = ProofClaims {
            method: std::str::from_utf8(self.head.method()).ok()?,
            url: &url::url(origin, self.head.path()),
            now: self.now.unix,
            token: Some(held.digest.as_deref()?),
            nonce: nonce.as_ref(),
        };
        self.signer.dpop_proof(&claims)
    }
}
