//! Compiles client authentication: the client's secrets or its key, and conflicts between settings.

use super::Compiler;
use crate::config::path_deserializer::Path;
use crate::config::{self, AuthMethod, GrantType};
use crate::jose::jwk::Algorithm;
use crate::jose::private_key::PrivateKey;
use crate::oauth::secret_file::{FileForm, KeyRef, SecretRef};
use crate::oauth::{AssertionTarget, ClientAuth, client_assertion};
use zeroize::Zeroizing;

impl Compiler<'_> {
    /// The client's authentication methods, in the order in which they are tried.
    #[inline(never)]
    pub(super) fn client(
        &mut self,
        path: &Path,
        written: &config::Credential,
        issuer: Option<&str>,
    ) -> Option<Vec<ClientAuth>> {
        self.reject_unused_fields(path, written);
        let target = || target(written, issuer);
        let by: &dyn Fn(SecretRef) -> ClientAuth = match written.auth_method {
            AuthMethod::ClientSecretBasic => &ClientAuth::Basic,
            AuthMethod::ClientSecretPost => &ClientAuth::Post,
            AuthMethod::ClientSecretJwt => &|secret| ClientAuth::SecretJwt(secret, target()),
            AuthMethod::PrivateKeyJwt => {
                return Some(vec![ClientAuth::PrivateKey(self.key(path, written)?, target())]);
            }
            AuthMethod::WorkloadIdentity => return Some(vec![self.workload(path, written)?]),
            AuthMethod::None => return Some(vec![ClientAuth::None]),
            AuthMethod::TlsClientAuth => return Some(vec![ClientAuth::Tls]),
            AuthMethod::External => return Some(vec![ClientAuth::Cluster]),
        };
        let secrets = self.secrets(path, written.client_secret.as_ref())?;
        Some(secrets.into_iter().map(by).collect())
    }

    /// The assertion that the platform issues.
    #[inline(never)]
    fn workload(&mut self, path: &Path, written: &config::Credential) -> Option<ClientAuth> {
        let field = path.name("client_assertion");
        let Some(file) = &written.client_assertion else {
            let message = "missing, expected {\"cluster\": \"NAME\", \"path\": \"/PATH\"}";
            self.error_unless(vec![path.name("auth_method")], &field, message);
            return None;
        };
        let kind = match written.client_assertion_type {
            None | Some(config::ClientAssertionType::JwtBearer) => client_assertion::ASSERTION_TYPE,
            Some(config::ClientAssertionType::JwtSpiffe) => client_assertion::SPIFFE_ASSERTION_TYPE,
        };
        Some(ClientAuth::Workload(self.file(&field, file, FileForm::Assertion), kind))
    }

    /// Rejects fields of other authentication methods, which would be ignored silently.
    #[inline(never)]
    fn reject_unused_fields(&mut self, path: &Path, written: &config::Credential) {
        let (by_secret, by_key) = match written.auth_method {
            AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost | AuthMethod::ClientSecretJwt => {
                (true, false)
            }
            AuthMethod::PrivateKeyJwt => (false, true),
            AuthMethod::TlsClientAuth
            | AuthMethod::WorkloadIdentity
            | AuthMethod::None
            | AuthMethod::External => (false, false),
        };
        let by_workload = written.auth_method == AuthMethod::WorkloadIdentity;
        let (is_exchange, is_jwt_bearer) =
            (written.grant_type == GrantType::TokenExchange, written.grant_type == GrantType::JwtBearer);
        let is_given = is_jwt_bearer && written.assertion.is_some();
        let is_signed = is_jwt_bearer && written.assertion.is_none();
        let by_key = by_key || is_signed;
        let asserts = by_key || written.auth_method == AuthMethod::ClientSecretJwt;
        let key = "private_key_jwt, or grant_type jwt_bearer without assertion";
        for (member, idle, grant_type) in [
            ("subject_token", written.subject_token.is_some() && !is_exchange, "token_exchange"),
            ("subject_token_type", written.subject_token_type.is_some() && !is_exchange, "token_exchange"),
            ("actor_token", written.actor_token.is_some() && !is_exchange, "token_exchange"),
            ("actor_token_type", written.actor_token_type.is_some() && !is_exchange, "token_exchange"),
            ("assertion", written.assertion.is_some() && !is_jwt_bearer, "jwt_bearer"),
            (
                "forward_subject_token",
                written.forward_subject_token && !is_exchange && !is_given,
                "token_exchange, or jwt_bearer with assertion",
            ),
            (
                "requests_per_second",
                written.requests_per_second.is_some() && !is_exchange && !is_given,
                "token_exchange, or jwt_bearer with assertion",
            ),
            (
                "requested_token_type",
                written.requested_token_type.is_some() && !is_exchange,
                "token_exchange",
            ),
            (
                "assertion_subject",
                written.assertion_subject.is_some() && !is_signed,
                "jwt_bearer without assertion",
            ),
            (
                "assertion_claims",
                !written.assertion_claims.is_empty() && !is_signed,
                "jwt_bearer without assertion",
            ),
        ] {
            if idle {
                let message = format!("not used with this grant_type, expected {grant_type}");
                self.error_unless(vec![path.name("grant_type")], &path.name(member), &message);
            }
        }
        for (member, idle, methods) in [
            (
                "client_secret",
                written.client_secret.is_some() && !by_secret,
                "client_secret_basic, client_secret_post or client_secret_jwt",
            ),
            ("private_key", written.private_key.is_some() && !by_key, key),
            ("kid", written.kid.is_some() && !by_key, key),
            ("assertion_algorithm", written.assertion_algorithm.is_some() && !by_key, key),
            (
                "assertion_audience",
                written.assertion_audience.is_some() && !asserts,
                "private_key_jwt or client_secret_jwt, or grant_type jwt_bearer without assertion",
            ),
            (
                "assertion_header_type",
                written.assertion_header_type.is_some() && !asserts,
                "private_key_jwt or client_secret_jwt, or grant_type jwt_bearer without assertion",
            ),
            ("client_assertion", written.client_assertion.is_some() && !by_workload, "workload_identity"),
            (
                "client_assertion_type",
                written.client_assertion_type.is_some() && !by_workload,
                "workload_identity",
            ),
        ] {
            if idle {
                let message = format!("not used with this auth_method, expected {methods}");
                let unless = vec![path.name("auth_method"), path.name("grant_type")];
                self.error_unless(unless, &path.name(member), &message);
            }
        }
    }

    #[inline(never)]
    fn secrets(&mut self, path: &Path, written: Option<&config::SecretSources>) -> Option<Vec<SecretRef>> {
        let (auth_method, path) = (path.name("auth_method"), path.name("client_secret"));
        match written {
            None => {
                let message = "missing, expected {\"env\": \"NAME\"}";
                self.error_unless(vec![auth_method], &path, message);
                None
            }
            Some(config::SecretSources::One(secret)) => {
                self.secret_ref(&path, secret).map(|secret| vec![secret])
            }
            Some(config::SecretSources::AnyOf(list)) => {
                if list.len() > MAX_SECRETS {
                    let message = format!("{} secrets, expected at most {MAX_SECRETS}", list.len());
                    self.error(&path, &message);
                }
                let secrets = list
                    .iter()
                    .enumerate()
                    .map(|(index, secret)| self.secret_ref(&path.index(index), secret));
                // Resolve all of them, so that every error is reported.
                secrets.collect::<Vec<_>>().into_iter().collect()
            }
        }
    }

    #[inline(never)]
    pub(super) fn key(&mut self, path: &Path, written: &config::Credential) -> Option<KeyRef> {
        let field = path.name("private_key");
        if matches!(written.assertion_algorithm, Some(config::AssertionAlgorithm::PS256)) {
            let message = "PS256 is not supported for signing, expected RS256 for an RSA key";
            self.error(&path.name("assertion_algorithm"), message);
            return None;
        }
        let algorithm = written.assertion_algorithm.map(|algorithm| match algorithm {
            config::AssertionAlgorithm::RS256 | config::AssertionAlgorithm::PS256 => Algorithm::Rs256,
            config::AssertionAlgorithm::ES256 => Algorithm::Es256,
            config::AssertionAlgorithm::EdDSA => Algorithm::EdDsa,
        });
        let Some(key) = &written.private_key else {
            self.error(&field, "missing, expected {\"env\": \"NAME\"} of a key in PEM or as a JWK");
            return None;
        };
        if let config::SecretSource::File(file) = key {
            let form = FileForm::PrivateKey(algorithm, written.kid.clone());
            return Some(KeyRef::File(self.file(&field, file, form)));
        }
        let key_text = self.secret_value(&field, key)?;
        match PrivateKey::read(&key_text, algorithm) {
            Ok(key) => Some(KeyRef::Fixed(Box::new(key.named(written.kid.clone())))),
            Err(error) => {
                let message = format!("{error}, expected an RSA, P-256 or Ed25519 key in PEM or as a JWK");
                self.error(&field, &message);
                None
            }
        }
    }

    /// The value of a secret that is needed from the start.
    #[inline(never)]
    pub(super) fn secret_value(
        &mut self,
        path: &Path,
        written: &config::SecretSource,
    ) -> Option<Zeroizing<String>> {
        match written {
            config::SecretSource::Inline(secret) => Some(Zeroizing::new(secret.clone())),
            config::SecretSource::Env(name) => self.variable(path, name).map(Zeroizing::new),
            config::SecretSource::File(_) => {
                let message = "a file, which is not read for this secret, expected {\"env\": \"NAME\"}";
                self.error(path, message);
                None
            }
        }
    }

    /// The value of a setting that may come from the environment; `None` if that is empty.
    #[inline(never)]
    pub(super) fn setting_value(&mut self, path: &Path, written: Option<&config::Setting>) -> Option<String> {
        match written? {
            config::Setting::Literal(text) => Some(text.clone()),
            config::Setting::Env(name) => self.variable(path, name),
        }
    }

    #[inline(never)]
    fn variable(&mut self, path: &Path, name: &str) -> Option<String> {
        let mut value = (self.environment)(name).unwrap_or_default();
        value.truncate(value.trim_end_matches(['\r', '\n']).len());
        let value = Some(value).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!(
                "environment variable {name} is not set, expected it in Envoy's environment and in the plugin's host_env_keys"
            );
            self.error(&path.name("env"), &message);
        }
        value
    }

    /// The id of a client.
    #[inline(never)]
    pub(super) fn client_id(
        &mut self,
        path: &Path,
        written: Option<&config::Setting>,
        method: AuthMethod,
    ) -> Option<String> {
        let path = path.name("client_id");
        let id = self.setting_value(&path, written);
        if id.is_none() && !needs_no_id(method) && !matches!(written, Some(config::Setting::Env(_))) {
            self.error(&path, "missing, expected the client's id at the issuer");
        }
        id
    }
}

/// Whether a client that authenticates so can omit its id: its cluster or its assertion has it, or
/// nobody asks for one.
pub(super) fn needs_no_id(method: AuthMethod) -> bool {
    matches!(method, AuthMethod::External | AuthMethod::WorkloadIdentity | AuthMethod::None)
}

/// The audience and the type of the client's assertions.
pub(super) fn target(written: &config::Credential, issuer: Option<&str>) -> AssertionTarget {
    let audience = written.assertion_audience.as_deref().or(issuer).unwrap_or_default().to_owned();
    let header_type = written.assertion_header_type.clone().unwrap_or_else(|| "JWT".to_owned());
    AssertionTarget { audience, header_type }
}

/// The maximum number of secrets: one current, one new, and some reserve. A provider that counts
/// failures may lock the client out after more.
const MAX_SECRETS: usize = 4;
