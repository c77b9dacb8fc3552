//! `make faults`: what each fault of the identity provider, or of the proxy, costs requests that
//! need a token, through our filter and through Envoy's own, each on an Envoy and with a provider
//! of its own.
//!
//! `faults [--seconds N] [--rate N] [SCENARIO]...`, where a scenario is a variant of [`Scenario`];
//! all of them take about `seconds * 12`. What the figures mean: `docs/compare/faults.md`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a tool: it lives in real time, and prints what it is asked for"
)]

use m2m_auth_kit::faults::{Filter, Order, Outcome, Scenario};
use std::{env, process::exit, time::Duration};

#[tokio::main]
async fn main() {
    let (order, scenarios) = read(env::args().skip(1)).unwrap_or_else(|problem| {
        eprintln!("faults: {problem}");
        exit(2)
    });
    println!("{} s each, {} requests per second:\n", order.span.as_secs(), order.rate);
    println!(
        "| scenario | filter | requests | failed | of them avoidable | token fetches | longest wait (ms) |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    let mut avoidable = 0;
    for scenario in scenarios {
        // Side by side, so that what else the machine does is held against both.
        let (ours, native) = tokio::join!(scenario.play(Filter::Ours, &order), native(scenario, &order));
        println!("{}", line(&scenario.title(&order), "m2m-auth", Some(&ours)));
        println!("{}", line("", "`credential_injector`", native.as_ref()));
        avoidable += ours.avoidable;
        for (name, outcome) in [("m2m-auth", Some(ours)), ("native", native)] {
            if let Some(outcome) = outcome.filter(|outcome| outcome.failed > 0) {
                eprintln!("{scenario:?}, {name}: answers by status {:?}", outcome.by_status);
            }
        }
    }
    if avoidable > 0 {
        eprintln!("faults: {avoidable} requests through m2m-auth failed that need not have");
        exit(1);
    }
}

async fn native(scenario: Scenario, order: &Order) -> Option<Outcome> {
    if !scenario.concerns(Filter::Native) {
        return None;
    }
    Some(scenario.play(Filter::Native, order).await)
}

/// A row of the table; `None` for a filter that the scenario does not concern.
fn line(scenario: &str, filter: &str, outcome: Option<&Outcome>) -> String {
    let Some(outcome) = outcome else {
        return format!("| {scenario} | {filter} | it has no VM | | | | |");
    };
    let died = outcome.died.as_ref().map(|how| format!(" **Envoy ended: {how}**")).unwrap_or_default();
    let Outcome { requests, failed, avoidable, fetches, longest, .. } = outcome;
    let longest = longest.as_millis();
    format!("| {scenario} | {filter}{died} | {requests} | {failed} | {avoidable} | {fetches} | {longest} |")
}

/// The command line.
fn read(mut arguments: impl Iterator<Item = String>) -> Result<(Order, Vec<Scenario>), String> {
    // As patient as the filter is by default.
    let mut order = Order { span: Duration::from_secs(60), rate: 200.0, patience: Duration::from_secs(5) };
    let mut scenarios = Vec::new();
    while let Some(name) = arguments.next() {
        if !name.starts_with('-') {
            let named = |scenario: &Scenario| format!("{scenario:?}").eq_ignore_ascii_case(&name);
            let scenario = Scenario::ALL.into_iter().find(named);
            scenarios.push(scenario.ok_or_else(|| format!("{name}: there are {:?}", Scenario::ALL))?);
            continue;
        }
        let value = arguments.next().and_then(|text| text.parse::<u16>().ok()).filter(|value| *value > 0);
        let value = value.ok_or_else(|| format!("{name}: expected a number"))?;
        match name.as_str() {
            "--seconds" => order.span = Duration::from_secs(value.into()),
            "--rate" => order.rate = value.into(),
            _ => return Err(format!("{name}: no such option, there are --seconds and --rate")),
        }
    }
    if scenarios.is_empty() {
        scenarios.extend(Scenario::ALL);
    }
    Ok((order, scenarios))
}
