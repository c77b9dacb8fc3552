//! Where an issuer's things are: as it was given, else as it was discovered; and what is done when they are no longer there.

use super::{FetchId, FetchKey, IssuerState, LookupError, RENEWAL_INTERVAL, Store};
use crate::http::message::{Endpoint, HttpReply};
use crate::oauth::ClientAuth;
use crate::oauth::discovery::{self, Metadata};
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy::{self, IssuerId};
use crate::store::lease::{Attempt, Availability};
use crate::time::Instant;
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

    /// Where this client asks: one that authenticates by a certificate at the alias, if there is one (RFC 8705 section 5).
    pub(super) fn token_endpoint_for(&self, client: &policy::Credential, now: Instant) -> Option<Endpoint> {
        let by_certificate = client.grant.auth.iter().any(|auth| matches!(auth, ClientAuth::Tls));
        let found = |metadata: &'_ Metadata| metadata.token_endpoint_alias.clone().filter(|_| by_certificate);
        let alias = self.found(client.issuer, now).and_then(found);
        let given = self.policy.issuers.get(client.issuer.0)?.token_endpoint.is_some();
        alias.filter(|_| !given).or_else(|| self.token_endpoint(client.issuer, now))
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
    pub(super) fn until_metadata(&self, id: IssuerId, now: Instant, patience: Duration) -> LookupError {
        let Some(state) = self.issuers.get(id.0) else {
            return LookupError::Unavailable(Duration::from_secs(1));
        };
        match state.metadata.availability(now, patience) {
            Availability::Ready(_) if now < state.moved_until => LookupError::Wait(FetchKey::Metadata(id)),
            Availability::Pending => LookupError::Wait(FetchKey::Metadata(id)),
            Availability::Unavailable(wait) => LookupError::Unavailable(wait),
            Availability::Ready(_) => LookupError::Unavailable(Duration::from_secs(1)),
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
        given.or_else(|| found(self.found(id, now)?)).cloned()
    }

    /// What was discovered, unless it is doubted.
    fn found(&self, id: IssuerId, now: Instant) -> Option<&Metadata> {
        let state = self.issuers.get(id.0).filter(|state| now >= state.moved_until)?;
        state.metadata.value(now)
    }

    /// The cluster that this is fetched through, for the log.
    pub(super) fn cluster_of(&self, want: FetchKey, now: Instant) -> String {
        let endpoint = match want {
            FetchKey::Metadata(id) => {
                let discovery = self.policy.issuers.get(id.0).and_then(|issuer| issuer.discovery.as_ref());
                return discovery.map(|discovery| discovery.cluster.clone()).unwrap_or_default();
            }
            FetchKey::Keys(id) => self.jwks_uri(id, now),
            FetchKey::Introspection(id, _) => self.introspection_endpoint(id, now),
            FetchKey::Token(id) | FetchKey::Exchanged(id, _) => {
                let credential = self.policy.credentials.get(id.0);
                credential.and_then(|credential| self.token_endpoint_for(credential, now))
            }
        };
        endpoint.map(|endpoint| endpoint.cluster).unwrap_or_default()
    }

    /// Failures of this since its last success.
    pub(super) fn failures(&self, want: FetchKey) -> u32 {
        let failures = match want {
            FetchKey::Metadata(id) => self.issuers.get(id.0).map(|state| state.metadata.failures()),
            FetchKey::Keys(id) => self.issuers.get(id.0).map(|state| state.keys.failures()),
            FetchKey::Token(_) | FetchKey::Exchanged(..) => {
                self.token_state(want).map(|state| state.lease.failures())
            }
            FetchKey::Introspection(id, entry) => self.answer(id, entry).map(|lease| lease.failures()),
        };
        failures.unwrap_or_default()
    }

    /// A connection that is closed once was a kept one; each that follows was new.
    pub(super) fn closed_again(&self, want: FetchKey, cluster: &str, failure: FetchError) -> FetchError {
        if failure.kind != FetchErrorKind::ConnectionClosed || self.failures(want) < 2 {
            return failure;
        }
        let detail = format!(
            "the connection was closed before an answer, again; is TLS missing on cluster {cluster:?}?"
        );
        FetchError { kind: FetchErrorKind::Unreachable, detail, ..failure }
    }

    /// The endpoint is no longer where the metadata said: the metadata is asked at once, and then it is asked again. What else
    /// is discovered waits for that too, for as long as the answer may take. Nothing is done where the metadata is new, or
    /// cannot be had.
    #[inline(never)]
    pub(super) fn moved(&mut self, ticket: FetchId, reply: &HttpReply, now: Instant) -> Option<FetchError> {
        let status = reply.status.filter(|status| is_moved(*status))?;
        let FetchId { key: want, attempt, .. } = ticket;
        let id = match want {
            FetchKey::Metadata(_) => return None,
            FetchKey::Keys(id) | FetchKey::Introspection(id, _) => id,
            FetchKey::Token(id) | FetchKey::Exchanged(id, _) => self.policy.credentials.get(id.0)?.issuer,
        };
        let issuer = self.policy.issuers.get(id.0)?;
        let given = match want {
            FetchKey::Keys(_) => &issuer.jwks_uri,
            FetchKey::Introspection(..) => &issuer.introspection_endpoint,
            _ => &issuer.token_endpoint,
        };
        let state = self.issuers.get(id.0).filter(|_| given.is_none())?;
        let fetched_at = state.metadata.fetched_at()?;
        if state.metadata.failures() > 0
            || now < fetched_at + RENEWAL_INTERVAL
            || !self.restart(want, attempt)
        {
            return None;
        }
        let state = self.issuers.get_mut(id.0)?;
        state.metadata.refresh_soon(now);
        state.moved_until = now + state.metadata.longest_fetch(now);
        let detail = format!("status {status}; the metadata is asked whether it has moved");
        Some(FetchError::new(FetchErrorKind::NotFound, detail))
    }

    /// The fetch ended, and is to begin once more without a backoff. False when it is not the running one.
    fn restart(&mut self, want: FetchKey, attempt: Attempt) -> bool {
        let again = match want {
            FetchKey::Metadata(id) => self.issuers.get_mut(id.0).map(|state| state.metadata.restart(attempt)),
            FetchKey::Keys(id) => self.issuers.get_mut(id.0).map(|state| state.keys.restart(attempt)),
            FetchKey::Token(_) | FetchKey::Exchanged(..) => {
                self.token_state_mut(want).map(|state| state.lease.restart(attempt))
            }
            FetchKey::Introspection(id, entry) => {
                let introspections = self.introspections_mut(id);
                introspections.and_then(|own| own.cache.cached_mut(entry)).map(|own| own.restart(attempt))
            }
        };
        again.unwrap_or_default()
    }
}

impl IssuerState {
    /// The metadata is not where it was asked for: the other location is asked at once, if it was not yet in this round.
    pub(super) fn other_location(
        &mut self,
        attempt: Attempt,
        reply: &HttpReply,
        failure: Option<&FetchError>,
    ) -> Option<FetchError> {
        let failure = failure.filter(|_| discovery::is_not_found(reply) && self.metadata.is_running(attempt));
        let asked_other = std::mem::take(&mut self.tried_other_location);
        let failure = failure?;
        self.metadata_location = self.metadata_location.other();
        if asked_other || !self.metadata.restart(attempt) {
            return None;
        }
        self.tried_other_location = true;
        let detail = format!("{}; the other location is asked", failure.detail);
        Some(FetchError::new(FetchErrorKind::NotFound, detail))
    }
}

/// What a server says of a path where nothing takes such requests any more: not found, another method, gone, or a redirect,
/// which is not followed.
fn is_moved(status: u16) -> bool {
    matches!(status, 404 | 405 | 410) || ((300..400).contains(&status) && status != 304)
}
