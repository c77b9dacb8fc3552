//! What a fetch from a provider brings: a value with its lifetime, or why there is none.

use std::fmt;
use std::time::Duration;

/// Why a fetch brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// What kind of fault; its name is the metric's label.
    pub kind: FetchErrorKind,
    /// `Retry-After`, if the provider sent one.
    pub retry_after: Option<Duration>,
    /// Whether no connection was made, so that it cost the provider nothing.
    pub no_connection: bool,
    /// The fact for the log: sanitised, short, never a body or a secret.
    pub detail: String,
}

impl FetchError {
    /// A failure without `Retry-After`.
    pub fn new(cause: FetchErrorKind, detail: impl Into<String>) -> Self {
        Self { kind: cause, retry_after: None, no_connection: false, detail: detail.into() }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.label(), self.detail)
    }
}

/// The kinds of faults that a fetch can end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The provider says that our request is wrong (RFC 6749 section 5.2), or its answer cannot be
    /// for us.
    Configuration,
    /// No answer: refused, reset, no healthy host, or the cluster is unknown.
    Unreachable,
    /// A kept connection that the other side had closed already: nobody is to blame, and the next
    /// one is new.
    ConnectionClosed,
    /// No answer in time.
    Timeout,
    /// An answer that means "not now": 408, 425, 429, 5xx.
    ServerError,
    /// An answer that means "not here": 404 to a question that has another place to be asked at.
    NotFound,
    /// An answer that is larger than any good one.
    TooLarge,
    /// An answer that is not what was asked for: no JSON object, or no key set.
    Unreadable,
    /// A token that cannot be attached: its type, its characters, or its life.
    Unusable,
    /// The provider does not take the token that was to be exchanged: its owner's fault.
    Subject,
    /// The provider takes it, and denies the exchange.
    Denied,
    /// A secret that is read from a file is not there yet: the provider is not asked.
    SecretUnavailable,
    /// The provider does not take the secret or the assertion that was read from a file. The file
    /// may be replaced soon.
    ClientRejected,
    /// The provider wants its nonce in the proof (RFC 9449 section 8), and this response carries
    /// it: nothing is wrong.
    Nonce,
}

impl FetchErrorKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Configuration,
        Self::Unreachable,
        Self::ConnectionClosed,
        Self::Timeout,
        Self::ServerError,
        Self::NotFound,
        Self::TooLarge,
        Self::Unreadable,
        Self::Unusable,
        Self::Subject,
        Self::Denied,
        Self::SecretUnavailable,
        Self::ClientRejected,
        Self::Nonce,
    ];

    /// The name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Unreachable => "unreachable",
            Self::ConnectionClosed => "connection_closed",
            Self::Timeout => "timeout",
            Self::ServerError => "server_error",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::Unusable => "unusable",
            Self::Subject => "subject_token",
            Self::Denied => "denied",
            Self::SecretUnavailable => "secret_unavailable",
            Self::ClientRejected => "client_rejected",
            Self::Nonce => "nonce",
        }
    }
}

/// A fetched value and how long it is good, counted from the **start** of its fetch.
#[derive(Debug)]
pub struct Fetched<T> {
    /// The value.
    pub value: T,
    /// When to renew it, while it stays in use.
    pub renew_after: Duration,
    /// When it ends.
    pub end_after: Duration,
}
