//! `reasons`: every reason for which the filter denies a request; from the table in
//! `src/inbound/refusal/reason.rs`.

use crate::CommandOutput;
use m2m_auth::inbound::refusal::reason::Reason;
use std::fmt::Write as _;

/// Print every reason for which a request is denied: when it happens, and what to do.
#[derive(clap::Args)]
#[command(after_help = "To find the reason for one request: m2m-auth explain --help")]
pub(crate) struct ReasonsArguments {
    /// Print the page `docs/reference/reasons.md` instead.
    #[arg(long)]
    markdown: bool,
}

const INTRODUCTION: &str = "# Reasons

Every refusal has one of these reasons. It is `reason` in the body and in the audit log, `decision` in the metrics
`m2m_auth_inbound…` and `m2m_auth_outbound…`, and `m2m_auth.reason` in the filter state. `m2m-auth explain` prints it for one
request, with what to do.

Statuses 400, 401 and 403 are errors of the caller, and 503 is an error of the filter or of the identity provider: it has
`Retry-After`, and no token helps against it. `%RESPONSE_CODE_DETAILS%` is `m2m_auth_` and the reason, but
`m2m_auth_invalid_token`, `m2m_auth_invalid_proof`, `m2m_auth_insufficient_authentication` and
`m2m_auth_insufficient_permissions` for all reasons of that kind.

This page is generated from the table in `src/inbound/refusal/reason.rs`: change that, then run `make schema`. A test fails when
this page is stale.
";

pub(crate) fn run(arguments: &ReasonsArguments) -> CommandOutput {
    CommandOutput { output: if arguments.markdown { page() } else { list() }, code: 0 }
}

fn list() -> String {
    let mut text = String::new();
    for row in Reason::ALL.iter().map(|reason| reason.row()) {
        _ = writeln!(text, "{} ({} {})", row.name, row.class.status, row.class.error);
        _ = writeln!(text, "  when: {}\n  what to do: {}", row.when, row.what_to_do);
    }
    text
}

fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| reason | status | `error` | when | what to do |\n|---|---|---|---|---|\n");
    for row in Reason::ALL.iter().map(|reason| reason.row()) {
        _ = writeln!(
            text,
            "| `{}` | {} | `{}` | {} | {} |",
            row.name, row.class.status, row.class.error, row.when, row.what_to_do
        );
    }
    text
}
