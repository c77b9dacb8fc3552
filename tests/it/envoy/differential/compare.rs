//! The table as a document for readers who compare the two filters.

use super::Line;
use std::fmt::Write as _;

/// `docs/compare/native-filters.md`.
pub(super) fn document(lines: &[Line]) -> String {
    let refused = |said: &str| Line::status(said) != "200";
    let count = |which: &dyn Fn(&Line) -> bool| lines.iter().filter(|line| which(line)).count();
    let same = count(&|line| !line.differs());
    let only_ours_refuses = count(&|line| !refused(&line.native) && refused(&line.ours));
    let only_native_refuses = count(&|line| refused(&line.native) && !refused(&line.ours));
    let otherwise = lines.len() - same - only_ours_refuses - only_native_refuses;
    let mut text = format!(
        "# m2m-auth beside `jwt_authn` and `rbac`\n\n\
         {} requests, each sent to two listeners of one Envoy 1.40.0: one with Envoy's own `jwt_authn` and `rbac`, one with m2m-auth, with\n\
         the same policy, the same provider and the same service ([both configurations](../../tests/data/differential.yaml)). This document is\n\
         made from the table that `tests/it/envoy/differential.rs` holds against both; the test fails when either of them answers otherwise.\n\n\
         | | requests |\n|---|---:|\n\
         | the same status | {same} |\n\
         | allowed by native, refused by m2m-auth | {only_ours_refuses} |\n\
         | refused by native, allowed by m2m-auth | {only_native_refuses} |\n\
         | refused by both, with another status | {otherwise} |\n\n\
         Native has the three path settings of its connection manager on here (`normalize_path`, `merge_slashes`,\n\
         `path_with_escaped_slashes_action: REJECT_REQUEST`), which are off by default, and `require_expiration`; m2m-auth has no setting on that\n\
         is off by default. It judges one policy with roles and scopes of Keycloak's layout; it says nothing of speed\n\
         ([Benchmarks](benchmarks.md)) or of what happens when a provider fails ([Behaviour under faults](faults.md)).\n\
         One thing that no status reveals: m2m-auth answers a token of an unknown key only after it has fetched the key set again, at most every\n\
         3 s, so that such a request may be held for as long; native refuses it at once.\n",
        lines.len()
    );
    section(
        &mut text,
        "What you may dislike",
        "Where native takes what m2m-auth refuses, from senders that you may not be able to change; and where native is the stricter one.",
        lines.iter().filter(|line| line.dislike),
    );
    section(
        &mut text,
        "Allowed by native, refused by m2m-auth",
        "",
        lines.iter().filter(|line| !line.dislike && !refused(&line.native) && refused(&line.ours)),
    );
    section(
        &mut text,
        "Refused by native, allowed by m2m-auth",
        "",
        lines.iter().filter(|line| !line.dislike && refused(&line.native) && !refused(&line.ours)),
    );
    section(
        &mut text,
        "Refused by both, with another status",
        "",
        lines
            .iter()
            .filter(|line| !line.dislike && line.differs() && refused(&line.native) && refused(&line.ours)),
    );
    text.push_str("\n## The same from both\n\nFor these, native is as good.\n");
    let mut group = "";
    for line in lines.iter().filter(|line| !line.differs()) {
        if line.group != group {
            group = &line.group;
            write!(text, "\n### {group}\n\n| request | `jwt_authn`, `rbac` | m2m-auth |\n|---|---|---|\n")
                .unwrap();
        }
        writeln!(text, "| {} | {} | {} |", cell(&line.case), cell(&line.native), cell(&line.ours)).unwrap();
    }
    text
}

fn section<'l>(text: &mut String, title: &str, about: &str, lines: impl Iterator<Item = &'l Line>) {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return;
    }
    write!(text, "\n## {title}\n\n").unwrap();
    if !about.is_empty() {
        write!(text, "{about}\n\n").unwrap();
    }
    text.push_str("| request | `jwt_authn`, `rbac` | m2m-auth | why |\n|---|---|---|---|\n");
    for line in lines {
        let [case, native, ours, why] =
            [&line.case, &line.native, &line.ours, &line.why].map(|text| cell(text));
        writeln!(text, "| {case} | {native} | {ours} | {why} |").unwrap();
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
