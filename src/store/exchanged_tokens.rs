//! Tokens that are had in exchange for a caller's own (RFC 8693): one for each subject token.

use super::credential_state::CredentialState;
use super::exchange_cache::{Exchange, Exchanges, SentSubject};
use super::fetch::{Fetch, FetchKind, FetchToken, Finish};
use super::token_fetch;
use super::token_state::TokenState;
use super::{ExchangedToken, FetchId, FetchKey, IssuedToken, LookupError, OwnToken, Store};
use crate::http::message::{HttpCall, HttpReply, Service};
use crate::inbound::refusal::Refusal;
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::oauth::secret_file::FileRef;
use crate::policy::{CredentialId, IssuerId};
use crate::rng::Rng;
use crate::secret::AccessToken;
use crate::store::lease::Schedule;
use crate::time::{Instant, Now};
use std::time::Duration;

/// The token that is exchanged.
#[derive(Clone, Copy)]
pub struct ExchangeSubject<'a> {
    /// As the request has it.
    pub token: &'a str,
    /// When it ends, in seconds since 1970, if that is known.
    pub expires_at: Option<u64>,
}

/// How long a subject token that was denied is not asked for again: a client that tries it in a
/// loop costs the provider little, and one that is given the right meanwhile has its token soon.
const DENIED_FOR: Duration = Duration::from_secs(5);

static KIND: FetchKind = FetchKind {
    label: "exchanged_token",
    description: "exchanged token of credential",
    refusal: Refusal::OutboundTokenUnavailable,
    logs_success: true,
    counts_long_headers: true,
};

impl ExchangedToken {
    /// Those of a credential that requests wait for.
    pub(super) fn queued(credential: &CredentialState) -> impl Iterator<Item = Self> {
        credential.exchanges.queued().map(|entry| Self(credential.id, entry))
    }

    fn cache<'s>(&self, store: &'s Store) -> Option<&'s Exchanges> {
        store.credential(self.0).map(|credential| &credential.exchanges)
    }

    /// The provider does not take the first token of a chain: providers may take an assertion only
    /// once (RFC 7523 section 3, `jti`). It is renewed for the next attempt, unless it has been
    /// meanwhile.
    fn renew_first(&self, store: &mut Store, now: Instant) {
        let queued = self.cache(store).and_then(|cache| cache.queued_fetch(self.1));
        let sent = queued.and_then(|(token, sent)| Some((token.to_owned(), sent.instead.clone()?)));
        let via = store.credential(self.0).and_then(|own| own.policy.via);
        let first = via.and_then(|via| store.credential_mut(via));
        let Some(((token, refused), first)) = sent.zip(first) else { return };
        let state = first.exchanges.of_token_mut(&token).map(|first| &mut first.state);
        let is_refused = |held: &IssuedToken| held.token.reveal() == refused.reveal();
        if let Some(state) = state.filter(|state| state.lease.last_value().is_some_and(is_refused)) {
            state.renew_early(now);
        }
    }

    fn cache_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Exchanges> {
        store.credential_mut(self.0).map(|credential| &mut credential.exchanges)
    }
}

impl Fetch for ExchangedToken {
    fn kind(&self) -> &'static FetchKind {
        &KIND
    }

    fn owner<'s>(&self, store: &'s Store) -> &'s str {
        store.credential_name(self.0)
    }

    fn schedule<'s>(&self, store: &'s Store) -> Option<&'s Schedule> {
        self.state(store).map(|state| &*state.lease)
    }

    fn schedule_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Schedule> {
        self.state_mut(store).map(|state| &mut *state.lease)
    }

    fn not_before(&self, store: &Store, now: Instant) -> Option<Instant> {
        let turn = self.cache(store)?.not_before(self.1)?;
        token_fetch::not_before(self.0, store, now).map(|_| turn)
    }

    fn cluster<'s>(&self, store: &'s Store, now: Instant) -> Option<&'s str> {
        token_fetch::cluster(self.0, store, now)
    }

    fn call(&self, store: &Store, now: Now, signer: &mut Signer) -> Option<Result<HttpCall, FetchError>> {
        token_fetch::call(self, store, now, signer)
    }

    fn finish(
        &self,
        store: &mut Store,
        fetch: FetchId,
        reply: &HttpReply,
        now: Now,
        rng: &mut Rng,
    ) -> Option<Finish> {
        token_fetch::finish(self, store, fetch, reply, now, rng)
    }

    fn queue_key(&self) -> FetchKey {
        FetchKey::Token(OwnToken(self.0))
    }

    fn discovered_by(&self, store: &Store) -> Option<IssuerId> {
        token_fetch::discovered_by(self.0, store)
    }

    fn files<'s>(&self, store: &'s Store) -> Vec<&'s FileRef> {
        token_fetch::files(self.0, store)
    }

    fn secret_index(&self, store: &Store) -> usize {
        store.credential(self.0).map_or(0, |credential| credential.secret_rotation.index())
    }

    fn begun(&self, store: &mut Store, now: Instant) {
        if let Some(cache) = self.cache_mut(store) {
            cache.mark_running(self.1, now);
        }
    }

    fn ended(
        &self,
        store: &mut Store,
        failure: Option<&FetchError>,
        status: Option<u16>,
        now: Instant,
        rng: &mut Rng,
    ) {
        let kind = failure.map(|failure| failure.kind);
        let denied = kind.filter(|kind| matches!(kind, FetchErrorKind::Subject | FetchErrorKind::Denied));
        if denied.is_some() {
            self.renew_first(store, now);
        }
        let Some(cache) = self.cache_mut(store) else { return };
        if let Some(exchange) = cache.cached_mut(self.1) {
            exchange.denied = denied.map(|kind| (kind, now + DENIED_FOR));
        }
        cache.finish(self.1, failure, status, now, rng);
    }

    fn give_up_lost(&self, store: &mut Store, now: Instant, rng: &mut Rng) -> bool {
        self.state_mut(store).is_some_and(|state| state.update(|lease| lease.give_up_lost(now, rng)))
    }

    fn abandon(&self, store: &mut Store) {
        if let Some(cache) = self.cache_mut(store) {
            cache.abandon(self.1);
        }
    }

    fn token(&self) -> Option<&dyn FetchToken> {
        Some(self)
    }
}

impl FetchToken for ExchangedToken {
    fn key(&self) -> FetchKey {
        FetchKey::Exchanged(*self)
    }

    fn credential(&self) -> CredentialId {
        self.0
    }

    fn state<'s>(&self, store: &'s Store) -> Option<&'s TokenState> {
        self.cache(store)?.cached(self.1).map(|exchange| &exchange.state)
    }

    fn state_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut TokenState> {
        self.cache_mut(store)?.cached_mut(self.1).map(|exchange| &mut exchange.state)
    }

    fn subject<'s>(&self, store: &'s Store, now: Now) -> Option<(&'s str, Option<Duration>)> {
        let (token, sent) = self.cache(store)?.queued_fetch(self.1)?;
        let left = sent.expires_at.map(|ends| Duration::from_secs(ends.saturating_sub(now.unix)));
        Some((sent.instead.as_ref().map_or(token, AccessToken::reveal), left))
    }
}

impl Store {
    /// The token that the credential gets in exchange for this one; `patience` as for its own.
    pub fn exchanged(
        &mut self,
        credential: CredentialId,
        subject: ExchangeSubject<'_>,
        now: Now,
        patience: Duration,
        service: Service,
    ) -> Result<IssuedToken, LookupError> {
        let Some(via) = self.credential(credential).map(|own| own.policy.via) else {
            return Err(LookupError::UNKNOWN);
        };
        let Some(via) = via else {
            let sent = SentSubject { expires_at: subject.expires_at, instead: None };
            return self.exchanged_for(credential, subject.token, sent, now, patience, service);
        };
        // The first exchange is kept fresh by this, too.
        match self.exchanged(via, subject, now, patience, service) {
            Ok(issued) => {
                let ends_at = issued.fetch_key.fetch().schedule(self).and_then(Schedule::ends_at);
                let left = ends_at.map(|end| end.since(now.instant).as_secs());
                let ends = left.map(|left| now.unix.saturating_add(left));
                let expires_at = ends.into_iter().chain(subject.expires_at).min();
                let sent = SentSubject { expires_at, instead: Some(issued.token) };
                self.exchanged_for(credential, subject.token, sent, now, patience, service)
            }
            Err(missing) => {
                let held = self.credential(credential);
                let held = held.and_then(|own| own.exchanges.value(subject.token, now.instant));
                held.cloned().ok_or(missing)
            }
        }
    }

    fn exchanged_for(
        &mut self,
        credential: CredentialId,
        token: &str,
        sent: SentSubject,
        now: Now,
        patience: Duration,
        service: Service,
    ) -> Result<IssuedToken, LookupError> {
        let Some(state) = self.credential_mut(credential) else {
            return Err(LookupError::UNKNOWN);
        };
        let is_refused =
            |own: &Exchange| !patience.is_zero() && own.state.is_being_replaced(service, now.instant);
        let found = state.exchanges.get(token, sent, now.instant, is_refused);
        let key = |entry| FetchKey::Exchanged(ExchangedToken(credential, entry));
        let unreachable = |store: &Self| store.until_token_request(credential, now.instant, patience);
        found.map_err(|miss| LookupError::of(miss, unreachable(self), key))
    }
}
