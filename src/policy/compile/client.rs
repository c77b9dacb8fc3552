//! Compiles client authentication: the client's secrets or its key, and conflicts between settings.

use super::Compiler;
use crate::config::path_deserializer::Path;
use crate::config::{self, AuthMethod, GrantType};
use crate::jose::jwk::Algorithm;
use crate::jose::private_key::PrivateKey;
use crate::oauth::ClientAuth;
use crate::secret::Secret;
use std::mem::take;
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
        let audience = written.assertion_audience.as_deref().or(issuer).unwrap_or_default();
        let by: fn(Secret, &str) -> ClientAuth = match written.auth_method {
            AuthMethod::ClientSecretBasic => |secret, _| ClientAuth::Basic(secret),
            AuthMethod::ClientSecretPost => |secret, _| ClientAuth::Post(secret),
            AuthMethod::ClientSecretJwt => {
                |secret, audience| ClientAuth::SecretJwt(secret, audience.to_owned())
            }
            AuthMethod::PrivateKeyJwt => {
                let key = Box::new(self.key(path, written)?);
                return Some(vec![ClientAuth::PrivateKey(key, audience.to_owned())]);
            }
            AuthMethod::TlsClientAuth => return Some(vec![ClientAuth::Tls]),
            AuthMethod::External => return Some(vec![ClientAuth::Cluster]),
        };
        let secrets = self.secrets(path, written.client_secret.as_ref())?;
        Some(secrets.into_iter().map(|mut secret| by(Secret::new(take(&mut *secret)), audience)).collect())
    }

    /// Rejects fields of other authentication methods, which would be ignored silently.
    #[inline(never)]
    fn reject_unused_fields(&mut self, path: &Path, written: &config::Credential) {
        let (by_secret, by_key) = match written.auth_method {
            AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost | AuthMethod::ClientSecretJwt => {
                (true, false)
            }
            AuthMethod::PrivateKeyJwt => (false, true),
            AuthMethod::TlsClientAuth | AuthMethod::External => (false, false),
        };
        let (is_exchange, is_jwt_bearer) =
            (written.grant_type == GrantType::TokenExchange, written.grant_type == GrantType::JwtBearer);
        let by_key = by_key || is_jwt_bearer;
        let asserts = by_key || written.auth_method == AuthMethod::ClientSecretJwt;
        let key = "private_key_jwt, or grant_type jwt_bearer";
        for (member, idle, grant_type) in [
            ("subject_token", written.subject_token.is_some() && !is_exchange, "token_exchange"),
            ("subject_token_type", written.subject_token_type.is_some() && !is_exchange, "token_exchange"),
            ("forward_subject_token", written.forward_subject_token && !is_exchange, "token_exchange"),
            ("requests_per_second", written.requests_per_second.is_some() && !is_exchange, "token_exchange"),
            (
                "requested_token_type",
                written.requested_token_type.is_some() && !is_exchange,
                "token_exchange",
            ),
            ("assertion_subject", written.assertion_subject.is_some() && !is_jwt_bearer, "jwt_bearer"),
            ("assertion_claims", !written.assertion_claims.is_empty() && !is_jwt_bearer, "jwt_bearer"),
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
                "private_key_jwt or client_secret_jwt, or grant_type jwt_bearer",
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
    fn secrets(
        &mut self,
        path: &Path,
        written: Option<&config::SecretSources>,
    ) -> Option<Vec<Zeroizing<String>>> {
        let (auth_method, path) = (path.name("auth_method"), path.name("client_secret"));
        match written {
            None => {
                let message = "missing, expected {\"env\": \"NAME\"}";
                self.error_unless(vec![auth_method], &path, message);
                None
            }
            Some(config::SecretSources::One(secret)) => {
                self.secret_value(&path, secret).map(|secret| vec![secret])
            }
            Some(config::SecretSources::AnyOf(list)) => {
                if list.len() > MAX_SECRETS {
                    let message = format!("{} secrets, expected at most {MAX_SECRETS}", list.len());
                    self.error(&path, &message);
                }
                let secrets = list
                    .iter()
                    .enumerate()
                    .map(|(index, secret)| self.secret_value(&path.index(index), secret));
                // Resolve all of them, so that every error is reported.
                secrets.collect::<Vec<_>>().into_iter().collect()
            }
        }
    }

    #[inline(never)]
    pub(super) fn key(&mut self, path: &Path, written: &config::Credential) -> Option<PrivateKey> {
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
        let key_text = self.secret_value(&field, key)?;
        match PrivateKey::read(&key_text, algorithm) {
            Ok(key) => Some(key.named(written.kid.clone())),
            Err(error) => {
                let message = format!("{error}, expected an RSA, P-256 or Ed25519 key in PEM or as a JWK");
                self.error(&field, &message);
                None
            }
        }
    }

    /// The value of a secret.
    #[inline(never)]
    pub(super) fn secret_value(
        &mut self,
        path: &Path,
        written: &config::SecretSource,
    ) -> Option<Zeroizing<String>> {
        match written {
            config::SecretSource::Inline(secret) => Some(Zeroizing::new(secret.clone())),
            config::SecretSource::Env(name) => self.variable(path, name).map(Zeroizing::new),
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

    /// The id of a client. Only a client that its cluster authenticates can omit it.
    #[inline(never)]
    pub(super) fn client_id(
        &mut self,
        path: &Path,
        written: Option<&config::Setting>,
        method: AuthMethod,
    ) -> Option<String> {
        let path = path.name("client_id");
        let by_cluster = method == AuthMethod::External;
        let id = self.setting_value(&path, written);
        if id.is_none() && !by_cluster && !matches!(written, Some(config::Setting::Env(_))) {
            self.error(&path, "missing, expected the client's id at the issuer");
        }
        id
    }
}

/// The maximum number of secrets: one current, one new, and some reserve. A provider that counts
/// failures may lock the client out after more.
const MAX_SECRETS: usize = 4;
