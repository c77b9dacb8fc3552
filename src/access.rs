//! May this caller do this? A [`Caller`] and a [`Requirement`] to yes, or to what was missing.
//!
//! It sees claims only: no token strings, no signatures, no requests.

use crate::jwt::Caller;
use serde_json::Value;
use std::rc::Rc;

/// What a rule asks of a caller; every check must hold.
#[derive(Clone, Debug, Default)]
pub struct Requirement {
    checks: Vec<Check>,
}

/// A claim that holds a set of names, and which names must be in it.
#[derive(Clone, Debug)]
struct Check {
    source: Source,
    quantifier: Quantifier,
    names: Vec<String>,
    deny: Rc<Deny>,
}

/// Where a token lists what its caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `realm_access.roles` (Keycloak).
    RealmRoles,
    /// `resource_access.<client>.roles` (Keycloak).
    ClientRoles(String),
    /// `scope` (RFC 8693 section 4.2), else `scp` (Okta, Entra); a string of names with blanks between, or an array.
    Scopes,
}

/// How many of the names must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// Every one.
    All,
    /// At least one.
    Any,
    /// Not one.
    None,
}

/// What the caller lacks. Made once, from the policy alone, so that it can hold nothing of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deny {
    /// One sentence for the answer and the audit log.
    pub sentence: String,
    /// The reason in metrics.
    pub label: &'static str,
    /// The scopes to ask for (RFC 6750 section 3, `scope`), where scopes are what was missing.
    pub scope: Option<String>,
}

impl Requirement {
    /// Adds: `quantifier` of `names` must stand in `source`.
    pub fn add(&mut self, source: Source, quantifier: Quantifier, names: Vec<String>) {
        let deny = Rc::new(Deny::new(&source, quantifier, &names));
        self.checks.push(Check { source, quantifier, names, deny });
    }

    /// Whether the caller has all that is asked for.
    pub fn allows(&self, caller: &Caller) -> Result<(), Rc<Deny>> {
        self.checks
            .iter()
            .find(|check| !check.holds(caller))
            .map_or(Ok(()), |check| Err(Rc::clone(&check.deny)))
    }
}

impl Check {
    fn holds(&self, caller: &Caller) -> bool {
        let has = |name: &String| self.source.holds(caller, name);
        match self.quantifier {
            Quantifier::All => self.names.iter().all(has),
            Quantifier::Any => self.names.iter().any(has),
            Quantifier::None => !self.names.iter().any(has),
        }
    }
}

impl Source {
    fn holds(&self, caller: &Caller, name: &str) -> bool {
        match self {
            Self::RealmRoles => {
                caller.claim(&["realm_access", "roles"]).is_some_and(|value| in_array(value, name))
            }
            Self::ClientRoles(client) => {
                let path = ["resource_access", client, "roles"];
                caller.claim(&path).is_some_and(|value| in_array(value, name))
            }
            Self::Scopes => {
                let scopes = caller.claim(&["scope"]).or_else(|| caller.claim(&["scp"]));
                scopes.is_some_and(|value| in_array(value, name) || in_words(value, name))
            }
        }
    }
}

impl Deny {
    fn new(source: &Source, quantifier: Quantifier, names: &[String]) -> Self {
        let (label, what) = match source {
            Source::RealmRoles => ("realm_role", "realm role".to_owned()),
            Source::ClientRoles(client) => ("client_role", format!("role of client {client}")),
            Source::Scopes => ("scope", "scope".to_owned()),
        };
        let list = names.join(", ");
        let sentence = match (quantifier, names.len()) {
            (Quantifier::None, _) => format!("forbidden {what}: any of {list}"),
            (_, 1) => format!("required {what}: {list}"),
            (Quantifier::All, _) => format!("required {what}: all of {list}"),
            (Quantifier::Any, _) => format!("required {what}: any of {list}"),
        };
        let scope = (*source == Source::Scopes && quantifier != Quantifier::None).then(|| names.join(" "));
        Self { sentence, label, scope }
    }
}

fn in_array(value: &Value, name: &str) -> bool {
    value.as_array().is_some_and(|list| list.iter().any(|entry| entry == name))
}

fn in_words(value: &Value, name: &str) -> bool {
    value.as_str().is_some_and(|words| words.split(' ').any(|word| word == name))
}
