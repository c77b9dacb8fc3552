//! Why a request is not forwarded now, made from what went wrong.

use crate::http::message::LocalReply;
use crate::http::route::Ambiguity;
use crate::inbound::jwt::TokenError;
use crate::inbound::refusal::Refusal;
use crate::inbound::token_location::ExtractError;
use crate::store::{FetchKey, LookupError};
use std::time::Duration;

/// Why a request is not forwarded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It is refused.
    Refuse(Refusal),
    /// The filter itself is asked, as for the resource metadata.
    Respond(LocalReply),
    /// It waits for this fetch, and is decided again.
    Wait(FetchKey),
}

/// A pending fetch suspends the request; a failed one becomes this refusal, a 503.
pub(super) fn wait_or_refuse(refusal: fn(Duration) -> Refusal) -> impl Fn(LookupError) -> Interrupt {
    move |missing| match missing {
        LookupError::Wait(want) => Interrupt::Wait(want),
        LookupError::Unavailable(wait) => refusal(wait).into(),
        LookupError::Full => Refusal::TooManyPending.into(),
        LookupError::Denied(_) => Refusal::SubjectToken.into(),
    }
}

impl From<ExtractError> for Interrupt {
    fn from(absent: ExtractError) -> Self {
        Self::Refuse(match absent {
            ExtractError::Missing => Refusal::NoToken,
            ExtractError::Multiple => Refusal::MultipleCredentials,
            ExtractError::TooLarge => Refusal::Token(TokenError::TooLarge),
        })
    }
}

impl From<Ambiguity> for Interrupt {
    fn from(ambiguity: Ambiguity) -> Self {
        Self::Refuse(Refusal::Ambiguous(ambiguity))
    }
}

impl From<Refusal> for Interrupt {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}
