//! Bound tokens: the nonces that servers ask for, and the proof of a token request (RFC 9449
//! sections 5, 8, 9).

use super::Store;
use crate::dpop::{self, Nonce, ProofClaims};
use crate::http::message::{HttpCall, MessageHead};
use crate::http::url;
use crate::metrics::Tally;
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use std::rc::Rc;

/// What this worker knows for its proofs.
#[derive(Debug, Default)]
pub(super) struct DpopNonces {
    /// Of the key to which this worker's bound tokens are bound.
    thumbprint: Option<Box<str>>,
    /// What services want in the next proof, by origin, the newest origin last.
    nonces: Vec<(Rc<str>, Nonce)>,
    /// Nonces that were dropped for newer ones.
    pub(super) dropped: Tally,
    /// Nonces that were too long, or of an origin that was.
    pub(super) too_long: Tally,
}

/// Origins whose nonces are kept. Clients choose the hosts where `dpop_origin` is not given: what
/// they make up is bounded, and what is dropped costs one more 401.
const MAX_NONCES: usize = 64;

/// The longest of those origins: scheme, a name of 253 characters (RFC 1035 section 2.3.4), a port,
/// and room.
const MAX_ORIGIN_BYTES: usize = 1024;

impl DpopNonces {
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
        self.dpop_nonces.nonces.iter().find(|(own, _)| **own == *origin).map(|(_, nonce)| nonce.clone())
    }

    /// A service of this origin has answered, perhaps with a nonce.
    #[inline(never)]
    pub fn record_nonce(&mut self, origin: Rc<str>, answer: &MessageHead) {
        let Some(nonce) = self.nonce_of(answer) else { return };
        if let Some((_, own)) = self.dpop_nonces.nonces.iter_mut().find(|(own, _)| *own == origin) {
            *own = nonce;
        } else if origin.len() <= MAX_ORIGIN_BYTES {
            if self.dpop_nonces.nonces.len() >= MAX_NONCES {
                self.dpop_nonces.nonces.remove(0);
                self.dpop_nonces.dropped.add(1);
            }
            self.dpop_nonces.nonces.push((origin, nonce));
        } else {
            self.dpop_nonces.too_long.add(1);
        }
    }

    /// The nonce of an answer; one that is too long is counted.
    pub(super) fn nonce_of(&self, answer: &MessageHead) -> Option<Nonce> {
        let nonce = Nonce::from_head(answer);
        self.dpop_nonces.too_long.add(u64::from(nonce.is_none() && Nonce::is_too_long(answer)));
        nonce
    }
}

/// The call with the proof by which its token will be bound.
#[inline(never)]
pub(super) fn with_proof(
    mut call: HttpCall,
    nonce: Option<&Nonce>,
    signer: &mut Signer,
    now: u64,
) -> Result<HttpCall, FetchError> {
    let origin = url::origin(call.endpoint.scheme.as_bytes(), call.endpoint.authority.as_bytes());
    let proof = origin.and_then(|origin| {
        let url = url::url(&origin, call.endpoint.path.as_bytes());
        signer.dpop_proof(&ProofClaims { method: call.method, url: &url, now, token: None, nonce })
    });
    let detail = "no proof can be signed for the token request";
    let proof = proof.ok_or_else(|| FetchError::new(FetchErrorKind::Configuration, detail))?;
    call.headers.push((dpop::HEADER, proof));
    Ok(call)
}
