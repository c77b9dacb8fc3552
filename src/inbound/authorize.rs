//! May this caller do this? A [`Caller`], a [`Requirement`] and what was [`RequestContext`] to yes, or to what was missing.
//!
//! Only the token's own claims count: `act` (RFC 8693 section 4.1) says who acts, and gives no rights.
//! It sees claims and what they are compared with, no more: no token strings, no signatures. What holds is found without
//! an allocation, and the reason of a failure names values of the policy alone.

mod claim;
mod glob;
mod roles;

pub use claim::{ClaimTest, RequestAttribute, SAFE_INTEGER_LIMIT};
pub use roles::{NameCheck, Quantifier, Source, roles, scopes};

use crate::decision_trace;
use crate::http::route::Target;
use crate::inbound::jwt::Caller;
use std::rc::Rc;

/// What a rule asks of a caller; every check must hold.
#[derive(Clone, Debug, Default)]
pub struct Requirement {
    checks: Vec<Check>,
}

/// One thing that must hold, and what is said when it does not.
#[derive(Clone, Debug)]
struct Check {
    condition: Condition,
    denied: Rc<AccessDenied>,
}

#[derive(Clone, Debug)]
enum Condition {
    /// Names of roles or scopes.
    Names(NameCheck),
    /// The claim at this path.
    Claim(Vec<String>, ClaimTest),
    /// At least one of these.
    Any(Vec<Requirement>),
}

/// A request, as far as claims are compared with it.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// What rules see of it.
    pub target: Target<'a>,
    /// Its path, as matched.
    pub captures: &'a Captures,
}

/// What a request's path has in the places of its rule's path, by their names.
pub type Captures = Vec<(Rc<str>, Option<Vec<u8>>)>;

/// What the caller lacks. Made once, from the policy alone, so that it can hold nothing of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDenied {
    /// One sentence for the answer and the audit log.
    pub message: String,
    /// What kind of condition it is.
    pub kind: DeniedKind,
    /// The scopes to ask for (RFC 6750 section 3, `scope`), where scopes are what was missing.
    pub scope: Option<String>,
}

/// The kind of condition that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedKind {
    /// Roles at a client.
    ClientRole,
    /// Roles that belong to no client.
    Role,
    /// Scopes.
    Scope,
    /// A claim.
    Claim,
    /// All of several alternatives.
    NoConditionMet,
}

impl Requirement {
    /// Adds: so many of these names must stand there.
    #[inline(never)]
    pub fn names(&mut self, names: NameCheck) {
        let deny = names.denied();
        self.add(Condition::Names(names), deny);
    }

    /// Adds: the claim at `path` must pass the test.
    #[inline(never)]
    pub fn claim(&mut self, path: Vec<String>, test: ClaimTest) {
        let sentence = test.message(&path);
        self.add(
            Condition::Claim(path, test),
            AccessDenied { message: sentence, kind: DeniedKind::Claim, scope: None },
        );
    }

    /// Adds: at least one of these must hold.
    #[inline(never)]
    pub fn any(&mut self, alternatives: Vec<Self>) {
        let sentences: Vec<String> = alternatives.iter().map(Self::message).collect();
        let deny =
            AccessDenied { message: sentences.join(", or "), kind: DeniedKind::NoConditionMet, scope: None };
        self.add(Condition::Any(alternatives), deny);
    }

    /// Adds: all of that must hold too.
    #[inline(never)]
    pub fn all(&mut self, other: Self) {
        self.checks.extend(other.checks);
    }

    /// The names of places in the path that claims are compared with, each once.
    pub fn compared_captures(&self) -> Vec<Rc<str>> {
        let mut names: Vec<Rc<str>> = Vec::new();
        self.for_each_test(&mut |test| {
            if let ClaimTest::EqualsAttribute(RequestAttribute::Path(name)) = test
                && !names.contains(name)
            {
                names.push(Rc::clone(name));
            }
        });
        names
    }

    /// The headers that claims are compared with.
    pub fn compared_headers(&self) -> Vec<Rc<str>> {
        let mut names = Vec::new();
        self.for_each_test(&mut |test| {
            if let ClaimTest::EqualsAttribute(RequestAttribute::Header(name)) = test {
                names.push(Rc::clone(name));
            }
        });
        names
    }

    fn for_each_test(&self, visit: &mut dyn FnMut(&ClaimTest)) {
        for check in &self.checks {
            match &check.condition {
                Condition::Names(_) => {}
                Condition::Claim(_, test) => visit(test),
                Condition::Any(alternatives) => alternatives.iter().for_each(|one| one.for_each_test(visit)),
            }
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    #[inline(never)]
    fn add(&mut self, what: Condition, deny: AccessDenied) {
        self.checks.push(Check { condition: what, denied: Rc::new(deny) });
    }

    #[inline(never)]
    fn message(&self) -> String {
        let sentences: Vec<&str> = self.checks.iter().map(|check| check.denied.message.as_str()).collect();
        sentences.join(" and ")
    }

    /// Whether the caller has all that is asked for.
    pub fn allows(&self, caller: &Caller, asked: RequestContext<'_>) -> Result<(), Rc<AccessDenied>> {
        self.checks
            .iter()
            .find(|check| !check.holds(caller, asked))
            .map_or(Ok(()), |check| Err(Rc::clone(&check.denied)))
    }

    fn holds(&self, caller: &Caller, asked: RequestContext<'_>) -> bool {
        self.checks.iter().all(|check| check.holds(caller, asked))
    }
}

impl Check {
    fn holds(&self, caller: &Caller, asked: RequestContext<'_>) -> bool {
        let holds = self.condition.holds(caller, asked);
        decision_trace::record("access", holds, || self.denied.message.clone());
        holds
    }
}

impl Condition {
    fn holds(&self, caller: &Caller, asked: RequestContext<'_>) -> bool {
        match self {
            Self::Names(names) => names.holds(caller),
            Self::Claim(path, test) => test.holds(caller.claim(path), asked),
            Self::Any(alternatives) => alternatives.iter().any(|one| one.holds(caller, asked)),
        }
    }
}
