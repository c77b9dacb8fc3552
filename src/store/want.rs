//! What is fetched, why it is not here yet, and how its fetch ended.

use super::Entry;
use crate::lease::{Attempt, Cause, Failure};
use crate::policy::{CredentialId, IssuerId};
use std::time::Duration;

/// Something that is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// An issuer's metadata document.
    Metadata(IssuerId),
    /// An issuer's key set.
    Keys(IssuerId),
    /// A credential's own token.
    Token(CredentialId),
    /// A token that a credential gets in exchange for another one.
    Exchanged(CredentialId, Entry),
    /// What an issuer says of a token.
    Introspection(IssuerId, Entry),
}

impl Want {
    /// Whose token this is, if it is one.
    pub fn credential(self) -> Option<CredentialId> {
        match self {
            Self::Token(id) | Self::Exchanged(id, _) => Some(id),
            Self::Metadata(_) | Self::Keys(_) | Self::Introspection(..) => None,
        }
    }

    /// What stands for this where it is all the same for whom it is fetched.
    #[must_use]
    pub fn line(self) -> Self {
        match self {
            Self::Exchanged(id, _) => Self::Token(id),
            Self::Introspection(id, _) => Self::Introspection(id, Entry::default()),
            Self::Metadata(_) | Self::Keys(_) | Self::Token(_) => self,
        }
    }
}

/// One running fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// What is fetched.
    pub want: Want,
    pub(super) attempt: Attempt,
    /// Which of the client's secrets it tries.
    pub(super) secret: usize,
}

/// Why something is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is on its way: ask again when this has arrived.
    Wait(Want),
    /// The provider fails; the next attempt is this far away.
    Unavailable(Duration),
    /// The provider does not exchange this token, for this reason.
    Denied(Cause),
    /// There is no room for one more.
    NoRoom,
}

/// How a fetch ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was fetched.
    pub want: Want,
    /// What to tell the operator: the good news, or the failure.
    pub result: Result<String, Failure>,
}
