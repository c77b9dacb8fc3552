//! Roles and scopes: sets of names, found where the caller's provider writes them.

use super::{AccessDenied, DeniedKind, glob};
use crate::inbound::jwt::Caller;
use serde_json::Value;

/// Names that must stand, or must not stand, in one of a caller's sets.
#[derive(Clone, Debug)]
pub struct NameCheck {
    /// Which set.
    pub source: Source,
    /// How many of them.
    pub quantifier: Quantifier,
    /// The names.
    pub names: Vec<String>,
    /// Whether a `*` in them matches any string.
    pub glob: bool,
}

/// What a token lists of its caller; where it does, its provider's layout says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Roles that belong to no client: `realm_access.roles` (Keycloak).
    Roles,
    /// Roles at this client: `resource_access.<client>.roles` (Keycloak).
    ClientRoles(String),
    /// Scopes (RFC 8693 section 4.2, RFC 9068 section 2.2.3): a string of names with spaces between, or an array.
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

impl NameCheck {
    pub(super) fn holds(&self, caller: &Caller) -> bool {
        let set = self.source.lookup(caller);
        let has = |name: &String| set.is_some_and(|set| self.is_in(name, set));
        match self.quantifier {
            Quantifier::All => self.names.iter().all(has),
            Quantifier::Any => self.names.iter().any(has),
            // What cannot be read may hold any name.
            Quantifier::None => set.is_none_or(|set| self.source.accepts(set)) && !self.names.iter().any(has),
        }
    }

    fn is_in(&self, name: &str, set: &Value) -> bool {
        let is = |entry: &str| if self.glob { glob::matches(name, entry) } else { entry == name };
        match set {
            Value::Array(list) => list.iter().any(|entry| entry.as_str().is_some_and(is)),
            Value::String(words) if self.source == Source::Scopes => words.split(' ').any(is),
            _ => false,
        }
    }

    #[inline(never)]
    pub(super) fn denied(&self) -> AccessDenied {
        let (kind, what) = match &self.source {
            Source::Roles => (DeniedKind::Role, "role".to_owned()),
            Source::ClientRoles(client) => (DeniedKind::ClientRole, format!("role of client {client}")),
            Source::Scopes => (DeniedKind::Scope, "scope".to_owned()),
        };
        let list = self.names.join(", ");
        let sentence = match (self.quantifier, self.names.len()) {
            (Quantifier::None, _) => format!("forbidden {what}: any of {list}"),
            (_, 1) => format!("required {what}: {list}"),
            (Quantifier::All, _) => format!("required {what}: all of {list}"),
            (Quantifier::Any, _) => format!("required {what}: any of {list}"),
        };
        // A pattern is nothing that can be asked for.
        let asked = self.source == Source::Scopes && self.quantifier != Quantifier::None && !self.glob;
        AccessDenied { message: sentence, kind, scope: asked.then(|| self.names.join(" ")) }
    }
}

impl Source {
    fn accepts(&self, set: &Value) -> bool {
        match set {
            Value::Array(list) => list.iter().all(Value::is_string),
            Value::String(_) => *self == Self::Scopes,
            _ => false,
        }
    }

    /// The first that is there, as the caller's provider writes them.
    fn lookup<'c>(&self, caller: &'c Caller) -> Option<&'c Value> {
        let layout = caller.layout();
        match self {
            Self::Roles => layout.roles.iter().find_map(|path| caller.claim(path)),
            Self::ClientRoles(client) => {
                let (clients, roles) = layout.client_roles?;
                caller.claim(&[clients, client, roles])
            }
            Self::Scopes => layout.scopes.iter().find_map(|name| caller.claim(&[name])),
        }
    }
}

/// Every role of a caller, and the client that it is a role of; realm roles are none's.
pub fn roles(caller: &Caller) -> Vec<(Option<&str>, &str)> {
    let mut roles: Vec<_> = listed(Source::Roles.lookup(caller)).map(|role| (None, role)).collect();
    let Some((clients, member)) = caller.layout().client_roles else {
        return roles;
    };
    for (client, access) in caller.claim(&[clients]).and_then(Value::as_object).into_iter().flatten() {
        roles.extend(listed(access.get(member)).map(|role| (Some(client.as_str()), role)));
    }
    roles
}

/// Every scope of a caller.
pub fn scopes(caller: &Caller) -> Vec<&str> {
    match Source::Scopes.lookup(caller) {
        Some(Value::String(words)) => words.split(' ').filter(|word| !word.is_empty()).collect(),
        set => listed(set).collect(),
    }
}

fn listed(array: Option<&Value>) -> impl Iterator<Item = &str> {
    array.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
