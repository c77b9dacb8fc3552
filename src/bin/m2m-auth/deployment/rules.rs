//! Compares the rules of a configuration: rules that never match, and rules that match more than
//! intended.
//!
//! Rules are compared as written. A rule with an unknown condition is never reported.

use super::DeployedPlugin;
use crate::finding::{Finding, FindingName};
use m2m_auth::config::path_deserializer::Path;
use serde_json::{Map, Value};

pub(super) fn check(deployed: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    for direction in ["inbound", "outbound"] {
        let rules =
            deployed.configuration.get(direction).and_then(|section| section.get("rules")?.as_array());
        let rules = rules.map(Vec::as_slice).unwrap_or_default();
        let path = deployed.root().name(direction).name("rules");
        for (index, rule) in rules.iter().enumerate() {
            let path = path.index(index);
            found.extend(star(&path, rule));
            found.extend(allows_all(&path, rule));
            // Conditions with errors are not compared.
            if deployed.policy.is_some() {
                let earlier = rules.iter().take(index).position(|earlier| covers(earlier, rule));
                found.extend(earlier.map(|earlier| shadowed(path, direction, earlier)));
            }
        }
    }
}

fn star(path: &Path, rule: &Value) -> Option<Finding> {
    let name = ["path", "path_prefix"].into_iter().find(|name| {
        let path = rule.get("match").and_then(|matcher| matcher.get(name)?.as_str());
        path.is_some_and(|path| path.contains('*'))
    })?;
    let message = format!(
        "`*` is an ordinary character in {name}: the rule matches only paths that contain a star. Use path_template, where `*` \
         is one segment and `**` at the end is any number of them."
    );
    Some(Finding::new(FindingName::StarInPath, path.name("match").name(name), message))
}

fn allows_all(path: &Path, rule: &Value) -> Option<Finding> {
    let allows = rule.get("allow") == Some(&Value::Bool(true));
    let message = "this rule allows every request that no earlier rule matches, without a token. Name the paths that need \
                   none; a request that no rule matches is refused.";
    (allows && covers(&no_match(), rule) && covers(rule, &no_match()))
        .then(|| Finding::new(FindingName::AllowAll, path.clone(), message))
}

fn no_match() -> Value {
    serde_json::json!({})
}

fn shadowed(path: Path, direction: &str, earlier: usize) -> Finding {
    let message = format!(
        "never used: {direction}.rules[{earlier}] matches every request that this rule matches, and the first match decides. \
         Put this rule first, or remove it."
    );
    Finding::new(FindingName::ShadowedRule, path, message)
}

/// Whether it is certain that the first rule matches every request that the second one matches.
fn covers(first: &Value, second: &Value) -> bool {
    let empty = Map::new();
    let of = |rule: &'_ Value| rule.get("match").and_then(Value::as_object).cloned();
    let (first_match, second_match) =
        (of(first).unwrap_or_else(|| empty.clone()), of(second).unwrap_or(empty));
    let known = ["host", "path", "path_prefix", "path_template", "methods", "headers", "cluster"];
    if !first_match.keys().all(|name| known.contains(&name.as_str())) {
        return false;
    }
    // A preflight is matched as the request that it announces. Rules with `route_metadata` match
    // only routes that name a credential.
    let same = |name: &str| is_true(first, name) == is_true(second, name);
    let every_method = methods(&first_match).is_empty();
    let for_every_route = !is_true(first, "route_metadata") || is_true(second, "route_metadata");
    (same("cors_preflight") || every_method)
        && for_every_route
        && covers_host(&first_match, &second_match)
        && covers_path(&first_match, &second_match)
        && (every_method || covers_methods(&methods(&first_match), &methods(&second_match)))
        && covers_headers(&first_match, &second_match)
        && (first_match.get("cluster").is_none() || first_match.get("cluster") == second_match.get("cluster"))
}

fn is_true(rule: &Value, name: &str) -> bool {
    rule.get(name) == Some(&Value::Bool(true))
}

fn methods(matcher: &Map<String, Value>) -> Vec<&str> {
    matcher.get("methods").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn covers_methods(first: &[&str], second: &[&str]) -> bool {
    // GET includes HEAD.
    let covered = |method: &&str| first.contains(method) || (*method == "HEAD" && first.contains(&"GET"));
    !second.is_empty() && second.iter().all(covered)
}

/// Hosts are compared without regard to case, and without the port unless the rule has one.
fn covers_host(first: &Map<String, Value>, second: &Map<String, Value>) -> bool {
    let of = |matcher: &Map<String, Value>| {
        matcher.get("host").and_then(Value::as_str).map(str::to_ascii_lowercase)
    };
    match (of(first), of(second)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(first), Some(second)) => {
            let suffix = first.strip_prefix('*');
            let inside = |suffix: &str| {
                let name = second.strip_prefix('*').unwrap_or(&second);
                !second.contains(':')
                    && name.ends_with(suffix)
                    && (name.len() > suffix.len() || second.starts_with('*'))
            };
            first == second || suffix.is_some_and(inside)
        }
    }
}

/// A segment of a rule's path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PatternSegment<'a> {
    Literal(&'a str),
    /// Any one segment.
    One,
    /// Any number of segments, to the end.
    Rest,
}

/// The condition on the path; a prefix is a template that ends in `**`.
fn segments<'r>(matcher: &'r Map<String, Value>) -> Vec<PatternSegment<'r>> {
    let text = |name: &str| matcher.get(name).and_then(Value::as_str);
    let literals =
        |text: &'r str| text.split('/').filter(|segment| !segment.is_empty()).map(PatternSegment::Literal);
    if let Some(path) = text("path") {
        return literals(path).collect();
    }
    if let Some(template) = text("path_template") {
        let written = template.split('/').filter(|segment| !segment.is_empty());
        return written
            .map(|segment| match segment {
                "**" => PatternSegment::Rest,
                "*" => PatternSegment::One,
                segment if segment.starts_with('{') && segment.ends_with("=**}") => PatternSegment::Rest,
                segment if segment.starts_with('{') => PatternSegment::One,
                segment => PatternSegment::Literal(segment),
            })
            .collect();
    }
    literals(text("path_prefix").unwrap_or_default()).chain([PatternSegment::Rest]).collect()
}

fn covers_path(first: &Map<String, Value>, second: &Map<String, Value>) -> bool {
    let (first, second) = (segments(first), segments(second));
    let mut second = second.iter();
    for segment in &first {
        let covered = match (segment, second.next()) {
            (PatternSegment::Rest, _) => return true,
            (_, None | Some(PatternSegment::Rest)) => false,
            (PatternSegment::One, Some(_)) => true,
            (PatternSegment::Literal(_), Some(other)) => segment == other,
        };
        if !covered {
            return false;
        }
    }
    second.next().is_none()
}

/// What a header must be, as written: `"x"`, `{exact}`, `{prefix}` or `{present}`.
fn covers_headers(first: &Map<String, Value>, second: &Map<String, Value>) -> bool {
    let of = |matcher: &Map<String, Value>| {
        matcher.get("headers").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (first, second) = (of(first), of(second));
    first.iter().all(|(name, wanted)| {
        let same = |other: &&String| other.eq_ignore_ascii_case(name);
        second
            .keys()
            .filter(same)
            .filter_map(|name| second.get(name))
            .any(|other| covers_header(wanted, other))
    })
}

fn covers_header(first: &Value, second: &Value) -> bool {
    let exact = |value: &'_ Value| value.as_str().or_else(|| value.get("exact")?.as_str()).map(str::to_owned);
    let prefix = |value: &'_ Value| value.get("prefix").and_then(Value::as_str).map(str::to_owned);
    let present = |value: &Value| value.get("present").and_then(Value::as_bool);
    let value = exact(second).or_else(|| prefix(second));
    match (exact(first), prefix(first), present(first)) {
        (Some(first), _, _) => exact(second) == Some(first),
        (_, Some(first), _) => value.is_some_and(|value| value.starts_with(&first)),
        (_, _, Some(true)) => value.is_some() || present(second) == Some(true),
        (_, _, Some(false)) => present(second) == Some(false),
        _ => false,
    }
}
