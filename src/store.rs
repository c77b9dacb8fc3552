//! What the worker has learnt: key sets, tokens, callers already verified; and what it should ask
//! for next.
//!
//! It answers "here it is", "it is pending" or "it is unavailable", and never decides about a
//! request. Each kind of fetched thing (metadata, keys, token, exchanged token, introspection) is
//! one file that implements `Fetch`; its [`Lease`](lease::Lease) says when it is fetched, and the
//! driver of this store makes the calls.

mod adoption;
pub mod cache;
mod circuit_breaker;
mod credential_state;
mod dpop_nonces;
mod dpop_replay;
mod endpoints;
mod exchange_cache;
mod exchanged_tokens;
mod fetch;
mod fetch_key;
mod flight;
mod introspection;
mod introspection_cache;
mod issuer_state;
mod key_set;
mod keys;
pub mod lease;
mod limit_metrics;
mod metadata;
mod per_token;
mod rate_limit;
mod secret_files;
mod secret_rotation;
mod service_rejections;
pub mod shared_record;
mod slots;
mod token_fetch;
mod token_state;
mod tokens;
mod unknown_kids;
mod worker_sharing;

use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::jwt::Caller;
use crate::jose::verification_budget::Budget;
use crate::metrics::{Subject, Tally};
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy::{CredentialId, IssuerId, Policy};
use crate::rng::Rng;
use crate::secret::AccessToken;
use crate::store::lease::Schedule;
use crate::store::shared_record::{FetchLock, NoSharing, SharedStore};
use crate::time::{Instant, Now};
use credential_state::CredentialState;
use dpop_nonces::DpopNonces;
use dpop_replay::ReplayCache;
pub use exchanged_tokens::ExchangeSubject;
use fetch::Finish;
pub use fetch_key::{ExchangedToken, FileRead, IssuerKeys, IssuerMetadata, OwnToken, TokenIntrospection};
pub use fetch_key::{FetchId, FetchKey, FetchOutcome, LookupError};
use issuer_state::IssuerState;
use secret_files::FileStates;
pub use slots::CacheEntryId;
use std::fmt;
use std::hash::RandomState;
use std::rc::Rc;
use std::time::Duration;

/// A token, and which one of its credential it is.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: AccessToken,
    /// What brought it.
    pub fetch_key: FetchKey,
    /// Which of the tokens that it brought, so that a refusal of an old one does not cost the new
    /// one.
    pub serial: u64,
    /// By which the token is known again, without another look at it: a hash under a key of this
    /// worker.
    pub hash: u64,
    /// The token's digest, if it is bound to a key: each of its proofs says it.
    pub digest: Option<Rc<str>>,
}

/// What the worker has learnt.
pub struct Store {
    policy: Rc<Policy>,
    issuers: Vec<IssuerState>,
    credentials: Vec<CredentialState>,
    /// The secrets that are read from files.
    files: FileStates,
    /// What the workers of this process leave for each other.
    shared: Box<dyn SharedStore>,
    locks: Vec<(FetchKey, FetchLock)>,
    /// This worker, among them.
    worker_id: u64,
    dpop_nonces: DpopNonces,
    /// Proofs that callers have used.
    replays: ReplayCache,
    /// For signatures of tokens, which anybody can make up.
    pub token_budget: Budget,
    /// For those of proofs, which only callers with a good token can: no flood of tokens takes
    /// anything from it.
    pub proof_budget: Budget,
    /// What providers said of their answers, and is too long for the board.
    dropped_headers: Tally,
    /// The key of [`IssuedToken::hash`].
    token_hasher: RandomState,
    /// Until when requests wait for the renewal of a token that one service has refused.
    holds: Vec<(FetchKey, Instant)>,
    /// When a service refused a token last.
    refused_at: Option<Instant>,
}

/// For how long the requests to a service that has refused a token wait for the next one. One that
/// is refused in its first second has to wait for it too: the least time between two fetches of any
/// kind.
const REJECTION_HOLD: Duration = Duration::from_secs(1);

/// The least time between two renewals of a token for the sake of any 401.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

impl Store {
    /// A store that has learnt nothing yet, of a worker that has no others.
    pub fn new(policy: Rc<Policy>) -> Self {
        Self::sharing(policy, Box::new(NoSharing), 1, None)
    }

    /// A store that has learnt nothing yet; `worker_id` is this worker's own number among those at
    /// the board, and not 0, and `thumbprint` that of its key for proofs.
    pub fn sharing(
        policy: Rc<Policy>,
        board: Box<dyn SharedStore>,
        me: u64,
        thumbprint: Option<&str>,
    ) -> Self {
        let patience = policy.pending_requests.timeout;
        let issuers = policy.issuer_ids().zip(&policy.issuers);
        let issuers = issuers.map(|(id, issuer)| IssuerState::new(id, issuer, patience)).collect();
        let credentials = policy.credential_ids().zip(&policy.credentials);
        let credentials = credentials.map(|(id, own)| CredentialState::new(&policy, id, own)).collect();
        let files = FileStates::of(&policy);
        let (locks, dpop_nonces) = (Vec::new(), DpopNonces::of(thumbprint));
        let (replays, dropped_headers) = (ReplayCache::of(&policy, &*board, me), Tally::default());
        let (token_budget, proof_budget) = (Budget::default(), Budget::default());
        let mut store = Self {
            policy,
            issuers,
            credentials,
            files,
            shared: board,
            locks,
            worker_id: me,
            dpop_nonces,
            replays,
            token_budget,
            proof_budget,
            dropped_headers,
            token_hasher: RandomState::new(),
            holds: Vec::new(),
            refused_at: None,
        };
        let lock = |key| (key, FetchLock::new(store.record_name(key), &*store.shared));
        store.locks = store.provider_keys().into_iter().map(lock).collect();
        store
    }

    /// The caller of a token that was verified before, with keys that are still the issuer's.
    pub fn verified(&mut self, issuer: IssuerId, token: &[u8], now: Now) -> Option<Caller> {
        let state = self.issuer_mut(issuer)?;
        // Once the keys have gone stale, what they verified has too.
        state.keys.value(now.instant)?;
        state.verified.get(token, now.unix).cloned()
    }

    /// Keeps a verified caller until its token ends.
    pub fn remember(&mut self, issuer: IssuerId, token: &[u8], caller: &Caller, now: Now) {
        if let Some(state) = self.issuer_mut(issuer) {
            state.verified.insert(token, caller.clone(), caller.accepted_until(), now.unix);
        }
    }

    /// How much longer a request can wait that came at `since`.
    pub fn remaining_wait(&self, since: Instant, now: Instant) -> Duration {
        (since + self.policy.pending_requests.timeout).since(now)
    }

    /// Begins a fetch that is due, if there is one that no other worker has begun. Where the call
    /// cannot be made, the failure ends it.
    pub fn begin(
        &mut self,
        now: Now,
        signer: &mut Signer,
    ) -> Option<(FetchId, Result<HttpCall, FetchError>)> {
        let mut due = self.fetch_keys();
        due.retain(|key| self.is_due(*key, now.instant));
        due.into_iter().find_map(|key| {
            let fetch = key.fetch();
            let call = fetch.call(self, now, signer)?;
            let timeout = fetch.schedule(self)?.fetch_timeout(now.instant);
            let call = call.map(|call| call.with_timeout(Some(timeout)));
            if !self.acquire_lock(key, now.instant) {
                return None;
            }
            fetch.begun(self, now.instant);
            let attempt = fetch.schedule_mut(self)?.begin(now.instant)?;
            Some((FetchId { key, attempt, secret: fetch.secret_index(self) }, call))
        })
    }

    /// A fetch ended. None when nobody waits for this answer any more.
    pub fn finish(
        &mut self,
        fetch: FetchId,
        reply: &HttpReply,
        now: Now,
        rng: &mut Rng,
    ) -> Option<FetchOutcome> {
        let key = fetch.key;
        if let Some(failure) = self.moved(fetch, reply, now.instant) {
            return Some(FetchOutcome { key, result: Err(failure) });
        }
        let cluster = key.fetch().cluster(self, now.instant).unwrap_or_default().to_owned();
        let result = match key.fetch().finish(self, fetch, reply, now, rng)? {
            Finish::Restarted(failure) => Err(failure),
            Finish::Done(result) => {
                key.fetch().ended(self, result.as_ref().err(), reply.status, now.instant, rng);
                self.publish(key, result.is_ok().then_some(reply), now.instant);
                result
            }
        };
        Some(FetchOutcome {
            key,
            result: result.map_err(|failure| self.closed_again(key, &cluster, failure)),
        })
    }

    /// A fetch ended before there was a call, as only those can that need something signed.
    #[inline(never)]
    pub fn fail(
        &mut self,
        fetch: FetchId,
        failure: FetchError,
        now: Now,
        rng: &mut Rng,
    ) -> Option<FetchOutcome> {
        let key = fetch.key;
        let schedule = key.fetch().schedule_mut(self)?;
        if !schedule.fail(fetch.attempt, now.instant, &failure, rng) {
            return None;
        }
        key.fetch().ended(self, Some(&failure), None, now.instant, rng);
        self.publish(key, None, now.instant);
        Some(FetchOutcome { key, result: Err(failure) })
    }

    /// Nobody waits for this any more. What is fetched for the sake of one caller is not fetched
    /// for nobody.
    pub fn abandon(&mut self, key: FetchKey) {
        key.fetch().abandon(self);
    }

    /// Ends fetches whose answer never came.
    pub fn give_up_lost(&mut self, now: Instant, rng: &mut Rng) -> Vec<FetchOutcome> {
        let mut lost = self.fetch_keys();
        lost.retain(|key| key.fetch().give_up_lost(self, now, rng));
        let failure = FetchError::new(FetchErrorKind::Timeout, "the answer never came");
        for key in &lost {
            key.fetch().ended(self, Some(&failure), None, now, rng);
            self.publish(*key, None, now);
        }
        lost.into_iter().map(|key| FetchOutcome { key, result: Err(failure.clone()) }).collect()
    }

    /// When to look for due fetches again; `waited` says what requests wait for.
    pub fn next_event(&self, now: Instant, waited: impl Fn(FetchKey) -> bool) -> Option<Instant> {
        let next = |key| Some(self.next_poll(key, now, waited(key)).unwrap_or(self.next_event_of(key, now)?));
        let holds = self.holds.iter().filter(|(key, _)| waited(*key)).map(|(_, until)| *until);
        self.fetch_keys().into_iter().filter_map(next).chain(holds).min()
    }

    /// What a fetch is counted as: its kind, and its issuer or credential.
    pub fn metric_subject(&self, key: FetchKey) -> Subject<'_> {
        let fetch = key.fetch();
        Subject { kind: fetch.kind().label, name: fetch.owner(self) }
    }

    /// A name for logs: `keys of issuer keycloak`.
    pub fn describe(&self, key: FetchKey) -> String {
        let fetch = key.fetch();
        format!("{} {}", fetch.kind().description, fetch.owner(self))
    }

    /// A credential's name in the configuration.
    pub fn credential_name(&self, id: CredentialId) -> &str {
        self.credential(id).map_or("?", |credential| &credential.policy.name)
    }

    fn issuer_name(&self, id: IssuerId) -> &str {
        self.issuer(id).map_or("?", |issuer| &issuer.policy.name)
    }

    /// The state of an issuer; none if the id is of another policy.
    fn issuer(&self, id: IssuerId) -> Option<&IssuerState> {
        self.issuers.get(id.index()).filter(|issuer| issuer.id == id)
    }

    fn issuer_mut(&mut self, id: IssuerId) -> Option<&mut IssuerState> {
        self.issuers.get_mut(id.index()).filter(|issuer| issuer.id == id)
    }

    /// The state of a credential; none if the id is of another policy.
    fn credential(&self, id: CredentialId) -> Option<&CredentialState> {
        self.credentials.get(id.index()).filter(|credential| credential.id == id)
    }

    fn credential_mut(&mut self, id: CredentialId) -> Option<&mut CredentialState> {
        self.credentials.get_mut(id.index()).filter(|credential| credential.id == id)
    }

    /// Everything that this policy fetches, and what requests need beside it.
    fn fetch_keys(&self) -> Vec<FetchKey> {
        let mut keys: Vec<FetchKey> = self.files.keys().collect();
        keys.extend(self.provider_keys());
        keys
    }

    /// The same without files: what is fetched from providers.
    fn provider_keys(&self) -> Vec<FetchKey> {
        let mut keys = Vec::new();
        for issuer in &self.issuers {
            keys.extend(IssuerMetadata::of(issuer).map(FetchKey::Metadata));
            keys.extend(IssuerKeys::of(issuer).map(FetchKey::Keys));
        }
        keys.extend(self.credentials.iter().filter_map(OwnToken::of).map(FetchKey::Token));
        keys.extend(self.credentials.iter().flat_map(ExchangedToken::queued).map(FetchKey::Exchanged));
        keys.extend(self.issuers.iter().flat_map(TokenIntrospection::queued).map(FetchKey::Introspection));
        keys
    }

    /// A fetch is due when its schedule says so and its endpoint is known.
    fn is_due(&self, key: FetchKey, now: Instant) -> bool {
        let in_flight = || key.fetch().schedule(self).is_some_and(Schedule::in_flight);
        let due = self.next_event_of(key, now).is_some_and(|at| at <= now);
        due && !in_flight() && !self.is_locked_by_other(key, now)
    }

    fn next_event_of(&self, key: FetchKey, now: Instant) -> Option<Instant> {
        let schedule = key.fetch().schedule(self)?;
        if schedule.in_flight() {
            return Some(schedule.next_event());
        }
        let at = schedule.next_event().max(key.fetch().not_before(self, now)?);
        // What is due waits for the files that it needs, which are due because of it.
        (at > now || self.are_settled(&key.fetch().files(self), now)).then_some(at)
    }
}

impl fmt::Debug for Store {
    /// Not the board: tokens stand there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuers, credentials, .. } = self;
        let mut store = f.debug_struct("Store");
        store.field("issuers", issuers).field("credentials", credentials).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::{MessageHead, Service};
    use serde_json::json;

    fn policy(issuer: &str) -> Rc<Policy> {
        let client = json!({ "issuer": issuer, "client_id": "c", "client_secret": { "inline": "s" } });
        let configuration = json!({
            "issuers": { issuer: { "issuer": format!("https://{issuer}.example.com"), "cluster": "idp" } },
            "inbound": { "rules": [{ "require": { "issuer": issuer, "audiences": ["svc"] } }] },
            "outbound": { "credentials": { "c": client }, "rules": [{ "credential": "c" }] },
        });
        Rc::new(Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap())
    }

    fn ids(policy: &Policy) -> (IssuerId, CredentialId) {
        (policy.issuer_ids().next().unwrap(), policy.credential_ids().next().unwrap())
    }

    #[test]
    fn an_id_of_another_policy_finds_nothing() {
        let (own, foreign) = (policy("a"), ids(&policy("b")));
        assert_eq!(ids(&own).0.index(), foreign.0.index());
        assert!(own.issuer(ids(&own).0).is_some() && own.credential(ids(&own).1).is_some());
        assert!(own.issuer(foreign.0).is_none() && own.credential(foreign.1).is_none());
        let (mut store, now) = (Store::new(Rc::clone(&own)), Now::default());
        let service = Service::of(&MessageHead::default());
        let mut lookups = |(issuer, credential)| {
            let keys = store.keys(issuer, None, now.instant, now).unwrap_err();
            let token = store.token(credential, now.instant, Duration::from_secs(1), service).unwrap_err();
            (keys, token)
        };
        assert!(matches!(lookups(ids(&own)), (LookupError::Wait(_), LookupError::Wait(_))));
        assert_eq!(lookups(foreign), (LookupError::UNKNOWN, LookupError::UNKNOWN));
        assert_eq!(store.describe(FetchKey::Keys(IssuerKeys(foreign.0))), "keys of issuer ?");
    }

    #[test]
    fn the_ids_of_one_configuration_are_the_same_however_often_it_is_read() {
        assert_eq!(ids(&policy("a")), ids(&policy("a")));
    }
}
