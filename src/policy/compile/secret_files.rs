//! Compiles the files that secrets are read from: each once, and the tokens that token requests
//! contain.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::http::message::Endpoint;
use crate::oauth::secret_file::{FileForm, FileRef, SecretRef};
use crate::policy::{CredentialId, SecretFile, SubjectToken, TokenInput};
use crate::secret::Secret;
use std::mem::take;
use std::rc::Rc;

/// `:authority` of the requests: an internal listener has no name of its own.
const AUTHORITY: &str = "localhost";

/// The tokens of requests that a credential's own requests contain.
pub(super) struct Inputs {
    pub(super) subject: Option<SubjectToken>,
    pub(super) via: Option<CredentialId>,
    pub(super) input: Option<TokenInput>,
    pub(super) actor: Option<TokenInput>,
}

impl Compiler<'_> {
    /// A file, which is read in this form.
    #[inline(never)]
    pub(super) fn file(&mut self, path: &Path, written: &config::SecretFile, form: FileForm) -> FileRef {
        let config::SecretFile { cluster, path: location } = written;
        if cluster.is_empty() || cluster.contains(|c: char| c.is_control()) {
            let message = format!("{cluster:?}, expected the name of an Envoy cluster");
            self.error_unless(vec![path.name("cluster")], &path.name("cluster"), &message);
        }
        let is_path = location.starts_with('/') && location.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_path || location.contains('#') {
            let message = format!("{location:?}, expected a path such as \"/client-secret\"");
            self.error_unless(vec![path.name("path")], &path.name("path"), &message);
        }
        let same = |own: &&Rc<SecretFile>| {
            own.endpoint.cluster == *cluster && own.endpoint.path == *location && own.form == form
        };
        if let Some(known) = self.files.iter().find(same) {
            return known.file.clone();
        }
        let name = [cluster.as_str(), location.as_str()].concat().into();
        let file = FileRef { index: self.files.len(), name };
        let endpoint = Endpoint {
            cluster: cluster.clone(),
            scheme: "http",
            authority: AUTHORITY.to_owned(),
            path: location.clone(),
        };
        self.files.push(Rc::new(SecretFile { file: file.clone(), endpoint, form }));
        file
    }

    /// A secret that is needed for token requests.
    #[inline(never)]
    pub(super) fn secret_ref(&mut self, path: &Path, written: &config::SecretSource) -> Option<SecretRef> {
        if let config::SecretSource::File(file) = written {
            return Some(SecretRef::File(self.file(path, file, FileForm::Secret)));
        }
        let mut secret = self.secret_value(path, written)?;
        Some(SecretRef::Fixed(Secret::new(take(&mut *secret))))
    }

    /// The tokens that the credential's token requests contain.
    #[inline(never)]
    pub(super) fn inputs(
        &mut self,
        path: &Path,
        written: &config::Credential,
        outbound: &config::Outbound,
    ) -> Inputs {
        let mut inputs = Inputs { subject: None, via: None, input: None, actor: None };
        let (member, source) = match written.grant_type {
            config::GrantType::ClientCredentials => return inputs,
            config::GrantType::TokenExchange => ("subject_token", &written.subject_token),
            config::GrantType::JwtBearer if written.assertion.is_none() => return inputs,
            config::GrantType::JwtBearer => ("assertion", &written.assertion),
        };
        let field = path.name(member);
        match source {
            Some(config::SubjectToken::File(file)) => {
                let file = self.file(&field, file, FileForm::Assertion);
                inputs.input = Some(TokenInput::File(file));
            }
            Some(config::SubjectToken::Credential(name)) => {
                let id = self.credential_of(&field.name("credential"), name);
                let (root, field) = (root(outbound, name), &field);
                match root {
                    None if id.is_some() => {
                        let message = format!("{name:?} depends on itself, expected another credential");
                        self.error(&field.name("credential"), &message);
                    }
                    None => {}
                    Some(root) => match scope(root) {
                        Scope::Caller(source) => {
                            inputs.via = id;
                            inputs.subject = self.subject(field, source);
                        }
                        Scope::All => inputs.input = id.map(TokenInput::Credential),
                    },
                }
            }
            other => inputs.subject = self.subject(&field, other.as_ref()),
        }
        inputs.actor = self.actor(path, written, outbound);
        inputs
    }

    /// The actor's token (RFC 8693 section 2.1): not the caller's, who is the subject.
    #[inline(never)]
    fn actor(
        &mut self,
        path: &Path,
        written: &config::Credential,
        outbound: &config::Outbound,
    ) -> Option<TokenInput> {
        let field = path.name("actor_token");
        match written.actor_token.as_ref()? {
            config::SubjectToken::File(file) => {
                Some(TokenInput::File(self.file(&field, file, FileForm::Assertion)))
            }
            config::SubjectToken::Credential(name) => {
                let id = self.credential_of(&field.name("credential"), name)?;
                let own = root(outbound, name).filter(|root| matches!(scope(root), Scope::All));
                if own.is_none() {
                    let message =
                        format!("{name:?} has no token of its own, expected a credential that has one");
                    self.error(&field.name("credential"), &message);
                }
                Some(TokenInput::Credential(id))
            }
            config::SubjectToken::Caller | config::SubjectToken::Header(_) => {
                let message = "a token of the request, expected {\"credential\": \"NAME\"} or {\"cluster\": \"NAME\", \"path\": \"/PATH\"}";
                self.error(&field, message);
                None
            }
        }
    }

    fn credential_of(&mut self, path: &Path, name: &str) -> Option<CredentialId> {
        let index = self.credentials.index_of(Some(name), "a credential");
        let policy = self.policy_id;
        index.map(|index| CredentialId { policy, index }).map_err(|error| self.error_if(path, error)).ok()
    }
}

/// The credential at the start of a chain: each uses the token of the one before. `None` if there
/// is no such credential, or no start.
fn root<'c>(outbound: &'c config::Outbound, name: &str) -> Option<&'c config::Credential> {
    let find = |name: &str| {
        outbound.credentials.iter().find(|(own, _)| *own == name).map(|(_, credential)| credential)
    };
    let mut credential = find(name)?;
    for _ in 0..=outbound.credentials.0.len() {
        match source(credential) {
            Some(config::SubjectToken::Credential(name)) => credential = find(name)?,
            _ => return Some(credential),
        }
    }
    None
}

/// The token that is exchanged or asserted, as far as it is configured.
fn source(credential: &config::Credential) -> Option<&config::SubjectToken> {
    match credential.grant_type {
        config::GrantType::ClientCredentials => None,
        config::GrantType::TokenExchange => credential.subject_token.as_ref(),
        config::GrantType::JwtBearer => credential.assertion.as_ref(),
    }
}

/// For which requests a credential has the same token.
enum Scope<'c> {
    /// For all.
    All,
    /// For those of one caller, whose token is there, as far as it is configured.
    Caller(Option<&'c config::SubjectToken>),
}

/// For which requests this credential has the same token.
fn scope(credential: &config::Credential) -> Scope<'_> {
    match (credential.grant_type, source(credential)) {
        (config::GrantType::ClientCredentials, _)
        | (config::GrantType::JwtBearer, None)
        | (_, Some(config::SubjectToken::File(_) | config::SubjectToken::Credential(_))) => Scope::All,
        (_, source) => Scope::Caller(source),
    }
}
