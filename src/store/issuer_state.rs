//! What is known of one issuer.

use super::introspection_cache::Introspections;
use super::key_set::{KeyLimitCounts, Keys};
use super::unknown_kids::UnknownKids;
use crate::inbound::jwt::Caller;
use crate::oauth::discovery::{EndpointClusters, Metadata, MetadataLocation};
use crate::policy::{self, IssuerId};
use crate::store::cache::{Cache, Capacity};
use crate::store::lease::{Lease, RetryPolicy};
use crate::time::Instant;
use std::rc::Rc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct IssuerState {
    pub(super) id: IssuerId,
    pub(super) policy: Rc<policy::Issuer>,
    pub(super) metadata: Lease<Metadata>,
    pub(super) keys: Lease<Keys>,
    /// Callers already verified with the present keys: a change of keys empties it.
    pub(super) verified: Cache<Caller>,
    /// Key names that a fetch did not bring.
    pub(super) unknown_kids: UnknownKids,
    /// Where the metadata is asked for next, and whether the other location was asked before it in
    /// this round.
    pub(super) metadata_location: MetadataLocation,
    pub(super) tried_other_location: bool,
    /// Until when nothing is asked at the discovered endpoints, as the metadata is asked whether
    /// they have moved.
    pub(super) moved_until: Instant,
    /// What it says of tokens, if it is asked.
    pub(super) introspections: Option<Introspections>,
    pub(super) key_limits: KeyLimitCounts,
}

/// Verified tokens of one issuer: more callers than a service has in a token's life, and as a token
/// has about 1 KB, 4 MiB of the worker's memory for the tokens, and as much for their claims.
const TOKEN_CACHE: Capacity = Capacity { entries: 4096, key_bytes: 4 * 1024 * 1024 };

impl IssuerState {
    pub(super) fn new(id: IssuerId, issuer: &Rc<policy::Issuer>, patience: Duration) -> Self {
        let retry_policy = issuer_retry_policy(issuer);
        let given = issuer.jwks.as_ref().map(Keys::given);
        Self {
            id,
            policy: Rc::clone(issuer),
            metadata: Lease::new(retry_policy),
            keys: given.map_or_else(|| Lease::new(retry_policy), Lease::fixed),
            verified: Cache::new(TOKEN_CACHE),
            unknown_kids: UnknownKids::default(),
            metadata_location: MetadataLocation::default(),
            tried_other_location: false,
            moved_until: Instant::default(),
            introspections: Introspections::of(issuer, retry_policy, patience),
            key_limits: KeyLimitCounts::default(),
        }
    }

    /// Where an issuer's things are fetched, and what is believed of the answers.
    pub(super) fn identity(&self) -> Vec<&[u8]> {
        let issuer = &*self.policy;
        let mut parts: Vec<&str> = issuer.profile.names.iter().map(|name| name.iss.as_str()).collect();
        for endpoint in [&issuer.jwks_uri, &issuer.token_endpoint, &issuer.introspection_endpoint] {
            parts.push(if endpoint.is_some() { "given" } else { "found" });
            parts.extend(
                endpoint.iter().flat_map(|own| [own.cluster.as_str(), own.scheme, &own.authority, &own.path]),
            );
        }
        if let Some(discovery) = &issuer.discovery {
            parts.extend([discovery.cluster.as_str(), if discovery.for_keys { "keys" } else { "" }]);
            parts.push(if discovery.for_tokens { "tokens" } else { "" });
            parts.push(if discovery.for_introspection { "introspection" } else { "" });
            parts.push(if discovery.mtls_endpoints.tokens { "tokens by certificate" } else { "" });
            parts.push(if discovery.mtls_endpoints.introspection {
                "introspection by certificate"
            } else {
                ""
            });
            let EndpointClusters { keys, tokens, introspection } = &discovery.clusters;
            parts.extend([keys.as_str(), tokens, introspection]);
            parts.extend(discovery.allowed_hosts.iter().map(String::as_str));
        }
        parts.into_iter().map(str::as_bytes).collect()
    }
}

/// How eagerly an issuer is asked.
pub(super) fn issuer_retry_policy(issuer: &policy::Issuer) -> RetryPolicy {
    let usual = RetryPolicy::default();
    let config_cap = usual.config_cap.min(issuer.max_backoff);
    RetryPolicy { timeout: issuer.timeout, max_gap: issuer.max_backoff, config_cap, ..usual }
}
