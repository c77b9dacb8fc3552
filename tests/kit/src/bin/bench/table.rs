//! The figures as Markdown.

use crate::rows::{PAIRS, Pair, Row};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

/// What was seen of every row, one sample per round.
#[derive(Default)]
pub(crate) struct Samples(BTreeMap<&'static str, Vec<Sample>>);

/// One row in one round.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Microseconds of the Envoy process, user and system, per request.
    pub(crate) cpu: f64,
    pub(crate) per_second: f64,
}

impl Samples {
    pub(crate) fn add(&mut self, row: &Row, sample: Sample) {
        self.0.entry(row.id).or_default().push(sample);
    }

    /// The least of the rounds: whatever disturbs a measurement only ever adds to it.
    fn cpu(&self, id: &str) -> Option<f64> {
        self.0.get(id)?.iter().map(|sample| sample.cpu).reduce(f64::min)
    }

    /// How far the middle round lies above the least, as a share of it: how noisy the machine was.
    fn noise(&self, id: &str) -> Option<f64> {
        let mut all: Vec<_> = self.0.get(id)?.iter().map(|sample| sample.cpu).collect();
        all.sort_by(f64::total_cmp);
        let least = all.first()?;
        Some((all.get(all.len() / 2)? - least) / least)
    }

    fn per_second(&self, id: &str) -> Option<f64> {
        self.0.get(id)?.iter().map(|sample| sample.per_second).reduce(f64::max)
    }

    fn own(&self, row: &Row) -> Option<f64> {
        Some(self.cpu(row.id)? - self.cpu(row.baseline())?)
    }
}

/// Every row, then every comparison.
pub(crate) fn markdown(rows: &[Row], samples: &Samples) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let mut load = None;
    for row in rows {
        if load != Some(row.load) {
            load = Some(row.load);
            writeln!(text, "\n{}:\n", row.load.title())?;
            writeln!(
                text,
                "| filters | requests/s | CPU µs/request | noise | of that the filters' own µs |"
            )?;
            writeln!(text, "|---|---:|---:|---:|---:|")?;
        }
        let (Some(cpu), Some(noise), Some(per_second), Some(own)) =
            (samples.cpu(row.id), samples.noise(row.id), samples.per_second(row.id), samples.own(row))
        else {
            continue;
        };
        let own = if row.id == row.baseline() { "–".to_owned() } else { format!("{own:.1}") };
        writeln!(text, "| {} | {per_second:.0} | {cpu:.1} | +{:.0} % | {own} |", row.name, noise * 100.0)?;
    }

    writeln!(text, "\nside by side:\n")?;
    writeln!(text, "| | native | own µs | m2m-auth, own µs | of the filters | of the whole request |")?;
    writeln!(text, "|---|---|---:|---:|---|---|")?;
    for Pair { what, native, ours } in PAIRS {
        let find = |id: &str| rows.iter().find(|row| row.id == id);
        let (Some(native), Some(ours)) = (find(native), find(ours)) else {
            continue;
        };
        let all = (samples.own(native), samples.own(ours), samples.cpu(native.id), samples.cpu(ours.id));
        let (Some(native_own), Some(our_own), Some(native_cpu), Some(our_cpu)) = all else {
            continue;
        };
        writeln!(
            text,
            "| {what} | {} | {native_own:.1} | {our_own:.1} | {} | {} |",
            native.name,
            verdict(our_own, native_own),
            verdict(our_cpu, native_cpu),
        )?;
    }
    Ok(text)
}

/// A ratio in words that cannot be read the wrong way round.
fn verdict(ours: f64, native: f64) -> String {
    let difference = (ours - native).abs();
    match ours / native {
        // Far out, the lesser figure is smaller than what the machine's noise makes of it.
        ratio if ratio > 10.0 => format!("**dearer** by {difference:.1} µs, over 10 times native"),
        ratio if ratio > 1.05 => format!("**dearer** by {difference:.1} µs, {ratio:.2} times native"),
        ratio if ratio < 0.95 => format!("cheaper by {difference:.1} µs, {ratio:.2} times native"),
        ratio => format!("even, {ratio:.2} times native"),
    }
}
