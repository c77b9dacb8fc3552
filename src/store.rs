//! What the worker has learnt: key sets, tokens, callers already verified; and what it should ask for next.
//!
//! It answers "here it is", "it is on its way" or "it cannot be had", and never decides about a request. Every fetched
//! thing is a [`Lease`]; who fetches when is the lease's, and the calls are made by whoever drives this store.

mod turn;

use crate::assertion::Signer;
use crate::cache::{Cache, Capacity};
use crate::discovery::{self, Metadata, Place};
use crate::io::{Call, Dice, Endpoint, Instant, Now, Reply};
use crate::jwk::{self, KeySet};
use crate::jwt::Caller;
use crate::lease::{Attempt, Cause, Failure, Fresh, Lease, Outlook, Pace};
use crate::oauth::{self, Token};
use crate::policy::{self, CredentialId, IssuerId, Policy};
use std::rc::Rc;
use std::time::Duration;
use turn::Turn;

/// Something that is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// An issuer's metadata document.
    Metadata(IssuerId),
    /// An issuer's key set.
    Keys(IssuerId),
    /// A credential's token.
    Token(CredentialId),
}

/// One running fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// What is fetched.
    pub want: Want,
    attempt: Attempt,
}

/// Why something is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is on its way: ask again when this has arrived.
    Wait(Want),
    /// The provider fails; the next attempt is this far away.
    Unavailable(Duration),
}

/// How a fetch ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was fetched.
    pub want: Want,
    /// What to tell the operator: the good news, or the failure.
    pub result: Result<String, Failure>,
}

/// A token, and which one of its credential it is.
#[derive(Clone, Debug)]
pub struct Held {
    /// The token.
    pub token: Token,
    /// Which of all tokens of its credential, so that a refusal of an old one does not cost the new one.
    pub serial: u64,
}

/// What the worker has learnt.
#[derive(Debug)]
pub struct Store {
    policy: Rc<Policy>,
    issuers: Vec<IssuerState>,
    tokens: Vec<TokenState>,
}

#[derive(Debug)]
struct IssuerState {
    metadata: Lease<Metadata>,
    keys: Lease<Rc<KeySet>>,
    /// Callers already verified with the present keys: a change of keys empties it.
    verified: Cache<Caller>,
    /// Key names that a fetch did not bring.
    unknown: Vec<Unknown>,
    /// Where the metadata is asked for next.
    place: Place,
}

/// A key name that a fetch did not bring, and until when it is not asked for again.
#[derive(Debug)]
struct Unknown {
    name: String,
    until: Instant,
}

#[derive(Debug)]
struct TokenState {
    lease: Lease<Held>,
    serial: u64,
    /// Which of the client's secrets is tried.
    turn: Turn,
}

/// Verified tokens of one issuer. A token has about 1 KB: at most 4 MiB of the worker's memory.
const VERIFIED: Capacity = Capacity { entries: 4096, key_bytes: 4 * 1024 * 1024 };

/// Key names that are remembered as unknown; of more, the latest.
const MAX_UNKNOWN: usize = 256;

/// How long a key name stays unknown without asking again: longer than a flood likes, shorter than a provider's
/// replicas disagree.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// The least time between two fetches of a key set for the sake of unknown names. A request with a new key waits that
/// long at most, which is less than a request waits by default; a flood of made-up names costs one fetch per interval.
const KEYS_APART: Duration = Duration::from_secs(3);

/// The least time between two renewals of a token for the sake of an upstream's 401.
const TOKENS_APART: Duration = Duration::from_secs(10);

/// Metadata changes when a provider is rebuilt; an hour is what most clients take.
const METADATA_REFRESH: Duration = Duration::from_secs(3600);

impl Store {
    /// A store that has learnt nothing yet.
    pub fn new(policy: Rc<Policy>) -> Self {
        let issuers = policy.issuers.iter().map(IssuerState::new).collect();
        let tokens =
            policy.credentials.iter().map(|credential| TokenState::new(&policy, credential)).collect();
        Self { policy, issuers, tokens }
    }

    /// The caller of a token that was verified before, with keys that are still the issuer's.
    pub fn verified(&mut self, issuer: IssuerId, token: &[u8], now: Now) -> Option<Caller> {
        let state = self.issuers.get_mut(issuer.0)?;
        // Once the keys have gone stale, what they verified has too.
        state.keys.value(now.instant)?;
        state.verified.get(token, now.unix).cloned()
    }

    /// Keeps a verified caller until its token ends.
    pub fn remember(&mut self, issuer: IssuerId, token: &[u8], caller: &Caller) {
        if let Some(state) = self.issuers.get_mut(issuer.0) {
            state.verified.put(token, caller.clone(), caller.end());
        }
    }

    /// The issuer's keys, after looking for `kid` if it is not among them: whoever asked at `since` gets keys that were
    /// fetched after that, or keys that hold `kid`.
    pub fn keys(
        &mut self,
        issuer: IssuerId,
        kid: Option<&str>,
        since: Instant,
        now: Now,
    ) -> Result<Rc<KeySet>, Missing> {
        let unavailable = Missing::Unavailable(Duration::from_secs(1));
        let (Some(state), Some(policy)) = (self.issuers.get_mut(issuer.0), self.policy.issuers.get(issuer.0))
        else {
            return Err(unavailable);
        };
        let keys = match state.keys.outlook(now.instant) {
            Outlook::Good(keys) => Rc::clone(keys),
            Outlook::Failing(wait) => return Err(Missing::Unavailable(wait)),
            Outlook::Coming => return Err(state.until_keys(policy, issuer, now.instant)),
        };
        let Some(name) = kid.filter(|_| policy.jwks.is_none() && !keys.knows(kid)) else {
            return Ok(keys);
        };
        if state.keys.fetched_at() >= Some(since) {
            state.remember_unknown(name, now.instant);
            return Ok(keys);
        }
        if state.unknown.iter().any(|unknown| unknown.name == name && now.instant < unknown.until) {
            return Ok(keys);
        }
        if state.keys.failures() > 0 {
            // The provider cannot say whether it knows this key, so neither can we.
            return Err(Missing::Unavailable(state.keys.next_event().since(now.instant)));
        }
        state.keys.doubt(now.instant, KEYS_APART);
        Err(Missing::Wait(Want::Keys(issuer)))
    }

    /// The credential's token.
    pub fn token(&mut self, credential: CredentialId, now: Instant) -> Result<Held, Missing> {
        let unavailable = Missing::Unavailable(Duration::from_secs(1));
        let Some(state) = self.tokens.get(credential.0) else {
            return Err(unavailable);
        };
        match state.lease.outlook(now) {
            Outlook::Good(held) => Ok(held.clone()),
            Outlook::Failing(wait) => Err(Missing::Unavailable(wait)),
            Outlook::Coming => {
                let issuer = self.policy.credentials.get(credential.0).map(|credential| credential.issuer);
                let Some(issuer) = issuer else {
                    return Err(unavailable);
                };
                if self.token_endpoint(issuer, now).is_some() {
                    return Err(Missing::Wait(Want::Token(credential)));
                }
                let metadata = self.issuers.get(issuer.0).map(|state| state.metadata.outlook(now));
                Err(match metadata {
                    Some(Outlook::Coming) => Missing::Wait(Want::Metadata(issuer)),
                    Some(Outlook::Failing(wait)) => Missing::Unavailable(wait),
                    Some(Outlook::Good(_)) | None => unavailable,
                })
            }
        }
    }

    /// An upstream answered 401 to this token: renew it, if it is still the present one.
    pub fn refused_upstream(&mut self, credential: CredentialId, serial: u64, now: Instant) {
        if let Some(state) = self.tokens.get_mut(credential.0).filter(|state| state.serial == serial) {
            state.lease.doubt(now, TOKENS_APART);
        }
    }

    /// Begins a fetch that is due, if there is one. Where the call cannot be made, the failure ends it.
    pub fn begin(&mut self, now: Now, signer: &mut Signer) -> Option<(Ticket, Result<Call, Failure>)> {
        let Now { instant: now, unix } = now;
        let want = self.wants().find(|want| self.is_due(*want, now))?;
        let call = self.call(want, now, signer, unix)?;
        let attempt = match want {
            Want::Metadata(id) => self.issuers.get_mut(id.0)?.metadata.begin(now),
            Want::Keys(id) => self.issuers.get_mut(id.0)?.keys.begin(now),
            Want::Token(id) => self.tokens.get_mut(id.0)?.lease.begin(now),
        };
        attempt.map(|attempt| (Ticket { want, attempt }, call))
    }

    /// A fetch ended. None when nobody waits for this answer any more.
    pub fn finish(&mut self, ticket: Ticket, reply: &Reply, now: Now, dice: &mut Dice) -> Option<Outcome> {
        let Ticket { want, attempt } = ticket;
        let policy = Rc::clone(&self.policy);
        let result = match want {
            Want::Metadata(id) => {
                let discovery = policy.issuers.get(id.0)?.discovery.as_ref()?;
                let state = self.issuers.get_mut(id.0)?;
                let result = settle(&mut state.metadata, attempt, now.instant, dice, |dice| {
                    let fresh = fresh(discovery.read(reply)?, METADATA_REFRESH, Duration::MAX, dice);
                    Ok((fresh, "endpoints found".to_owned()))
                })?;
                if result.as_ref().is_err_and(|failure| failure.cause == Cause::Elsewhere) {
                    state.place = state.place.other();
                }
                result
            }
            Want::Keys(id) => self.issuers.get_mut(id.0)?.learn_keys(
                policy.issuers.get(id.0)?,
                attempt,
                reply,
                now,
                dice,
            )?,
            Want::Token(id) => {
                let grant = &policy.credentials.get(id.0)?.grant;
                let state = self.tokens.get_mut(id.0)?;
                if let Some(failure) = state.another(grant, attempt, reply) {
                    return Some(Outcome { want, result: Err(failure) });
                }
                let serial = state.serial.wrapping_add(1);
                let by = state.turn.describe(grant.auth.len());
                let result = settle(&mut state.lease, attempt, now.instant, dice, |dice| {
                    let Fresh { value, renew_after, end_after } = grant.read(reply, dice)?;
                    let news = format!("token received, good for {} s{by}", end_after.as_secs());
                    Ok((Fresh { value: Held { token: value, serial }, renew_after, end_after }, news))
                })?;
                if result.is_ok() {
                    state.serial = serial;
                }
                result
            }
        };
        Some(Outcome { want, result })
    }

    /// Ends fetches whose answer never came.
    pub fn give_up_lost(&mut self, now: Instant, dice: &mut Dice) -> Vec<Outcome> {
        let wants: Vec<Want> = self.wants().collect();
        let lost = wants.into_iter().filter(|want| match *want {
            Want::Metadata(id) => {
                self.issuers.get_mut(id.0).is_some_and(|s| s.metadata.give_up_lost(now, dice))
            }
            Want::Keys(id) => self.issuers.get_mut(id.0).is_some_and(|s| s.keys.give_up_lost(now, dice)),
            Want::Token(id) => self.tokens.get_mut(id.0).is_some_and(|s| s.lease.give_up_lost(now, dice)),
        });
        let failure = || Failure::new(Cause::Timeout, "the answer never came");
        lost.map(|want| Outcome { want, result: Err(failure()) }).collect()
    }

    /// When to look for due fetches again.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        self.wants().filter_map(|want| self.next_event_of(want, now)).min()
    }

    /// A name for logs: what, of whom.
    pub fn describe(&self, want: Want) -> String {
        let issuer = |id: IssuerId| self.policy.issuers.get(id.0).map_or("?", |issuer| issuer.name.as_str());
        match want {
            Want::Metadata(id) => format!("metadata of issuer {}", issuer(id)),
            Want::Keys(id) => format!("keys of issuer {}", issuer(id)),
            Want::Token(id) => {
                let credential = self.policy.credentials.get(id.0);
                format!(
                    "token of credential {}",
                    credential.map_or("?", |credential| credential.name.as_str())
                )
            }
        }
    }

    /// Everything that this policy fetches.
    fn wants(&self) -> impl Iterator<Item = Want> + use<> {
        let policy = Rc::clone(&self.policy);
        let issuers = (0..policy.issuers.len()).map(IssuerId);
        let credentials = (0..policy.credentials.len()).map(CredentialId).map(Want::Token);
        let of_issuers = issuers.flat_map(move |id| {
            let issuer = policy.issuers.get(id.0);
            let metadata = issuer.filter(|issuer| issuer.discovery.is_some()).map(|_| Want::Metadata(id));
            let keys =
                issuer.filter(|issuer| issuer.verifies && issuer.jwks.is_none()).map(|_| Want::Keys(id));
            metadata.into_iter().chain(keys)
        });
        of_issuers.chain(credentials)
    }

    /// A fetch is due when its lease says so and its endpoint is known.
    fn is_due(&self, want: Want, now: Instant) -> bool {
        self.next_event_of(want, now).is_some_and(|at| at <= now) && !self.in_flight(want)
    }

    fn next_event_of(&self, want: Want, now: Instant) -> Option<Instant> {
        match want {
            Want::Metadata(id) => self.issuers.get(id.0).map(|state| state.metadata.next_event()),
            Want::Keys(id) => {
                let state = self.issuers.get(id.0)?;
                (state.keys.in_flight() || self.jwks_uri(id, now).is_some()).then(|| state.keys.next_event())
            }
            Want::Token(id) => {
                let state = self.tokens.get(id.0)?;
                let issuer = self.policy.credentials.get(id.0)?.issuer;
                (state.lease.in_flight() || self.token_endpoint(issuer, now).is_some())
                    .then(|| state.lease.next_event())
            }
        }
    }

    fn in_flight(&self, want: Want) -> bool {
        match want {
            Want::Metadata(id) => self.issuers.get(id.0).is_some_and(|state| state.metadata.in_flight()),
            Want::Keys(id) => self.issuers.get(id.0).is_some_and(|state| state.keys.in_flight()),
            Want::Token(id) => self.tokens.get(id.0).is_some_and(|state| state.lease.in_flight()),
        }
    }

    fn call(
        &self,
        want: Want,
        now: Instant,
        signer: &mut Signer,
        unix: u64,
    ) -> Option<Result<Call, Failure>> {
        match want {
            Want::Metadata(id) => {
                let place = self.issuers.get(id.0)?.place;
                Some(Ok(self.policy.issuers.get(id.0)?.discovery.as_ref()?.call(place)))
            }
            Want::Keys(id) => {
                Some(Ok(discovery::get(self.jwks_uri(id, now)?, self.policy.issuers.get(id.0)?.timeout)))
            }
            Want::Token(id) => {
                let credential = self.policy.credentials.get(id.0)?;
                let timeout = self.policy.issuers.get(credential.issuer.0)?.timeout;
                let (turn, endpoint) =
                    (self.tokens.get(id.0)?.turn, self.token_endpoint(credential.issuer, now)?);
                Some(credential.grant.call(turn.place(), endpoint, timeout, signer, unix))
            }
        }
    }

    fn jwks_uri(&self, id: IssuerId, now: Instant) -> Option<Endpoint> {
        self.endpoint(id, now, |issuer| issuer.jwks_uri.as_ref(), |metadata| metadata.jwks_uri.as_ref())
    }

    fn token_endpoint(&self, id: IssuerId, now: Instant) -> Option<Endpoint> {
        self.endpoint(
            id,
            now,
            |issuer| issuer.token_endpoint.as_ref(),
            |metadata| metadata.token_endpoint.as_ref(),
        )
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

impl IssuerState {
    fn new(issuer: &policy::Issuer) -> Self {
        let pace = Pace { timeout: issuer.timeout, ..Pace::default() };
        let keys =
            issuer.jwks.as_ref().map_or_else(|| Lease::new(pace), |keys| Lease::fixed(Rc::new(keys.clone())));
        let metadata = Lease::new(pace);
        Self { metadata, keys, verified: Cache::new(VERIFIED), unknown: Vec::new(), place: Place::default() }
    }

    /// The keys are on their way; so may be the metadata that says where they are.
    fn until_keys(&self, policy: &policy::Issuer, issuer: IssuerId, now: Instant) -> Missing {
        if policy.jwks_uri.is_some() || self.keys.in_flight() {
            return Missing::Wait(Want::Keys(issuer));
        }
        match self.metadata.outlook(now) {
            Outlook::Good(_) => Missing::Wait(Want::Keys(issuer)),
            Outlook::Coming => Missing::Wait(Want::Metadata(issuer)),
            Outlook::Failing(wait) => Missing::Unavailable(wait),
        }
    }

    fn remember_unknown(&mut self, name: &str, now: Instant) {
        self.unknown.retain(|unknown| now < unknown.until && unknown.name != name);
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.remove(0);
        }
        self.unknown.push(Unknown { name: name.to_owned(), until: now + UNKNOWN_FOR });
    }

    fn learn_keys(
        &mut self,
        policy: &policy::Issuer,
        attempt: Attempt,
        reply: &Reply,
        now: Now,
        dice: &mut Dice,
    ) -> Option<Result<String, Failure>> {
        let before = self.keys.value(now.instant).cloned();
        let result = settle(&mut self.keys, attempt, now.instant, dice, |dice| {
            let parsed = jwk::parse(oauth::body_of(reply)?)
                .map_err(|error| Failure::new(Cause::Unreadable, format!("the key set: {error}")))?;
            let mut news = format!("{} usable keys", parsed.keys.len());
            for left_out in &parsed.left_out {
                news.push_str("; ");
                news.push_str(left_out);
            }
            Ok((fresh(Rc::new(parsed.keys), policy.refresh, policy.max_stale, dice), news))
        })?;
        if let (Ok(_), Some(keys)) = (&result, self.keys.value(now.instant))
            && before.as_ref() != Some(keys)
        {
            self.verified.clear();
            self.unknown.clear();
        }
        Some(result)
    }
}

impl TokenState {
    fn new(policy: &Policy, credential: &policy::Credential) -> Self {
        let standard = Pace::default();
        let timeout =
            policy.issuers.get(credential.issuer.0).map_or(standard.timeout, |issuer| issuer.timeout);
        let pace = Pace { timeout, ..standard };
        Self { lease: Lease::new(pace), serial: 0, turn: Turn::default() }
    }
}

/// Ends a fetch with what `read` makes of its answer; tells the news, or the failure.
fn settle<T>(
    lease: &mut Lease<T>,
    attempt: Attempt,
    now: Instant,
    dice: &mut Dice,
    read: impl FnOnce(&mut Dice) -> Result<(Fresh<T>, String), Failure>,
) -> Option<Result<String, Failure>> {
    let (outcome, told) = match read(dice) {
        Ok((fresh, news)) => (Ok(fresh), Ok(news)),
        Err(failure) => (Err(failure.clone()), Err(failure)),
    };
    lease.finish(attempt, now, outcome, dice).then_some(told)
}

/// Renewed after `refresh`, less up to a tenth of it, so that workers and proxies do not ask in step.
fn fresh<T>(value: T, refresh: Duration, end_after: Duration, dice: &mut Dice) -> Fresh<T> {
    Fresh { value, renew_after: refresh.saturating_sub(dice.up_to(refresh / 10)), end_after }
}
