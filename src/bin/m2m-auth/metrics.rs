//! `metrics`: every metric that the filter reports; from the table in `src/metrics.rs`.

use crate::CommandOutput;
use m2m_auth::metrics::Metric;
use m2m_auth::oauth::fetch::FetchErrorKind;
use std::fmt::Write as _;

/// Print every metric: its labels, what it counts, and the question that it answers.
#[derive(clap::Args)]
pub(crate) struct MetricsArguments {
    /// Print the page `docs/reference/metrics.md` instead.
    #[arg(long)]
    markdown: bool,
}

const INTRODUCTION: &str = r#"# Metrics

The filter counts in its own memory, so that a metric costs a request no call to Envoy, and adds the counts to Envoy's counters at least
every second. All metrics are counters, and all workers of a process add to the same ones. A counter appears with its first event: treat
an absent one as zero. `m2m-auth metrics` prints this list.

This page is generated from the table in `src/metrics.rs` and from `src/bin/m2m-auth/metrics.rs`: change these, then run `make schema`. A
test fails when this page is stale.

## Labels

The name of a counter in Envoy contains its labels, as in `wasmcustom.m2m_auth_inbound.rule.inventory.decision.allowed`. With this in its
bootstrap, Envoy extracts them:

```yaml
stats_config:
  stats_tags:
    - { tag_name: rule, regex: '^wasmcustom\.m2m_auth_[a-z_]+(\.rule\.([^.]+))' }
    - { tag_name: decision, regex: '^wasmcustom\.m2m_auth_.+(\.decision\.([^.]+))$' }
    - { tag_name: kind, regex: '^wasmcustom\.m2m_auth_[a-z_]+(\.kind\.([^.]+))' }
    - { tag_name: name, regex: '^wasmcustom\.m2m_auth_[a-z_]+(?:\.kind\.[^.]+)?(\.name\.([^.]+))' }
    - { tag_name: outcome, regex: '^wasmcustom\.m2m_auth_.+(\.outcome\.([^.]+))$' }
    - { tag_name: credential, regex: '^wasmcustom\.m2m_auth_upstream_rejected(\.credential\.([^.]+))$' }
    - { tag_name: lookup, regex: '^wasmcustom\.m2m_auth_[a-z_]+(\.lookup\.([^.]+))$' }
    - { tag_name: limit, regex: '^wasmcustom\.m2m_auth_limit_reached.*(\.limit\.([^.]+))$' }
```

In Prometheus (`/stats/prometheus` of Envoy's admin interface) the counter is then
`m2m_auth_inbound{rule="inventory",decision="allowed"}`. Without this setting, and in Istio, whose bootstrap you do not control, it is
`m2m_auth_inbound_rule_inventory_decision_allowed`. Istio reports these counters by default: its proxies keep all whose names start with
`wasm` (`pkg/bootstrap/config.go` of Istio).

A dashboard for Grafana and alerts for Prometheus use the labels: [envoy/grafana](../../envoy/grafana/dashboards/m2m-auth.json),
[envoy/prometheus](../../envoy/prometheus/alerts.yml). [examples/compose](../../examples/compose/README.md) runs all of it.
"#;

const LABELS: &str = "
## Values of the labels

These labels have names from the configuration as values. Letters, digits, `_` and `-` stay; `**` becomes `all`, `*` becomes `any`, and
anything else becomes `_`: the rule `GET,POST /orders/**` is `GET_POST_orders_all`. A label without a value is absent.

| label | value |
|---|---|
| `rule` | the name of the inbound rule, of the outbound rule for `m2m_auth_outbound`; `none` if no rule matched; `resource_metadata` for requests for that document |
| `name` | the issuer (for the kinds `metadata`, `jwks` and `introspection`) or the credential (for `token` and `exchanged_token`) or the cluster and path of the file (for `secret`); for `m2m_auth_limit_reached` the one that the limit belongs to |
| `credential` | the credential |

These have a fixed set of values:

| label | value | of | meaning |
|---|---|---|---|
";

const ANY_INBOUND: &str = "`m2m_auth_inbound`, `m2m_auth_permissive`, `m2m_auth_dry_run`";
const FETCH: &str = "`m2m_auth_fetch`";
const LIMIT: &str = "`m2m_auth_limit_reached`";

/// The values of labels that have a fixed set of them, except the reasons of refusals and the
/// causes of failed fetches: label, value, counters, meaning.
const VALUES: &[[&str; 4]] = &[
    [
        "decision",
        "allowed",
        ANY_INBOUND,
        "forwarded: the token satisfies the rule, or the rule has `allow: true`",
    ],
    [
        "decision",
        "anonymous",
        "`m2m_auth_inbound`",
        "forwarded without a token, by a rule with `mode: optional`",
    ],
    [
        "decision",
        "preflight",
        ANY_INBOUND,
        "a CORS preflight request, forwarded by a rule with `cors_preflight`",
    ],
    [
        "decision",
        "answered",
        "`m2m_auth_inbound`",
        "the protected resource metadata was requested (RFC 9728)",
    ],
    ["decision", "attached", "`m2m_auth_outbound`", "forwarded with a token"],
    [
        "decision",
        "passed",
        "`m2m_auth_outbound`",
        "forwarded without one: `existing: keep`, `unavailable: danger_pass`, or the route's metadata has `none`",
    ],
    [
        "decision",
        "token_removed",
        "`m2m_auth_outbound`",
        "a token of another rule was removed after an internal redirect",
    ],
    ["kind", "metadata", "", "the metadata of an issuer"],
    ["kind", "jwks", "", "the key set of an issuer"],
    ["kind", "token", "", "a token of a credential"],
    ["kind", "exchanged_token", "", "a token for the token of a caller, or for another subject token"],
    ["kind", "introspection", "", "the introspection of a caller's token"],
    ["kind", "secret", FETCH, "a secret or an assertion that is read from a file"],
    ["lookup", "hit", "`m2m_auth_token_cache`", "the token was verified before"],
    ["lookup", "miss", "`m2m_auth_token_cache`", "the signature was verified"],
    ["outcome", "ok", FETCH, "the value was fetched"],
    ["outcome", "shared", FETCH, "another worker has fetched the value, and this one has adopted it"],
    ["limit", "audit_text", LIMIT, "a string that a client chose was cut in the audit log"],
    ["limit", "concurrent_exchanges", LIMIT, "an exchange waited for its turn: too many at the same time"],
    [
        "limit",
        "concurrent_introspections",
        LIMIT,
        "an introspection waited for its turn: too many at the same time",
    ],
    ["limit", "etag", LIMIT, "a key set's `ETag` was too long, and was not used"],
    ["limit", "exchange_rate", LIMIT, "an exchange waited: `requests_per_second`"],
    ["limit", "exchanged_tokens", LIMIT, "an exchanged token was evicted"],
    ["limit", "introspection_rate", LIMIT, "an introspection waited: `requests_per_second`"],
    ["limit", "introspections", LIMIT, "an introspection response was evicted"],
    ["limit", "nonce_bytes", LIMIT, "a nonce, or its origin, was too long and was not stored"],
    ["limit", "nonces", LIMIT, "a nonce was evicted"],
    ["limit", "pending_bytes", LIMIT, "a request was refused: `pending_requests.max_bytes`"],
    ["limit", "pending_requests", LIMIT, "a request was refused: `pending_requests.max`"],
    [
        "limit",
        "pending_unknown_keys",
        LIMIT,
        "a request with an unknown key was refused: too many wait for the key set",
    ],
    [
        "limit",
        "proof_signatures",
        LIMIT,
        "a request was refused: too many signatures of DPoP proofs that the module verifies itself",
    ],
    ["limit", "queued_exchanges", LIMIT, "a subject token was evicted, or refused: the queue was full"],
    ["limit", "queued_introspections", LIMIT, "a token was evicted, or refused: the queue was full"],
    ["limit", "rsa_bits", LIMIT, "an RSA key was skipped: too large"],
    ["limit", "shared_header", LIMIT, "a header of a response was too long for the other workers"],
    [
        "limit",
        "shared_record",
        LIMIT,
        "a shared record was ignored: no worker of this filter can have written it",
    ],
    ["limit", "token_lifetime", LIMIT, "a day was assumed instead of a longer lifetime of a token"],
    [
        "limit",
        "token_signatures",
        LIMIT,
        "a request was refused: too many signatures of tokens that the module verifies itself",
    ],
    ["limit", "unknown_keys", LIMIT, "a `kid` that was not found was forgotten, and may be looked for again"],
    [
        "limit",
        "verified_tokens",
        LIMIT,
        "a verified token was evicted, and is verified again when it returns",
    ],
];

/// What a cause of a failed fetch means, in short.
const fn meaning(kind: FetchErrorKind) -> &'static str {
    match kind {
        FetchErrorKind::Configuration => {
            "the provider rejects the request or the client, or is another issuer"
        }
        FetchErrorKind::Unreachable => "no connection, or no such cluster",
        FetchErrorKind::ConnectionClosed => "the connection was closed before a response; retried at once",
        FetchErrorKind::Timeout => "no response in time",
        FetchErrorKind::ServerError => "the provider is temporarily unavailable: 5xx, 429 and the like",
        FetchErrorKind::NotFound => "not at this location; another one is tried at once",
        FetchErrorKind::TooLarge => "the response is too large",
        FetchErrorKind::Unreadable => "the response is not what was requested, for example HTML",
        FetchErrorKind::Unusable => "the response has no token that can be attached",
        FetchErrorKind::Subject => "the provider does not accept the subject token",
        FetchErrorKind::Denied => "the provider denies the exchange",
        FetchErrorKind::SecretUnavailable => "a secret that is read from a file is not there yet",
        FetchErrorKind::ClientRejected => {
            "the provider rejects the secret or the assertion from a file; it is read again"
        }
        FetchErrorKind::Nonce => "the provider requires its nonce; retried at once",
    }
}

pub(crate) fn run(arguments: &MetricsArguments) -> CommandOutput {
    CommandOutput { output: if arguments.markdown { page() } else { list() }, code: 0 }
}

/// The labels of a metric, each between these marks.
fn labels(metric: Metric, mark: &str) -> String {
    let labels = metric.row().labels.iter().filter(|label| !label.is_empty());
    labels.map(|label| format!("{mark}{label}{mark}")).collect::<Vec<_>>().join(", ")
}

fn list() -> String {
    let mut text = String::new();
    for metric in Metric::ALL {
        let row = metric.row();
        _ = writeln!(text, "m2m_auth_{} ({}) {{{}}}", row.name, row.unit, labels(*metric, ""));
        _ = writeln!(text, "  counts: {}\n  question: {}", row.counts, row.question);
    }
    text
}

fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str(
        "\n## Counters\n\n| counter | labels | unit | what it counts | answers |\n|---|---|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let (row, labels) = (metric.row(), labels(*metric, "`"));
        _ = writeln!(
            text,
            "| `m2m_auth_{}` | {labels} | {} | {} | {} |",
            row.name, row.unit, row.counts, row.question
        );
    }
    text.push_str(LABELS);
    let of_kind = Metric::ALL.iter().filter(|metric| metric.row().labels.contains(&"kind"));
    let of_kind: Vec<String> = of_kind.map(|metric| format!("`m2m_auth_{}`", metric.row().name)).collect();
    for [label, value, counters, meaning] in VALUES {
        let of_kind = of_kind.join(", ");
        let counters = if counters.is_empty() { &of_kind } else { *counters };
        _ = writeln!(text, "| `{label}` | `{value}` | {counters} | {meaning} |");
    }
    for kind in FetchErrorKind::ALL {
        _ = writeln!(text, "| `outcome` | `{}` | {FETCH} | {} |", kind.label(), meaning(kind));
    }
    text.push_str(
        "\n`decision` has the `reason` of a refusal too, for requests that were refused, or would have been: \
         [reasons.md](reasons.md).\n[Fetch outcomes](../operations/troubleshooting.md#fetch-outcomes) says what to do about each \
         `outcome`, and [Limits](limits.md) has\nthe value of each `limit` with its reason.\n",
    );
    text
}
