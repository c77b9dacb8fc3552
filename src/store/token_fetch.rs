//! The fetch of a token, by whatever grant: its call, what an answer brings, and when it is made
//! again at once.

use super::adoption::{Adopted, FetchResult, adopt_record, finish_lease, gone};
use super::dpop_nonces::with_proof;
use super::fetch::{FetchToken, Finish};
use super::secret_rotation::SecretRotation;
use super::{FetchId, IssuedToken, LookupError, Store};
use crate::dpop;
use crate::http::message::{HttpCall, HttpReply};
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::oauth::{TokenRequest, error_response, token_response};
use crate::policy::{CredentialId, IssuerId};
use crate::rng::Rng;
use crate::store::lease::Attempt;
use crate::store::shared_record::Record;
use crate::time::{Instant, Now};
use std::time::Duration;

/// The call for a token; of one that is to be bound, with the proof by which it will be.
#[inline(never)]
pub(super) fn call(
    token: &dyn FetchToken,
    store: &Store,
    now: Now,
    signer: &mut Signer,
) -> Option<Result<HttpCall, FetchError>> {
    let credential = store.credential(token.credential())?;
    let issuer = store.issuer(credential.policy.issuer)?;
    let request = TokenRequest {
        endpoint: issuer.token_endpoint_for(&credential.policy, now.instant)?.clone(),
        timeout: issuer.policy.timeout,
        auth_index: credential.secret_rotation.index(),
        subject: token.subject(store, now.unix).map(|(subject, _)| subject),
        now: now.unix,
    };
    let grant = &credential.policy.grant;
    let call = grant.call(request, signer);
    Some(if grant.dpop_bound {
        call.and_then(|call| with_proof(call, credential.nonce.as_ref(), signer, now.unix))
    } else {
        call
    })
}

/// An answer came: a token, an error, or a reason to ask again at once.
pub(super) fn finish(
    token: &dyn FetchToken,
    store: &mut Store,
    fetch: FetchId,
    reply: &HttpReply,
    now: Now,
    rng: &mut Rng,
) -> Option<Finish> {
    if let Some(failure) = restart(token, store, fetch, reply, now, rng) {
        return Some(Finish::Restarted(failure));
    }
    let read = read(token, store, reply, now.unix, rng);
    let state = token.state_mut(store)?;
    let result = state.update(|lease| finish_lease(lease, fetch.attempt, now.instant, read, rng))?;
    let secrets = store.credential(token.credential()).map_or(0, |own| own.policy.grant.auth.len());
    Some(Finish::Done(result.map(|news| news + &SecretRotation::describe(fetch.secret, secrets))))
}

/// Takes over a token that another worker has fetched.
pub(super) fn adopt(
    token: &dyn FetchToken,
    store: &mut Store,
    record: &Record,
    reply: &HttpReply,
    now: Instant,
    rng: &mut Rng,
) -> Option<Adopted> {
    let read = read(token, store, reply, 0, rng);
    token.state_mut(store)?.update(|lease| adopt_record(lease, record, read, now))
}

fn read(
    token: &dyn FetchToken,
    store: &Store,
    reply: &HttpReply,
    unix: u64,
    rng: &mut Rng,
) -> FetchResult<IssuedToken> {
    let credential = store.credential(token.credential()).ok_or_else(gone)?;
    let grant = &credential.policy.grant;
    let fetched = grant.read(reply, token.subject(store, unix), rng)?;
    let Fetched { value: issued, renew_after, end_after } = fetched;
    credential.capped.add(u64::from(token_response::is_capped(end_after)));
    let value = IssuedToken {
        fetch_key: token.key(),
        serial: token.state(store).map_or(0, |state| state.serial.wrapping_add(1)),
        hash: store.token_hash(issued.reveal().as_bytes()),
        digest: grant.dpop_bound.then(|| dpop::digest(issued.reveal().as_bytes()).into()),
        token: issued,
    };
    let news = format!("token acquired, expires in {} s", end_after.as_secs());
    Ok((Fetched { value, renew_after, end_after }, news))
}

/// The provider wants its nonce first, or does not take the client with this secret and there is
/// one that was not tried in this round yet: it is asked again at once, and requests still wait.
#[inline(never)]
fn restart(
    token: &dyn FetchToken,
    store: &mut Store,
    fetch: FetchId,
    reply: &HttpReply,
    now: Now,
    rng: &mut Rng,
) -> Option<FetchError> {
    if !token.state(store)?.lease.is_running(fetch.attempt) {
        return None;
    }
    if let Some(failure) = restart_with_nonce(token, store, fetch.attempt, reply) {
        return Some(failure);
    }
    if !error_response::rejects_client(reply) {
        return None;
    }
    let credential = store.credential_mut(token.credential())?;
    let secrets = credential.policy.grant.auth.len();
    credential.secret_rotation.advance(fetch.secret, secrets);
    if !SecretRotation::has_more(token.state(store)?.lease.secret_retries(), secrets) {
        return None;
    }
    let failure = read(token, store, reply, now.unix, rng).err()?;
    token.state_mut(store)?.lease.restart_with_next_secret(fetch.attempt);
    Some(FetchError { detail: format!("{}; the next secret is tried", failure.detail), ..failure })
}

/// The provider's nonce, if its answer brings one. Where it wants the request again for the sake of
/// that alone, this is done at once, and once in a row.
#[inline(never)]
fn restart_with_nonce(
    token: &dyn FetchToken,
    store: &mut Store,
    attempt: Attempt,
    reply: &HttpReply,
) -> Option<FetchError> {
    store.credential(token.credential()).filter(|credential| credential.policy.grant.dpop_bound)?;
    let nonce = store.nonce_of(&reply.head);
    let is_wanted = nonce.is_some() && dpop::requires_nonce(reply);
    if nonce.is_some() {
        store.credential_mut(token.credential())?.nonce = nonce;
    }
    let state = token.state_mut(store)?;
    state.retried_with_nonce = is_wanted && !state.retried_with_nonce;
    (state.retried_with_nonce && state.lease.restart(attempt))
        .then(|| FetchError::new(FetchErrorKind::Nonce, "asked again with the provider's nonce"))
}

/// When a token of this credential may be fetched: at once, if its endpoint is known.
pub(super) fn not_before(id: CredentialId, store: &Store, now: Instant) -> Option<Instant> {
    let is_known = store.until_token_endpoint(id, now, Duration::ZERO).is_none();
    is_known.then(Instant::default)
}

/// The cluster of the endpoint that this credential's tokens come from.
pub(super) fn cluster(id: CredentialId, store: &Store, now: Instant) -> Option<&str> {
    let credential = store.credential(id)?;
    let endpoint = store.issuer(credential.policy.issuer)?.token_endpoint_for(&credential.policy, now)?;
    Some(&endpoint.cluster)
}

/// The issuer of this credential, if its metadata says where the token endpoint is.
pub(super) fn discovered_by(id: CredentialId, store: &Store) -> Option<IssuerId> {
    let issuer = store.issuer(store.credential(id)?.policy.issuer)?;
    issuer.policy.token_endpoint.is_none().then_some(issuer.id)
}

impl Store {
    /// What a token fetch of this credential waits for; none when it may begin.
    pub(super) fn until_token_endpoint(
        &self,
        id: CredentialId,
        now: Instant,
        patience: Duration,
    ) -> Option<LookupError> {
        let Some(issuer) = self.credential(id).and_then(|own| self.issuer(own.policy.issuer)) else {
            return Some(LookupError::UNKNOWN);
        };
        issuer.token_endpoint(now).is_none().then(|| issuer.until_metadata(now, patience))
    }
}
