//! What one issuer says of tokens, by token.

use super::per_token::PerTokenCache;
use super::secret_rotation::SecretRotation;
use super::slots::CachedValue;
use crate::inbound::jwt::{Caller, TokenError};
use crate::policy;
use crate::store::lease::{Lease, RetryPolicy};
use std::time::Duration;

/// Who calls by that token, or why nobody does.
pub(super) type IntrospectionResult = Result<Caller, TokenError>;

/// The answers of one issuer. With each token goes what its signature has proven already, if it has
/// one.
#[derive(Debug)]
pub(super) struct Introspections {
    pub(super) cache: PerTokenCache<Lease<IntrospectionResult>, Option<Caller>>,
    /// Which of the client's secrets is tried.
    pub(super) secret_rotation: SecretRotation,
}

impl CachedValue for Lease<IntrospectionResult> {
    type Value = IntrospectionResult;

    fn new(retry_policy: RetryPolicy) -> Self {
        Self::new(retry_policy)
    }

    fn lease(&self) -> &Self {
        self
    }

    fn lease_mut(&mut self) -> &mut Self {
        self
    }

    fn is_known(&self) -> bool {
        matches!(self.last_value(), Some(Ok(_)))
    }
}

impl Introspections {
    pub(super) fn of(issuer: &policy::Issuer, retry_policy: RetryPolicy, patience: Duration) -> Option<Self> {
        let per_second = issuer.introspection.as_ref()?.requests_per_second;
        Some(Self {
            cache: PerTokenCache::new(retry_policy, Some(per_second), patience),
            secret_rotation: SecretRotation::default(),
        })
    }
}
