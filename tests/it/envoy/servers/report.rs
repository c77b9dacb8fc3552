//! What was sent, what became of it, and where the law was broken, with the shortest requests that
//! do so.

use super::Pass;
use super::law::Outcome;
use m2m_auth_kit::servers::Server;
use m2m_auth_kit::servers::spelling::{Kind, Spelling};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Instant;

/// So many requests are printed of those that break the law in the same way on the same server,
/// each of another shape.
const SHAPES: usize = 8;

pub(crate) struct Report<'a> {
    seed: usize,
    spellings: &'a [Spelling],
    counts: BTreeMap<&'static str, Counts>,
    refusals: BTreeMap<String, usize>,
    /// By server and by what happened: the requests, and how each was sent.
    breaches: BTreeMap<(&'static str, String), BTreeMap<usize, BTreeSet<Pass>>>,
    started: Instant,
}

#[derive(Default)]
struct Counts {
    /// Distinct requests that run something protected where there is no filter.
    dangerous: BTreeSet<usize>,
    sent: usize,
    ran: usize,
    server: usize,
    filter: usize,
    envoy: usize,
    breaches: usize,
    harmless: usize,
    harmless_refused: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(seed: usize, spellings: &'a [Spelling]) -> Self {
        let mut kinds = BTreeMap::<Kind, usize>::new();
        for spelling in spellings {
            *kinds.entry(spelling.kind).or_default() += 1;
        }
        println!("seed {seed}: {} requests of these kinds: {kinds:?}", spellings.len());
        Self {
            seed,
            spellings,
            counts: BTreeMap::new(),
            refusals: BTreeMap::new(),
            breaches: BTreeMap::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn add(&mut self, server: Server, pass: Pass, outcomes: &[Outcome]) {
        assert_eq!(outcomes.len(), self.spellings.len());
        let counts = self.counts.entry(server.name).or_default();
        for (index, (spelling, outcome)) in self.spellings.iter().zip(outcomes).enumerate() {
            let breach = outcome.breach();
            if pass.listener == "open" {
                counts.dangerous.extend(breach.map(|_| index));
                continue;
            }
            counts.sent += 1;
            let refusal = match outcome {
                Outcome::Ran(_) => {
                    counts.ran += 1;
                    None
                }
                Outcome::Server(_) => {
                    counts.server += 1;
                    None
                }
                Outcome::Refused(reason) => {
                    counts.filter += 1;
                    Some(format!("filter: {reason}"))
                }
                Outcome::Envoy(status) => {
                    counts.envoy += 1;
                    Some(format!("Envoy: {status}"))
                }
                Outcome::Closed => {
                    counts.envoy += 1;
                    Some("Envoy: closed".to_owned())
                }
            };
            if let Some(refusal) = refusal {
                *self.refusals.entry(refusal).or_default() += 1;
            }
            let harmless = spelling.kind == Kind::Harmless;
            counts.harmless += usize::from(harmless);
            let refused = match outcome {
                Outcome::Refused(reason) if harmless => Some(format!("harmless, but refused: {reason}")),
                _ => None,
            };
            counts.harmless_refused += usize::from(refused.is_some());
            counts.breaches += usize::from(breach.is_some());
            for what in breach.into_iter().chain(refused) {
                self.breaches.entry((server.name, what)).or_default().entry(index).or_default().insert(pass);
            }
        }
    }

    /// One server.
    pub(crate) fn line(&self, server: Server) -> String {
        let counts = &self.counts[server.name];
        let Counts {
            sent, ran, server: by_server, filter, envoy, breaches, harmless, harmless_refused, ..
        } = counts;
        format!(
            "{:<10} {:>5} spellings run something protected without the filter; with it {sent} requests: {ran} ran a handler, \
             {by_server} were answered by the server alone, {filter} refused by the filter, {envoy} by Envoy; {breaches} BREACHES; of \
             {harmless} harmless {harmless_refused} refused; {:.0?} so far",
            server.name,
            counts.dangerous.len(),
            self.started.elapsed()
        )
    }

    /// Prints the sums; panics if the law was broken.
    pub(crate) fn finish(self) {
        let mut text = String::from("refusals by reason:");
        for (reason, count) in &self.refusals {
            write!(text, " {reason} {count};").unwrap();
        }
        println!("{text}");
        for (name, counts) in &self.counts {
            assert!(!counts.dangerous.is_empty(), "{name}: no spelling is dangerous, so nothing was tested");
        }
        let mut text = String::new();
        for ((server, what), requests) in &self.breaches {
            writeln!(text, "{server}: {what}: {} requests, the shortest of each shape:", requests.len())
                .unwrap();
            let mut requests: Vec<_> = requests.iter().collect();
            requests.sort_by_key(|(index, _)| self.spellings[**index].http1(None).len());
            let mut shapes = BTreeSet::new();
            requests.retain(|(index, _)| shapes.insert(shape(&self.spellings[**index].printable())));
            for (index, passes) in requests.into_iter().take(SHAPES) {
                let passes: Vec<_> = passes.iter().map(named).collect();
                writeln!(text, "    {}   [{}]", self.spellings[*index].printable(), passes.join(", "))
                    .unwrap();
            }
        }
        assert!(text.is_empty(), "the law is broken (seed {}):\n{text}", self.seed);
    }
}

/// The request without what does not matter: each word is `a`, or `A` if it has upper case;
/// hexadecimal digits stay.
fn shape(shown: &str) -> String {
    let mut shape = String::new();
    let mut rest = shown;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let length = match first {
            '%' => rest.len().min(3),
            _ if word > 0 => word,
            _ => first.len_utf8(),
        };
        let (part, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match part {
            part if word == 0 => shape.push_str(part),
            part if part.bytes().any(|byte| byte.is_ascii_uppercase()) => shape.push('A'),
            _ => shape.push('a'),
        }
        rest = after;
    }
    shape
}

fn named(pass: &Pass) -> String {
    let token = if pass.token { " with a weak token" } else { "" };
    format!("{} {:?}{token}", pass.listener, pass.protocol)
}
