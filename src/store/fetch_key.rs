//! What is fetched, why it is not here yet, and how its fetch ended.

use super::per_token::CacheMiss;
use super::slots::CacheEntryId;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy::{CredentialId, IssuerId, SecretFileId};
use crate::store::lease::Attempt;
use std::time::Duration;

/// Something that is fetched, of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchKey {
    /// An issuer's metadata document.
    Metadata(IssuerMetadata),
    /// An issuer's key set.
    Keys(IssuerKeys),
    /// A credential's own token.
    Token(OwnToken),
    /// A token that a credential gets in exchange for another one.
    Exchanged(ExchangedToken),
    /// What an issuer says of a token.
    Introspection(TokenIntrospection),
    /// A secret in a file.
    File(FileRead),
}

/// A secret in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileRead(pub SecretFileId);

/// An issuer's metadata document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IssuerMetadata(pub IssuerId);

/// An issuer's key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IssuerKeys(pub IssuerId);

/// A credential's own token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnToken(pub CredentialId);

/// A token that a credential gets in exchange for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangedToken(pub CredentialId, pub CacheEntryId);

/// What an issuer says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenIntrospection(pub IssuerId, pub CacheEntryId);

/// One running fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchId {
    /// What is fetched.
    pub key: FetchKey,
    pub(super) attempt: Attempt,
    /// Which of the client's secrets it tries.
    pub(super) secret: usize,
}

/// Why something is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// It is on its way: ask again when this has arrived.
    Wait(FetchKey),
    /// The provider fails; the next attempt is this far away.
    Unavailable(Duration),
    /// The provider does not exchange this token, for this reason.
    Denied(FetchErrorKind),
    /// There is no room for one more.
    Full,
}

impl LookupError {
    /// The policy has no such thing, so nothing fetches it.
    pub(super) const UNKNOWN: Self = Self::Unavailable(Duration::from_secs(1));

    /// Why there is no value for a caller's token; `unreachable` is what its fetch waits for
    /// itself.
    pub(super) fn of(
        miss: CacheMiss,
        unreachable: Option<Self>,
        key: impl FnOnce(CacheEntryId) -> FetchKey,
    ) -> Self {
        match (miss, unreachable) {
            (CacheMiss::Denied(kind), _) => Self::Denied(kind),
            (CacheMiss::Full, _) => Self::Full,
            (CacheMiss::Failing(wait), _) => Self::Unavailable(wait),
            (CacheMiss::Queued(_), Some(unreachable)) => unreachable,
            (CacheMiss::Queued(entry), None) => Self::Wait(key(entry)),
        }
    }
}

/// How a fetch ended.
#[derive(Debug)]
pub struct FetchOutcome {
    /// What was fetched.
    pub key: FetchKey,
    /// What to log: the success, or the error.
    pub result: Result<String, FetchError>,
}
