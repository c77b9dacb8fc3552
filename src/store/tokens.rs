//! A credential's own token, and what services say of it.

use super::adoption::Adopted;
use super::credential_state::CredentialState;
use super::fetch::{Fetch, FetchKind, FetchToken, Finish};
use super::issuer_state::IssuerState;
use super::service_rejections::MAX_RENEWAL_INTERVAL;
use super::token_state::TokenState;
use super::{FetchId, FetchKey, IssuedToken, LookupError, OwnToken, RENEWAL_INTERVAL, Store, token_fetch};
use crate::http::message::{HttpCall, HttpReply, Service};
use crate::inbound::refusal::Refusal;
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::oauth::secret_file::FileRef;
use crate::oauth::{Grant, token_response};
use crate::policy::{CredentialId, IssuerId, TokenInput};
use crate::rng::Rng;
use crate::store::lease::{Availability, Schedule};
use crate::store::shared_record::Record;
use crate::time::{Instant, Now};
use std::hash::BuildHasher as _;
use std::time::Duration;

/// After a sleep, tokens and keys are renewed at a random time within this, as a whole fleet may
/// have slept.
const RENEWAL_SPREAD: Duration = Duration::from_secs(5);

/// Words of a header's value that may be a token: a scheme, a token, and what a client may have put
/// beside it.
const WORDS_COMPARED: usize = 4;

static KIND: FetchKind = FetchKind {
    label: "token",
    description: "token of credential",
    refusal: Refusal::OutboundTokenUnavailable,
    logs_success: true,
    counts_long_headers: true,
};

impl OwnToken {
    /// That of a credential, unless it exchanges those of others.
    pub(super) fn of(credential: &CredentialState) -> Option<Self> {
        credential.policy.subject.is_none().then_some(Self(credential.id))
    }
}

impl Fetch for OwnToken {
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
        token_fetch::not_before(self.0, store, now)
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
        FetchKey::Token(*self)
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

    fn ended(
        &self,
        store: &mut Store,
        failure: Option<&FetchError>,
        _status: Option<u16>,
        now: Instant,
        _rng: &mut Rng,
    ) {
        // Providers may take an assertion only once (RFC 7523 section 3, `jti`).
        let is_rejected = failure.is_some_and(|failure| failure.kind == FetchErrorKind::Subject);
        let input = store.credential(self.0).and_then(|own| own.policy.input.clone());
        if let Some(TokenInput::Credential(other)) = input.filter(|_| is_rejected)
            && let Some(other) = store.credential_mut(other)
        {
            other.own_token.renew_early(now);
        }
    }

    fn give_up_lost(&self, store: &mut Store, now: Instant, rng: &mut Rng) -> bool {
        self.state_mut(store).is_some_and(|state| state.update(|lease| lease.give_up_lost(now, rng)))
    }

    fn identity<'s>(&self, store: &'s Store) -> Vec<&'s [u8]> {
        let credential = store.credential(self.0);
        let issuer = credential.and_then(|credential| store.issuer(credential.policy.issuer));
        let grant = credential.map(|credential| &credential.policy.grant);
        let inputs = credential.into_iter().flat_map(|own| [&own.policy.input, &own.policy.actor]);
        let mut parts: Vec<&[u8]> = vec![b"token"];
        parts.extend(issuer.into_iter().flat_map(IssuerState::identity));
        parts.extend(grant.into_iter().flat_map(Grant::fingerprint));
        for input in inputs.flatten() {
            match input {
                TokenInput::File(file) => parts.extend([b"file", file.name.as_bytes()]),
                TokenInput::Credential(other) => parts.extend(Self(*other).identity(store)),
            }
        }
        // A bound token is of no use to a worker with another key, and no other worker has this
        // one.
        let key = store.dpop_nonces.thumbprint().filter(|_| grant.is_some_and(|grant| grant.dpop_bound));
        parts.extend(key.into_iter().flat_map(|thumbprint| [&b"bound"[..], thumbprint.as_bytes()]));
        parts
    }

    /// What the provider says beside the token, others have no use for.
    fn shared_body(&self, body: &[u8]) -> Vec<u8> {
        token_response::minimal_body(body)
    }

    fn adopt(
        &self,
        store: &mut Store,
        record: &Record,
        reply: &HttpReply,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Adopted> {
        token_fetch::adopt(self, store, record, reply, now, rng)
    }

    fn token(&self) -> Option<&dyn FetchToken> {
        Some(self)
    }
}

impl FetchToken for OwnToken {
    fn key(&self) -> FetchKey {
        FetchKey::Token(*self)
    }

    fn credential(&self) -> CredentialId {
        self.0
    }

    fn state<'s>(&self, store: &'s Store) -> Option<&'s TokenState> {
        store.credential(self.0).map(|credential| &credential.own_token)
    }

    fn state_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut TokenState> {
        store.credential_mut(self.0).map(|credential| &mut credential.own_token)
    }

    fn subject<'s>(&self, store: &'s Store, now: Now) -> Option<(&'s str, Option<Duration>)> {
        let input = store.credential(self.0)?.policy.input.as_ref()?;
        let left = match input {
            TokenInput::Credential(other) => store.credential(*other)?.own_token.lease.ends_at(),
            TokenInput::File(_) => None,
        };
        Some((store.input(input)?, left.map(|end| end.since(now.instant))))
    }
}

impl Store {
    /// The credential's own token, for a request to this service that can wait for so long. While
    /// the renewal of one that the service has just refused is under way, requests that can wait do
    /// so, for a second at most.
    pub fn token(
        &mut self,
        credential: CredentialId,
        now: Instant,
        patience: Duration,
        service: Service,
    ) -> Result<IssuedToken, LookupError> {
        let Some(state) = OwnToken(credential).state_mut(self) else {
            return Err(LookupError::UNKNOWN);
        };
        let wait = LookupError::Wait(FetchKey::Token(OwnToken(credential)));
        if state.lease.value(now).is_none() {
            state.lease.expedite_retry();
        }
        match state.lease.availability(now, patience) {
            Availability::Ready(_) if !patience.is_zero() && state.is_being_replaced(service, now) => {
                Err(wait)
            }
            Availability::Ready(held) => Ok(held.clone()),
            Availability::Unavailable(wait) => Err(LookupError::Unavailable(wait)),
            Availability::Pending => Err(self.until_token_request(credential, now, patience).unwrap_or(wait)),
        }
    }

    /// Whether a header's value holds a token that this worker has, or had before one of its last
    /// renewals, behind whatever scheme and beside whatever else. The comparison is of keyed
    /// hashes, so that its time reveals nothing of the tokens, and nobody can make up another of
    /// the same.
    pub fn has_issued(&self, value: &[u8]) -> bool {
        let words = value.split(|byte| byte.is_ascii_whitespace() || *byte == b',').rev();
        let hashes: Vec<u64> = words
            .filter(|word| !word.is_empty())
            .take(WORDS_COMPARED)
            .map(|word| self.token_hash(word))
            .collect();
        let has = |state: &TokenState| state.has_hash(&hashes);
        let mut credentials = self.credentials.iter();
        credentials.any(|own| has(&own.own_token) || own.exchanges.all().any(|kept| has(&kept.state)))
    }

    pub(super) fn token_hash(&self, token: &[u8]) -> u64 {
        self.token_hasher.hash_one(token)
    }

    /// A service answered 401 to this token: renew it, if it is still the present one, and this
    /// service has not refused those before it as well.
    pub fn on_token_rejected(&mut self, key: FetchKey, serial: u64, service: Service, now: Instant) {
        let Some(state) = key
            .fetch()
            .token()
            .and_then(|token| token.state_mut(self))
            .filter(|state| state.serial == serial)
        else {
            return;
        };
        let consequence = state.rejections.refused(service, serial, now);
        let last = state.lease.refresh_requested_at().map_or(now, |last| last + RENEWAL_INTERVAL);
        let fetched_at = state.lease.fetched_at().unwrap_or_default();
        state.lease.refresh_soon(now.max(last).max(fetched_at + consequence.patience));
        self.holds.extend(consequence.held_until.map(|until| (key, until)));
        self.refused_at = Some(now);
    }

    /// A service accepted this token.
    pub fn on_token_accepted(&mut self, key: FetchKey, serial: u64, service: Service, now: Instant) {
        if self.has_recent_rejections()
            && let Some(state) = key
                .fetch()
                .token()
                .and_then(|token| token.state_mut(self))
                .filter(|state| state.serial == serial)
        {
            state.rejections.accepted(service, now);
        }
    }

    /// Whether any service has refused a token lately.
    pub fn has_recent_rejections(&self) -> bool {
        self.refused_at.is_some()
    }

    /// What requests need not wait for any more, as a token is there that has not ended.
    pub fn ended_holds(&mut self, now: Instant) -> Vec<FetchKey> {
        self.refused_at = self.refused_at.filter(|at| now < *at + MAX_RENEWAL_INTERVAL);
        self.holds.extract_if(.., |(_, until)| *until <= now).map(|(key, _)| key).collect()
    }

    /// Whether there is a token that has not ended.
    pub fn has_token(&self, key: FetchKey, now: Instant) -> bool {
        let state = key.fetch().token().and_then(|token| token.state(self));
        state.is_some_and(|state| state.lease.has_value(now))
    }

    /// The machine has slept: what has not ended meanwhile is renewed soon.
    pub fn on_wake(&mut self, now: Instant, rng: &mut Rng) {
        for state in &mut self.credentials {
            state.own_token.lease.refresh_soon(now + rng.duration_up_to(RENEWAL_SPREAD));
        }
        for state in &mut self.issuers {
            state.keys.refresh_soon(now + rng.duration_up_to(RENEWAL_SPREAD));
        }
    }
}
