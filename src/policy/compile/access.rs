//! Compiles what callers must have: roles, scopes, conditions on claims, and their combinations.

use super::Compiler;
use crate::config::path_deserializer::{EMPTY_OBJECT, Path};
use crate::config::{self, Operand, Preset};
use crate::inbound::authorize::{
    ClaimTest, NameCheck, Quantifier, RequestAttribute, Requirement, SAFE_INTEGER_LIMIT, Source,
};
use crate::inbound::claim_layout::{self, ClaimLayout};
use serde_json::{Number, Value};

/// How deep `any` and `all` may nest. Two levels are enough for every boolean formula, and more
/// than four are unreadable.
const MAX_NESTING: usize = 4;

/// The fields that a rule's `require` and the objects in `any` and `all` have in common.
pub(super) struct ConditionFields<'a> {
    roles: Option<&'a config::NameConditions>,
    client_roles: &'a config::Entries<config::NameConditions>,
    scopes: Option<&'a config::NameConditions>,
    claims: Option<&'a [config::ClaimCondition]>,
    any: Option<&'a [config::Conditions]>,
    all: Option<&'a [config::Conditions]>,
}

impl<'a> From<&'a config::Require> for ConditionFields<'a> {
    fn from(require: &'a config::Require) -> Self {
        let config::Require { roles, client_roles, scopes, claims, any, all, .. } = require;
        let (roles, scopes) = (roles.as_ref(), scopes.as_ref());
        let (claims, any, all) = (claims.as_deref(), any.as_deref(), all.as_deref());
        Self { roles, client_roles, scopes, claims, any, all }
    }
}

impl<'a> From<&'a config::Conditions> for ConditionFields<'a> {
    fn from(conditions: &'a config::Conditions) -> Self {
        let config::Conditions { roles, client_roles, scopes, claims, any, all } = conditions;
        let (roles, scopes) = (roles.as_ref(), scopes.as_ref());
        let (claims, any, all) = (claims.as_deref(), any.as_deref(), all.as_deref());
        Self { roles, client_roles, scopes, claims, any, all }
    }
}

/// The claim layout of a preset.
pub(super) fn layout(preset: Preset) -> &'static ClaimLayout {
    match preset {
        Preset::Keycloak => &claim_layout::KEYCLOAK,
        Preset::Auth0 => &claim_layout::AUTH0,
        Preset::Entra => &claim_layout::ENTRA,
        Preset::Okta => &claim_layout::OKTA,
        Preset::Cognito => &claim_layout::COGNITO,
        Preset::Google => &claim_layout::GOOGLE,
        Preset::Kubernetes => &claim_layout::KUBERNETES,
        Preset::Generic => &claim_layout::GENERIC,
    }
}

impl Compiler<'_> {
    /// The claim layouts of those issuers that exist.
    #[inline(never)]
    pub(super) fn layouts_of<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'static ClaimLayout> {
        let of =
            |name: &str| self.layouts.iter().find(|(issuer, _)| issuer == name).map(|(_, layout)| *layout);
        names.filter_map(of).collect()
    }

    #[inline(never)]
    pub(super) fn access(
        &mut self,
        path: &Path,
        conditions: &ConditionFields<'_>,
        layouts: &[&'static ClaimLayout],
        depth: usize,
    ) -> Requirement {
        let mut access = Requirement::default();
        if let Some(names) = conditions.roles {
            let path = path.name("roles");
            self.check_layouts(&path, "roles", layouts, |layout| !layout.roles.is_empty());
            self.names(&path, &Source::Roles, names, &mut access);
        }
        for (client, names) in conditions.client_roles.iter() {
            let path = path.name("client_roles");
            self.check_layouts(&path, "client roles", layouts, |layout| layout.client_roles.is_some());
            self.names(&path.name(client), &Source::ClientRoles(client.to_owned()), names, &mut access);
        }
        if let Some(names) = conditions.scopes {
            let path = path.name("scopes");
            self.check_layouts(&path, "scopes", layouts, |layout| !layout.scopes.is_empty());
            self.names(&path, &Source::Scopes, names, &mut access);
        }
        let claims = path.name("claims");
        for (index, condition) in conditions.claims.into_iter().flatten().enumerate() {
            self.claim(&claims.index(index), condition, &mut access);
        }
        let any = self.nested(&path.name("any"), conditions.any, layouts, depth);
        if !any.is_empty() {
            access.any(any);
        }
        for all in self.nested(&path.name("all"), conditions.all, layouts, depth) {
            access.all(all);
        }
        access
    }

    #[inline(never)]
    fn nested(
        &mut self,
        path: &Path,
        list: Option<&[config::Conditions]>,
        layouts: &[&'static ClaimLayout],
        depth: usize,
    ) -> Vec<Requirement> {
        let list = list.unwrap_or_default();
        if depth >= MAX_NESTING && !list.is_empty() {
            self.error(path, &format!("nested too deep, expected any and all at most {MAX_NESTING} deep"));
            return Vec::new();
        }
        let mut requirements = Vec::new();
        for (index, conditions) in list.iter().enumerate() {
            let (path, before) = (path.index(index), self.errors.len());
            let access =
                self.access(&path, &ConditionFields::from(conditions), layouts, depth.saturating_add(1));
            if access.is_empty() && self.errors.len() == before {
                // It would allow every caller. The parser already rejects it; this is a second
                // check.
                self.error_unless(vec![path.clone()], &path, EMPTY_OBJECT);
            }
            requirements.push(access);
        }
        requirements
    }

    /// At least one of the issuers must have the required claim.
    #[inline(never)]
    fn check_layouts(
        &mut self,
        path: &Path,
        what: &str,
        layouts: &[&'static ClaimLayout],
        has: fn(&ClaimLayout) -> bool,
    ) {
        if let Some(layout) = layouts.first().filter(|_| !layouts.iter().any(|layout| has(layout))) {
            let message =
                format!("the preset {} has no {what}, expected claims, or another preset", layout.name);
            self.error(path, &message);
        }
    }

    #[inline(never)]
    fn names(
        &mut self,
        path: &Path,
        source: &Source,
        names: &config::NameConditions,
        access: &mut Requirement,
    ) {
        let lists = [
            (Quantifier::All, &names.all_of),
            (Quantifier::Any, &names.any_of),
            (Quantifier::None, &names.none_of),
        ];
        let mut any = false;
        for (quantifier, list) in lists {
            let Some(list) = list else { continue };
            any = true;
            access.names(NameCheck {
                source: source.clone(),
                quantifier,
                names: list.clone(),
                glob: names.glob,
            });
        }
        if !any {
            let message = "no names, expected all_of, any_of or none_of";
            self.error_unless(vec![path.clone()], path, message);
        }
    }

    #[inline(never)]
    fn claim(&mut self, path: &Path, condition: &config::ClaimCondition, access: &mut Requirement) {
        let claim = condition.claim.as_ref().map(|claim| claim.0.clone()).unwrap_or_default();
        if claim.is_empty() || claim.iter().any(String::is_empty) {
            let message = "missing or with an empty name, expected a claim such as \"tenant\" or [\"kubernetes.io\", \"namespace\"]";
            self.error_unless(vec![path.name("claim")], &path.name("claim"), message);
        }
        let tests = self.tests(path, condition);
        if tests.is_empty() {
            let message = "no condition, expected one of equals, one_of, contains, prefix, glob, exists, at_least, at_most";
            self.error_unless(vec![path.clone()], path, message);
        }
        if tests.len() > 1 && tests.contains(&ClaimTest::Exists(false)) {
            self.error(path, "exists: false together with another condition, expected it alone");
        }
        for test in tests {
            access.claim(claim.clone(), test);
        }
    }

    #[inline(never)]
    fn tests(&mut self, path: &Path, condition: &config::ClaimCondition) -> Vec<ClaimTest> {
        let mut tests = Vec::new();
        let number = |number: &Number| Value::Number(number.clone());
        let literals: [(&str, Vec<Value>); 5] = [
            ("equals", condition.equals.iter().filter_map(literal).cloned().collect()),
            ("one_of", condition.one_of.iter().flatten().map(|scalar| scalar.0.clone()).collect()),
            ("contains", condition.contains.iter().map(|scalar| scalar.0.clone()).collect()),
            ("at_least", condition.at_least.iter().map(number).collect()),
            ("at_most", condition.at_most.iter().map(number).collect()),
        ];
        for (member, values) in literals {
            if values.iter().any(is_inexact) {
                let message = "a number that a double cannot represent exactly, expected an integer, or a fraction below 2^53";
                self.error(&path.name(member), message);
            }
        }
        match &condition.equals {
            Some(Operand::Literal(value)) => tests.push(ClaimTest::Equals(value.clone())),
            Some(Operand::Header(name)) => {
                tests.push(ClaimTest::EqualsAttribute(RequestAttribute::Header(
                    self.header_to_compare(&path.name("equals").name("header"), name),
                )));
            }
            Some(Operand::Path(name)) => {
                if !self.capture_names.contains(name) {
                    let message =
                        format!("{name:?}, expected the name of a placeholder in the rule's path_template");
                    self.error(&path.name("equals").name("path"), &message);
                }
                tests.push(ClaimTest::EqualsAttribute(RequestAttribute::Path(name.as_str().into())));
            }
            Some(Operand::Host) => tests.push(ClaimTest::EqualsAttribute(RequestAttribute::Host)),
            None => {}
        }
        if let Some(list) = &condition.one_of {
            tests.push(ClaimTest::OneOf(list.iter().map(|scalar| scalar.0.clone()).collect()));
        }
        tests.extend(condition.contains.clone().map(|scalar| ClaimTest::Contains(scalar.0)));
        tests.extend(condition.prefix.clone().map(ClaimTest::Prefix));
        tests.extend(condition.glob.clone().map(ClaimTest::Glob));
        tests.extend(condition.exists.map(ClaimTest::Exists));
        tests.extend(condition.at_least.clone().map(ClaimTest::AtLeast));
        tests.extend(condition.at_most.clone().map(ClaimTest::AtMost));
        tests
    }
}

fn literal(operand: &Operand) -> Option<&Value> {
    match operand {
        Operand::Literal(value) => Some(value),
        Operand::Header(_) | Operand::Path(_) | Operand::Host => None,
    }
}

/// Whether a number is a double that may represent several numbers.
fn is_inexact(value: &Value) -> bool {
    value.as_number().is_some_and(|number| {
        number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= SAFE_INTEGER_LIMIT)
    })
}
