//! Where an issuer's things are: as it was given, else as it was discovered; and what is done when they are no longer there.

use super::{IssuerState, Missing, Store, TOKENS_APART, Ticket, Want};
use crate::discovery::{self, Metadata};
use crate::io::{Endpoint, Instant, Reply};
use crate::lease::{Attempt, Cause, Failure, Lease, Outlook};
use crate::oauth::ClientAuth;
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
    pub(super) fn until_metadata(&self, id: IssuerId, now: Instant, patience: Duration) -> Missing {
        let Some(state) = self.issuers.get(id.0) else {
            return Missing::Unavailable(Duration::from_secs(1));
        };
        match state.metadata.outlook(now, patience) {
            Outlook::Good(_) if now < state.moved_until => Missing::Wait(Want::Metadata(id)),
            Outlook::Coming => Missing::Wait(Want::Metadata(id)),
            Outlook::Failing(wait) => Missing::Unavailable(wait),
            Outlook::Good(_) => Missing::Unavailable(Duration::from_secs(1)),
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
    pub(super) fn cluster_of(&self, want: Want, now: Instant) -> String {
        let endpoint = match want {
            Want::Metadata(id) => {
                let discovery = self.policy.issuers.get(id.0).and_then(|issuer| issuer.discovery.as_ref());
                return discovery.map(|discovery| discovery.cluster.clone()).unwrap_or_default();
            }
            Want::Keys(id) => self.jwks_uri(id, now),
            Want::Introspection(id, _) => self.introspection_endpoint(id, now),
            Want::Token(id) | Want::Exchanged(id, _) => {
                let credential = self.policy.credentials.get(id.0);
                credential.and_then(|credential| self.token_endpoint_for(credential, now))
            }
        };
        endpoint.map(|endpoint| endpoint.cluster).unwrap_or_default()
    }

    /// Failures of this since its last success.
    pub(super) fn failures(&self, want: Want) -> u32 {
        let failures = match want {
            Want::Metadata(id) => self.issuers.get(id.0).map(|state| state.metadata.failures()),
            Want::Keys(id) => self.issuers.get(id.0).map(|state| state.keys.failures()),
            Want::Token(_) | Want::Exchanged(..) => {
                self.token_state(want).map(|state| state.lease.failures())
            }
            Want::Introspection(id, entry) => self.answer(id, entry).map(Lease::failures),
        };
        failures.unwrap_or_default()
    }

    /// A connection that is closed once was a kept one; each that follows was new.
    pub(super) fn closed_again(&self, want: Want, cluster: &str, failure: Failure) -> Failure {
        if failure.cause != Cause::Stale || self.failures(want) < 2 {
            return failure;
        }
        let detail = format!(
            "the connection was closed before an answer, again; is TLS missing on cluster {cluster:?}?"
        );
        Failure { cause: Cause::Unreachable, detail, ..failure }
    }

    /// The endpoint is no longer where the metadata said: the metadata is asked at once, and then it is asked again. What else
    /// is discovered waits for that too, for as long as the answer may take. Nothing is done where the metadata is new, or
    /// cannot be had.
    #[inline(never)]
    pub(super) fn moved(&mut self, ticket: Ticket, reply: &Reply, now: Instant) -> Option<Failure> {
        let status = reply.status.filter(|status| is_moved(*status))?;
        let Ticket { want, attempt, .. } = ticket;
        let id = match want {
            Want::Metadata(_) => return None,
            Want::Keys(id) | Want::Introspection(id, _) => id,
            Want::Token(id) | Want::Exchanged(id, _) => self.policy.credentials.get(id.0)?.issuer,
        };
        let issuer = self.policy.issuers.get(id.0)?;
        let given = match want {
            Want::Keys(_) => &issuer.jwks_uri,
            Want::Introspection(..) => &issuer.introspection_endpoint,
            _ => &issuer.token_endpoint,
        };
        let state = self.issuers.get(id.0).filter(|_| given.is_none())?;
        let fetched_at = state.metadata.fetched_at()?;
        if state.metadata.failures() > 0 || now < fetched_at + TOKENS_APART || !self.again(want, attempt) {
            return None;
        }
        let state = self.issuers.get_mut(id.0)?;
        state.metadata.doubt(now);
        state.moved_until = now + state.metadata.longest_fetch(now);
        let detail = format!("status {status}; the metadata is asked whether it has moved");
        Some(Failure::new(Cause::Elsewhere, detail))
    }

    /// The fetch ended, and is to begin once more without a backoff. False when it is not the running one.
    fn again(&mut self, want: Want, attempt: Attempt) -> bool {
        let again = match want {
            Want::Metadata(id) => self.issuers.get_mut(id.0).map(|state| state.metadata.again(attempt)),
            Want::Keys(id) => self.issuers.get_mut(id.0).map(|state| state.keys.again(attempt)),
            Want::Token(_) | Want::Exchanged(..) => {
                self.token_state_mut(want).map(|state| state.lease.again(attempt))
            }
            Want::Introspection(id, entry) => {
                let introspections = self.introspections_mut(id);
                introspections.and_then(|own| own.answers.kept_mut(entry)).map(|own| own.again(attempt))
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
        reply: &Reply,
        failure: Option<&Failure>,
    ) -> Option<Failure> {
        let failure = failure.filter(|_| discovery::is_elsewhere(reply) && self.metadata.is_running(attempt));
        let asked_other = std::mem::take(&mut self.asked_other);
        let failure = failure?;
        self.place = self.place.other();
        if asked_other || !self.metadata.again(attempt) {
            return None;
        }
        self.asked_other = true;
        let detail = format!("{}; the other location is asked", failure.detail);
        Some(Failure::new(Cause::Elsewhere, detail))
    }
}

/// What a server says of a path where nothing takes such requests any more: not found, another method, gone, or a redirect,
/// which is not followed.
fn is_moved(status: u16) -> bool {
    matches!(status, 404 | 405 | 410) || ((300..400).contains(&status) && status != 304)
}
