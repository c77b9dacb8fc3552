//! What is fetched, why it is not here yet, and how its fetch ended.

use super::CacheEntryId;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use crate::policy::{CredentialId, IssuerId};
use crate::store::lease::Attempt;
use std::time::Duration;

/// Something that is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchKey {
    /// An issuer's metadata document.
    Metadata(IssuerId),
    /// An issuer's key set.
    Keys(IssuerId),
    /// A credential's own token.
    Token(CredentialId),
    /// A token that a credential gets in exchange for another one.
    Exchanged(CredentialId, CacheEntryId),
    /// What an issuer says of a token.
    Introspection(IssuerId, CacheEntryId),
}

impl FetchKey {
    /// Whose token this is, if it is one.
    pub fn credential(self) -> Option<CredentialId> {
        match self {
            Self::Token(id) | Self::Exchanged(id, _) => Some(id),
            Self::Metadata(_) | Self::Keys(_) | Self::Introspection(..) => None,
        }
    }

    /// What stands for this where it is all the same for whom it is fetched.
    #[must_use]
    pub fn queue_key(self) -> Self {
        match self {
            Self::Exchanged(id, _) => Self::Token(id),
            Self::Introspection(id, _) => Self::Introspection(id, CacheEntryId::default()),
            Self::Metadata(_) | Self::Keys(_) | Self::Token(_) => self,
        }
    }
}

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

/// How a fetch ended.
#[derive(Debug)]
pub struct FetchOutcome {
    /// What was fetched.
    pub key: FetchKey,
    /// What to log: the success, or the error.
    pub result: Result<String, FetchError>,
}
