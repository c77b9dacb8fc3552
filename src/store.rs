//! What the worker has learnt: key sets, tokens, callers already verified; and what it should ask for next.
//!
//! It answers "here it is", "it is on its way" or "it cannot be had", and never decides about a request. Every fetched
//! thing is a [`Lease`]; who fetches when is the lease's, and the driver of this store makes the calls.

pub mod cache;
mod circuit_breaker;
mod dpop_nonces;
mod dpop_replay;
mod endpoints;
mod exchanged_tokens;
mod fetch_key;
mod flight;
mod introspection;
mod issuer_state;
mod keys;
pub mod lease;
mod limit_metrics;
mod per_token;
mod rate_limit;
mod responses;
mod secret_rotation;
mod service_rejections;
pub mod shared_record;
mod slots;
mod token_state;
mod tokens;
mod unknown_kids;
mod worker_sharing;

use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::jwt::Caller;
use crate::jose::jwk::KeySet;
use crate::jose::verification_budget::Budget;
use crate::metrics::Subject;
use crate::metrics::Tally;
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy::{CredentialId, IssuerId, Policy};
use crate::rng::Rng;
use crate::secret::AccessToken;
use crate::store::lease::Availability;
use crate::store::shared_record::{FetchLock, NoSharing, SharedStore};
use crate::time::{Instant, Now};
use dpop_nonces::DpopNonces;
use dpop_replay::ReplayCache;
pub use exchanged_tokens::ExchangeSubject;
pub use fetch_key::{FetchId, FetchKey, FetchOutcome, LookupError};
use issuer_state::{IssuerState, issuer_retry_policy};
use keys::Keys;
use responses::finish_lease;
pub use slots::CacheEntryId;
use std::fmt;
use std::hash::RandomState;
use std::rc::Rc;
use std::time::Duration;
use tokens::CredentialState;

/// A token, and which one of its credential it is.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: AccessToken,
    /// What brought it.
    pub fetch_key: FetchKey,
    /// Which of the tokens that it brought, so that a refusal of an old one does not cost the new one.
    pub serial: u64,
    /// By which the token is known again, without another look at it: a hash under a key of this worker.
    pub hash: u64,
    /// The token's digest, if it is bound to a key: each of its proofs says it.
    pub digest: Option<Rc<str>>,
}

/// What the worker has learnt.
pub struct Store {
    policy: Rc<Policy>,
    issuers: Vec<IssuerState>,
    credentials: Vec<CredentialState>,
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
    /// For those of proofs, which only callers with a good token can: no flood of tokens takes anything from it.
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

/// The least time between two fetches of a key set for the sake of unknown names. A request with a new key waits that
/// long at most, which is less than a request waits by default; a flood of made-up names costs one fetch per interval.
const UNKNOWN_KID_INTERVAL: Duration = Duration::from_secs(3);

/// For how long the requests to a service that has refused a token wait for the next one. One that is refused in its first second
/// has to wait for it too: the least time between two fetches of any kind.
const REJECTION_HOLD: Duration = Duration::from_secs(1);

/// The least time between two renewals of a token for the sake of any 401.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

impl Store {
    /// A store that has learnt nothing yet, of a worker that has no others.
    pub fn new(policy: Rc<Policy>) -> Self {
        Self::sharing(policy, Box::new(NoSharing), 1, None)
    }

    /// A store that has learnt nothing yet; `worker_id` is this worker's own number among those at the board, and not 0, and
    /// `thumbprint` that of its key for proofs.
    pub fn sharing(
        policy: Rc<Policy>,
        board: Box<dyn SharedStore>,
        me: u64,
        thumbprint: Option<&str>,
    ) -> Self {
        let patience = policy.pending_requests.timeout;
        let issuers = policy.issuers.iter().map(|issuer| IssuerState::new(issuer, patience)).collect();
        let credentials =
            policy.credentials.iter().map(|credential| CredentialState::new(&policy, credential)).collect();
        let (seats, proofs) = (Vec::new(), DpopNonces::of(thumbprint));
        let (replays, unsaid) = (ReplayCache::of(&policy, &*board, me), Tally::default());
        let (token_budget, proof_budget) = (Budget::default(), Budget::default());
        let mut store = Self {
            policy,
            issuers,
            credentials,
            shared: board,
            locks: seats,
            worker_id: me,
            dpop_nonces: proofs,
            replays,
            token_budget,
            proof_budget,
            dropped_headers: unsaid,
            token_hasher: RandomState::new(),
            holds: Vec::new(),
            refused_at: None,
        };
        store.locks = store
            .fetch_keys()
            .map(|want| (want, FetchLock::new(store.record_name(want), &*store.shared)))
            .collect();
        store
    }

    /// The caller of a token that was verified before, with keys that are still the issuer's.
    pub fn verified(&mut self, issuer: IssuerId, token: &[u8], now: Now) -> Option<Caller> {
        let state = self.issuers.get_mut(issuer.0)?;
        // Once the keys have gone stale, what they verified has too.
        state.keys.value(now.instant)?;
        state.verified.get(token, now.unix).cloned()
    }

    /// Keeps a verified caller until its token ends.
    pub fn remember(&mut self, issuer: IssuerId, token: &[u8], caller: &Caller, now: Now) {
        if let Some(state) = self.issuers.get_mut(issuer.0) {
            state.verified.insert(token, caller.clone(), caller.accepted_until(), now.unix);
        }
    }

    /// Whether the issuer's keys are here, whichever they are.
    pub fn has_keys(&self, issuer: IssuerId, now: Now) -> bool {
        self.issuers.get(issuer.0).is_some_and(|state| state.keys.value(now.instant).is_some())
    }

    /// The issuer's keys, after looking for `kid` if it is not among them: whoever asked at `since` gets keys that were
    /// fetched after that, or keys that hold `kid`.
    pub fn keys(
        &mut self,
        issuer: IssuerId,
        kid: Option<&str>,
        since: Instant,
        now: Now,
    ) -> Result<Rc<KeySet>, LookupError> {
        let unavailable = LookupError::Unavailable(Duration::from_secs(1));
        let patience = self.remaining_wait(since, now.instant);
        let (Some(state), Some(policy)) = (self.issuers.get_mut(issuer.0), self.policy.issuers.get(issuer.0))
        else {
            return Err(unavailable);
        };
        if state.keys.value(now.instant).is_none() {
            state.keys.expedite_retry();
        }
        let keys = match state.keys.availability(now.instant, patience) {
            Availability::Ready(keys) => Rc::clone(&keys.set),
            Availability::Unavailable(wait) => return Err(LookupError::Unavailable(wait)),
            Availability::Pending => return Err(state.until_keys(policy, issuer, now.instant, patience)),
        };
        let Some(name) = kid.filter(|_| policy.jwks.is_none() && !keys.contains_kid(kid)) else {
            return Ok(keys);
        };
        if state.keys.fetched_at() >= Some(since) {
            state.unknown_kids.remember(name, now.instant);
            return Ok(keys);
        }
        if state.unknown_kids.contains(name, now.instant) {
            return Ok(keys);
        }
        if state.keys.failures() > 0 {
            // The provider cannot say whether it knows this key, so neither can we.
            state.keys.expedite_retry();
            return Err(LookupError::Unavailable(state.keys.next_event().since(now.instant)));
        }
        let last = state.keys.fetched_at().unwrap_or_default();
        state.keys.refresh_soon(now.instant.max(last + UNKNOWN_KID_INTERVAL));
        Err(LookupError::Wait(FetchKey::Keys(issuer)))
    }

    /// How much longer a request can wait that came at `since`.
    pub fn remaining_wait(&self, since: Instant, now: Instant) -> Duration {
        (since + self.policy.pending_requests.timeout).since(now)
    }

    /// Begins a fetch that is due, if there is one that no other worker has begun. Where the call cannot be made, the failure
    /// ends it.
    pub fn begin(
        &mut self,
        now: Now,
        signer: &mut Signer,
    ) -> Option<(FetchId, Result<HttpCall, FetchError>)> {
        let due: Vec<FetchKey> = self.fetch_keys().filter(|want| self.is_due(*want, now.instant)).collect();
        due.into_iter().find_map(|want| {
            let call = self.call(want, now, signer)?;
            let timeout = self.fetch_timeout(want, now.instant);
            let call = call.map(|call| HttpCall { timeout: timeout.unwrap_or(call.timeout), ..call });
            if !self.acquire_lock(want, now.instant) {
                return None;
            }
            let attempt = match want {
                FetchKey::Metadata(id) => self.issuers.get_mut(id.0)?.metadata.begin(now.instant),
                FetchKey::Keys(id) => self.issuers.get_mut(id.0)?.keys.begin(now.instant),
                FetchKey::Token(_) => self.token_state_mut(want)?.lease.begin(now.instant),
                FetchKey::Exchanged(_, entry) => {
                    self.exchanges(want)?.mark_running(entry, now.instant);
                    self.token_state_mut(want)?.lease.begin(now.instant)
                }
                FetchKey::Introspection(id, entry) => {
                    let answers = &mut self.introspections_mut(id)?.cache;
                    answers.mark_running(entry, now.instant);
                    answers.cached_mut(entry)?.begin(now.instant)
                }
            };
            attempt.map(|attempt| (FetchId { key: want, attempt, secret: self.secret_index(want) }, call))
        })
    }

    /// A fetch ended. None when nobody waits for this answer any more.
    pub fn finish(
        &mut self,
        ticket: FetchId,
        reply: &HttpReply,
        now: Now,
        dice: &mut Rng,
    ) -> Option<FetchOutcome> {
        if let Some(failure) = self.moved(ticket, reply, now.instant) {
            return Some(FetchOutcome { key: ticket.key, result: Err(failure) });
        }
        let cluster = self.cluster_of(ticket.key, now.instant);
        let FetchOutcome { key: want, result } = self.conclude(ticket, reply, now, dice)?;
        Some(FetchOutcome {
            key: want,
            result: result.map_err(|failure| self.closed_again(want, &cluster, failure)),
        })
    }

    fn conclude(
        &mut self,
        ticket: FetchId,
        reply: &HttpReply,
        now: Now,
        dice: &mut Rng,
    ) -> Option<FetchOutcome> {
        let FetchId { key: want, attempt, secret } = ticket;
        let at = now.instant;
        let result = match want {
            FetchKey::Metadata(id) => {
                let read = self.read_metadata(id, reply, dice);
                let state = self.issuers.get_mut(id.0)?;
                if let Some(failure) = state.other_location(attempt, reply, read.as_ref().err()) {
                    // The seat is kept: no other worker need find out by itself.
                    return Some(FetchOutcome { key: want, result: Err(failure) });
                }
                let result = finish_lease(&mut state.metadata, attempt, at, read, dice)?;
                state.moved_until = Instant::default();
                result
            }
            FetchKey::Keys(id) => {
                let read = self.read_keys(id, reply, at, dice);
                self.issuers
                    .get_mut(id.0)?
                    .change_keys(at, |lease| finish_lease(lease, attempt, at, read, dice))?
            }
            FetchKey::Introspection(..) => return self.finish_introspection(ticket, reply, now, dice),
            FetchKey::Token(id) | FetchKey::Exchanged(id, _) => {
                if let Some(failure) = self.restart_with_nonce_or_secret(ticket, reply, now, dice) {
                    // The seat is kept: no other worker need find out by itself.
                    return Some(FetchOutcome { key: want, result: Err(failure) });
                }
                let read = self.read_token(want, reply, now.unix, dice);
                let by = self.secret_label(id, secret);
                let state = self.token_state_mut(want)?;
                let result = state.update(|lease| finish_lease(lease, attempt, at, read, dice))?;
                self.finish_exchange(want, result.as_ref().err(), reply.status, at, dice);
                result.map(|news| news + &by)
            }
        };
        self.publish(want, result.is_ok().then_some(reply), at);
        Some(FetchOutcome { key: want, result })
    }

    /// Nobody waits for this any more. What is fetched for the sake of one caller is not fetched for nobody.
    pub fn abandon(&mut self, want: FetchKey) {
        if let FetchKey::Exchanged(_, entry) = want
            && let Some(exchanges) = self.exchanges(want)
        {
            exchanges.abandon(entry);
        }
        if let FetchKey::Introspection(id, entry) = want
            && let Some(introspections) = self.introspections_mut(id)
        {
            introspections.cache.abandon(entry);
        }
    }

    /// Ends fetches whose answer never came.
    pub fn give_up_lost(&mut self, now: Instant, dice: &mut Rng) -> Vec<FetchOutcome> {
        let wants: Vec<FetchKey> = self.fetch_keys().collect();
        let lost = wants.into_iter().filter(|want| match *want {
            FetchKey::Metadata(id) => {
                self.issuers.get_mut(id.0).is_some_and(|s| s.metadata.give_up_lost(now, dice))
            }
            FetchKey::Keys(id) => self.issuers.get_mut(id.0).is_some_and(|s| s.keys.give_up_lost(now, dice)),
            FetchKey::Token(_) | FetchKey::Exchanged(..) => self
                .token_state_mut(*want)
                .is_some_and(|s| s.lease.in_flight() && s.update(|lease| lease.give_up_lost(now, dice))),
            FetchKey::Introspection(id, entry) => self.lost_introspection(id, entry, now, dice),
        });
        let lost: Vec<FetchKey> = lost.collect();
        let failure = FetchError::new(FetchErrorKind::Timeout, "the answer never came");
        for want in &lost {
            self.finish_exchange(*want, Some(&failure), None, now, dice);
            self.publish(*want, None, now);
        }
        lost.into_iter().map(|want| FetchOutcome { key: want, result: Err(failure.clone()) }).collect()
    }

    /// When to look for due fetches again; `waited` says what requests wait for.
    pub fn next_event(&self, now: Instant, waited: impl Fn(FetchKey) -> bool) -> Option<Instant> {
        let next =
            |want| Some(self.next_poll(want, now, waited(want)).unwrap_or(self.next_event_of(want, now)?));
        let holds = self.holds.iter().filter(|(want, _)| waited(*want)).map(|(_, until)| *until);
        self.fetch_keys().filter_map(next).chain(holds).min()
    }

    /// What a fetch is counted as: its kind, and its issuer or credential.
    pub fn metric_subject(&self, key: FetchKey) -> Subject<'_> {
        let issuer = |id: IssuerId| self.policy.issuers.get(id.0).map_or("?", |issuer| issuer.name.as_str());
        match key {
            FetchKey::Metadata(id) => Subject { kind: "metadata", name: issuer(id) },
            FetchKey::Keys(id) => Subject { kind: "jwks", name: issuer(id) },
            FetchKey::Token(id) => Subject { kind: "token", name: self.credential_name(id) },
            FetchKey::Exchanged(id, _) => Subject { kind: "exchanged_token", name: self.credential_name(id) },
            FetchKey::Introspection(id, _) => Subject { kind: "introspection", name: issuer(id) },
        }
    }

    /// A name for logs: `keys of issuer keycloak`.
    pub fn describe(&self, key: FetchKey) -> String {
        let what = match key {
            FetchKey::Metadata(_) => "metadata of issuer",
            FetchKey::Keys(_) => "keys of issuer",
            FetchKey::Token(_) => "token of credential",
            FetchKey::Exchanged(..) => "exchanged token of credential",
            FetchKey::Introspection(..) => "introspection by issuer",
        };
        format!("{what} {}", self.metric_subject(key).name)
    }

    /// A credential's name in the configuration.
    pub fn credential_name(&self, id: CredentialId) -> &str {
        self.policy.credentials.get(id.0).map_or("?", |credential| credential.name.as_str())
    }

    /// Everything that this policy fetches, and what requests need beside it.
    fn fetch_keys(&self) -> impl Iterator<Item = FetchKey> + use<> {
        let policy = Rc::clone(&self.policy);
        let issuers = (0..policy.issuers.len()).map(IssuerId);
        let own = policy.credentials.iter().zip(0..).filter(|(credential, _)| credential.subject.is_none());
        let own: Vec<FetchKey> = own.map(|(_, id)| FetchKey::Token(CredentialId(id))).collect();
        let exchanged = self.credentials.iter().zip(0..).flat_map(|(state, id)| {
            state.exchanges.queued().map(move |entry| FetchKey::Exchanged(CredentialId(id), entry))
        });
        let exchanged: Vec<FetchKey> = exchanged.collect();
        let introspected: Vec<FetchKey> = self.queued_introspections().collect();
        let of_issuers = issuers.flat_map(move |id| {
            let issuer = policy.issuers.get(id.0);
            let metadata = issuer.filter(|issuer| issuer.discovery.is_some()).map(|_| FetchKey::Metadata(id));
            let keys =
                issuer.filter(|issuer| issuer.verifies && issuer.jwks.is_none()).map(|_| FetchKey::Keys(id));
            metadata.into_iter().chain(keys)
        });
        of_issuers.chain(own).chain(exchanged).chain(introspected)
    }

    /// A fetch is due when its lease says so and its endpoint is known.
    fn is_due(&self, want: FetchKey, now: Instant) -> bool {
        let due = self.next_event_of(want, now).is_some_and(|at| at <= now);
        due && !self.in_flight(want) && !self.is_locked_by_other(want, now)
    }

    fn next_event_of(&self, want: FetchKey, now: Instant) -> Option<Instant> {
        match want {
            FetchKey::Metadata(id) => self.issuers.get(id.0).map(|state| state.metadata.next_event()),
            FetchKey::Keys(id) => {
                let state = self.issuers.get(id.0)?;
                (state.keys.in_flight() || self.jwks_uri(id, now).is_some()).then(|| state.keys.next_event())
            }
            FetchKey::Token(id) => {
                let state = self.token_state(want)?;
                (state.lease.in_flight() || self.until_token_endpoint(id, now, Duration::ZERO).is_none())
                    .then(|| state.lease.next_event())
            }
            FetchKey::Exchanged(id, entry) => {
                let state = self.token_state(want)?;
                if state.lease.in_flight() {
                    return Some(state.lease.next_event());
                }
                let not_before = self.credentials.get(id.0)?.exchanges.not_before(entry)?;
                self.until_token_endpoint(id, now, Duration::ZERO)
                    .is_none()
                    .then(|| state.lease.next_event().max(not_before))
            }
            FetchKey::Introspection(id, entry) => self.next_event_of_answer(id, entry, now),
        }
    }

    /// How long a fetch that begins now may take; none if that is the issuer's `timeout` in any case.
    fn fetch_timeout(&self, want: FetchKey, now: Instant) -> Option<Duration> {
        Some(match want {
            FetchKey::Metadata(id) => self.issuers.get(id.0)?.metadata.fetch_timeout(now),
            FetchKey::Keys(id) => self.issuers.get(id.0)?.keys.fetch_timeout(now),
            FetchKey::Token(_) => self.token_state(want)?.lease.fetch_timeout(now),
            FetchKey::Exchanged(..) | FetchKey::Introspection(..) => return None,
        })
    }

    fn in_flight(&self, want: FetchKey) -> bool {
        match want {
            FetchKey::Metadata(id) => self.issuers.get(id.0).is_some_and(|state| state.metadata.in_flight()),
            FetchKey::Keys(id) => self.issuers.get(id.0).is_some_and(|state| state.keys.in_flight()),
            FetchKey::Token(_) | FetchKey::Exchanged(..) => {
                self.token_state(want).is_some_and(|state| state.lease.in_flight())
            }
            FetchKey::Introspection(id, entry) => {
                self.answer(id, entry).is_some_and(|lease| lease.in_flight())
            }
        }
    }

    fn call(&self, want: FetchKey, at: Now, signer: &mut Signer) -> Option<Result<HttpCall, FetchError>> {
        let Now { instant: now, unix } = at;
        match want {
            FetchKey::Introspection(id, entry) => self.introspection_call(id, entry, at, signer),
            FetchKey::Metadata(id) => {
                let place = self.issuers.get(id.0)?.metadata_location;
                Some(Ok(self.policy.issuers.get(id.0)?.discovery.as_ref()?.call(place)))
            }
            FetchKey::Keys(id) => Some(Ok(self.keys_call(id, now)?)),
            FetchKey::Token(id) | FetchKey::Exchanged(id, _) => self.token_call(want, id, now, unix, signer),
        }
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
