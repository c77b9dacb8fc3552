//! Tokens that are had in exchange for a caller's own (RFC 8693): one for each subject token.

use super::keyed::{Keyed, NotHere};
use super::slots::{Entry, Kept};
use super::tokens::TokenState;
use super::{Held, Missing, Store, Want};
use crate::io::{Dice, Instant, Now, Service};
use crate::lease::{Cause, Failure, Lease, Pace};
use crate::policy::CredentialId;
use std::time::Duration;

/// The token that is exchanged.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// As it stands in the request.
    pub token: &'a str,
    /// When it ends, in seconds since 1970, if that is known.
    pub ends: Option<u64>,
}

/// The exchanged tokens of one credential, by subject token: all other inputs are the credential's, and do not change. With
/// each goes when the subject token ends.
pub(super) type Exchanges = Keyed<Exchange, Option<u64>>;

/// What was had for one subject token.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) state: TokenState,
    /// The provider does not exchange this one, and is not asked again until then.
    denied: Option<(Cause, Instant)>,
}

/// How long a subject token that was denied is not asked for again: whoever tries it in a loop costs the provider little, and
/// whoever is given the right meanwhile has it soon.
const DENIED_FOR: Duration = Duration::from_secs(5);

impl Kept for Exchange {
    type Value = Held;

    fn new(pace: Pace) -> Self {
        Self { state: TokenState::new(pace), denied: None }
    }

    fn lease(&self) -> &Lease<Held> {
        &self.state.lease
    }

    fn lease_mut(&mut self) -> &mut Lease<Held> {
        &mut self.state.lease
    }

    fn denied(&self, now: Instant) -> Option<Cause> {
        self.denied.filter(|(_, until)| now < *until).map(|(cause, _)| cause)
    }

    fn is_known(&self) -> bool {
        self.state.lease.held().is_some()
    }
}

impl Store {
    /// The token that the credential gets in exchange for this one; `held_for` as for its own.
    pub fn exchanged(
        &mut self,
        credential: CredentialId,
        subject: Subject<'_>,
        now: Now,
        patience: Duration,
        service: Service,
    ) -> Result<Held, Missing> {
        let unreachable = self.until_token_endpoint(credential, now.instant, patience);
        let Some(state) = self.credentials.get_mut(credential.0) else {
            return Err(Missing::Unavailable(Duration::from_secs(1)));
        };
        let is_refused =
            |own: &Exchange| !patience.is_zero() && own.state.is_being_replaced(service, now.instant);
        let found = state.exchanges.get(subject.token, subject.ends, now.instant, is_refused);
        found.map_err(|not_here| not_here.missing(unreachable, |entry| Want::Exchanged(credential, entry)))
    }

    /// The subject token of an exchange, and how long it is still good.
    pub(super) fn subject(&self, want: Want, unix: u64) -> Option<(&str, Option<Duration>)> {
        let Want::Exchanged(id, entry) = want else { return None };
        let (token, ends) = self.credentials.get(id.0)?.exchanges.asking(entry)?;
        Some((token, ends.map(|ends| Duration::from_secs(ends.saturating_sub(unix)))))
    }

    /// A fetch for one token ended; the others are no concern of this.
    pub(super) fn ended(
        &mut self,
        want: Want,
        failure: Option<&Failure>,
        status: Option<u16>,
        now: Instant,
        dice: &mut Dice,
    ) {
        if let Want::Introspection(id, entry) = want
            && let Some(introspections) = self.introspections_mut(id)
        {
            introspections.answers.ended(entry, failure, status, now, dice);
        }
        let Some(exchanges) = self.exchanges(want) else { return };
        let Want::Exchanged(_, entry) = want else { return };
        let cause = failure.map(|failure| failure.cause);
        let denied = cause.filter(|cause| matches!(cause, Cause::Subject | Cause::Denied));
        if let Some(exchange) = exchanges.kept_mut(entry) {
            exchange.denied = denied.map(|cause| (cause, now + DENIED_FOR));
        }
        exchanges.ended(entry, failure, status, now, dice);
    }

    pub(super) fn exchanges(&mut self, want: Want) -> Option<&mut Exchanges> {
        let Want::Exchanged(id, _) = want else { return None };
        self.credentials.get_mut(id.0).map(|state| &mut state.exchanges)
    }
}

impl NotHere {
    /// For a request: `unreachable` is what the fetches wait for themselves.
    pub(super) fn missing(self, unreachable: Option<Missing>, want: impl FnOnce(Entry) -> Want) -> Missing {
        match (self, unreachable) {
            (Self::Denied(cause), _) => Missing::Denied(cause),
            (Self::NoRoom, _) => Missing::NoRoom,
            (Self::Failing(wait), _) => Missing::Unavailable(wait),
            (Self::Asked(_), Some(missing)) => missing,
            (Self::Asked(entry), None) => Missing::Wait(want(entry)),
        }
    }
}
