//! Where an issuer's things are: as it was given, else as it was discovered; and what is done when
//! they are no longer there.

use super::issuer_state::IssuerState;
use super::{FetchId, FetchKey, IssuerMetadata, LookupError, RENEWAL_INTERVAL, Store};
use crate::http::message::{Endpoint, HttpReply};
use crate::oauth::ClientAuth;
use crate::oauth::discovery::Metadata;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy;
use crate::store::lease::{Availability, Schedule};
use crate::time::Instant;
use std::time::Duration;

impl IssuerState {
    pub(super) fn jwks_uri(&self, now: Instant) -> Option<&Endpoint> {
        self.policy.jwks_uri.as_ref().or_else(|| self.found(now)?.jwks_uri.as_ref())
    }

    pub(super) fn token_endpoint(&self, now: Instant) -> Option<&Endpoint> {
        self.policy.token_endpoint.as_ref().or_else(|| self.found(now)?.token_endpoint.as_ref())
    }

    /// Where this client asks: one that authenticates by a certificate at the alias, if there is
    /// one (RFC 8705 section 5).
    pub(super) fn token_endpoint_for(&self, client: &policy::Credential, now: Instant) -> Option<&Endpoint> {
        let by_certificate = client.grant.auth.iter().any(|auth| matches!(auth, ClientAuth::Tls));
        let is_discovered = self.policy.token_endpoint.is_none();
        let found = self.found(now).filter(|_| by_certificate && is_discovered);
        let alias = found.and_then(|metadata| metadata.token_endpoint_alias.as_ref());
        alias.or_else(|| self.token_endpoint(now))
    }

    pub(super) fn introspection_endpoint(&self, now: Instant) -> Option<&Endpoint> {
        let given = self.policy.introspection_endpoint.as_ref();
        given.or_else(|| self.found(now)?.introspection_endpoint.as_ref())
    }

    /// What is not given is found in the metadata: what waits for that waits for this.
    pub(super) fn until_metadata(&self, now: Instant, patience: Duration) -> LookupError {
        let metadata = LookupError::Wait(FetchKey::Metadata(IssuerMetadata(self.id)));
        match self.metadata.availability(now, patience) {
            Availability::Ready(_) if now < self.moved_until => metadata,
            Availability::Pending => metadata,
            Availability::Unavailable(wait) => LookupError::Unavailable(wait),
            Availability::Ready(_) => LookupError::UNKNOWN,
        }
    }

    /// What was discovered, unless it is doubted.
    fn found(&self, now: Instant) -> Option<&Metadata> {
        self.metadata.value(now).filter(|_| now >= self.moved_until)
    }
}

impl Store {
    /// A connection that is closed once was a kept one; each that follows was new.
    pub(super) fn closed_again(&self, key: FetchKey, cluster: &str, failure: FetchError) -> FetchError {
        let failures = key.fetch().schedule(self).map(Schedule::failures).unwrap_or_default();
        if failure.kind != FetchErrorKind::ConnectionClosed || failures < 2 {
            return failure;
        }
        let detail = format!(
            "the connection was closed before an answer, again; is TLS missing on cluster {cluster:?}?"
        );
        FetchError { kind: FetchErrorKind::Unreachable, detail, ..failure }
    }

    /// The endpoint is no longer where the metadata said: the metadata is asked at once, and then
    /// it is asked again. What else is discovered waits for that too, for as long as the answer may
    /// take. Nothing is done where the metadata is new, or cannot be had.
    #[inline(never)]
    pub(super) fn moved(&mut self, fetch: FetchId, reply: &HttpReply, now: Instant) -> Option<FetchError> {
        let status = reply.status.filter(|status| is_moved(*status))?;
        let kind = fetch.key.fetch();
        let id = kind.discovered_by(self)?;
        let metadata = &self.issuer(id)?.metadata;
        let fetched_at = metadata.fetched_at()?;
        if metadata.failures() > 0
            || now < fetched_at + RENEWAL_INTERVAL
            || !kind.schedule_mut(self)?.restart(fetch.attempt)
        {
            return None;
        }
        let issuer = self.issuer_mut(id)?;
        issuer.metadata.refresh_soon(now);
        issuer.moved_until = now + issuer.metadata.longest_fetch(now);
        let detail = format!("status {status}; the metadata is asked whether it has moved");
        Some(FetchError::new(FetchErrorKind::NotFound, detail))
    }
}

/// What a server says of a path where nothing takes such requests any more: not found, another
/// method, gone, or a redirect, which is not followed.
fn is_moved(status: u16) -> bool {
    matches!(status, 404 | 405 | 410) || ((300..400).contains(&status) && status != 304)
}
