//! OAuth 2.0 as data: a [`Grant`] to the call that asks for its token, and the reply to a token or
//! an error.
//!
//! RFC 6749 sections 2.3.1, 4.4, 5.1 and 5.2, RFC 7523, RFC 8693, RFC 8705 section 2, RFC 8707. It
//! keeps no state, retries nothing, and never puts a secret or a body into an error.

pub mod client_assertion;
mod client_auth;
pub mod discovery;
pub mod error_response;
pub mod fetch;
mod form;
mod grant;
mod introspection;
mod keycloak_hints;
pub mod reply;
pub mod secret_file;
pub mod token_response;

pub use client_auth::{AssertionTarget, ClientAuth};
pub use grant::{AssertionGrant, AssertionSource, Grant, GrantType, TokenRequest, TokenTypes};
pub use introspection::IntrospectionClient;
