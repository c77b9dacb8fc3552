//! What an issuer says of a token (RFC 7662): the question as a [`HttpCall`], and the [`HttpReply`]
//! to the members of its answer.

use super::client_auth::{Client, repeats};
use super::form::Form;
use super::secret_file::SecretFiles;
use super::{ClientAuth, token_response};
use crate::http::message::{Endpoint, HttpCall, HttpReply};
use crate::oauth::client_assertion::Signer;
use crate::oauth::fetch::{FetchError, FetchErrorKind};
use serde_json::{Map, Value};
use std::time::Duration;

/// The client that asks an issuer about tokens, and how often it asks.
#[derive(Clone, Debug)]
pub struct IntrospectionClient {
    /// `client_id`.
    pub client_id: String,
    /// How the client authenticates. Of several the next is tried where the provider does not take
    /// one.
    pub auth: Vec<ClientAuth>,
    /// How long an active token is taken to be active.
    pub cache: Duration,
    /// How long a token that is not active is not asked about again.
    pub negative_cache: Duration,
    /// Of how many unknown tokens a second the provider is asked by one worker.
    pub requests_per_second: u32,
}

impl IntrospectionClient {
    /// The question (RFC 7662 section 2.1).
    pub fn call(
        &self,
        endpoint: Endpoint,
        timeout: Duration,
        (token, turn): (&str, usize),
        files: &dyn SecretFiles,
        now: u64,
        signer: &mut Signer,
    ) -> Result<HttpCall, FetchError> {
        let mut form = Form::new("token", token);
        form.add("token_type_hint", "access_token");
        self.client(files).call(endpoint, timeout, form, turn, now, signer)
    }

    /// The members of the answer, one of which says whether the token is active (RFC 7662 section
    /// 2.2).
    pub fn read(
        &self,
        reply: &HttpReply,
        token: &str,
        files: &dyn SecretFiles,
    ) -> Result<Map<String, Value>, FetchError> {
        let is_secret = |text: &str| self.client(files).contains_secret(text) || repeats(text, token);
        let members = token_response::members(reply, &is_secret)?;
        if members.get("active").is_none_or(|active| !active.is_boolean()) {
            let detail = "the answer does not say whether the token is active";
            return Err(FetchError::new(FetchErrorKind::Unreadable, detail));
        }
        Ok(members)
    }

    fn client<'a>(&'a self, files: &'a dyn SecretFiles) -> Client<'a> {
        Client { id: &self.client_id, auth: &self.auth, files }
    }
}
