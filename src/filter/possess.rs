//! Whether a token is shown by whom it is bound to: by the certificate of the connection, or by a proof made for this request.

use super::{Request, Stop};
use crate::bearer::Found;
use crate::budget::Budgeted;
use crate::dpop::{self, shown, shown::Fault};
use crate::jwt::{Binding, Caller, Reject};
use crate::policy::Require;
use crate::reply::Refusal;
use crate::trace;

/// Of a token that is not bound as it must be, or whose key was not shown.
const NOT_BOUND: Refusal = Refusal::Token(Reject::Bound);

impl Request<'_> {
    /// Every key that the token is bound to is shown; and it is bound to one, if that is asked for.
    pub(super) fn possess(
        &mut self,
        require: &Require,
        found: &Found<'_>,
        caller: &Caller,
    ) -> Result<(), Stop> {
        let binding = caller.binding();
        let (certificate, key) = (binding.certificate(), binding.key());
        let bound = match (binding, require.bound) {
            // RFC 9449 section 7.1: a token that comes with that scheme is bound to a key.
            (Binding::None, None) if !found.by_dpop => return Ok(()),
            (Binding::None, Some(bound)) if bound.optional && !found.by_dpop => return Ok(()),
            (Binding::None | Binding::Other, _) | (_, None) => {
                return Err(not_bound("none that is looked at"));
            }
            (_, Some(bound)) => bound,
        };
        if let Some(certificate) = certificate {
            let shown = bound.certificate.and_then(|place| place.shown(self.head));
            trace::tell("certificate", shown == Some(*certificate), || match shown {
                Some(_) => "cnf.x5t#S256, and the certificate that was shown".to_owned(),
                None => "cnf.x5t#S256, but no certificate that counts here".to_owned(),
            });
            if shown != Some(*certificate) {
                return Err(NOT_BOUND.into());
            }
        }
        match key {
            // RFC 9449 section 7.2: nor is one that is bound taken for another scheme's.
            Some(_) if !bound.key || !found.by_dpop => {
                Err(not_bound("a key, but no proof of it counts here"))
            }
            Some(key) => self.proven(key, found, caller),
            None if found.by_dpop => Err(not_bound("no key of which there could be a proof")),
            None => Ok(()),
        }
    }

    /// The request's proof is by that key, for this request and this token, and is used for the first time.
    #[inline(never)]
    fn proven(&mut self, key: &[u8; 32], found: &Found<'_>, caller: &Caller) -> Result<(), Stop> {
        let inbound = self.policy.inbound.as_ref();
        let terms = inbound.and_then(|inbound| inbound.terms.as_ref()).ok_or(NOT_BOUND)?;
        let digest = caller.digest(|| dpop::digest(&found.token));
        let now = self.now.unix;
        let proof = shown::find(self.head).map_err(refused)?;
        if !proof.is_by(key) {
            return Err(not_bound("cnf.jkt, but the proof is by another key"));
        }
        // Whoever has no token cannot make us verify a signature: this comes last.
        let used = match proof.is_for(self.head, digest, terms, now) {
            Err(Fault::Nonce) => {
                trace::tell("proof", false, || Fault::Nonce.to_string());
                let nonce = terms.nonce_key.as_ref().map(|key| key.nonce(now));
                return Err(Refusal::ProofNonce(nonce.unwrap_or_default()).into());
            }
            used => used.map_err(refused)?,
        };
        // A request that had to wait is decided again, and its proof was its own before.
        if *self.spent != Some(used) {
            let verifier = Budgeted::new(self.verifier, &self.store.proof_budget, self.now.instant);
            if !proof.is_signed(&verifier) {
                let exceeded = verifier.is_exceeded();
                return Err(if exceeded {
                    Refusal::TooManySignatures.into()
                } else {
                    refused(Fault::Signature)
                });
            }
            let first = self.store.spend(used, now).map_err(|_| Refusal::TooManyProofs)?;
            if !first {
                return Err(refused(Fault::Replayed));
            }
            *self.spent = Some(used);
        }
        trace::tell("proof", true, || "by the token's key, for this request".to_owned());
        Ok(())
    }
}

fn not_bound(why: &'static str) -> Stop {
    trace::tell("bound", false, || format!("the token is bound to {why}"));
    NOT_BOUND.into()
}

fn refused(fault: Fault) -> Stop {
    trace::tell("proof", false, || fault.to_string());
    Refusal::Proof(fault).into()
}
