//! A kind of fetched thing, as the store sees it; and the one place that names all kinds.
//!
//! Each kind is a file that implements [`Fetch`] for its variant of [`FetchKey`]. A key holds ids
//! and no state: the state is the store's, and a key that is not of the store's policy has none.
//! All methods but the required ones have the answer of a kind that needs nothing of the sort.

use super::Store;
use super::adoption::Adopted;
use super::fetch_key::{FetchId, FetchKey};
use super::token_state::TokenState;
use crate::http::message::{HttpCall, HttpReply};
use crate::inbound::refusal::Refusal;
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::FetchError;
use crate::oauth::secret_file::FileRef;
use crate::policy::{CredentialId, IssuerId};
use crate::rng::Rng;
use crate::store::lease::Schedule;
use crate::store::shared_record::Record;
use crate::time::{Instant, Now};
use std::time::Duration;

/// What all things of a kind have in common.
pub(super) struct FetchKind {
    /// The metrics' label.
    pub(super) label: &'static str,
    /// What stands before the name of the issuer or credential in logs.
    pub(super) description: &'static str,
    /// The refusal of a request that needs it and cannot have it.
    pub(super) refusal: fn(Duration) -> Refusal,
    /// Whether a success is logged: what is fetched for callers' own tokens is as frequent as they
    /// are, and no news.
    pub(super) logs_success: bool,
    /// Whether headers of its answers that are too long for a shared record are counted.
    pub(super) counts_long_headers: bool,
}

/// How a fetch ended.
pub(super) enum Finish {
    /// With a value, or an error: the line for the log.
    Done(Result<String, FetchError>),
    /// It begins once more at once, because of this. Its lock is kept: no other worker needs to
    /// find out by itself.
    Restarted(FetchError),
}

/// One fetched thing: how it is asked for, and what an answer changes.
pub(super) trait Fetch {
    fn kind(&self) -> &'static FetchKind;

    /// The name of its issuer or credential in the configuration.
    fn owner<'s>(&self, store: &'s Store) -> &'s str;

    /// When it is fetched and renewed.
    fn schedule<'s>(&self, store: &'s Store) -> Option<&'s Schedule>;

    fn schedule_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut Schedule>;

    /// When a fetch may begin, as far as its schedule allows it; none while the endpoint is not
    /// known, or other fetches have to end first.
    fn not_before(&self, store: &Store, now: Instant) -> Option<Instant>;

    /// The cluster that it is fetched through, for the log.
    fn cluster<'s>(&self, store: &'s Store, now: Instant) -> Option<&'s str>;

    /// The call, or why there can be none. None if it cannot be known yet.
    fn call(&self, store: &Store, now: Now, signer: &mut Signer) -> Option<Result<HttpCall, FetchError>>;

    /// An answer came, or there will be none. None if this is not the running fetch.
    fn finish(
        &self,
        store: &mut Store,
        fetch: FetchId,
        reply: &HttpReply,
        now: Now,
        rng: &mut Rng,
    ) -> Option<Finish>;

    /// The key under which waiting requests are counted: one for all callers' tokens.
    fn queue_key(&self) -> FetchKey;

    /// The issuer whose metadata says where it is fetched.
    fn discovered_by(&self, _store: &Store) -> Option<IssuerId> {
        None
    }

    /// Which of the client's secrets a fetch that begins now tries.
    fn secret_index(&self, _store: &Store) -> usize {
        0
    }

    /// The files that it needs. They are read before it begins.
    fn files<'s>(&self, _store: &'s Store) -> Vec<&'s FileRef> {
        Vec::new()
    }

    /// A fetch begins.
    fn begun(&self, _store: &mut Store, _now: Instant) {}

    /// A fetch ended, for good: with this error, or with a value; `status` is the provider's.
    fn ended(
        &self,
        _store: &mut Store,
        _failure: Option<&FetchError>,
        _status: Option<u16>,
        _now: Instant,
        _rng: &mut Rng,
    ) {
    }

    /// Ends a fetch whose answer never came. False if there is none.
    fn give_up_lost(&self, store: &mut Store, now: Instant, rng: &mut Rng) -> bool {
        self.schedule_mut(store).is_some_and(|schedule| schedule.give_up_lost(now, rng))
    }

    /// No request waits for it any more. What is fetched for the sake of one caller is then not
    /// fetched.
    fn abandon(&self, _store: &mut Store) {}

    /// What decides about what is fetched: workers in which it is the same share a record. Empty if
    /// it is not shared.
    fn identity<'s>(&self, _store: &'s Store) -> Vec<&'s [u8]> {
        Vec::new()
    }

    /// The part of an answer that other workers need.
    fn shared_body(&self, body: &[u8]) -> Vec<u8> {
        body.to_vec()
    }

    /// Takes over what another worker has fetched, as `reply` has it, or how it failed. None if
    /// there is nothing new in it.
    fn adopt(
        &self,
        _store: &mut Store,
        _record: &Record,
        _reply: &HttpReply,
        _now: Instant,
        _rng: &mut Rng,
    ) -> Option<Adopted> {
        None
    }

    /// The `ETag` of the value; empty if there is none.
    fn etag<'s>(&self, _store: &'s Store) -> &'s [u8] {
        &[]
    }

    /// The next fetch is for the whole value, whatever the provider called the present one.
    fn forget_etag(&self, _store: &mut Store) {}

    /// It as a token, if it is one.
    fn token(&self) -> Option<&dyn FetchToken> {
        None
    }
}

/// A token that is fetched, by whatever grant.
pub(super) trait FetchToken: Fetch {
    fn key(&self) -> FetchKey;

    fn credential(&self) -> CredentialId;

    fn state<'s>(&self, store: &'s Store) -> Option<&'s TokenState>;

    fn state_mut<'s>(&self, store: &'s mut Store) -> Option<&'s mut TokenState>;

    /// The token that is exchanged for it, and how long that is still good.
    fn subject<'s>(&self, store: &'s Store, now: Now) -> Option<(&'s str, Option<Duration>)>;
}

impl FetchKey {
    /// What is fetched, as its kind sees it: the only match over all kinds.
    pub(super) fn fetch(&self) -> &dyn Fetch {
        match self {
            Self::Metadata(metadata) => metadata,
            Self::Keys(keys) => keys,
            Self::Token(token) => token,
            Self::Exchanged(token) => token,
            Self::Introspection(introspection) => introspection,
            Self::File(file) => file,
        }
    }

    /// The credential whose token this is, if it is one.
    pub fn credential(self) -> Option<CredentialId> {
        self.fetch().token().map(FetchToken::credential)
    }

    /// The key under which waiting requests are counted: one for all callers' tokens.
    #[must_use]
    pub fn queue_key(self) -> Self {
        self.fetch().queue_key()
    }

    /// The refusal of a request that needs this, and had better come again after `wait`.
    pub fn refusal(self, wait: Duration) -> Refusal {
        (self.fetch().kind().refusal)(wait)
    }

    /// Whether a success is logged.
    pub fn logs_success(self) -> bool {
        self.fetch().kind().logs_success
    }
}
