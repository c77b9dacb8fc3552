//! A bounded load driver for loopback: requests in, what became of them out.
//!
//! Closed loop by default (each connection sends as soon as it has its answer); with a
//! [`rate`](Load::rate) requests are due at fixed times, and a wait counts from when the request
//! was *due*, so a stall is not hidden by the pause that it forces on the driver. [Open
//! loop](Load::open_loop) begins each request when it is due, whatever has become of those before
//! it.

mod open;

use crate::{
    client::{Connection, Request, Response},
    record::Recorded,
    serve::runtime,
    token::now,
};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Nobody needs more to see what there is to see, and nobody gets more by error.
const MOST_REQUESTS: u64 = 5_000_000;
const MOST_CONNECTIONS: usize = 1_000;
const LONGEST: Duration = Duration::from_mins(10);

/// A load, in the making.
#[derive(Clone, Debug)]
pub struct Load {
    requests: Vec<Request>,
    connections: usize,
    total: Option<u64>,
    duration: Option<Duration>,
    rate: Option<f64>,
    open: bool,
    stamped: bool,
}

/// A load that is being driven. Dropping it ends it too.
pub struct Running {
    plan: Arc<Plan>,
    tasks: Vec<JoinHandle<Report>>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by reason.
    pub failures: BTreeMap<String, u64>,
    /// The first answer of each status.
    pub samples: BTreeMap<u16, Response>,
    /// Requests sent again on a fresh connection, as the server had closed the idle one, as it may.
    pub reconnected: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Every request: when it was due, when it had ended, and the status of its answer if it got
    /// one.
    pub exchanges: Vec<Exchange>,
    waits: Vec<Duration>,
}

/// One request, with its times since the start of the load.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// When it was to be sent.
    pub due: Duration,
    /// When its answer was there as a whole, or there was to be none.
    pub ended: Duration,
    /// The status of the answer.
    pub status: Option<u16>,
}

struct Plan {
    load: Load,
    start: Instant,
    next: AtomicU64,
    stopped: AtomicBool,
}

impl Load {
    /// The same request again and again.
    pub fn of(request: Request) -> Self {
        Self::round(vec![request])
    }

    /// These requests in turn. Panics unless all go to one loopback address.
    pub fn round(requests: Vec<Request>) -> Self {
        let address = requests.first().expect("a request").address().to_owned();
        let is_loopback =
            ["127.0.0.1:", "localhost:", "[::1]:"].iter().any(|start| address.starts_with(start));
        assert!(is_loopback, "load goes to loopback only, not to {address}");
        assert!(requests.iter().all(|request| request.address() == address), "one address at a time");
        Self {
            requests,
            connections: 1,
            total: None,
            duration: None,
            rate: None,
            open: false,
            stamped: false,
        }
    }

    /// The number of keep-alive connections, 1 by default.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        assert!((1..=MOST_CONNECTIONS).contains(&connections), "at most {MOST_CONNECTIONS} connections");
        self.connections = connections;
        self
    }

    /// Ends after that many requests.
    #[must_use]
    pub fn requests(mut self, total: u64) -> Self {
        assert!(total <= MOST_REQUESTS, "at most {MOST_REQUESTS} requests");
        self.total = Some(total);
        self
    }

    /// Ends after that time.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        assert!(duration <= LONGEST, "at most {LONGEST:?}");
        self.duration = Some(duration);
        self
    }

    /// So many requests per second, over all connections.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
        assert!(per_second > 0.0, "a rate above 0");
        self.rate = Some(per_second);
        self
    }

    /// Each request begins when it is due, on a connection that is free or on a new one: none waits
    /// for another's answer. Needs a [`rate`](Load::rate); [`connections`](Load::connections) are
    /// used in turn, and more while those are busy.
    #[must_use]
    pub fn open_loop(mut self) -> Self {
        self.open = true;
        self
    }

    /// Each request says in a header when it was sent: see [`sent_at`].
    #[must_use]
    pub fn stamped(mut self) -> Self {
        self.stamped = true;
        self
    }

    /// Drives it to its end.
    pub async fn run(self) -> Report {
        assert!(self.total.is_some() || self.duration.is_some(), "a number of requests, or a duration");
        self.start().finish().await
    }

    /// Drives it beside the test, until its end or until it is [stopped](Running::stop).
    pub fn start(self) -> Running {
        let (connections, is_open) = (self.connections, self.open);
        assert!(!is_open || self.rate.is_some(), "an open loop needs a rate");
        let plan = Arc::new(Plan {
            load: self,
            start: Instant::now(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let tasks = if is_open {
            vec![runtime().spawn(open::drive(Arc::clone(&plan)))]
        } else {
            (0..connections).map(|_| runtime().spawn(drive(Arc::clone(&plan)))).collect()
        };
        Running { plan, tasks }
    }
}

impl Running {
    /// How many requests have been begun so far.
    pub fn begun(&self) -> u64 {
        self.plan.next.load(Ordering::Relaxed)
    }

    /// Comes back once so many more requests have been begun.
    pub async fn proceed(&self, more: u64) {
        let goal = self.begun() + more;
        crate::wait::until("the load continues", async || (self.begun() >= goal).then_some(())).await;
    }

    /// Ends it, lets what is under way finish, and reports.
    pub async fn stop(self) -> Report {
        self.plan.stopped.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits for its end and reports.
    pub async fn finish(mut self) -> Report {
        let mut report = Report::default();
        for task in std::mem::take(&mut self.tasks) {
            report.add(task.await.expect("the driver does not panic"));
        }
        report.elapsed = self.plan.start.elapsed();
        report.waits.sort_unstable();
        report.exchanges.sort_unstable_by_key(|exchange| exchange.due);
        report
    }

    /// How long it has been driven.
    pub fn elapsed(&self) -> Duration {
        self.plan.start.elapsed()
    }

    /// Comes back when it has been driven for so long: what is to happen at a time of the load
    /// happens then.
    pub async fn at(&self, elapsed: Duration) {
        sleep_until(self.plan.start + elapsed).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.plan.stopped.store(true, Ordering::Relaxed);
    }
}

impl Report {
    /// How many requests were sent.
    pub fn sent(&self) -> u64 {
        self.by_status.values().chain(self.failures.values()).sum()
    }

    /// How many answers had that status.
    pub fn with_status(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or_default()
    }

    /// Had every request an answer of that status?
    pub fn only(&self, status: u16) -> bool {
        self.failures.is_empty() && self.by_status.keys().all(|seen| *seen == status) && self.sent() > 0
    }

    /// Answers per second.
    pub fn per_second(&self) -> f64 {
        self.waits.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The longest wait for an answer.
    pub fn longest(&self) -> Duration {
        self.waits.last().copied().unwrap_or_default()
    }

    /// The wait that so many per cent of the answers did not exceed: `percentile(99.0)`.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.waits.len() as f64 * percent / 100.0).ceil() as usize;
        self.waits.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        for (status, sample) in other.samples {
            self.samples.entry(status).or_insert(sample);
        }
        self.reconnected += other.reconnected;
        self.waits.extend(other.waits);
        self.exchanges.extend(other.exchanges);
    }

    fn count(&mut self, outcome: io::Result<Response>, due: Duration, ended: Duration) {
        let (wait, status) = (ended.saturating_sub(due), outcome.as_ref().ok().map(|answer| answer.status));
        self.exchanges.push(Exchange { due, ended, status });
        match outcome {
            Ok(response) => {
                *self.by_status.entry(response.status).or_default() += 1;
                self.waits.push(wait);
                self.samples.entry(response.status).or_insert(response);
            }
            Err(error) => *self.failures.entry(error.to_string()).or_default() += 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, nearly] = [50.0, 90.0, 99.0].map(|percent| self.percentile(percent));
        write!(
            f,
            "{} requests in {:.1?}, {:.0}/s; by status {:?}, failures {:?}; \
             p50 {half:.1?}, p90 {most:.1?}, p99 {nearly:.1?}, longest {:.1?}",
            self.sent(),
            self.elapsed,
            self.per_second(),
            self.by_status,
            self.failures,
            self.longest(),
        )
    }
}

/// The header by which a request says when it was sent, in milliseconds since 1970.
const SENT: &str = "x-kit-sent";

/// When a request of a [stamped](Load::stamped) load was sent, in seconds since 1970; of another
/// one, now. A service that refuses tokens by this time refuses none for having been under way on a
/// slow machine.
pub fn sent_at(request: &Recorded) -> u64 {
    let stamp = request.header(SENT).and_then(|millis| millis.parse::<u64>().ok());
    stamp.map_or_else(now, |millis| millis / 1000)
}

impl Plan {
    /// The request as it is sent now.
    fn stamp(&self, request: &Request) -> Request {
        if !self.load.stamped {
            return request.clone();
        }
        let millis = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
        request.clone().header(SENT, millis.to_string())
    }

    /// The next request and when it is due; none when no request is left.
    fn next(&self) -> Option<(&Request, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut due = Instant::now();
        if let Some(rate) = self.load.rate {
            due = self.start + Duration::from_secs_f64(number as f64 / rate);
        }
        let goes_on = number < self.load.total.unwrap_or(MOST_REQUESTS)
            && due < self.start + self.load.duration.unwrap_or(LONGEST)
            && !self.is_stopped();
        goes_on.then(|| (&self.load.requests[number as usize % self.load.requests.len()], due))
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.duration_since(self.start)
    }
}

/// One connection's share of the load.
async fn drive(plan: Arc<Plan>) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    while let Some((request, due)) = plan.next() {
        sleep_until(due).await;
        if plan.is_stopped() {
            break;
        }
        let outcome = exchange(&plan.stamp(request), &mut connection, &mut report.reconnected).await;
        report.count(outcome, plan.since_start(due), plan.start.elapsed());
    }
    report
}

async fn exchange(
    request: &Request,
    kept: &mut Option<Connection>,
    reconnected: &mut u64,
) -> io::Result<Response> {
    if let Some(mut connection) = kept.take() {
        match connection.exchange(request).await {
            Ok(response) => {
                *kept = Some(connection).filter(|_| !closes(&response));
                return Ok(response);
            }
            // A server may close an idle connection at any time: that says nothing of this request.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                *reconnected += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let mut connection = Connection::open(request.address()).await?;
    let response = connection.exchange(request).await?;
    *kept = Some(connection).filter(|_| !closes(&response));
    Ok(response)
}

fn closes(response: &Response) -> bool {
    response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}
