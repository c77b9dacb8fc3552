//! `docs/reference/metrics.md` has every metric that is counted, with every label and value.
//!
//! The drivers of the suites `core::sim` and `shell` ask here about each name that they see, so
//! every test in them is one of this page.

use super::{root, run};
use crate::project::tree::{code, files, rows};
use m2m_auth::inbound::refusal::reason::Reason;
use m2m_auth::metrics::Metric;
use m2m_auth::oauth::fetch::FetchErrorKind;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::OnceLock;

/// What the page says.
struct Page {
    /// The labels of each counter.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// Counter, label and value, where the values are a fixed set.
    values: BTreeSet<[String; 3]>,
}

fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        let text = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
        let owned = |cell: &str| code(cell).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let counters = rows(&text, "counter").into_iter();
        let labels = counters.map(|row| (owned(&row[0]).remove(0), owned(&row[1]).into_iter().collect()));
        let mut values = BTreeSet::new();
        for row in rows(&text, "label").iter().filter(|row| row.len() == 4) {
            for counter in owned(&row[2]) {
                values.insert([counter, owned(&row[0]).remove(0), owned(&row[1]).remove(0)]);
            }
        }
        Page { labels: labels.collect(), values }
    })
}

/// Whether the page has this counter, as the filter names it: with these labels and values.
pub(crate) fn is_documented(name: &str) -> bool {
    let mut parts = name.split('.');
    let counter = parts.next().unwrap_or_default();
    let Some(labels) = page().labels.get(counter) else { return false };
    while let Some(label) = parts.next() {
        let value = parts.next().unwrap_or_default();
        let is_name = ["rule", "name", "credential"].contains(&label);
        let is_reason = label == "decision" && Reason::from_name(value).is_some();
        let is_listed = || page().values.contains(&[counter, label, value].map(str::to_owned));
        if !labels.contains(label) || value.is_empty() || !(is_name || is_reason || is_listed()) {
            return false;
        }
    }
    true
}

#[test]
fn what_the_page_does_not_have_is_noticed() {
    for known in [
        "m2m_auth_inbound.rule.items.decision.allowed",
        "m2m_auth_inbound.rule.items.decision.no_token",
        "m2m_auth_outbound.rule.items.decision.attached",
        "m2m_auth_fetch.kind.jwks.name.idp.outcome.timeout",
        "m2m_auth_limit_reached.limit.nonces",
        "m2m_auth_audit_suppressed",
    ] {
        assert!(is_documented(known), "{known}");
    }
    for unknown in [
        "m2m_auth_inbuond.rule.items.decision.allowed",
        "m2m_auth_inbound.rule.items.decision.attached",
        "m2m_auth_inbound.name.items.decision.allowed",
        "m2m_auth_inbound.rule.items.decision",
        "m2m_auth_fetch.kind.keys.name.idp.outcome.ok",
        "m2m_auth_limit_reached.limit.colour",
    ] {
        assert!(!is_documented(unknown), "{unknown}");
    }
}

#[test]
fn the_page_has_the_metrics_of_the_table_and_every_cause_of_a_failed_fetch() {
    let named: BTreeSet<String> =
        Metric::ALL.iter().map(|metric| format!("m2m_auth_{}", metric.row().name)).collect();
    assert_eq!(page().labels.keys().cloned().collect::<BTreeSet<_>>(), named);
    let outcomes = page().values.iter().filter(|[_, label, _]| label == "outcome");
    let outcomes: BTreeSet<&str> = outcomes.map(|[.., value]| value.as_str()).collect();
    let causes = FetchErrorKind::ALL.iter().map(|kind| kind.label()).chain(["ok", "shared"]);
    assert_eq!(outcomes, causes.collect());
    let listed = run(&["metrics"]).says;
    assert!(named.iter().all(|name| listed.contains(&format!("{name} ("))), "{listed}");
}

/// Each value is a string of the library: nothing that is listed has been removed since.
#[test]
fn the_page_has_no_value_that_is_never_counted() {
    let own = |file: &std::path::PathBuf| !file.starts_with(root().join("src/bin"));
    let source: String = files(&root().join("src"))
        .iter()
        .filter(|file| own(file))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    assert!(page().values.len() > 50, "{}", page().values.len());
    for [counter, label, value] in &page().values {
        assert!(source.contains(&format!("\"{value}\"")), "{counter} {label}: {value}");
    }
}
