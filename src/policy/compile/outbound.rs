//! Compiles credentials, and the rules that attach their tokens.

use super::client::{needs_no_id, target};
use super::introspection::REQUESTS_PER_SECOND;
use super::issuer::ABSENT;
use super::names::rule_names;
use super::secret_files::{Inputs, SameToken, references, same_token};
use super::{Compiler, DEFAULT_LIFETIME, RESERVED_PARAMETERS};
use crate::config::path_deserializer::Path;
use crate::config::{self, Existing};
use crate::dpop;
use crate::oauth::{AssertionGrant, AssertionSource, Grant, GrantType, TokenTypes, token_response};
use crate::policy::{Credential, CredentialId, NO_CREDENTIAL, OutboundRule, SubjectToken};
use std::rc::Rc;
use std::time::Duration;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn outbound(
        &mut self,
        outbound: &config::Outbound,
    ) -> (Vec<Rc<Credential>>, Vec<OutboundRule>) {
        let path = Path::default().name("outbound");
        let by_route = outbound.rules.iter().any(|rule| rule.route_metadata);
        let mut credentials = Vec::new();
        for (name, credential) in outbound.credentials.iter() {
            let path = path.name("credentials").name(name);
            credentials.extend(self.credential(&path, name, credential, outbound).map(Rc::new));
            if by_route && name == NO_CREDENTIAL {
                self.error(&path, "reserved for routes without a token, expected another name");
            }
            if !by_route
                && !outbound.rules.is_empty()
                && !outbound.rules.iter().any(|rule| rule.credential.as_deref() == Some(name))
                && !outbound.credentials.iter().any(|(_, other)| references(other).any(|used| used == name))
            {
                let unless = vec![Path::default().name("outbound").name("rules")];
                let message = "not used by any rule, expected at least one";
                self.error_unless(unless, &path, message);
            }
        }
        if by_route && outbound.credentials.0.is_empty() {
            let message = "missing, expected at least one credential that a route can name";
            self.error_unless(vec![path.name("credentials")], &path.name("credentials"), message);
        }
        if outbound.rules.is_empty() {
            let message = "missing, expected at least one rule";
            self.error_unless(vec![path.name("rules")], &path.name("rules"), message);
        }
        let mut rules = Vec::new();
        let names = outbound.rules.iter().map(|rule| (rule.name.as_deref(), &rule.r#match));
        for ((index, rule), name) in outbound.rules.iter().enumerate().zip(rule_names(names)) {
            rules.extend(self.outbound_rule(&path.name("rules").index(index), name, rule, outbound));
        }
        self.check_distinct(&path.name("rules"), outbound.rules.iter().map(|rule| rule.name.as_deref()));
        (credentials, rules)
    }

    #[inline(never)]
    fn credential(
        &mut self,
        path: &Path,
        name: &str,
        written: &config::Credential,
        outbound: &config::Outbound,
    ) -> Option<Credential> {
        let issuer = self.issuer_named(&path.name("issuer"), written.issuer.as_deref());
        let without_id = needs_no_id(written.auth_method);
        let client_id = self.client_id(path, written.client_id.as_ref(), written.auth_method);
        let issuer_name =
            issuer.and_then(|id| self.issuer_names.get(id.index)?.first().map(|name| name.iss.clone()));
        let issuer_name = issuer_name.as_deref();
        let auth = self.client(path, written, issuer_name);
        let grant_type = self.grant_type(path, written, client_id.as_deref(), issuer_name);
        let mut parameters = Vec::new();
        if !written.scopes.is_empty() {
            parameters.push(("scope".to_owned(), written.scopes.join(" ")));
        }
        for (index, scope) in written.scopes.iter().enumerate() {
            // RFC 6749 section 3.3, `scope-token`.
            if scope.is_empty()
                || !scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
            {
                self.error(
                    &path.name("scopes").index(index),
                    &format!("{scope:?}, expected one scope without spaces"),
                );
            }
        }
        if written.audience.0.len() > 1 && written.grant_type != config::GrantType::TokenExchange {
            let count = written.audience.0.len();
            let message = format!("{count} audiences, expected one (only token_exchange allows several)");
            self.error(&path.name("audience"), &message);
        }
        parameters
            .extend(written.audience.0.iter().map(|audience| ("audience".to_owned(), audience.clone())));
        parameters.extend(written.resource.iter().map(|resource| ("resource".to_owned(), resource.clone())));
        for (name, value) in written.parameters.iter() {
            if RESERVED_PARAMETERS.contains(&name) {
                let message = "a reserved parameter, expected the credential's own field";
                self.error(&path.name("parameters").name(name), message);
            }
            parameters.push((name.to_owned(), value.clone()));
        }
        let default_lifetime = written.default_lifetime.map_or(DEFAULT_LIFETIME, |span| span.0);
        if default_lifetime < Duration::from_secs(1) {
            self.duration_error(&path.name("default_lifetime"), default_lifetime, "at least 1s");
        }
        let types = self.accepted_types(path, written);
        let client_id = client_id.or_else(|| without_id.then(String::new))?;
        let bound = written.dpop;
        let grant = Grant {
            grant_type: grant_type?,
            client_id,
            auth: auth?,
            parameters,
            default_lifetime,
            token_types: types,
            dpop_bound: bound,
        };
        let Inputs { subject, via, input, actor } = self.inputs(path, written, outbound);
        let requests_per_second = self.requests_per_second(path, written.requests_per_second);
        // The content of a header may be made up; a verified caller's token is not.
        let unverified = matches!(subject, Some(SubjectToken::Header(_)));
        let requests_per_second = requests_per_second.or(unverified.then_some(REQUESTS_PER_SECOND));
        let (name, forward_subject) = (name.to_owned(), written.forward_subject_token);
        Some(Credential {
            name,
            issuer: issuer?,
            grant,
            subject,
            via,
            input,
            actor,
            forward_subject,
            requests_per_second,
        })
    }

    /// The accepted values of `token_type` in the token response.
    #[inline(never)]
    fn accepted_types(&mut self, path: &Path, written: &config::Credential) -> TokenTypes {
        let path = path.name("token_types");
        let Some(list) = &written.token_types else {
            return if written.dpop { TokenTypes::only(dpop::SCHEME) } else { TokenTypes::default() };
        };
        if written.dpop {
            self.error(
                &path,
                "both token_types and dpop, expected one of them (RFC 9449 section 5: the type is DPoP)",
            );
        }
        let mut types = TokenTypes { names: Vec::new(), absent: false };
        for (index, name) in list.iter().enumerate() {
            if !name.bytes().all(|byte| byte.is_ascii_graphic()) || name.eq_ignore_ascii_case(dpop::SCHEME) {
                let message = format!("{name:?}, expected a type such as \"Bearer\", or \"absent\"");
                self.error(&path.index(index), &message);
            }
            if name == ABSENT { types.absent = true } else { types.names.push(name.clone()) }
        }
        types
    }

    /// The grant type of the token request.
    #[inline(never)]
    fn grant_type(
        &mut self,
        path: &Path,
        written: &config::Credential,
        client_id: Option<&str>,
        issuer: Option<&str>,
    ) -> Option<GrantType> {
        match written.grant_type {
            config::GrantType::ClientCredentials => Some(GrantType::ClientCredentials),
            config::GrantType::TokenExchange => {
                let field = path.name("subject_token_type");
                let subject = self.token_type(&field, written.subject_token_type.as_deref());
                let field = path.name("requested_token_type");
                let requested = self.token_type(&field, written.requested_token_type.as_deref());
                if requested.as_deref() == Some(token_response::REFRESH_TOKEN) {
                    let message = "a refresh token, expected access_token, jwt or another (no service may see a refresh token)";
                    self.error(&field, message);
                }
                let own = || token_response::ACCESS_TOKEN.to_owned();
                let subject = subject.unwrap_or_else(own);
                let field = path.name("actor_token_type");
                let actor = self.token_type(&field, written.actor_token_type.as_deref());
                let actor = written.actor_token.is_some().then(|| actor.unwrap_or_else(own));
                Some(GrantType::TokenExchange { subject, requested, actor })
            }
            config::GrantType::JwtBearer if written.assertion.is_some() => {
                Some(GrantType::JwtBearer(AssertionSource::Subject))
            }
            config::GrantType::JwtBearer => {
                let key = self.key(path, written)?;
                let subject = written.assertion_subject.as_deref().or(client_id).unwrap_or_default();
                let subject = subject.to_owned();
                let target = target(written, issuer);
                if subject.is_empty() {
                    let message = "missing, expected client_id, or the subject of the token";
                    self.error(&path.name("assertion_subject"), message);
                }
                let mut extra_claims = String::new();
                for (name, value) in &written.assertion_claims {
                    if ["iss", "sub", "aud", "jti", "iat", "exp", "nbf"].contains(&name.as_str()) {
                        let message = "a reserved claim, expected assertion_subject or assertion_audience";
                        self.error(&path.name("assertion_claims").name(name), message);
                    }
                    let name = serde_json::Value::from(name.as_str()).to_string();
                    extra_claims.push_str(&[",", &name, ":", &value.to_string()].concat());
                }
                let wants_id_token = written.assertion_claims.contains_key("target_audience");
                let assertion = AssertionGrant { key, subject, target, extra_claims, wants_id_token };
                Some(GrantType::JwtBearer(AssertionSource::Signed(Box::new(assertion))))
            }
        }
    }

    /// A short name of RFC 8693 section 3, or a URN.
    #[inline(never)]
    fn token_type(&mut self, path: &Path, written: Option<&str>) -> Option<String> {
        let written = written?;
        if written.starts_with("urn:") || written.starts_with("https://") {
            return Some(written.to_owned());
        }
        if !["access_token", "jwt", "id_token", "refresh_token"].contains(&written) {
            self.error(path, &format!("{written:?}, expected access_token, jwt, id_token or a URN"));
        }
        Some(["urn:ietf:params:oauth:token-type:", written].concat())
    }

    /// The token of the request that is exchanged or asserted.
    #[inline(never)]
    pub(super) fn subject(
        &mut self,
        field: &Path,
        written: Option<&config::SubjectToken>,
    ) -> Option<SubjectToken> {
        match written {
            None if self.verifies => Some(SubjectToken::Caller),
            None => Some(SubjectToken::Header("authorization".into())),
            Some(config::SubjectToken::Caller) => {
                if !self.verifies {
                    let message = "caller without inbound rules that verify its token, expected {\"header\": \"authorization\"}";
                    self.error_unless(vec![Path::default().name("inbound")], field, message);
                }
                Some(SubjectToken::Caller)
            }
            Some(config::SubjectToken::Header(name)) => {
                Some(SubjectToken::Header(self.header(&field.name("header"), name)))
            }
            Some(config::SubjectToken::File(_) | config::SubjectToken::Credential(_)) => None,
        }
    }

    #[inline(never)]
    fn credential_named(&mut self, rule: &Path, name: Option<&str>) -> Option<CredentialId> {
        match self.credentials.index_of(name, "a credential") {
            Ok(index) => return Some(CredentialId { policy: self.policy_id, index }),
            Err(Some(message)) if name.is_none() => {
                self.error_unless(vec![rule.name("route_metadata")], &rule.name("credential"), &message);
            }
            Err(message) => self.error_if(&rule.name("credential"), message),
        }
        None
    }

    #[inline(never)]
    fn outbound_rule(
        &mut self,
        path: &Path,
        name: Rc<str>,
        rule: &config::OutboundRule,
        outbound: &config::Outbound,
    ) -> Option<OutboundRule> {
        let bound = |(name, credential): (&str, &config::Credential)| {
            let applies = rule.route_metadata || rule.credential.as_deref() == Some(name);
            applies && credential.dpop
        };
        let dpop = outbound.credentials.iter().any(bound);
        let matches = self.request_matcher(&path.name("match"), &rule.r#match);
        let header = self.header(&path.name("header"), rule.header.as_deref().unwrap_or("authorization"));
        let scheme = rule.scheme.clone().unwrap_or_else(|| {
            let scheme = if *header == *"authorization" { "Bearer" } else { "" };
            scheme.to_owned()
        });
        if !scheme.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.error(
                &path.name("scheme"),
                &format!("{scheme:?}, expected one word such as \"Bearer\", or nothing"),
            );
        }
        let second = rule.second_header.as_deref();
        let second_header = second.map(|text| self.header(&path.name("second_header"), text));
        if second_header.as_ref() == Some(&header) {
            self.error(&path.name("second_header"), "the same as header, expected another header");
        }
        let exchanges_it = |(name, credential): (&str, &config::Credential)| {
            let applies = rule.route_metadata || rule.credential.as_deref() == Some(name);
            let subject = match same_token(outbound, credential) {
                SameToken::ForOneCaller(Some(config::SubjectToken::Header(name))) => name,
                SameToken::ForOneCaller(_) => "authorization",
                SameToken::ForAll => return false,
            };
            applies && subject.eq_ignore_ascii_case(&header)
        };
        if rule.existing == Existing::Keep && outbound.credentials.iter().any(exchanges_it) {
            let message = "keep, but the header carries the token that is exchanged, expected overwrite or another header";
            self.error(&path.name("existing"), message);
        }
        let proof = self.dpop_target(path, rule, dpop);
        let proof_header = (*header == *"authorization").then(|| dpop::HEADER.into());
        let prefix = if scheme.is_empty() { scheme } else { format!("{scheme} ") };
        if rule.route_metadata && rule.credential.is_some() {
            self.error(path, "both credential and route_metadata, expected one of them");
        }
        let credential = if rule.route_metadata {
            None
        } else {
            Some(self.credential_named(path, rule.credential.as_deref())?)
        };
        let (existing, unavailable) = (rule.existing, rule.unavailable);
        Some(OutboundRule {
            name,
            matcher: matches,
            credential,
            header,
            prefix,
            second_header,
            proof_header,
            dpop_target: proof,
            existing,
            unavailable,
        })
    }
}

/// The headers in which these rules attach tokens, each once.
pub(super) fn token_headers(rules: &[OutboundRule]) -> Vec<Rc<str>> {
    let mut headers: Vec<Rc<str>> = Vec::new();
    for name in rules.iter().flat_map(|rule| [&rule.header].into_iter().chain(&rule.second_header)) {
        if !headers.contains(name) {
            headers.push(Rc::clone(name));
        }
    }
    headers
}
