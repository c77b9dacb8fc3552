//! What is known of one credential.

use super::exchange_cache::Exchanges;
use super::issuer_state::issuer_retry_policy;
use super::secret_rotation::SecretRotation;
use super::token_state::TokenState;
use crate::dpop::Nonce;
use crate::metrics::Tally;
use crate::policy::{self, CredentialId, Policy};
use crate::store::lease::RetryPolicy;
use std::rc::Rc;

/// One credential.
#[derive(Debug)]
pub(super) struct CredentialState {
    pub(super) id: CredentialId,
    pub(super) policy: Rc<policy::Credential>,
    /// Its own token, unless it exchanges those of others.
    pub(super) own_token: TokenState,
    pub(super) exchanges: Exchanges,
    /// Which of the client's secrets is tried.
    pub(super) secret_rotation: SecretRotation,
    /// What the provider wants in the next proof.
    pub(super) nonce: Option<Nonce>,
    /// Tokens that were said to live longer than is believed.
    pub(super) capped: Tally,
}

impl CredentialState {
    pub(super) fn new(policy: &Policy, id: CredentialId, credential: &Rc<policy::Credential>) -> Self {
        let issuer = policy.issuer(credential.issuer);
        let retry_policy = issuer.map_or_else(RetryPolicy::default, |issuer| issuer_retry_policy(issuer));
        let patience = policy.pending_requests.timeout;
        Self {
            id,
            policy: Rc::clone(credential),
            own_token: TokenState::new(retry_policy),
            exchanges: Exchanges::new(retry_policy, credential.requests_per_second, patience),
            secret_rotation: SecretRotation::default(),
            nonce: None,
            capped: Tally::default(),
        }
    }
}
