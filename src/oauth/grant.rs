//! A [`Grant`] to the [`HttpCall`] that asks for its token, and the [`HttpReply`] to an
//! [`AccessToken`] or an error.

use super::client_auth::{self, AssertionTarget, Client, ClientAuth, cannot_sign};
use super::form::Form;
use super::secret_file::{FileRef, KeyRef, SecretFiles};
use super::token_response;
use crate::http::message::{Endpoint, HttpCall, HttpReply};
use crate::oauth::client_assertion::{AssertionClaims, Signer};
use crate::oauth::error_response;
use crate::oauth::fetch::{FetchError, Fetched};
use crate::rng::Rng;
use crate::secret::AccessToken;
use std::fmt;
use std::time::Duration;

/// What to ask the token endpoint for, as which client.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What entitles to the token.
    pub grant_type: GrantType,
    /// `client_id`.
    pub client_id: String,
    /// How the client authenticates. Of several the next is tried where the provider does not take
    /// one.
    pub auth: Vec<ClientAuth>,
    /// The other parameters: `scope`, `audience`, `resource`, and the operator's own.
    pub parameters: Vec<(String, String)>,
    /// The life of a token whose answer does not say.
    pub default_lifetime: Duration,
    /// What `token_type` of the answer may be.
    pub token_types: TokenTypes,
    /// Whether the token is bound to this worker's key (RFC 9449).
    pub dpop_bound: bool,
}

/// What `token_type` of an answer may be (RFC 6749 section 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTypes {
    /// Names, compared without regard to case.
    pub names: Vec<String>,
    /// Whether there need not be any.
    pub absent: bool,
}

impl Default for TokenTypes {
    fn default() -> Self {
        Self::only("Bearer")
    }
}

impl TokenTypes {
    /// This type alone.
    pub fn only(name: &str) -> Self {
        Self { names: vec![name.to_owned()], absent: false }
    }

    pub(super) fn accepts(&self, kind: &str) -> bool {
        self.names.iter().any(|name| name.eq_ignore_ascii_case(kind))
    }
}

impl fmt::Display for TokenTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absent = self.absent.then_some("none");
        let names: Vec<&str> = self.names.iter().map(String::as_str).chain(absent).collect();
        f.write_str(&names.join(" or "))
    }
}

/// What entitles to a token.
#[derive(Clone, Debug)]
pub enum GrantType {
    /// The client itself (RFC 6749 section 4.4).
    ClientCredentials,
    /// A token of somebody else, of these types (RFC 8693 section 2.1).
    TokenExchange {
        /// `subject_token_type`.
        subject: String,
        /// `requested_token_type`, if it is sent.
        requested: Option<String>,
        /// `actor_token_type`, if an actor's token is sent.
        actor: Option<String>,
    },
    /// An assertion (RFC 7523 section 2.1).
    JwtBearer(AssertionSource),
}

/// Where an assertion comes from.
#[derive(Clone, Debug)]
pub enum AssertionSource {
    /// The client signs it.
    Signed(Box<AssertionGrant>),
    /// It is the subject token of the request.
    Subject,
}

/// The assertion that a client asks with.
#[derive(Clone, Debug)]
pub struct AssertionGrant {
    /// What it is signed with.
    pub key: KeyRef,
    /// `sub`.
    pub subject: String,
    /// Its audience and its type.
    pub target: AssertionTarget,
    /// Further claims, as JSON text, each behind a comma.
    pub extra_claims: String,
    /// Whether an ID token is asked for (`target_audience`), so that an answer may hold nothing
    /// else.
    pub wants_id_token: bool,
}

/// One attempt at a token.
pub struct TokenRequest<'a> {
    /// Where.
    pub endpoint: Endpoint,
    /// How long the answer may take.
    pub timeout: Duration,
    /// In which of its ways the client authenticates.
    pub auth_index: usize,
    /// `subject_token`, or the `assertion` that is given.
    pub subject: Option<&'a str>,
    /// `actor_token`, for an exchange.
    pub actor: Option<&'a str>,
    /// What the client's files contain.
    pub files: &'a dyn SecretFiles,
    /// Seconds since 1970.
    pub now: u64,
}

impl Grant {
    /// The request for a token, or the error that prevents it.
    pub fn call(&self, asking: TokenRequest<'_>, signer: &mut Signer) -> Result<HttpCall, FetchError> {
        let TokenRequest { endpoint, timeout, auth_index: turn, subject, actor, files, now } = asking;
        let mut form = Form::new("grant_type", self.grant_type.parameter());
        match &self.grant_type {
            GrantType::ClientCredentials => {}
            GrantType::TokenExchange { subject: subject_type, requested, actor: actor_type } => {
                form.add("subject_token", subject.unwrap_or_default());
                form.add("subject_token_type", subject_type);
                if let Some(requested) = requested {
                    form.add("requested_token_type", requested);
                }
                if let (Some(actor), Some(actor_type)) = (actor, actor_type) {
                    form.add("actor_token", actor);
                    form.add("actor_token_type", actor_type);
                }
            }
            GrantType::JwtBearer(AssertionSource::Subject) => {
                form.add("assertion", subject.unwrap_or_default());
            }
            GrantType::JwtBearer(AssertionSource::Signed(assertion)) => {
                let AssertionGrant { key, subject, target, extra_claims: more, .. } = &**assertion;
                let AssertionTarget { audience, header_type } = target;
                let issuer = &self.client_id;
                let claims =
                    AssertionClaims { issuer, subject, audience, header_type, extra_claims: more, now };
                let key = key.get(files).ok_or_else(client_auth::gone)?;
                form.add(
                    "assertion",
                    &signer.sign_with_key(key, &claims).map_err(|error| cannot_sign(key, error))?,
                );
            }
        }
        for (name, value) in &self.parameters {
            form.add(name, value);
        }
        self.client(files).call(endpoint, timeout, form, turn, now, signer)
    }

    /// The files that a request needs in which the client authenticates in this way.
    pub fn files(&self, turn: usize) -> impl Iterator<Item = &FileRef> {
        let signs = match &self.grant_type {
            GrantType::JwtBearer(AssertionSource::Signed(own)) => own.key.file(),
            _ => None,
        };
        self.auth.get(turn).and_then(ClientAuth::file).into_iter().chain(signs)
    }

    fn client<'a>(&'a self, files: &'a dyn SecretFiles) -> Client<'a> {
        Client { id: &self.client_id, auth: &self.auth, files }
    }

    /// All that decides which tokens it brings, the secret among it. To be hashed, and nothing
    /// else.
    pub fn fingerprint(&self) -> Vec<&[u8]> {
        let mut parts = vec![self.grant_type.parameter().as_bytes(), self.client_id.as_bytes()];
        match &self.grant_type {
            GrantType::ClientCredentials => {}
            GrantType::TokenExchange { subject, requested, actor } => {
                let types = [Some(subject), requested.as_ref(), actor.as_ref()];
                parts.extend(types.map(|kind| kind.map_or(&b""[..], |kind| kind.as_bytes())));
            }
            GrantType::JwtBearer(AssertionSource::Subject) => parts.push(b"subject"),
            GrantType::JwtBearer(AssertionSource::Signed(own)) => {
                let AssertionTarget { audience, header_type } = &own.target;
                let texts = [&own.subject, audience, header_type, &own.extra_claims].map(String::as_bytes);
                parts.extend(own.key.identity());
                parts.extend(texts);
            }
        }
        parts.extend(self.auth.iter().flat_map(ClientAuth::identity));
        parts.extend(self.token_types.names.iter().map(String::as_bytes));
        parts.push(if self.token_types.absent { b"absent" } else { b"with" });
        parts.extend(self.parameters.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        parts
    }

    /// The token of a reply, and how long it is good. An exchanged one is good no longer than the
    /// `subject` that it was exchanged for, which ends in so long.
    pub fn read(
        &self,
        reply: &HttpReply,
        subject: Option<(&str, Option<Duration>)>,
        actor: Option<&str>,
        files: &dyn SecretFiles,
        rng: &mut Rng,
    ) -> Result<Fetched<AccessToken>, FetchError> {
        let is_secret = |text: &str| {
            let tokens = subject.iter().map(|(token, _)| *token).chain(actor);
            self.client(files).contains_secret(text)
                || tokens.into_iter().any(|token| client_auth::repeats(text, token))
        };
        let answer = token_response::members(reply, &is_secret).map_err(|failure| match self.grant_type {
            GrantType::TokenExchange { .. } | GrantType::JwtBearer(AssertionSource::Subject) => {
                error_response::classify_exchange_error(reply, failure)
            }
            GrantType::ClientCredentials | GrantType::JwtBearer(AssertionSource::Signed(_)) => failure,
        })?;
        let lifetime = token_response::lifetime(&answer, self.default_lifetime)?;
        let left = subject.and_then(|(_, left)| left).unwrap_or(Duration::MAX);
        let token = token_response::token(&answer, self, &is_secret)?;
        Ok(token_response::fetched_token(token, lifetime.min(left), rng))
    }
}

impl GrantType {
    fn parameter(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange { .. } => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::private_key::PrivateKey;
    use crate::jose::verifier::SoftwareCrypto;
    use crate::oauth::secret_file::{NoFiles, SecretRef};
    use crate::rng::OsRandom;
    use crate::secret::Secret;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use m2m_auth_kit::key::{Alg, Key};
    use m2m_auth_kit::token::{decode, verifies, verifies_by_secret};
    use serde_json::json;

    fn fixed(secret: &str) -> SecretRef {
        SecretRef::Fixed(Secret::new(secret.to_owned()))
    }

    fn target() -> AssertionTarget {
        AssertionTarget { audience: "https://idp".to_owned(), header_type: "JWT".to_owned() }
    }

    fn grant(auth: ClientAuth) -> Grant {
        let parameters =
            vec![("scope".to_owned(), "a b".to_owned()), ("resource".to_owned(), "https://x/?y".to_owned())];
        Grant {
            grant_type: GrantType::ClientCredentials,
            client_id: "a:b c".into(),
            auth: vec![auth],
            parameters,
            default_lifetime: Duration::from_secs(300),
            token_types: TokenTypes::default(),
            dpop_bound: false,
        }
    }

    fn call(auth: ClientAuth) -> HttpCall {
        let endpoint =
            Endpoint { cluster: "c".into(), scheme: "https", authority: "idp".into(), path: "/t".into() };
        grant(auth).call(asking(endpoint), &mut signer()).unwrap()
    }

    fn asking(endpoint: Endpoint) -> TokenRequest<'static> {
        let timeout = Duration::from_secs(5);
        TokenRequest {
            endpoint,
            timeout,
            auth_index: 0,
            subject: None,
            actor: None,
            files: &NoFiles,
            now: 1_800_000_000,
        }
    }

    fn signer() -> Signer {
        Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom))
    }

    fn body(auth: ClientAuth) -> String {
        let call = call(auth);
        assert!(call.headers.iter().all(|(name, _)| *name != "authorization"), "one method only");
        String::from_utf8(call.body.to_vec()).unwrap()
    }

    fn token() -> AccessToken {
        let body = Some(br#"{"access_token":"hush","token_type":"bearer"}"#.to_vec());
        let reply = HttpReply { status: Some(200), body, ..HttpReply::default() };
        grant(ClientAuth::Cluster).read(&reply, None, None, &NoFiles, &mut Rng::new(1)).unwrap().value
    }

    #[test]
    fn basic_is_form_encoded_before_base64() {
        let call = call(ClientAuth::Basic(fixed("p%&+ü")));
        let (_, value) = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
        let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(pair).unwrap(), "a%3Ab+c:p%25%26%2B%C3%BC");
        let body = String::from_utf8(call.body.to_vec()).unwrap();
        assert_eq!(body, "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fx%2F%3Fy");
    }

    #[test]
    fn post_puts_both_into_the_body() {
        let body = body(ClientAuth::Post(fixed("p&q")));
        assert!(body.ends_with("&client_id=a%3Ab+c&client_secret=p%26q"), "{body}");
    }

    #[test]
    fn an_assertion_goes_into_the_body_and_the_secret_does_not() {
        let key = Key::new(Alg::EdDsa);
        let read = Box::new(PrivateKey::read(&key.private_pem(), None).unwrap());
        let assertion = |auth| {
            let body = body(auth);
            let expected = "&client_id=a%3Ab+c&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=";
            assert!(body.contains(expected) && !body.contains("hush"), "{body}");
            body.rsplit('=').next().unwrap().to_owned()
        };
        let by_key = assertion(ClientAuth::PrivateKey(KeyRef::Fixed(read), target()));
        assert!(verifies(&by_key, &key));
        assert_eq!(
            (&decode(&by_key).1["sub"], &decode(&by_key).1["aud"]),
            (&json!("a:b c"), &json!("https://idp"))
        );
        let by_secret = ClientAuth::SecretJwt(fixed("hush"), target());
        assert!(verifies_by_secret(&assertion(by_secret), b"hush"));
    }

    #[test]
    fn what_the_cluster_proves_is_not_proved_here() {
        let plain = "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fx%2F%3Fy";
        assert_eq!(body(ClientAuth::Cluster), plain);
        assert_eq!(body(ClientAuth::Tls), format!("{plain}&client_id=a%3Ab+c"));
    }

    #[test]
    fn a_key_that_nobody_can_sign_with_is_the_operators_fault() {
        let read = PrivateKey::read(&Key::new(Alg::Es256).private_pem(), None).unwrap();
        let grant = grant(ClientAuth::PrivateKey(KeyRef::Fixed(Box::new(read)), target()));
        let to =
            Endpoint { cluster: "c".into(), scheme: "https", authority: "idp".into(), path: "/t".into() };
        let failure = grant.call(asking(to), &mut signer()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "configuration: Envoy does not sign ES256 with this key, which is broken unless this Envoy is older than 1.37"
        );
    }

    #[test]
    fn nothing_prints_a_secret() {
        let call = call(ClientAuth::Post(fixed("hush")));
        let token = token();
        assert!(
            !format!("{call:?} {:?} {token:?}", grant(ClientAuth::Basic(fixed("hush")))).contains("hush")
        );
    }
}
