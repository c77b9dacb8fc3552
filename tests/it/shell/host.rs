//! What Envoy holds and does for a module: contexts, streams, timers, calls, metrics, and a refusal
//! for whatever comes at the wrong time. Each thread has its own host.
//!
//! It records every callback into the module and every host call out of it, in order. Calls that a
//! real host accepts although they are always wrong (resuming a request that does not wait sends it
//! twice) are recorded as violations, and so is every output of the module that holds a secret.

mod calls;
mod things;

pub(crate) use things::{Answer, Call, Delivery, Fault, Map, State, Stream, Verifier};

use super::clock;
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
    HOST.try_with(|host| host.try_borrow_mut().ok()?.as_mut().map(look)).ok().flatten()
}

/// A host call of the module: recorded, refused if a fault says so, else done.
pub(crate) fn call(name: &'static str, detail: impl fmt::Display, run: impl FnOnce(&mut Host) -> u32) -> u32 {
    let answer = with(|host| {
        host.record.push(format!("  {name} {detail}").trim_end().to_owned());
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
    /// The scope of its shared data; empty is shared by all plugins.
    pub(crate) vm_id: String,
    /// What it knows of every request, by the dotted path.
    pub(crate) properties: BTreeMap<String, Vec<u8>>,
    /// Shared data, with versions.
    pub(crate) shared: BTreeMap<String, (Vec<u8>, u32)>,
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
    /// Level and message.
    pub(crate) log: Vec<(u32, String)>,
    /// The answer that is being delivered.
    pub(crate) delivery: Option<Delivery>,
    /// Secrets that must never leave the module, in addition to those that the host learns itself.
    pub(crate) secrets: BTreeSet<Vec<u8>>,
    record: Vec<String>,
    violations: Vec<String>,
    /// Outputs by location, without duplicates.
    said: BTreeSet<(&'static str, Vec<u8>)>,
    roots: BTreeMap<u32, Timer>,
    counters: Vec<String>,
    running: Option<Running>,
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

/// How the host and the module continue.
impl Host {
    /// A host that reaches the provider, as Envoy's newest does.
    pub(crate) fn new() -> Self {
        Self { clusters: ["keycloak".to_owned()].into(), vm_id: "m2m-auth".to_owned(), ..Self::default() }
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
        let (raw, status, state, answered) = (None, None, State::Asked, Pairs::new());
        let filter_state = BTreeMap::new();
        let (trailers, code_details, gone) = (Pairs::new(), None, false);
        let stream = Stream {
            name,
            headers,
            raw,
            state,
            filter_state,
            status,
            answered,
            trailers,
            code_details,
            root,
            gone,
        };
        self.streams.insert(id, stream);
    }

    /// Requests that are not over.
    pub(crate) fn living(&self) -> Vec<u32> {
        self.streams.iter().filter(|(_, stream)| !stream.gone).map(|(id, _)| *id).collect()
    }

    pub(crate) fn begin(&mut self, callback: &'static str, context: u32) {
        self.record.push(callback.to_owned());
        self.running = Some(Running { callback, context, effective: context, calls: 0 });
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

    /// The violations.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let leaks = self.leaks();
        std::mem::take(&mut self.violations).into_iter().chain(leaks).collect()
    }

    /// For tests of this host: forgets the outputs.
    pub(crate) fn unsay(&mut self) {
        self.said.clear();
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// The root with the earliest timer, and when it is due.
    pub(crate) fn next_tick(&self) -> Option<(Duration, u32)> {
        self.roots.iter().filter_map(|(root, timer)| Some((timer.due?, *root))).min()
    }

    /// The call with the earliest timeout.
    pub(crate) fn next_timeout(&self) -> Option<Call> {
        self.calls.iter().filter(|_| !self.loses_calls).min_by_key(|call| call.due).cloned()
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
        if let Some(timer) = self.roots.get_mut(&root).filter(|timer| !timer.armed && !timer.period.is_zero())
        {
            timer.due = Some(clock::monotonic() + timer.period);
        }
    }

    /// Where the module let out a secret, or 20 bytes in a row of one.
    fn leaks(&self) -> Vec<String> {
        const PART: usize = 16;
        let (short, long): (Vec<_>, Vec<_>) = self.secrets.iter().partition(|secret| secret.len() < PART);
        let parts: HashSet<&[u8]> = long.iter().flat_map(|secret| secret.windows(PART).step_by(4)).collect();
        let of_a_long_one = |text: &[u8]| text.windows(PART).any(|part| parts.contains(part));
        let a_short_one = |text: &[u8]| {
            // One of a few bytes may well be a word that is no secret elsewhere.
            short
                .iter()
                .any(|secret| secret.len() >= 4 && text.windows(secret.len()).any(|part| part == *secret))
        };
        let leaks = self.said.iter().filter(|(_, text)| of_a_long_one(text) || a_short_one(text));
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
        stream.unwrap_or_else(|| if self.roots.contains_key(&context) { "root" } else { "nobody" }.to_owned())
    }
}
