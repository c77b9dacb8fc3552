//! The fetch of a token, by whatever grant: its call, what an answer brings, and when it is made
//! again at once.

use super::adoption::{Adopted, FetchResult, adopt_record, finish_lease, gone};
use super::dpop_nonces::with_proof;
use super::fetch::{FetchToken, Finish};
use super::secret_rotation::SecretRotation;
use super::{FetchId, FetchKey, IssuedToken, LookupError, OwnToken, Store};
use crate::dpop;
use crate::http::message::{HttpCall, HttpReply};
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind, Fetched};
use crate::oauth::secret_file::{FileRef, SecretFiles as _};
use crate::oauth::{ClientAuth, TokenRequest, error_response, token_response};
use crate::policy::{CredentialId, IssuerId, TokenInput};
use crate::rng::Rng;
use crate::store::lease::{Attempt, Availability};
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
    if let Some(missing) = store.missing(&token.files(store)) {
        return Some(Err(missing));
    }
    let issuer = store.issuer(credential.policy.issuer)?;
    let request = TokenRequest {
        endpoint: issuer.token_endpoint_for(&credential.policy, now.instant)?.clone(),
        timeout: issuer.policy.timeout,
        auth_index: credential.secret_rotation.index(),
        subject: token.subject(store, now).map(|(subject, _)| subject),
        actor: credential.policy.actor.as_ref().and_then(|actor| store.input(actor)),
        files: &store.files,
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
    let read = read(token, store, reply, now, rng);
    let read = read.map_err(|failure| rejected(token, store, fetch.secret, reply, failure, now));
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
    let read = read(token, store, reply, Now { instant: now, unix: 0 }, rng);
    token.state_mut(store)?.update(|lease| adopt_record(lease, record, read, now))
}

fn read(
    token: &dyn FetchToken,
    store: &Store,
    reply: &HttpReply,
    now: Now,
    rng: &mut Rng,
) -> FetchResult<IssuedToken> {
    let credential = store.credential(token.credential()).ok_or_else(gone)?;
    let grant = &credential.policy.grant;
    let actor = credential.policy.actor.as_ref().and_then(|actor| store.input(actor));
    let fetched = grant.read(reply, token.subject(store, now), actor, &store.files, rng)?;
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

/// The provider does not take the client. If the secret or the assertion is from a file, that is no
/// proof of a wrong configuration: the file may be replaced right now.
fn rejected(
    token: &dyn FetchToken,
    store: &mut Store,
    turn: usize,
    reply: &HttpReply,
    failure: FetchError,
    now: Now,
) -> FetchError {
    let credential = store.credential(token.credential());
    let auth = credential.and_then(|own| own.policy.grant.auth.get(turn));
    let file = auth.and_then(ClientAuth::file).cloned();
    store.rejected(file.as_ref(), reply, failure, now)
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
    let failure = read(token, store, reply, now, rng).err()?;
    let failure = rejected(token, store, fetch.secret, reply, failure, now);
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
    let is_known = store.until_inputs(id, now, Duration::ZERO).is_none();
    is_known.then(Instant::default)
}

/// The files that a fetch of this credential needs that begins now.
pub(super) fn files(id: CredentialId, store: &Store) -> Vec<&FileRef> {
    let Some(credential) = store.credential(id) else { return Vec::new() };
    let inputs = [&credential.policy.input, &credential.policy.actor].into_iter().flatten();
    let inputs = inputs.filter_map(|input| match input {
        TokenInput::File(file) => Some(file),
        TokenInput::Credential(_) => None,
    });
    credential.policy.grant.files(credential.secret_rotation.index()).chain(inputs).collect()
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
    /// The provider does not take the client that authenticates by this file: the file is read
    /// again, and the usual pauses apply instead of those for a wrong configuration.
    pub(super) fn rejected(
        &mut self,
        file: Option<&FileRef>,
        reply: &HttpReply,
        failure: FetchError,
        now: Now,
    ) -> FetchError {
        let Some(file) = file.filter(|_| error_response::rejects_client(reply)) else { return failure };
        let detail = failure.detail + &self.doubt(file, now);
        FetchError { kind: FetchErrorKind::ClientRejected, detail, ..failure }
    }

    /// A token that a token request contains; none while it is not there.
    pub(super) fn input(&self, input: &TokenInput) -> Option<&str> {
        match input {
            TokenInput::File(file) => Some(self.files.content(file)?.text()?.reveal()),
            TokenInput::Credential(id) => {
                Some(self.credential(*id)?.own_token.lease.last_value()?.token.reveal())
            }
        }
    }

    /// What a token fetch of this credential waits for; none when it may begin.
    pub(super) fn until_token_request(
        &self,
        id: CredentialId,
        now: Instant,
        patience: Duration,
    ) -> Option<LookupError> {
        let unreachable = || self.unreachable_for(&files(id, self), now).map(LookupError::Unavailable);
        self.until_inputs(id, now, patience).or_else(unreachable)
    }

    /// The same apart from files.
    fn until_inputs(&self, id: CredentialId, now: Instant, patience: Duration) -> Option<LookupError> {
        let credential = self.credential(id).map(|own| &own.policy);
        let inputs = credential.into_iter().flat_map(|own| [&own.input, &own.actor]).flatten();
        let mut others = inputs.filter_map(|input| match input {
            TokenInput::Credential(other) => Some(*other),
            TokenInput::File(_) => None,
        });
        let until_token = |other: CredentialId| {
            let lease = &self.credential(other)?.own_token.lease;
            match lease.availability(now, patience) {
                Availability::Ready(_) => None,
                Availability::Pending => Some(
                    self.until_token_request(other, now, patience)
                        .unwrap_or(LookupError::Wait(FetchKey::Token(OwnToken(other)))),
                ),
                Availability::Unavailable(wait) => Some(LookupError::Unavailable(wait)),
            }
        };
        self.until_token_endpoint(id, now, patience).or_else(|| others.find_map(until_token))
    }

    /// Why the token endpoint of this credential is not known; none if it is.
    fn until_token_endpoint(
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
