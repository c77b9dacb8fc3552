//! What a fault of the identity provider, or of the proxy, costs requests that need a token: one
//! scenario, one filter, and one load that begins each request on schedule, whatever has become of
//! the earlier ones.
//!
//! The service takes a request only if it carries a token that has not ended, and answers 401
//! otherwise. Failed is whatever is not answered 200. A failure could have been avoided if the
//! filter still had a good token at that moment, or could have got one before a request's patience
//! ends, unless the request was in the VM that was ended.

mod crash;
mod stage;

pub use crash::{crashing, fatal};

use crate::{
    idp::{Endpoint, Fault, Gate, Idp},
    json,
    load::{Exchange, Load, Report, Running},
};
use stage::{AHEAD, CLIENT, REFUSING, Stage};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

/// What attaches the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `m2m-auth`.
    Ours,
    /// Envoy's `credential_injector` with its `oauth2`.
    Native,
}

/// How long, and how many requests in a second.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// How long the load lasts.
    pub span: Duration,
    /// Requests per second.
    pub rate: f64,
    /// How long our filter lets a request wait, and how long a fetch may take.
    pub patience: Duration,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Nothing, but tokens live for 5 s.
    ShortLife,
    /// The provider takes 2 s for each answer, from the start on: the load begins before the first
    /// token is there.
    Slow,
    /// 500 for the middle third of a token's life.
    Errors,
    /// The provider's port is closed for a while, and until a connection has been refused.
    Refused,
    /// Its answers are cut in half for a while, and until a client has got one.
    CutInHalf,
    /// Its answers are no JSON for a while, and until a client has got one.
    Garbage,
    /// A configuration is pushed every 2 s; the filter's own stays the same.
    Pushes,
    /// One is pushed while the provider's port is closed.
    PushInOutage,
    /// One worker's VM is ended, under `FAIL_RELOAD`.
    Crash,
    /// The provider's clock is 2 minutes behind, then 2 minutes ahead when it sends one
    /// `Retry-After` by that clock.
    Clock,
    /// The provider takes another secret of the client. Our filter has a list of both, Envoy's own
    /// a file that is replaced at the same moment.
    SecretRotated,
    /// Nothing, but the filter runs in the cluster, not in the listener.
    ClusterFilter,
    /// Another service, which gets a tenth as many requests with the same credential, answers 401
    /// to each.
    ServiceRefuses,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many requests were sent.
    pub requests: u64,
    /// How many of them were not answered 200.
    pub failed: u64,
    /// How many of those need not have failed.
    pub avoidable: u64,
    /// How often the provider was asked for a token during the load.
    pub fetches: usize,
    /// The longest wait for an answer.
    pub longest: Duration,
    /// Answers by status; 0 means none.
    pub by_status: BTreeMap<u16, u64>,
    /// How Envoy ended, if it did.
    pub died: Option<String>,
}

/// When no request could get a token or was in a VM that was ended, since the start of the load.
enum Gap {
    NoTokens(Duration, Duration),
    NoVm(Duration, Duration),
}

impl Scenario {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::ShortLife,
        Self::Slow,
        Self::Errors,
        Self::Refused,
        Self::CutInHalf,
        Self::Garbage,
        Self::Pushes,
        Self::PushInOutage,
        Self::Crash,
        Self::Clock,
        Self::SecretRotated,
        Self::ClusterFilter,
        Self::ServiceRefuses,
    ];

    /// The label in the table, with the times of this order.
    pub fn title(self, order: &Order) -> String {
        let seconds = |span: Duration| format!("{:.1}", span.as_secs_f64()).trim_end_matches(".0").to_owned();
        let (span, life, gap) = (seconds(order.span), self.life(order.span), seconds(self.gap(order.span)));
        match self {
            Self::ShortLife => format!("token lifetime {life} s"),
            Self::Slow => format!("the provider responds in {} s, from a cold start", seconds(SLOW)),
            Self::Errors => format!("500 for {gap} s, in the middle of a token's lifetime of {life} s"),
            Self::Refused => format!("connection refused for {gap} s, token lifetime {life} s"),
            Self::CutInHalf => format!("truncated responses for {gap} s, token lifetime {life} s"),
            Self::Garbage => format!("responses that are not JSON for {gap} s, token lifetime {life} s"),
            Self::Pushes => format!("configuration pushed every {} s", seconds(every(order.span))),
            Self::PushInOutage => format!("configuration pushed while connections are refused for {gap} s"),
            Self::Crash => "one worker's VM terminated, `FAIL_RELOAD`".to_owned(),
            Self::Clock => {
                format!(
                    "provider's clock 2 min behind, then ahead and a 503 with `Retry-After`, token lifetime {life} s"
                )
            }
            Self::SecretRotated => {
                format!("the provider changes the client's secret at once, token lifetime {life} s")
            }
            Self::ClusterFilter => format!("no fault for {span} s, the filter is in the cluster"),
            Self::ServiceRefuses => "another service rejects every token".to_owned(),
        }
    }

    /// Whether it makes sense for that filter.
    pub fn concerns(self, filter: Filter) -> bool {
        self != Self::Crash || filter == Filter::Ours
    }

    /// Plays it.
    pub async fn play(self, filter: Filter, order: &Order) -> Outcome {
        let idp = Idp::start().await;
        let (life, slow) = (self.life(order.span), Gate::default());
        idp.change_client(CLIENT, |client| client.lifetime = life);
        match self {
            Self::Slow => idp.fault(Endpoint::Token, Fault::Gated(slow.clone())),
            Self::Clock => set_clock(&idp, -OFF),
            _ => {}
        }
        let mut stage = match Stage::start(idp, self, filter, order.patience).await {
            Ok(stage) => stage,
            Err(error) => {
                let exit = error.exit.map_or_else(|| "it does not start".to_owned(), |exit| exit.to_string());
                return Outcome { died: Some(exit), ..Outcome::default() };
            }
        };
        let mut before = 0;
        if self != Self::Slow {
            stage.warm_up().await;
            before = stage.idp.count(Endpoint::Token);
        }
        let begun = Instant::now();
        let load = Load::of(stage.request()).open_loop().stamped().connections(16).rate(order.rate);
        let load = load.duration(order.span).start();
        let gaps = self.happen(&mut stage, &load, order, &slow).await;
        let report = load.finish().await;
        let asked = stage.idp.requests(Endpoint::Token).into_iter().map(|request| request.at);
        let (life, patience) = (Duration::from_secs(life), order.patience);
        let judge = Judge { begun, life, patience, asked: asked.collect(), gaps };
        Outcome {
            fetches: stage.idp.count(Endpoint::Token) - before,
            died: stage.envoy.ended().map(|status| status.to_string()),
            ..judge.outcome(&report)
        }
    }

    /// Lets happen what is to happen during the load.
    async fn happen(self, stage: &mut Stage, load: &Running, order: &Order, slow: &Gate) -> Vec<Gap> {
        let Order { span, rate, .. } = *order;
        let (start, end) = (span / 3, span / 3 + self.gap(span));
        match self {
            Self::ShortLife => {
                stage.idp.wait_for(Endpoint::Token, stage.idp.count(Endpoint::Token) + 1).await;
                return Vec::new();
            }
            Self::Slow => {
                // The load has begun before this, however long Envoy took to start.
                load.at(SLOW).await;
                stage.idp.fault(Endpoint::Token, Fault::Slow(SLOW));
                slow.open();
                return Vec::new();
            }
            Self::ClusterFilter => return Vec::new(),
            Self::ServiceRefuses => {
                let other = Load::of(stage.request().header("host", REFUSING)).open_loop().connections(4);
                let report = other.rate(rate / 10.0).duration(span).start().finish().await;
                assert!(report.only(401), "it refuses every token");
                return Vec::new();
            }
            Self::Errors | Self::CutInHalf | Self::Garbage => {
                load.at(start).await;
                let fault = match self {
                    Self::Errors => Fault::Status(500, "{}".to_owned()),
                    Self::CutInHalf => Fault::CutInHalf,
                    _ => Fault::Garbage,
                };
                stage.idp.fault(Endpoint::Token, fault);
                let asked = stage.idp.count(Endpoint::Token);
                load.at(end).await;
                if self != Self::Errors {
                    stage.idp.wait_for(Endpoint::Token, asked + 1).await;
                }
                stage.idp.fault(Endpoint::Token, Fault::None);
            }
            Self::Refused | Self::PushInOutage => {
                load.at(start).await;
                stage.idp.stop().await;
                if self == Self::PushInOutage {
                    stage.push().await;
                }
                load.at(end).await;
                if self == Self::Refused {
                    stage.envoy.wait_for_stat(REFUSED, |count| count > 0).await;
                }
                stage.idp.resume().await;
            }
            Self::Clock => {
                load.at(start).await;
                set_clock(&stage.idp, OFF);
                stage.idp.fault_times(Endpoint::Token, 1, come_again());
                return Vec::new();
            }
            Self::SecretRotated => {
                load.at(start).await;
                let asked = stage.idp.count(Endpoint::Token);
                stage.rotate_secret();
                // Ours tries the old one first.
                let more = if stage.filter == Filter::Ours { 2 } else { 1 };
                stage.idp.wait_for(Endpoint::Token, asked + more).await;
                return Vec::new();
            }
            Self::Pushes => {
                for number in 1.. {
                    let at = every(span) * number;
                    if at >= span {
                        break;
                    }
                    load.at(at).await;
                    stage.push().await;
                }
                return Vec::new();
            }
            Self::Crash => {
                load.at(span / 2).await;
                let at = load.elapsed();
                let answer = fatal(stage.request()).send().await;
                assert_ne!(answer.status, 200, "the VM lives on");
                return vec![Gap::NoVm(at, load.elapsed())];
            }
        }
        vec![Gap::NoTokens(start, load.elapsed())]
    }

    /// Seconds that a token lives: as many as it takes for the fault to matter.
    fn life(self, span: Duration) -> u64 {
        let share = match self {
            Self::ShortLife => 12,
            Self::Clock => 4,
            Self::Refused | Self::CutInHalf | Self::Garbage | Self::Slow | Self::SecretRotated => 2,
            _ => 1,
        };
        // A provider that is slower than its tokens live cannot be helped.
        let least = if self == Self::Slow { SLOW.as_secs() * 5 } else { 2 };
        (span.as_secs() / share).max(least)
    }

    /// How long the fault lasts.
    fn gap(self, span: Duration) -> Duration {
        if self == Self::Errors { span / 3 } else { span / 12 }
    }
}

/// Envoy's count of connections to the provider that were refused.
const REFUSED: &str = "cluster.keycloak.upstream_cx_connect_fail";

/// How late a slow provider answers.
const SLOW: Duration = Duration::from_secs(2);

/// How far its clock is off, in seconds.
const OFF: i64 = 120;

/// How often a configuration is pushed.
fn every(span: Duration) -> Duration {
    Duration::from_secs(2).min(span / 3)
}

fn set_clock(idp: &Idp, ahead: i64) {
    idp.set_clock(ahead);
    idp.change_client(CLIENT, |client| drop(client.claims.insert(AHEAD.to_owned(), json!(ahead))));
}

/// 503, and a `Retry-After` of one second by the provider's clock, which is ahead of ours.
fn come_again() -> Fault {
    let date = SystemTime::now() + Duration::from_secs(OFF.unsigned_abs());
    let headers = [("date", date), ("retry-after", date + Duration::from_secs(1))];
    let headers = headers.map(|(name, time)| (name.to_owned(), httpdate::fmt_http_date(time)));
    Fault::Answer(503, headers.into(), "{}".to_owned())
}

/// What is known of the time of the load.
struct Judge {
    begun: Instant,
    life: Duration,
    patience: Duration,
    /// When the provider was asked.
    asked: Vec<Instant>,
    gaps: Vec<Gap>,
}

impl Judge {
    fn outcome(&self, report: &Report) -> Outcome {
        let failed = report.exchanges.iter().filter(|exchange| exchange.status != Some(200));
        let mut by_status = BTreeMap::new();
        for exchange in &report.exchanges {
            *by_status.entry(exchange.status.unwrap_or_default()).or_default() += 1;
        }
        Outcome {
            requests: report.sent(),
            failed: failed.clone().count() as u64,
            avoidable: failed.filter(|exchange| !self.had_to_fail(exchange)).count() as u64,
            longest: report
                .exchanges
                .iter()
                .map(|it| it.ended.saturating_sub(it.due))
                .max()
                .unwrap_or_default(),
            by_status,
            ..Outcome::default()
        }
    }

    fn had_to_fail(&self, exchange: &Exchange) -> bool {
        self.gaps.iter().any(|gap| match *gap {
            Gap::NoVm(from, to) => exchange.due <= to && exchange.ended >= from,
            Gap::NoTokens(from, to) => {
                exchange.due >= from
                    && exchange.due + self.patience < to
                    && !self.has_token(exchange.due, from, to)
            }
        })
    }

    /// Whether it had been given a token, outside of the gap, that is good at that time.
    fn has_token(&self, at: Duration, from: Duration, to: Duration) -> bool {
        let at = self.begun + at;
        let in_gap = |asked: Instant| asked >= self.begun + from && asked < self.begun + to;
        self.asked.iter().any(|asked| *asked <= at && at < *asked + self.life && !in_gap(*asked))
    }
}
