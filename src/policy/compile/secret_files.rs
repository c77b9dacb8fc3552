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
        if !is_chain(outbound, written, MAX_CHAIN) {
            let message = format!(
                "needs its own token, or those of more than {} others in a row, expected a shorter chain of credentials",
                MAX_CHAIN - 1
            );
            self.error(path, &message);
            return inputs;
        }
        let member = match written.grant_type {
            config::GrantType::JwtBearer => "assertion",
            config::GrantType::ClientCredentials | config::GrantType::TokenExchange => "subject_token",
        };
        let field = path.name(member);
        let id = match source(written) {
            Some(config::SubjectToken::File(file)) => {
                inputs.input = Some(TokenInput::File(self.file(&field, file, FileForm::Assertion)));
                None
            }
            Some(config::SubjectToken::Credential(name)) => {
                self.credential_of(&field.name("credential"), name)
            }
            _ => None,
        };
        match same_token(outbound, written) {
            SameToken::ForOneCaller(location) => {
                inputs.subject = self.subject(&field, location);
                inputs.via = id;
            }
            SameToken::ForAll => {
                inputs.input = inputs.input.or(id.map(TokenInput::Credential));
                for (member, idle) in [
                    ("forward_subject_token", written.forward_subject_token),
                    ("requests_per_second", written.requests_per_second.is_some()),
                ] {
                    if idle && source(written).is_some() {
                        let message = "not used with one token for all requests, expected a token of the request to be exchanged";
                        self.error(&path.name(member), message);
                    }
                }
            }
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
                let actor = find(outbound, name).map(|actor| same_token(outbound, actor));
                if !matches!(actor, Some(SameToken::ForAll)) {
                    let message = format!(
                        "{name:?} has a token for each caller, expected a credential with one for all"
                    );
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

/// The most credentials of which each needs the token of the one before. Identity chaining needs
/// two.
const MAX_CHAIN: usize = 4;

/// The credential of this name.
fn find<'c>(outbound: &'c config::Outbound, name: &str) -> Option<&'c config::Credential> {
    outbound.credentials.iter().find(|(own, _)| *own == name).map(|(_, credential)| credential)
}

/// The credentials whose tokens this one needs.
pub(super) fn references(credential: &config::Credential) -> impl Iterator<Item = &str> {
    let inputs = source(credential).into_iter().chain(&credential.actor_token);
    inputs.filter_map(|input| match input {
        config::SubjectToken::Credential(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Whether a chain of at most so many credentials begins with this one; a circle has no end.
fn is_chain(outbound: &config::Outbound, credential: &config::Credential, most: usize) -> bool {
    let Some(rest) = most.checked_sub(1) else { return false };
    references(credential)
        .filter_map(|name| find(outbound, name))
        .all(|credential| is_chain(outbound, credential, rest))
}

/// The token that is exchanged or asserted, as far as it is configured.
fn source(credential: &config::Credential) -> Option<&config::SubjectToken> {
    match credential.grant_type {
        config::GrantType::ClientCredentials => None,
        config::GrantType::TokenExchange => credential.subject_token.as_ref(),
        config::GrantType::JwtBearer => credential.assertion.as_ref(),
    }
}

/// Which requests get the same token of a credential.
pub(super) enum SameToken<'c> {
    /// All.
    ForAll,
    /// Those of one caller, whose token is at this location; `None`: at the default one.
    ForOneCaller(Option<&'c config::SubjectToken>),
}

/// Which requests get the same token of this credential, which is part of a chain.
pub(super) fn same_token<'c>(
    outbound: &'c config::Outbound,
    credential: &'c config::Credential,
) -> SameToken<'c> {
    let mut first = credential;
    // A longer chain is an error of its own.
    for _ in 0..MAX_CHAIN {
        match (first.grant_type, source(first)) {
            (_, Some(config::SubjectToken::Credential(name))) => match find(outbound, name) {
                Some(before) => first = before,
                None => break,
            },
            (config::GrantType::ClientCredentials, _)
            | (config::GrantType::JwtBearer, None)
            | (_, Some(config::SubjectToken::File(_))) => break,
            (_, location) => return SameToken::ForOneCaller(location),
        }
    }
    SameToken::ForAll
}
