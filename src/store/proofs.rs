//! Bound tokens: what proofs need that servers tell, and the call for a token with its proof (RFC 9449 sections 5, 8, 9).

use super::{Store, Want};
use crate::assertion::Signer;
use crate::dpop::{self, Claims, Nonce};
use crate::io::{Call, Head, Instant, Reply};
use crate::lease::{Attempt, Cause, Failure};
use crate::oauth::Asking;
use crate::policy::CredentialId;
use crate::stats::Tally;
use std::rc::Rc;

/// What this worker knows for its proofs.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Of the key to which this worker's bound tokens are bound.
    thumbprint: Option<Box<str>>,
    /// What services want in the next proof, by origin, the newest origin last.
    nonces: Vec<(Rc<str>, Nonce)>,
    /// Nonces that were dropped for newer ones.
    pub(super) dropped: Tally,
    /// Nonces that were too long, or of an origin that was.
    pub(super) too_long: Tally,
}

/// Origins whose nonces are kept. Clients choose the hosts where `dpop_origin` is not given: what they make up is bounded,
/// and what is dropped costs one more 401.
const MOST_NONCES: usize = 64;

/// The longest of those origins: scheme, a name of 253 characters (RFC 1035 section 2.3.4), a port, and room.
const MAX_ORIGIN_BYTES: usize = 1024;

impl Proofs {
    pub(super) fn of(thumbprint: Option<&str>) -> Self {
        Self { thumbprint: thumbprint.map(Into::into), ..Self::default() }
    }

    pub(super) fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }
}

impl Store {
    /// The nonce that the services of this origin want.
    pub fn nonce(&self, origin: &str) -> Option<Nonce> {
        self.proofs.nonces.iter().find(|(own, _)| **own == *origin).map(|(_, nonce)| nonce.clone())
    }

    /// A service of this origin has answered, perhaps with a nonce.
    #[inline(never)]
    pub fn learn_nonce(&mut self, origin: Rc<str>, answer: &Head) {
        let Some(nonce) = self.nonce_of(answer) else { return };
        if let Some((_, own)) = self.proofs.nonces.iter_mut().find(|(own, _)| *own == origin) {
            *own = nonce;
        } else if origin.len() <= MAX_ORIGIN_BYTES {
            if self.proofs.nonces.len() >= MOST_NONCES {
                self.proofs.nonces.remove(0);
                self.proofs.dropped.add(1);
            }
            self.proofs.nonces.push((origin, nonce));
        } else {
            self.proofs.too_long.add(1);
        }
    }

    fn nonce_of(&self, answer: &Head) -> Option<Nonce> {
        let told = Nonce::of(answer);
        self.proofs.too_long.add(u64::from(told.is_none() && Nonce::is_too_long(answer)));
        told
    }

    /// The call for a token; of one that is to be bound, with the proof by which it will be.
    #[inline(never)]
    pub(super) fn token_call(
        &self,
        want: Want,
        id: CredentialId,
        now: Instant,
        unix: u64,
        signer: &mut Signer,
    ) -> Option<Result<Call, Failure>> {
        let (credential, state) = (self.policy.credentials.get(id.0)?, self.credentials.get(id.0)?);
        let asking = Asking {
            endpoint: self.token_endpoint_for(credential, now)?,
            timeout: self.policy.issuers.get(credential.issuer.0)?.timeout,
            turn: state.turn.place(),
            subject: self.subject(want, unix).map(|(token, _)| token),
            now: unix,
        };
        let call = credential.grant.call(asking, signer);
        Some(if credential.grant.bound {
            call.and_then(|call| proven(call, state.nonce.as_ref(), signer, unix))
        } else {
            call
        })
    }

    /// The provider's nonce, if its answer brings one. Where it wants the request again for the sake of that alone, this is
    /// done at once, and once in a row; whoever waits goes on waiting.
    #[inline(never)]
    pub(super) fn heed_nonce(
        &mut self,
        want: Want,
        id: CredentialId,
        attempt: Attempt,
        reply: &Reply,
    ) -> Option<Failure> {
        self.policy.credentials.get(id.0).filter(|credential| credential.grant.bound)?;
        let told = self.nonce_of(&reply.head);
        let wanted = told.is_some() && dpop::wants_nonce(reply);
        if told.is_some() {
            self.credentials.get_mut(id.0)?.nonce = told;
        }
        let state = self.token_state_mut(want)?;
        state.asked_again = wanted && !state.asked_again;
        (state.asked_again && state.lease.again(attempt))
            .then(|| Failure::new(Cause::Nonce, "asked again with the provider's nonce"))
    }
}

#[inline(never)]
fn proven(mut call: Call, nonce: Option<&Nonce>, signer: &mut Signer, now: u64) -> Result<Call, Failure> {
    let origin = dpop::origin(call.endpoint.scheme.as_bytes(), call.endpoint.authority.as_bytes());
    let proof = origin.and_then(|origin| {
        let url = dpop::url(&origin, call.endpoint.path.as_bytes());
        signer.proof(&Claims { method: call.method, url: &url, now, token: None, nonce })
    });
    let detail = "no proof can be signed for the token request";
    let proof = proof.ok_or_else(|| Failure::new(Cause::Configuration, detail))?;
    call.headers.push((dpop::HEADER, proof));
    Ok(call)
}
