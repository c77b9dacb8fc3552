//! Compiles what a rule requires of a token: issuers, audiences, subjects, clients and age.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::inbound::jwt::{AudienceRequirement, AuthenticationRequirement, IssuerName, RuleRequirements};
use crate::policy::IssuerId;
use std::rc::Rc;

impl Compiler<'_> {
    /// The issuers, one of which must have signed the token. No two of them may share a name, since
    /// a token's `iss` selects the issuer.
    #[inline(never)]
    pub(super) fn issuers_of(&mut self, path: &Path, require: &config::Require) -> Option<Vec<IssuerId>> {
        if require.issuers.is_empty() {
            let index = self.issuers.index_of(require.issuer.as_deref(), "an issuer");
            let unless = if require.issuer.is_none() { vec![path.name("issuers")] } else { Vec::new() };
            return match index {
                Ok(index) => Some(vec![IssuerId { policy: self.policy_id, index }]),
                Err(message) => {
                    let path = path.name("issuer");
                    if let Some(message) = message {
                        self.error_unless(unless, &path, &message);
                    }
                    None
                }
            };
        }
        let path = path.name("issuers");
        if require.issuer.is_some() {
            self.error(&path, "both issuer and issuers, expected one of them");
        }
        let mut found = Vec::new();
        for (index, name) in require.issuers.iter().enumerate() {
            found.extend(self.issuer_named(&path.index(index), Some(name)));
        }
        let known = found.iter().filter_map(|id: &IssuerId| self.issuer_names.get(id.index));
        let mut names: Vec<&IssuerName> = known.flatten().collect();
        names.sort_by(|a, b| a.iss.cmp(&b.iss));
        let duplicate = names.windows(2).find_map(|pair| match pair {
            [a, b] if a.iss == b.iss => Some(a.iss.clone()),
            _ => None,
        });
        if let Some(iss) = duplicate {
            let message =
                format!("{iss:?} is the `iss` of two of these issuers, expected an `iss` to identify one");
            self.error(&path, &message);
        }
        (found.len() == require.issuers.len()).then_some(found)
    }

    #[inline(never)]
    pub(super) fn rule_requirements(&mut self, path: &Path, require: &config::Require) -> RuleRequirements {
        let audiences = self.audiences(path, require);
        RuleRequirements {
            audiences,
            subjects: require.subjects.clone().unwrap_or_default(),
            clients: require.clients.clone().unwrap_or_default(),
            authentication: Rc::new(self.authentication(path, require)),
        }
    }

    /// The values go into a challenge, where spaces separate them.
    #[inline(never)]
    fn authentication(&mut self, path: &Path, require: &config::Require) -> AuthenticationRequirement {
        let acr_values = require.acr_values.clone().unwrap_or_default();
        let is_allowed = |c| matches!(c, '!'..='~') && !matches!(c, '"' | '\\');
        if let Some(value) = acr_values.iter().find(|value| !value.chars().all(is_allowed)) {
            let message =
                format!("{value:?}, expected printable ASCII without spaces, quotes and backslashes");
            self.error(&path.name("acr_values"), &message);
        }
        AuthenticationRequirement {
            max_age: self.seconds(&path.name("max_age"), require.max_age),
            acr_values,
        }
    }

    /// RFC 7519 section 4.1.3, RFC 8725 section 3.9: without an audience every token of the issuer
    /// would be accepted.
    #[inline(never)]
    fn audiences(&mut self, path: &Path, require: &config::Require) -> AudienceRequirement {
        let (written, clients) = (&require.audiences, path.name("clients"));
        let path = path.name("audiences");
        let none = written.any_of.is_none() && written.all_of.is_none();
        if none && require.clients.is_none() {
            let message = "missing, expected at least one audience, or clients for tokens without an `aud`";
            self.error_unless(vec![clients, path.clone()], &path, message);
        }
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        AudienceRequirement { any_of: list(&written.any_of), all_of: list(&written.all_of) }
    }
}
