//! The credentials, and the rules that attach their tokens.

use super::{Compiler, DEFAULT_LIFETIME, RESERVED_PARAMETERS, rule_name};
use crate::config::{self, AuthMethod};
use crate::located::Path;
use crate::oauth::Grant;
use crate::policy::{Attach, Credential};
use std::time::Duration;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn outbound(
        &mut self,
        outbound: &config::Outbound,
        issuers: &config::Entries<config::Issuer>,
    ) -> (Vec<Credential>, Vec<Attach>) {
        let path = Path::default().name("outbound");
        let mut credentials = Vec::new();
        for (name, credential) in outbound.credentials.iter() {
            let path = path.name("credentials").name(name);
            credentials.extend(self.credential(&path, name, credential, issuers));
            if !outbound.rules.iter().any(|rule| rule.credential.as_deref() == Some(name)) {
                let unless = vec![Path::default().name("outbound").name("rules")];
                let fault = "no rule uses this credential, expected at least one that does";
                self.wrong_unless(unless, &path, fault);
            }
        }
        if outbound.rules.is_empty() {
            self.wrong_unless(
                vec![path.name("rules")],
                &path.name("rules"),
                "empty, expected at least one rule",
            );
        }
        let mut rules = Vec::new();
        for (index, rule) in outbound.rules.iter().enumerate() {
            rules.extend(self.attach(&path.name("rules").index(index), index, rule));
        }
        self.distinct(&path.name("rules"), outbound.rules.iter().map(|rule| rule.name.as_deref()));
        (credentials, rules)
    }

    #[inline(never)]
    fn credential(
        &mut self,
        path: &Path,
        name: &str,
        written: &config::Credential,
        issuers: &config::Entries<config::Issuer>,
    ) -> Option<Credential> {
        let issuer = self.issuer_named(&path.name("issuer"), written.issuer.as_deref());
        let client_id = written.client_id.clone().filter(|id| !id.is_empty());
        let by_cluster = written.auth_method == AuthMethod::None;
        if client_id.is_none() && !by_cluster {
            self.wrong(&path.name("client_id"), "missing, expected the client's id at the issuer");
        }
        let own_name = issuer.and_then(|id| issuers.0.get(id.0)?.1.issuer.as_deref());
        let auth = self.client(path, written, own_name);
        let mut parameters = Vec::new();
        if !written.scopes.is_empty() {
            parameters.push(("scope".to_owned(), written.scopes.join(" ")));
        }
        for (index, scope) in written.scopes.iter().enumerate() {
            // RFC 6749 section 3.3, `scope-token`.
            if scope.is_empty()
                || !scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
            {
                self.wrong(
                    &path.name("scopes").index(index),
                    &format!("{scope:?}, expected one scope without blanks"),
                );
            }
        }
        parameters.extend(written.audience.iter().map(|audience| ("audience".to_owned(), audience.clone())));
        parameters.extend(written.resource.iter().map(|resource| ("resource".to_owned(), resource.clone())));
        for (name, value) in written.parameters.iter() {
            if RESERVED_PARAMETERS.contains(&name) {
                let fault = "a reserved parameter, expected the credential's own members to set it";
                self.wrong(&path.name("parameters").name(name), fault);
            }
            parameters.push((name.to_owned(), value.clone()));
        }
        let default_lifetime = written.default_lifetime.map_or(DEFAULT_LIFETIME, |span| span.0);
        if default_lifetime < Duration::from_secs(1) {
            self.wrong(&path.name("default_lifetime"), "below 1s, expected at least 1s");
        }
        let client_id = client_id.or_else(|| by_cluster.then(String::new))?;
        let grant = Grant { client_id, auth: auth?, parameters, default_lifetime };
        Some(Credential { name: name.to_owned(), issuer: issuer?, grant })
    }

    #[inline(never)]
    fn attach(&mut self, path: &Path, index: usize, rule: &config::OutboundRule) -> Option<Attach> {
        let matches = self.matches(&path.name("match"), &rule.r#match);
        let header = self.header(&path.name("header"), rule.header.as_deref().unwrap_or("authorization"));
        let scheme = rule.scheme.clone().unwrap_or_else(|| {
            let scheme = if *header == *"authorization" { "Bearer" } else { "" };
            scheme.to_owned()
        });
        if !scheme.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong(
                &path.name("scheme"),
                &format!("{scheme:?}, expected one word such as \"Bearer\", or nothing"),
            );
        }
        let second = rule.second_header.as_deref();
        let second_header = second.map(|text| self.header(&path.name("second_header"), text));
        if second_header.as_ref() == Some(&header) {
            self.wrong(&path.name("second_header"), "the same as header, expected another one");
        }
        let prefix = if scheme.is_empty() { scheme } else { format!("{scheme} ") };
        let credential = self.credential_named(&path.name("credential"), rule.credential.as_deref())?;
        let name = rule_name(rule.name.as_deref(), index);
        let (existing, unavailable) = (rule.existing, rule.unavailable);
        Some(Attach { name, matches, credential, header, prefix, second_header, existing, unavailable })
    }
}
