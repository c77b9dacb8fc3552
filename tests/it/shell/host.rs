//! What Envoy holds and does for a module: contexts, streams, timers, calls, metrics, and a refusal for whatever comes at
//! the wrong time. Each thread has its own host.
//!
//! It records every callback into the module and every host call out of it, in order. What a real host would let pass
//! although it must never be (a resume of what does not wait sends a request twice) is kept as a violation; so is every
//! text that the module let out with a secret in it.

use super::clock;
use super::crypto;
use super::pairs::{self, Pairs};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

pub(crate) const OK: u32 = 0;
pub(crate) const NOT_FOUND: u32 = 1;
pub(crate) const BAD_ARGUMENT: u32 = 2;
pub(crate) const INTERNAL_FAILURE: u32 = 10;

/// Starts or ends this thread's host.
pub(crate) fn replace(host: Option<Host>) -> Option<Host> {
    HOST.replace(host)
}

/// Looks at this thread's host; none when it has none, or when the thread is ending.
pub(crate) fn with<T>(look: impl FnOnce(&mut Host) -> T) -> Option<T> {
    HOST.try_with(|host| host.try_borrow_mut().ok()?.as_mut().map(look))
        .ok()
        .flatten()
}

/// A host call of the module: recorded, refused if a fault says so, else done.
pub(crate) fn call(name: &'static str, detail: impl fmt::Display, run: impl FnOnce(&mut Host) -> u32) -> u32 {
    let answer = with(|host| {
        host.record
            .push(format!("  {name} {detail}").trim_end().to_owned());
        host.refusal(name).unwrap_or_else(|| run(host))
    });
    answer.unwrap_or(INTERNAL_FAILURE)
}

/// The host of one thread.
#[derive(Default)]
pub(crate) struct Host {
    /// Clusters that can be called.
    pub(crate) clusters: BTreeSet<String>,
    /// The foreign function `verify_signature`.
    pub(crate) verifier: Verifier,
    /// What goes wrong.
    pub(crate) fault: Option<Fault>,
    /// The plugin's configuration.
    pub(crate) configuration: Vec<u8>,
    /// Requests, gone ones included.
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// Calls that were not answered yet.
    pub(crate) calls: Vec<Call>,
    /// Whether it says nothing when a call has taken too long; Envoy answers 504.
    pub(crate) loses_calls: bool,
    /// Sums by name.
    pub(crate) metrics: BTreeMap<String, i64>,
    /// Level and text.
    pub(crate) log: Vec<(u32, String)>,
    /// The answer that is being delivered.
    pub(crate) delivery: Option<Delivery>,
    /// What must never be seen outside, beside what the host learns by itself.
    pub(crate) secrets: BTreeSet<Vec<u8>>,
    record: Vec<String>,
    violations: Vec<String>,
    /// Where something was said, and what; the same thing once.
    said: BTreeSet<(&'static str, Vec<u8>)>,
    roots: BTreeMap<u32, Timer>,
    counters: Vec<String>,
    running: Option<Running>,
}

/// What `verify_signature` is like on this host.
#[derive(Default)]
pub(crate) enum Verifier {
    /// As in Envoy.
    #[default]
    Real,
    /// There is none: `NotFound`.
    Absent,
    /// It says this to every signature.
    Says(Vec<u8>),
    /// It is refused with this status, whatever it is asked.
    Refused(u32),
}

/// Whether a fault hits a host call.
type Hits = dyn Fn(usize, &str) -> bool;

/// A host call that fails instead of being done.
pub(crate) struct Fault {
    /// What it is refused with.
    pub(crate) status: u32,
    /// Which call, by its place among all since the fault began, and by its name.
    pub(crate) hits: Box<Hits>,
    seen: usize,
}

impl Fault {
    pub(crate) fn new(status: u32, hits: impl Fn(usize, &str) -> bool + 'static) -> Self {
        Self {
            status,
            hits: Box::new(hits),
            seen: 0,
        }
    }
}

/// A request.
pub(crate) struct Stream {
    /// The name in the record: the first one is `request 1`.
    pub(crate) name: String,
    /// Its headers, with every change.
    pub(crate) headers: Pairs,
    /// What the module is given instead of the headers' serialisation.
    pub(crate) raw: Option<Vec<u8>>,
    /// Where it is.
    pub(crate) state: State,
    /// `response.code`, once there is a response.
    pub(crate) code: Option<Vec<u8>>,
    root: u32,
    gone: bool,
}

/// Where a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The module is being asked.
    Asked,
    /// It waits.
    Paused,
    /// It went on to the service.
    Forwarded,
    /// The module answered it.
    Answered(Answer),
}

/// A local response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) details: String,
    pub(crate) headers: Pairs,
    pub(crate) body: String,
}

impl Answer {
    /// The only value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        match pairs::values(&self.headers, name)[..] {
            [value] => Some(String::from_utf8(value.to_vec()).unwrap()),
            _ => None,
        }
    }

    /// `reason` in the body.
    pub(crate) fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["reason"].as_str().unwrap().to_owned()
    }
}

/// A call that the module made.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) token: u32,
    pub(crate) root: u32,
    pub(crate) cluster: String,
    pub(crate) headers: Pairs,
    pub(crate) body: Vec<u8>,
    /// Milliseconds.
    pub(crate) timeout: u32,
    /// When the host answers in the provider's place.
    pub(crate) due: Duration,
}

impl fmt::Debug for Call {
    /// Where to, and no more: the rest may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} to {}", self.token, self.path())
    }
}

impl Call {
    /// The only value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        match pairs::values(&self.headers, name)[..] {
            [value] => Some(String::from_utf8(value.to_vec()).unwrap()),
            _ => None,
        }
    }

    /// `:path`.
    pub(crate) fn path(&self) -> String {
        self.header(":path").unwrap()
    }
}

/// The answer to a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) headers: Pairs,
    /// What the module is given instead of the headers' serialisation.
    pub(crate) raw: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// A root's timer.
#[derive(Clone, Copy, Default)]
struct Timer {
    period: Duration,
    due: Option<Duration>,
    armed: bool,
}

/// The callback that runs.
struct Running {
    callback: &'static str,
    context: u32,
    effective: u32,
    calls: usize,
}

/// What is being read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    Request,
    CallResponse,
    Other,
}

impl Map {
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::Request,
            6 => Self::CallResponse,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::CallResponse => "call response",
            Self::Other => "of another kind",
        })
    }
}

/// Callbacks during which a call may be made: those of a root, once it is configured.
const MAY_CALL: [&str; 2] = ["proxy_on_tick", "proxy_on_http_call_response"];

/// How the host and the module go on.
impl Host {
    /// A host that reaches the provider, as Envoy's newest does.
    pub(crate) fn new() -> Self {
        Self {
            clusters: ["keycloak".to_owned()].into(),
            ..Self::default()
        }
    }

    pub(crate) fn add_root(&mut self, root: u32) {
        self.roots.insert(root, Timer::default());
    }

    pub(crate) fn roots(&self) -> Vec<u32> {
        self.roots.keys().copied().collect()
    }

    /// The context is deleted: the host knows it no more.
    pub(crate) fn forget(&mut self, context: u32) {
        self.roots.remove(&context);
        self.calls.retain(|call| call.root != context);
        if let Some(stream) = self.streams.get_mut(&context) {
            stream.gone = true;
        }
    }

    pub(crate) fn add_stream(&mut self, id: u32, root: u32, headers: Pairs) {
        for value in pairs::values(&headers, "authorization") {
            self.secrets
                .insert(value[value.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1)..].to_vec());
        }
        let name = format!("request {}", self.streams.len() + 1);
        let (raw, code, state) = (None, None, State::Asked);
        self.streams.insert(
            id,
            Stream {
                name,
                headers,
                raw,
                state,
                code,
                root,
                gone: false,
            },
        );
    }

    /// Requests that are not over.
    pub(crate) fn living(&self) -> Vec<u32> {
        self.streams
            .iter()
            .filter(|(_, stream)| !stream.gone)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn begin(&mut self, callback: &'static str, context: u32) {
        self.record.push(callback.to_owned());
        self.running = Some(Running {
            callback,
            context,
            effective: context,
            calls: 0,
        });
    }

    pub(crate) fn end(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let strict = self.fault.is_none() && self.roots.contains_key(&running.context);
        if strict && running.effective != running.context {
            self.violate(format!("{} left another context in effect", running.callback));
        }
    }

    /// Whether the module runs.
    pub(crate) fn is_inside(&self) -> bool {
        self.running.is_some()
    }

    /// The record since it was last taken.
    pub(crate) fn take_record(&mut self) -> Vec<String> {
        std::mem::take(&mut self.record)
    }

    /// What must not have happened.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let leaks = self.leaks();
        std::mem::take(&mut self.violations)
            .into_iter()
            .chain(leaks)
            .collect()
    }

    /// For tests of this host: forgets what was said.
    pub(crate) fn unsay(&mut self) {
        self.said.clear();
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// The root whose timer runs out first, and when.
    pub(crate) fn next_tick(&self) -> Option<(Duration, u32)> {
        self.roots
            .iter()
            .filter_map(|(root, timer)| Some((timer.due?, *root)))
            .min()
    }

    /// The call whose time runs out first.
    pub(crate) fn next_timeout(&self) -> Option<Call> {
        self.calls
            .iter()
            .filter(|_| !self.loses_calls)
            .min_by_key(|call| call.due)
            .cloned()
    }

    /// The period of a root's timer; zero when it is not armed.
    pub(crate) fn period(&self, root: u32) -> Duration {
        self.roots[&root].period
    }

    pub(crate) fn before_tick(&mut self, root: u32) {
        self.roots.get_mut(&root).unwrap().armed = false;
    }

    /// Unless the callback armed it anew, the timer runs again from the callback's end.
    pub(crate) fn after_tick(&mut self, root: u32) {
        if let Some(timer) = self
            .roots
            .get_mut(&root)
            .filter(|timer| !timer.armed && !timer.period.is_zero())
        {
            timer.due = Some(clock::monotonic() + timer.period);
        }
    }

    /// Where the module let out a secret, or 20 bytes in a row of one.
    fn leaks(&self) -> Vec<String> {
        const PART: usize = 16;
        let (short, long): (Vec<_>, Vec<_>) = self.secrets.iter().partition(|secret| secret.len() < PART);
        let parts: HashSet<&[u8]> = long
            .iter()
            .flat_map(|secret| secret.windows(PART).step_by(4))
            .collect();
        let of_a_long_one = |text: &[u8]| text.windows(PART).any(|part| parts.contains(part));
        let a_short_one = |text: &[u8]| {
            // One of a few bytes may well be a word that is no secret elsewhere.
            short
                .iter()
                .any(|secret| secret.len() >= 4 && text.windows(secret.len()).any(|part| part == *secret))
        };
        let leaks = self
            .said
            .iter()
            .filter(|(_, text)| of_a_long_one(text) || a_short_one(text));
        leaks.map(|(place, _)| format!("a secret in {place}")).collect()
    }

    fn say(&mut self, place: &'static str, text: &[u8]) {
        self.said.insert((place, text.to_vec()));
    }

    fn refusal(&mut self, name: &'static str) -> Option<u32> {
        let running = self.running.as_mut()?;
        running.calls += 1;
        // Before an answer is delivered, the SDK enters the context that made the call.
        let of_the_sdk = running.callback == "proxy_on_http_call_response" && running.calls == 1;
        let fault = self.fault.as_mut().filter(|_| !of_the_sdk)?;
        let place = fault.seen;
        fault.seen += 1;
        (fault.hits)(place, name).then_some(fault.status)
    }

    fn callback(&self) -> &'static str {
        self.running.as_ref().map_or("", |running| running.callback)
    }

    /// The context that calls concern.
    fn context(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.effective)
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        let id = self.context();
        self.streams.get_mut(&id).filter(|stream| !stream.gone)
    }

    /// The root of the context that calls concern.
    fn root(&self) -> u32 {
        let id = self.context();
        self.streams.get(&id).map_or(id, |stream| stream.root)
    }

    fn name_of(&self, context: u32) -> String {
        let stream = self.streams.get(&context).map(|stream| stream.name.clone());
        stream.unwrap_or_else(|| {
            if self.roots.contains_key(&context) {
                "root"
            } else {
                "nobody"
            }
            .to_owned()
        })
    }
}

/// What the host calls do.
impl Host {
    pub(crate) fn enter(&mut self, context: u32) -> u32 {
        let alive = self.roots.contains_key(&context)
            || self.streams.get(&context).is_some_and(|stream| !stream.gone);
        match &mut self.running {
            Some(running) if alive => {
                running.effective = context;
                OK
            }
            _ => BAD_ARGUMENT,
        }
    }

    /// The bytes of a header map. One that is not there is empty.
    pub(crate) fn header_map(&mut self, map: Map) -> Vec<u8> {
        let (raw, headers) = match map {
            Map::Request => match self.stream() {
                Some(Stream {
                    raw,
                    headers,
                    state: State::Asked | State::Paused,
                    ..
                }) => (raw.clone(), headers.clone()),
                _ => return Vec::new(),
            },
            Map::CallResponse => match &self.delivery {
                Some(delivery) => (delivery.raw.clone(), delivery.headers.clone()),
                None => return Vec::new(),
            },
            Map::Other => return Vec::new(),
        };
        raw.unwrap_or_else(|| {
            if headers.is_empty() {
                Vec::new()
            } else {
                pairs::write(&headers)
            }
        })
    }

    /// Changes a header of the request, as long as it has not gone on.
    pub(crate) fn change(&mut self, map: Map, name: &[u8], value: Option<&[u8]>) -> u32 {
        let lower = name.to_ascii_lowercase();
        match self.stream() {
            Some(stream) if map == Map::Request && matches!(stream.state, State::Asked | State::Paused) => {
                stream.headers.retain(|(own, _)| *own != lower);
                stream.headers.extend(value.map(|value| (lower, value.to_vec())));
                OK
            }
            _ => {
                self.violate("a header change that comes too late, or concerns nothing");
                BAD_ARGUMENT
            }
        }
    }

    pub(crate) fn resume(&mut self, kind: u32) -> u32 {
        match self.stream() {
            Some(stream) if kind == 0 && stream.state == State::Paused => stream.state = State::Forwarded,
            _ => self.violate("a resume of what does not wait"),
        }
        OK
    }

    pub(crate) fn answer(&mut self, answer: Answer) -> u32 {
        self.say("the details of an answer", answer.details.as_bytes());
        self.say("the body of an answer", answer.body.as_bytes());
        for (name, value) in &answer.headers {
            self.say(
                "the headers of an answer",
                &[name.as_slice(), b": ", value].concat(),
            );
            if value.iter().any(|byte| *byte < b' ' || *byte == 0x7f) || name.to_ascii_lowercase() != *name {
                self.violate("an answer with a header that Envoy does not stop");
            }
        }
        match self.stream() {
            Some(stream) if matches!(stream.state, State::Asked | State::Paused) => {
                stream.state = State::Answered(answer);
            }
            _ => self.violate("an answer to what does not wait for one"),
        }
        OK
    }

    pub(crate) fn dispatch(&mut self, call: Call) -> Result<u32, u32> {
        if !MAY_CALL.contains(&self.callback()) {
            let callback = self.callback();
            self.violate(format!("a call out of {callback}"));
        }
        if call.timeout == 0 {
            self.violate("a call that may take for ever");
        }
        // What the module shows to its provider, it must show to nobody else.
        for value in pairs::values(&call.headers, "authorization") {
            self.secrets
                .insert(value[value.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1)..].to_vec());
        }
        let complete = [":method", ":path", ":authority"]
            .iter()
            .all(|name| call.header(name).is_some());
        if !self.clusters.contains(&call.cluster) || !complete || call.timeout >= 1 << 31 {
            return Err(BAD_ARGUMENT);
        }
        let (token, root) = (call.token, self.root());
        let due = clock::monotonic() + Duration::from_millis(u64::from(call.timeout));
        self.calls.push(Call { root, due, ..call });
        Ok(token)
    }

    pub(crate) fn arm(&mut self, millis: u32) -> u32 {
        if !(1..=1000).contains(&millis) {
            self.violate(format!(
                "a timer of {millis} ms: off, or so slow that nothing is noticed"
            ));
        }
        let root = self.root();
        if let Some(timer) = self.roots.get_mut(&root) {
            let period = Duration::from_millis(u64::from(millis));
            let due = (millis > 0).then(|| clock::monotonic() + period);
            *timer = Timer {
                period,
                due,
                armed: true,
            };
        }
        OK
    }

    pub(crate) fn buffer(&self, which: u32) -> Option<&[u8]> {
        match which {
            4 => self.delivery.as_ref().map(|delivery| delivery.body.as_slice()),
            7 if self.callback() == "proxy_on_configure" => Some(&self.configuration),
            _ => None,
        }
    }

    pub(crate) fn property(&mut self, path: &str) -> Option<Vec<u8>> {
        (path == "response\0code")
            .then(|| self.stream()?.code.clone())
            .flatten()
    }

    pub(crate) fn define(&mut self, name: &str) -> u32 {
        self.say("the name of a metric", name.as_bytes());
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            self.violate("a metric's name that Envoy would change");
        }
        self.metrics.entry(name.to_owned()).or_default();
        self.counters.push(name.to_owned());
        u32::try_from(self.counters.len()).unwrap()
    }

    /// The name of a metric, by its id.
    pub(crate) fn counter(&self, id: u32) -> Option<String> {
        self.counters.get((id as usize).checked_sub(1)?).cloned()
    }

    pub(crate) fn increment(&mut self, id: u32, by: i64) -> u32 {
        match self.counter(id) {
            Some(name) if by > 0 => {
                *self.metrics.entry(name).or_default() += by;
                OK
            }
            _ => BAD_ARGUMENT,
        }
    }

    pub(crate) fn write_log(&mut self, level: u32, text: &[u8]) -> u32 {
        self.say("the log", text);
        if !text.starts_with(b"m2m-auth: ") || text.iter().any(|byte| *byte < b' ') {
            self.violate("a log line that is not one line of ours");
        }
        self.log.push((level, String::from_utf8_lossy(text).into_owned()));
        OK
    }

    pub(crate) fn foreign(&mut self, name: &str, arguments: &[u8]) -> Result<Vec<u8>, u32> {
        match (&self.verifier, name) {
            (Verifier::Real, "verify_signature") => crypto::verify(arguments).ok_or(BAD_ARGUMENT),
            (Verifier::Says(_), "verify_signature") if arguments.is_empty() => Err(BAD_ARGUMENT),
            (Verifier::Says(result), "verify_signature") => Ok(result.clone()),
            (Verifier::Refused(status), "verify_signature") => Err(*status),
            _ => Err(NOT_FOUND),
        }
    }

    /// For the record: a context by its name.
    pub(crate) fn describe(context: u32) -> String {
        with(|host| host.name_of(context)).unwrap_or_default()
    }
}
