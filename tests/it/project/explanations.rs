//! The pages that explain and that help in operation: their tables are complete, and the
//! command-line tool decides as they say.

use super::tree::{code, read, rows};
use crate::core::cli::{Folder, run};
use m2m_auth::inbound::refusal::reason::Reason;
use serde_json::Value;
use std::collections::BTreeSet;

const RULES: &str = "docs/explanation/rules-and-paths.md";
const TROUBLESHOOTING: &str = "docs/operations/troubleshooting.md";
const RUNBOOK: &str = "docs/operations/alerts-runbook.md";

/// What `explain` decides about a request: `accepted`, or the refusal.
fn explained(config: &str, request: &[&str]) -> String {
    let ran = run(&[&["explain", "--config", config], request].concat());
    let decision = |line: &&str| line.starts_with("accepted") || line.starts_with("refused");
    let found = ran.says.lines().find(decision);
    found.unwrap_or_else(|| panic!("{request:?}: {} {}", ran.says, ran.complains)).to_owned()
}

#[test]
fn the_page_about_rules_has_the_answer_to_every_path_that_it_names() {
    let (page, folder) = (read(RULES), Folder::new());
    let block = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = folder.file("rules.yaml", block);
    let mut checked = 0;
    for row in rows(&page, "request") {
        let reason = row[1].split_once("400 ").map_or("no_token", |(_, reason)| code(reason)[0]);
        // Another method than GET is below.
        let is_get = reason != "ambiguous_method";
        for path in code(&row[0]).into_iter().filter(|own| is_get && own.starts_with('/')) {
            let decision = explained(&config, &["--path", path]);
            assert!(decision.contains(&format!("({reason})")), "{path}: {decision}, the page has {reason}");
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked}");
    for request in [&["--method", "delete"][..], &["--header", "x-http-method-override: DELETE"]] {
        let decision = explained(&config, &[request, &["--path", "/orders/1/items"]].concat());
        assert!(decision.contains("(ambiguous_method)"), "{request:?}: {decision}");
    }
}

#[test]
fn the_page_about_rules_has_what_each_match_matches() {
    let (page, folder) = (read(RULES), Folder::new());
    let mut checked = 0;
    for (number, row) in rows(&page, "`match`").into_iter().enumerate() {
        let config = format!(
            "issuers: {{ keycloak: {{ issuer: \"https://keycloak.example.com\", cluster: keycloak }} }}\n\
             inbound:\n  rules:\n    - match: {{ {} }}\n      allow: true\n    - match: {{ path: /never }}\n      \
             require: {{ issuer: keycloak, audiences: [a] }}\n",
            code(&row[0])[0]
        );
        let config = folder.file(&format!("match-{number}.yaml"), &config);
        for (cell, expected) in [(&row[1], "accepted"), (&row[2], "(no_rule)")] {
            for path in code(cell) {
                let decision = explained(&config, &["--path", path]);
                assert!(decision.contains(expected), "{row:?}: {path}: {decision}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn every_reason_is_among_the_symptoms() {
    let found: BTreeSet<String> = rows(&read(TROUBLESHOOTING), "answer")
        .iter()
        .flat_map(|row| code(&row[0]).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let missing: Vec<&&str> = reasons.iter().filter(|reason| !found.contains(**reason)).collect();
    assert!(reasons.len() > 50 && missing.is_empty(), "{TROUBLESHOOTING} lacks {missing:?}");
}

#[test]
fn every_counter_is_among_the_symptoms_or_is_no_symptom() {
    let page = read(TROUBLESHOOTING);
    let source = read("src/metrics.rs");
    let names = source.split("Metric::").skip(1);
    let names = names.filter_map(|arm| arm.split_once(" => (\"")?.1.split('"').next());
    // A reason is a symptom, and not that requests are counted.
    for name in names.filter(|name| !["inbound", "outbound", "permissive", "dry_run"].contains(name)) {
        assert!(page.contains(&format!("`m2m_auth_{name}`")), "{TROUBLESHOOTING} lacks m2m_auth_{name}");
    }
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() {
    let page = read(RUNBOOK);
    let alerts: Value = serde_norway::from_str(&read("envoy/prometheus/alerts.yml")).unwrap();
    let alerts = alerts["groups"][0]["rules"].as_array().unwrap();
    let named: Vec<&str> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    let entries: Vec<&str> = sections
        .iter()
        .filter_map(|section| section.lines().next())
        .filter(|title| title.starts_with("M2mAuth"))
        .collect();
    assert!(named.len() >= 5);
    assert_eq!(entries, named);
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let url = format!("{RUNBOOK}#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook_url"].as_str(), Some(&*url), "{name}");
        let section = sections.iter().find(|section| section.starts_with(name)).unwrap();
        for part in ["**Meaning.**", "**First look.**", "**Causes and actions.**", "```promql"] {
            assert!(section.contains(part), "{name} lacks {part}");
        }
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(section.contains(&format!("Severity: {severity}.")), "{name} is {severity}");
    }
}
