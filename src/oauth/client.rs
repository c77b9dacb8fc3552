//! How a client shows who it is, whatever it asks for (RFC 6749 section 2.3, `OpenID` Connect Core section 9).

use super::answer::printable;
use super::{ClientAuth, Secret, cannot_sign, form_encoded, form_pair};
use crate::assertion::{self, Claims, Signer};
use crate::io::{Call, Endpoint};
use crate::lease::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// A client, and its ways to authenticate.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) id: &'a str,
    pub(super) auth: &'a [ClientAuth],
}

/// A request in the making.
pub(super) struct Form {
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Form {
    /// A request with this parameter.
    pub(super) fn new(name: &str, value: &str) -> Self {
        let headers = vec![
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        Self { headers, body: form_pair(name, value) }
    }

    /// One more parameter.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.body.push('&');
        self.body.push_str(&form_pair(name, value));
    }
}

impl Client<'_> {
    /// The request, with the client's proof in it: in the way whose `turn` it is.
    #[inline(never)]
    pub(super) fn call(
        self,
        endpoint: Endpoint,
        timeout: Duration,
        mut form: Form,
        turn: usize,
        now: u64,
        signer: &mut Signer,
    ) -> Result<Call, Failure> {
        let claims = |audience| Claims::of_client(self.id, audience, now);
        let assertion = match self.auth.get(turn) {
            Some(ClientAuth::Basic(secret)) => {
                form.headers.push(("authorization", self.basic(secret)));
                None
            }
            Some(ClientAuth::Post(secret)) => {
                form.add("client_id", self.id);
                form.add("client_secret", secret.reveal());
                None
            }
            Some(ClientAuth::SecretJwt(secret, audience)) => {
                Some(signer.by_secret(secret.reveal(), &claims(audience)))
            }
            Some(ClientAuth::PrivateKey(key, audience)) => {
                let signed = signer.by_key(key, &claims(audience));
                Some(signed.ok_or_else(|| cannot_sign(key))?)
            }
            Some(ClientAuth::Tls) => {
                form.add("client_id", self.id);
                None
            }
            Some(ClientAuth::Cluster) | None => None,
        };
        if let Some(assertion) = assertion {
            // RFC 7521 section 4.2 leaves `client_id` to us, and some providers (Entra) ask for it.
            form.add("client_id", self.id);
            form.add("client_assertion_type", assertion::TYPE);
            form.add("client_assertion", &assertion);
        }
        let Form { headers, body } = form;
        Ok(Call { endpoint, method: "POST", headers, body: body.into_bytes(), timeout })
    }

    /// Whether a provider's text holds what it was told and nobody else may know, in any form in which it was told.
    pub(super) fn repeats_secret(self, text: &str) -> bool {
        // Compared without what is left out of a log line, so that nothing can hide in it.
        let text = printable(text, usize::MAX);
        let holds = |sent: &str| text.contains(&printable(sent, usize::MAX));
        self.auth.iter().any(|auth| match auth {
            ClientAuth::Basic(secret) | ClientAuth::Post(secret) | ClientAuth::SecretJwt(secret, _) => {
                holds(secret.reveal())
                    || holds(&form_encoded(secret.reveal()))
                    || holds(self.basic(secret).trim_start_matches("Basic "))
            }
            ClientAuth::PrivateKey(..) | ClientAuth::Tls | ClientAuth::Cluster => false,
        }) || text.contains("eyJ") // an assertion, good for one use and half a minute
    }

    /// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
    fn basic(self, secret: &Secret) -> String {
        let pair = format!("{}:{}", form_encoded(self.id), form_encoded(secret.reveal()));
        format!("Basic {}", STANDARD.encode(pair))
    }
}
