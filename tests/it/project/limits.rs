//! The table of limits in `docs/reference/limits.md` is right: each constant has that value, each
//! test and each metric exists, and no limit of the source is missing.

use crate::project::tree::{code, files, read, root, rows, tests};
use m2m_auth::inbound::refusal::reason::Reason;
use std::collections::BTreeSet;
use std::fs;

/// Constants that are named like limits but are something else: what they are.
const NO_LIMITS: &[(&str, &str)] = &[
    ("src/policy/compile/issuer.rs", "MAX_STALE"),    // a default
    ("src/policy/compile/issuer.rs", "MAX_BACKOFF"),  // a default
    ("src/store/lease/schedule.rs", "MAX_DOUBLINGS"), // of the backoff, which has its own cap
    ("src/jose/jwk.rs", "MIN_RSA_BITS"),              // RFC 7518, not ours: docs/internals/conformance.md
];

/// The cells of a row: what, where, how much, why, what happens, metric, tests.
fn table() -> Vec<Vec<String>> {
    let rows = rows(&read("docs/reference/limits.md"), "limit");
    assert!(rows.len() > 25, "{} rows", rows.len());
    rows
}

/// The names and values of the constants in a file, type and all: `MAX_DEPTH`, `32`.
fn constants(text: &str) -> Vec<(String, String)> {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let flat = product.replace("\n    ", " ");
    let found = flat.lines().filter_map(|line| {
        let line = line.trim_start();
        let rest =
            line.split_once("const ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        let (name, rest) = rest?.1.split_once(": ")?;
        let value = rest.split_once(" = ")?.1.trim_end_matches(';');
        Some((name.to_owned(), value.to_owned()))
    });
    found.collect()
}

#[test]
fn each_limit_has_the_value_that_the_table_says() {
    for row in table() {
        let place = code(&row[1]);
        let constants = constants(&read(place[0]));
        let value = constants.iter().find(|(name, _)| name == place[1]).map(|(_, value)| value.as_str());
        assert_eq!(value, Some(code(&row[2])[0]), "{} in {}", place[1], place[0]);
    }
}

#[test]
fn each_limit_has_a_reason_and_says_what_happens() {
    for row in table() {
        assert!(row.len() == 7 && row.iter().all(|cell| cell.len() > 2), "{row:?}");
    }
}

#[test]
fn each_limit_is_crossed_by_a_test() {
    let tests = tests();
    for row in table() {
        let named = code(&row[6]);
        assert!(!named.is_empty(), "{row:?}");
        for test in named {
            assert!(tests.contains(test), "{}: there is no test {test}", row[0]);
        }
    }
}

#[test]
fn each_limit_is_reported_by_a_metric() {
    let (stats, causes) = (read("src/metrics.rs"), read("src/oauth/fetch.rs"));
    let bounds = [
        read("src/store/limit_metrics.rs"),
        read("src/plugin.rs"),
        read("src/plugin/upstream_responses.rs"),
        read("src/plugin/report.rs"),
    ]
    .concat();
    for row in table() {
        if row[5] == "an error" {
            continue; // the configuration is rejected, and Envoy's own counters report that
        }
        for metric in code(&row[5]) {
            let (kind, label) = metric.rsplit_once('.').unwrap_or(("", metric));
            let exists = match kind.rsplit(['.', '…']).next().unwrap() {
                "decision" => Reason::from_name(label).is_some(),
                "outcome" => causes.contains(&format!("=> \"{label}\"")),
                "limit" => bounds.contains(&format!("\"{label}\"")),
                _ => stats.contains(&format!("(\"{}\", ", label.trim_start_matches("m2m_auth_"))),
            };
            assert!(exists && metric.starts_with("m2m_auth_"), "{}: nothing counts {metric}", row[0]);
        }
    }
}

#[test]
fn every_bound_that_is_reported_is_in_the_table() {
    let document = read("docs/reference/limits.md");
    let source = read("src/store/limit_metrics.rs");
    for label in source.split('"').skip(1).step_by(2).filter(|label| label.len() > 1) {
        assert!(
            document.contains(&format!("…limit.{label}`")),
            "docs/reference/limits.md does not explain {label}"
        );
    }
}

#[test]
fn no_limit_of_the_source_is_missing() {
    let named: BTreeSet<(String, String)> =
        table().iter().map(|row| (code(&row[1])[0].to_owned(), code(&row[1])[1].to_owned())).collect();
    let is_limit = |name: &str| {
        let starts = ["MAX_", "MOST", "MIN_", "LONGEST"];
        starts.iter().any(|start| name.starts_with(start))
            || name.contains("PER_SECOND")
            || name == "TOKEN_CACHE"
    };
    let mut missing = Vec::new();
    for file in files(&root().join("src")) {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        for (name, _) in constants(&fs::read_to_string(&file).unwrap()) {
            let none = NO_LIMITS.contains(&(path.as_str(), name.as_str()));
            if is_limit(&name) && !none && !named.contains(&(path.clone(), name.clone())) {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
