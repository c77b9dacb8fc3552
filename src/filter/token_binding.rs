//! Proof of possession: the client certificate of the connection, or a DPoP proof for this request.

use super::{Interrupt, Request};
use crate::decision_trace;
use crate::dpop::{self, verify, verify::ProofError};
use crate::inbound::jwt::{Caller, Confirmation, TokenError};
use crate::inbound::refusal::Refusal;
use crate::inbound::token_location::ExtractedToken;
use crate::jose::verification_budget::BudgetedVerifier;
use crate::policy::Require;

/// The token is not bound as the rule requires, or its key was not presented.
const BINDING_MISMATCH: Refusal = Refusal::Token(TokenError::BindingMismatch);

impl Request<'_> {
    /// Checks that every key that the token is bound to is presented, and that it is bound to one if the rule requires it.
    pub(super) fn check_token_binding(
        &mut self,
        require: &Require,
        found: &ExtractedToken<'_>,
        caller: &Caller,
    ) -> Result<(), Interrupt> {
        let binding = caller.confirmation();
        let (certificate, key) = (binding.certificate(), binding.key());
        let bound = match (binding, require.token_binding) {
            // RFC 9449 section 7.1: a token that comes with that scheme is bound to a key.
            (Confirmation::None, None) if !found.is_dpop_scheme => return Ok(()),
            (Confirmation::None, Some(bound)) if bound.optional && !found.is_dpop_scheme => return Ok(()),
            (Confirmation::None | Confirmation::Unsupported, _) | (_, None) => {
                return Err(binding_mismatch("none that is looked at"));
            }
            (_, Some(bound)) => bound,
        };
        // RFC 8705 section 3.
        if let Some(certificate) = certificate {
            let shown = bound.certificate.and_then(|place| place.fingerprint(self.head));
            decision_trace::record("certificate", shown == Some(*certificate), || match shown {
                Some(_) => "cnf.x5t#S256, and the certificate that was shown".to_owned(),
                None => "cnf.x5t#S256, but no certificate that counts here".to_owned(),
            });
            if shown != Some(*certificate) {
                return Err(BINDING_MISMATCH.into());
            }
        }
        match key {
            // RFC 9449 section 7.2: nor is one that is bound taken for another scheme's.
            Some(_) if !bound.dpop || !found.is_dpop_scheme => {
                Err(binding_mismatch("a key, but no proof of it counts here"))
            }
            Some(key) => self.verify_dpop_proof(key, found, caller),
            None if found.is_dpop_scheme => Err(binding_mismatch("no key of which there could be a proof")),
            None => Ok(()),
        }
    }

    /// Verifies that the proof is signed by that key, for this request and this token, and is used for the first time.
    #[inline(never)]
    fn verify_dpop_proof(
        &mut self,
        key: &[u8; 32],
        found: &ExtractedToken<'_>,
        caller: &Caller,
    ) -> Result<(), Interrupt> {
        let inbound = self.policy.inbound.as_ref();
        let terms = inbound.and_then(|inbound| inbound.dpop_policy.as_ref()).ok_or(BINDING_MISMATCH)?;
        let digest = caller.digest(|| dpop::digest(&found.token));
        let now = self.now.unix;
        let proof = verify::extract(self.head).map_err(proof_refusal)?;
        // RFC 9449 section 6.1: `cnf.jkt`.
        if !proof.has_thumbprint(key) {
            return Err(binding_mismatch("cnf.jkt, but the proof is by another key"));
        }
        // Verify the proof last, so that unauthenticated clients cannot make us spend CPU.
        let used = match proof.check_request(self.head, digest, terms, now) {
            Err(ProofError::Nonce) => {
                let nonce = terms.nonce_key.as_ref().map(|key| key.nonce(now));
                let refusal = Refusal::ProofNonce(nonce.unwrap_or_default());
                decision_trace::record("proof", false, || refusal.message().to_owned());
                return Err(refusal.into());
            }
            used => used.map_err(proof_refusal)?,
        };
        // A request that had to wait is decided again, and its proof was its own before.
        if *self.consumed_proof != Some(used) {
            let verifier = BudgetedVerifier::new(self.verifier, &self.store.proof_budget, self.now.instant);
            if !proof.has_valid_signature(&verifier) {
                let exceeded = verifier.is_exceeded();
                return Err(if exceeded {
                    Refusal::TooManySignatures.into()
                } else {
                    proof_refusal(ProofError::Signature)
                });
            }
            let first = self.store.check_and_insert(used, now).map_err(|_| Refusal::TooManyProofs)?;
            if !first {
                return Err(proof_refusal(ProofError::Replayed));
            }
            *self.consumed_proof = Some(used);
        }
        decision_trace::record("proof", true, || "by the token's key, for this request".to_owned());
        Ok(())
    }
}

fn binding_mismatch(why: &'static str) -> Interrupt {
    decision_trace::record("binding", false, || format!("the token is bound to {why}"));
    BINDING_MISMATCH.into()
}

fn proof_refusal(error: ProofError) -> Interrupt {
    let refusal = Refusal::Proof(error);
    decision_trace::record("proof", false, || refusal.message().to_owned());
    refusal.into()
}
