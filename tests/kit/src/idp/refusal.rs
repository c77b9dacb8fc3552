//! The errors of the token endpoint, in Keycloak's words.

use super::{fault::Good, state::no_store};
use serde_json::json;

/// RFC 6749 section 5.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: u16,
    error: &'static str,
    description: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into() }
    }

    /// Not `invalid_client`: that is what Keycloak says of a client that it does not know.
    pub(crate) fn wrong_secret() -> Self {
        Self::new(401, "unauthorized_client", "Invalid client or Invalid client credentials")
    }

    pub(crate) fn unknown_client() -> Self {
        Self::new(401, "invalid_client", "Invalid client or Invalid client credentials")
    }
}

impl From<Refusal> for Good {
    fn from(refusal: Refusal) -> Self {
        let body = json!({ "error": refusal.error, "error_description": refusal.description });
        Self { status: refusal.status, headers: no_store(), body: body.to_string() }
    }
}
