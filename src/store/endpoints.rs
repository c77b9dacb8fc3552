//! Where an issuer's things are: as it was given, else as it was discovered.

use super::{Missing, Store, Want};
use crate::discovery::Metadata;
use crate::io::{Endpoint, Instant};
use crate::lease::Outlook;
use crate::policy::{self, IssuerId};
use std::time::Duration;

impl Store {
    pub(super) fn jwks_uri(&self, id: IssuerId, now: Instant) -> Option<Endpoint> {
        self.endpoint(id, now, |issuer| issuer.jwks_uri.as_ref(), |metadata| metadata.jwks_uri.as_ref())
    }

    pub(super) fn token_endpoint(&self, id: IssuerId, now: Instant) -> Option<Endpoint> {
        self.endpoint(
            id,
            now,
            |issuer| issuer.token_endpoint.as_ref(),
            |metadata| metadata.token_endpoint.as_ref(),
        )
    }

    pub(super) fn introspection_endpoint(&self, id: IssuerId, now: Instant) -> Option<Endpoint> {
        self.endpoint(
            id,
            now,
            |issuer| issuer.introspection_endpoint.as_ref(),
            |metadata| metadata.introspection_endpoint.as_ref(),
        )
    }

    /// What is not given is found in the metadata: what waits for that waits for this.
    pub(super) fn until_metadata(&self, id: IssuerId, now: Instant, patience: Duration) -> Missing {
        match self.issuers.get(id.0).map(|state| state.metadata.outlook(now, patience)) {
            Some(Outlook::Coming) => Missing::Wait(Want::Metadata(id)),
            Some(Outlook::Failing(wait)) => Missing::Unavailable(wait),
            Some(Outlook::Good(_)) | None => Missing::Unavailable(Duration::from_secs(1)),
        }
    }

    /// An endpoint as it was given, else as it was discovered.
    fn endpoint(
        &self,
        id: IssuerId,
        now: Instant,
        given: impl Fn(&policy::Issuer) -> Option<&Endpoint>,
        found: impl Fn(&Metadata) -> Option<&Endpoint>,
    ) -> Option<Endpoint> {
        let given = self.policy.issuers.get(id.0).and_then(given);
        given.or_else(|| found(self.issuers.get(id.0)?.metadata.value(now)?)).cloned()
    }
}
