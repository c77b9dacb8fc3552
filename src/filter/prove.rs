//! The proof that goes with a bound token (RFC 9449 section 7), made anew for each run of a request.

use super::{Request, Stop};
use crate::dpop::{self, Claims};
use crate::edits::{Edits, Sent};
use crate::io::Service;
use crate::policy::{Attach, Proof};
use crate::reply::Refusal;
use crate::store::Held;
use std::rc::Rc;

impl Request<'_> {
    /// Sets the proof beside a token that needs one. A client's own proof never stands beside our token.
    pub(super) fn prove(&mut self, rule: &Attach, held: &Held, edits: &mut Edits) -> Result<(), Stop> {
        let mut origin = None;
        if held.digest.is_some() {
            let proof = rule.proof.as_ref().ok_or(Refusal::NoProof)?;
            let claimed = self.origin(proof).ok_or(Refusal::NoProof)?;
            let signed = self.proof(&claimed, held).ok_or(Refusal::NoProof)?;
            edits.set(&Rc::from(dpop::HEADER), signed.into_bytes());
            origin = Some(claimed);
        } else if let Some(header) = &rule.proof_header {
            edits.remove(header, self.head);
        }
        let (service, grpc) = (Service::of(self.head), self.head.is_grpc());
        edits.sent = Some(Sent { want: held.want, serial: held.serial, service, origin, grpc });
        Ok(())
    }

    /// Where the request goes, as the called service sees it.
    fn origin(&self, proof: &Proof) -> Option<Rc<str>> {
        proof.origin.clone().or_else(|| {
            let scheme = self.head.first(":scheme").unwrap_or_default();
            Some(dpop::origin(scheme, self.head.host())?.into())
        })
    }

    fn proof(&mut self, origin: &str, held: &Held) -> Option<String> {
        let nonce = self.store.nonce(origin);
        let claims = Claims {
            method: std::str::from_utf8(self.head.method()).ok()?,
            url: &dpop::url(origin, self.head.path()),
            now: self.now.unix,
            token: Some(held.digest.as_deref()?),
            nonce: nonce.as_ref(),
        };
        self.signer.proof(&claims)
    }
}
