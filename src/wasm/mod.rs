//! The shell: Envoy's callbacks in, host calls out. It decides nothing about authentication.
//!
//! - The root context makes every call to a provider, so that a client that hangs up cannot take a shared fetch with it;
//!   a request that must wait only arms the root's timer.
//! - A waiting request is settled from the root: first its headers, then it is resumed, then nothing. Few of them in one
//!   callback: Envoy nests their answers, and some 300 of them are more than the VM's stack holds.
//! - `on_configure` depends on the configuration and the environment alone, and never panics: if it failed on a worker
//!   after the trial instance had succeeded, Envoy would forward requests unchecked.
//! - Whatever else may go wrong is answered with 503.

mod crypto;
mod hostcalls;
mod shared_data;

use crate::filter::header_edits::{AttachedToken, Edit, HeaderEdits};
use crate::http::message::{
    FilterState, HttpReply, LocalReply, MAX_REPLY_BYTES, MessageHead, RequestAttributes, RequestId, Route,
};
use crate::inbound::refusal::Refusal;
use crate::oauth::client_assertion::Signer;
use crate::plugin::filter_state;
use crate::plugin::{Effect, Plugin, RequestOutcome};
use crate::policy::{Policy, SharingScope};
use crate::rng::OsRandom;
use crate::store::FetchId;
use crate::time::Now;
use crate::time::clock::Clock;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the host runs first.
#[expect(missing_docs, reason = "the SDK's macro writes the function")]
pub mod entry {
    use super::{LogLevel, Root, SharedWorker};

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|id| Box::new(Root { id, worker: SharedWorker::default() }));
    }}
}

/// The worker, once its configuration has been accepted. Callbacks of one VM never overlap.
type SharedWorker = Rc<RefCell<Option<Worker>>>;

/// The longest time between two ticks: metrics are reported at least this often.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// For how long the monotonic clock carries the wall clock on: a reading costs about 1 us. So long may it take, awake, until it is
/// noticed that the machine has slept.
const WALL_CLOCK: Duration = Duration::from_millis(100);

/// The name of the cluster that a request goes to.
const CLUSTER: [&str; 2] = ["xds", "cluster_name"];

/// Where a route's metadata names a credential.
const ROUTE_CREDENTIAL: [&str; 5] = ["xds", "route_metadata", "filter_metadata", "m2m_auth", "credential"];

/// The SHA-256 of the client's certificate, in hexadecimal.
const CLIENT_CERTIFICATE: [&str; 2] = ["connection", "sha256_peer_certificate_digest"];

/// Envoy's word for who made a response.
const CODE_DETAILS: [&str; 2] = ["response", "code_details"];

/// Envoy's plugin instance on one worker.
struct Root {
    id: u32,
    worker: SharedWorker,
}

/// One request.
struct StreamContext {
    id: u32,
    worker: SharedWorker,
    attached_token: Option<AttachedToken>,
}

/// The plugin, and what the host needs to know of it.
struct Worker {
    root: u32,
    plugin: Plugin,
    request_attributes: RequestAttributes,
    clock: Clock,
    /// What the host is calling for us; few.
    calls: Vec<(u32, FetchId)>,
    /// What was attached to requests that had waited, by context.
    attached: Vec<(u32, AttachedToken)>,
    metrics: Vec<Option<u32>>,
    tick: Duration,
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_size: usize, _trailers: usize) {
        with(&self.worker, |worker| worker.reply(token, body_size));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let environment = |name: &str| std::env::var(name).ok();
        let Ok(document) = hostcalls::configuration(size) else {
            // A no on one worker alone would let its requests through; without a worker each is answered with 503.
            hostcalls::log(log::Level::Error, "m2m-auth: the host does not hand over the configuration");
            return true;
        };
        let vm_id = || hostcalls::property(&["plugin_vm_id"]).ok().flatten();
        let read = Policy::read(&document, &environment);
        match read.and_then(|policy| {
            Ok((policy.sharing_scope(vm_id().as_deref()).map_err(|own| vec![own])?, policy))
        }) {
            Ok((reach, mut policy)) => {
                if policy.accepts_dpop() {
                    policy.plugin_name =
                        hostcalls::property(&["plugin_name"]).ok().flatten().unwrap_or_default();
                }
                with(&self.worker, Worker::drain);
                let mut worker = Worker::new(self.id, policy, &reach);
                with(&self.worker, |old| worker.take_over(old));
                // Callbacks of one VM never overlap, so this cannot fail; if it did, the old worker would stay.
                self.worker.try_borrow_mut().map(|mut shared| *shared = Some(worker)).is_ok()
            }
            Err(errors) => {
                let count = errors.len();
                let noun = if count == 1 { "error" } else { "errors" };
                hostcalls::log(log::Level::Error, &format!("m2m-auth: {count} {noun} in the configuration"));
                for error in errors {
                    hostcalls::log(log::Level::Error, &format!("m2m-auth: {error}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        with(&self.worker, Worker::tick);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(StreamContext { id, worker: Rc::clone(&self.worker), attached_token: None }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for StreamContext {}

impl HttpContext for StreamContext {
    // There is no callback for bodies: a token in a form is not looked for (RFC 6750 section 2.2).
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let step = with(&self.worker, |worker| worker.request(self.id, end_of_stream));
        match step.unwrap_or_else(|| RequestOutcome::Respond(Refusal::NotReady.plain())) {
            RequestOutcome::Forward(edits) => match apply_edits(&edits) {
                Ok(()) => {
                    self.attached_token = edits.attached_token;
                    Action::Continue
                }
                Err(hostcalls::HostError(_)) => not_ready(),
            },
            RequestOutcome::Respond(response) => answer(&response),
            RequestOutcome::Wait => Action::Pause,
        }
    }

    /// Of interest only to requests that got a token; as an upstream filter, before Envoy tries them again.
    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let own = self.attached_token.take();
        self.attached_token =
            with(&self.worker, |worker| worker.answered(self.id, own, end_of_stream)).flatten();
        Action::Continue
    }

    /// Of interest only to gRPC calls that got a token. Envoy makes this call for responses that have trailers, and for no others.
    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        if let Some(sent) = self.attached_token.take() {
            with(&self.worker, |worker| worker.ended(&sent));
        }
        Action::Continue
    }
}

impl Drop for StreamContext {
    fn drop(&mut self) {
        with(&self.worker, |worker| worker.finish(self.id));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        shared_data::unregister(&self.plugin.records());
        let now = self.now();
        self.plugin.retire(now);
        self.plugin.remove_records(shared_data::is_used, now);
    }
}

impl Worker {
    fn new(root: u32, policy: Policy, reach: &SharingScope) -> Self {
        let verifier = Box::new(crypto::Verifier::probe());
        let host = crypto::HostSigner::probe();
        let proves = policy.credentials.iter().any(|credential| credential.grant.dpop_bound);
        let key = if proves { crypto::proof_key(&host) } else { None };
        let signer = Signer::new(Box::new(host), Box::new(OsRandom)).with_proof_key(key);
        let seed = RandomState::new().hash_one(root);
        if policy.writes_filter_state() {
            // A host that knows no types takes bytes, which say the same to all but CEL.
            for name in filter_state::NAMES {
                let _ = hostcalls::declare_string_property(name);
            }
        }
        let asks = policy.request_attributes();
        let plugin = Plugin::sharing(policy, verifier, signer, shared_data::store_for(reach), seed);
        shared_data::register(plugin.records());
        // Nothing may be fetched in `on_configure`, but very soon after.
        let tick = Duration::from_millis(1);
        let _ = hostcalls::set_tick(1);
        let (clock, calls, settled, metrics) =
            (Clock::start(hostcalls::monotonic(), wall_clock()), Vec::new(), Vec::new(), Vec::new());
        Self { root, plugin, request_attributes: asks, clock, calls, attached: settled, metrics, tick }
    }

    /// This one comes in place of another.
    fn take_over(&mut self, old: &mut Self) {
        self.plugin.take_over(&mut old.plugin);
        self.clock = old.clock;
    }

    /// What time it is.
    fn now(&mut self) -> Now {
        let monotonic = hostcalls::monotonic();
        let is_due = monotonic.saturating_sub(self.clock.read_at()) >= WALL_CLOCK;
        let slept = is_due && self.clock.read(monotonic, wall_clock());
        let now = self.clock.now(monotonic);
        if slept {
            self.plugin.on_wake(now);
        }
        now
    }

    fn request(&mut self, id: u32, end_of_stream: bool) -> RequestOutcome {
        let Ok(head) = request_head(self.request_attributes, self.plugin.has_recent_rejections()) else {
            return RequestOutcome::Respond(Refusal::NotReady.plain());
        };
        let head = if end_of_stream { head.without_body() } else { head };
        let now = self.now();
        let step = self.plugin.request(RequestId(id), head, now);
        self.drain_effects(now);
        if step == RequestOutcome::Wait {
            self.arm_timer(now);
        }
        step
    }

    fn reply(&mut self, token: u32, body_size: usize) {
        let Some(ticket) = take(&mut self.calls, token) else {
            return;
        };
        let now = self.now();
        self.plugin.reply(ticket, &received(body_size), now);
        // What has arrived may be what another fetch needed to begin. This is no tick: Envoy may deliver an answer inside another
        // callback.
        self.plugin.run_due(now);
        self.drain_effects(now);
        self.arm_timer(now);
    }

    fn tick(&mut self) {
        let now = self.now();
        self.plugin.tick(now);
        self.drain_effects(now);
        self.report();
        self.arm_timer(now);
    }

    /// The request was answered. Of a gRPC call whose status comes behind its messages, what it was sent with is given back.
    fn answered(
        &mut self,
        id: u32,
        own: Option<AttachedToken>,
        end_of_stream: bool,
    ) -> Option<AttachedToken> {
        let sent = own.or_else(|| take(&mut self.attached, id))?;
        let response = if sent.origin.is_some() || sent.grpc {
            hostcalls::response_head().ok()
        } else {
            hostcalls::response_status().ok().map(|status| [(":status", status)].into_iter().collect())
        };
        let refused = response.as_ref().is_some_and(|response| sent.is_rejected(response));
        let tells = refused || sent.origin.is_some() || self.plugin.has_recent_rejections();
        if let Some(response) = response.filter(|_| tells) {
            let now = self.now();
            self.plugin.on_upstream_response(&sent, &response, now, code_details);
            self.arm_timer(now);
        }
        (sent.grpc && !refused && !end_of_stream).then_some(sent)
    }

    /// The trailers of a gRPC call have come.
    fn ended(&mut self, sent: &AttachedToken) {
        if let Ok(trailers) = hostcalls::response_trailers() {
            let now = self.now();
            self.plugin.on_token_verdict(sent, &trailers, now, code_details);
            self.arm_timer(now);
        }
    }

    /// The request is over, answered or not.
    fn finish(&mut self, id: u32) {
        self.plugin.cancel(RequestId(id));
        take(&mut self.attached, id);
    }

    /// Another worker takes over: nobody must be left waiting. It answers those that are too many for this callback.
    fn drain(&mut self) {
        let now = self.now();
        self.plugin.drain(now);
        self.drain_effects(now);
    }

    fn drain_effects(&mut self, now: Now) {
        while let Some(effect) = self.plugin.next_effect() {
            match effect {
                Effect::Log(level, line) => hostcalls::log(level, &format!("m2m-auth: {line}")),
                Effect::Resume(RequestId(id), step) => self.resume(id, step),
                Effect::Call(ticket, call) => match hostcalls::dispatch(&call) {
                    Ok(token) => self.calls.push((token, ticket)),
                    Err(refused) => {
                        let note = why_not_called(refused, &call.endpoint.cluster).into();
                        let reply = HttpReply { detail: note, no_connection: true, ..HttpReply::default() };
                        self.plugin.reply(ticket, &reply, now);
                    }
                },
            }
        }
    }

    /// Headers first, then resume, then nothing: after that the host takes no change.
    fn resume(&mut self, id: u32, step: RequestOutcome) {
        if hostcalls::set_effective_context(id).is_err() {
            return; // its client has gone
        }
        match step {
            RequestOutcome::Forward(edits) => match apply_edits(&edits) {
                Ok(()) => {
                    self.attached.extend(edits.attached_token.map(|sent| (id, sent)));
                    let _ = hostcalls::resume();
                }
                Err(hostcalls::HostError(_)) => drop(not_ready()),
            },
            RequestOutcome::Respond(response) => drop(answer(&response)),
            RequestOutcome::Wait => {}
        }
        let _ = hostcalls::set_effective_context(self.root);
    }

    fn report(&mut self) {
        let metrics = &mut self.metrics;
        self.plugin.metrics().report(|number, counter, sum| {
            // Counters are numbered in the order of their first event, and so are the host's.
            if metrics.len() <= number {
                metrics.resize(number.saturating_add(1), None);
            }
            let Some(metric) = metrics.get_mut(number) else {
                return;
            };
            if metric.is_none() {
                *metric = hostcalls::define_counter(&counter.to_string()).ok();
            }
            let _ = metric.map(|id| hostcalls::increment(id, sum));
        });
    }

    /// Arms the timer for the plugin's next deadline, unless it is armed for it already.
    fn arm_timer(&mut self, now: Now) {
        let until = self.plugin.deadline(now).map_or(IDLE_TICK, |at| at.since(now.instant));
        let tick = until.clamp(Duration::from_millis(1), IDLE_TICK);
        let millis = u32::try_from(tick.as_millis()).unwrap_or(1).max(1);
        if tick != self.tick && hostcalls::set_tick(millis).is_ok() {
            self.tick = tick;
        }
    }
}

/// Who made the response of the effective context, as Envoy says: `via_upstream`, or what its own filter calls its answer.
fn code_details() -> Option<Vec<u8>> {
    hostcalls::property(&CODE_DETAILS).ok().flatten()
}

/// Why the host has made no call to this cluster.
fn why_not_called(refused: hostcalls::HostError, cluster: &str) -> String {
    if refused == hostcalls::INTERNAL_FAILURE {
        format!("cluster {cluster:?} has no healthy host")
    } else {
        format!("cluster {cluster:?} not found in Envoy's configuration")
    }
}

/// Takes the value of a key out.
fn take<T>(pairs: &mut Vec<(u32, T)>, key: u32) -> Option<T> {
    let place = pairs.iter().position(|(own, _)| *own == key)?;
    Some(pairs.swap_remove(place).1)
}

/// Runs with the worker; none when there is none yet.
fn with<T>(worker: &SharedWorker, run: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    worker.try_borrow_mut().ok()?.as_mut().map(run)
}

/// The request, with what must be known of its route and its connection. Before any header is changed: after that Envoy chooses it anew.
///
/// Where no rule is for a cluster, it is good to know which one a request goes to while some service refuses tokens.
fn request_head(
    asks: RequestAttributes,
    to_which_service: bool,
) -> Result<MessageHead, hostcalls::HostError> {
    let ask = |asked: bool, path: &[&str]| if asked { hostcalls::property(path) } else { Ok(None) };
    let cluster = match ask(asks.cluster, &CLUSTER)? {
        None if to_which_service && !asks.cluster => hostcalls::property(&CLUSTER).unwrap_or_default(),
        cluster => cluster,
    };
    // A value that cannot be returned as a string, such as null, is no credential's name.
    let credential = ask(asks.credential, &ROUTE_CREDENTIAL).unwrap_or_else(|_| Some(Vec::new()));
    // One that cannot be handed over is none.
    let certificate = ask(asks.certificate, &CLIENT_CERTIFICATE).unwrap_or_default();
    Ok(hostcalls::request_head()?
        .with_route(Route { cluster, credential })
        .with_client_certificate(certificate))
}

fn apply_edits(edits: &HeaderEdits) -> Result<(), hostcalls::HostError> {
    // What a later filter decides by must not be missing there, no more than a header.
    write_filter_state(&edits.filter_state)?;
    edits.headers.iter().try_for_each(|edit| match edit {
        Edit::Remove(name) => hostcalls::remove_request_header(name),
        Edit::Set(name, value) => hostcalls::set_request_header(name, value),
    })
}

fn write_filter_state(state: &FilterState) -> Result<(), hostcalls::HostError> {
    state.iter().try_for_each(|(name, value)| hostcalls::set_property(name, value))
}

/// Answers, and stops the request even if the host should refuse the answer.
fn answer(response: &LocalReply) -> Action {
    let _ = write_filter_state(&response.filter_state);
    let _ = hostcalls::answer(response);
    Action::Pause
}

fn not_ready() -> Action {
    answer(&Refusal::NotReady.plain())
}

/// The answer that the host is delivering.
fn received(body_size: usize) -> HttpReply {
    let head = hostcalls::call_response_head().unwrap_or_default();
    let status = head.first(":status").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let body =
        (body_size <= MAX_REPLY_BYTES).then(|| hostcalls::call_response_body(body_size).unwrap_or_default());
    HttpReply {
        status,
        head,
        body,
        detail: "the connection ended before the answer".into(),
        no_connection: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
