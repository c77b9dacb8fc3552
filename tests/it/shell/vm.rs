//! A VM with the module in it: what Envoy calls, in the order in which Envoy calls it.
//!
//! Only the callbacks that the shipped module exports are made; `tools/trim` takes the others out.

#![allow(unsafe_code, reason = "the module's exports are foreign functions")]

use super::clock;
use super::host::{self, Answer, Call, Delivery, Fault, Host, State};
use super::pairs::{self, Pairs};
use super::scene::{CLIENT_SECRET, reply};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::marker::PhantomData;
use std::sync::Once;
use std::time::Duration;
use std::{io, panic, thread};

mod export {
    unsafe extern "C" {
        pub(super) safe fn _initialize();
        pub(super) safe fn proxy_on_context_create(context: u32, root: u32);
        pub(super) safe fn proxy_on_vm_start(root: u32, size: usize) -> bool;
        pub(super) safe fn proxy_on_configure(root: u32, size: usize) -> bool;
        pub(super) safe fn proxy_on_tick(root: u32);
        pub(super) safe fn proxy_on_request_headers(context: u32, count: usize, end: bool) -> u32;
        pub(super) safe fn proxy_on_response_headers(context: u32, count: usize, end: bool) -> u32;
        pub(super) safe fn proxy_on_response_trailers(context: u32, count: usize) -> u32;
        pub(super) safe fn proxy_on_http_call_response(
            root: u32,
            token: u32,
            headers: usize,
            body: usize,
            trailers: usize,
        );
        pub(super) safe fn proxy_on_delete(context: u32);
    }
}

/// The callbacks that are made here.
pub(crate) const CALLBACKS: [&str; 9] = [
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_http_call_response",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

const CONTINUE: u32 = 0;

thread_local! {
    /// Context ids are never used twice: the SDK would take the second for the first.
    static NEXT_CONTEXT: Cell<u32> = const { Cell::new(1) };
}

fn next_context() -> u32 {
    let id = NEXT_CONTEXT.get();
    NEXT_CONTEXT.set(id + 1);
    id
}

/// The module, started, on a host of its own and with a clock of its own. At most one per thread.
pub(crate) struct Vm {
    root: u32,
    of_this_thread: PhantomData<*const ()>,
}

impl Vm {
    /// Starts the module, without a configuration.
    pub(crate) fn start() -> Self {
        assert!(host::replace(Some(Host::new())).is_none(), "one VM per thread at a time");
        clock::freeze();
        initialize();
        let root = next_context();
        let vm = Self { root, of_this_thread: PhantomData };
        vm.hush(CLIENT_SECRET);
        vm.add_root(root);
        vm
    }

    /// Starts the module with this configuration, which is good.
    pub(crate) fn with(configuration: &Value) -> Self {
        let vm = Self::start();
        assert!(vm.configure(configuration), "{:?}", vm.log());
        vm
    }

    /// The plugin's root.
    pub(crate) fn root(&self) -> u32 {
        self.root
    }

    /// Another root of the same VM, as a change of the configuration makes one.
    pub(crate) fn another_root(&self) -> u32 {
        let root = next_context();
        self.add_root(root);
        root
    }

    fn add_root(&self, root: u32) {
        self.host(|host| host.add_root(root));
        self.run("proxy_on_context_create", root, || {
            export::proxy_on_context_create(root, 0);
        });
        assert!(self.run("proxy_on_vm_start", root, || export::proxy_on_vm_start(root, 0)));
    }

    /// Registers a secret that must never leave the module.
    pub(crate) fn hush(&self, secret: &str) {
        self.host(|host| host.secrets.insert(secret.as_bytes().to_vec()));
    }

    /// Looks at the host, or changes it.
    #[expect(clippy::unused_self, reason = "who has a VM has a host")]
    pub(crate) fn host<T>(&self, look: impl FnOnce(&mut Host) -> T) -> T {
        host::with(look).expect("a host while its VM lives")
    }

    /// From now on these host calls fail.
    pub(crate) fn break_calls(&self, status: u32, hits: impl Fn(usize, &str) -> bool + 'static) {
        self.host(|host| host.fault = Some(Fault::new(status, hits)));
    }

    /// From now on none fails.
    pub(crate) fn restore_calls(&self) {
        self.host(|host| host.fault = None);
    }

    /// Whether the configuration is accepted.
    pub(crate) fn configure(&self, configuration: &Value) -> bool {
        self.configure_bytes(configuration.to_string().as_bytes())
    }

    pub(crate) fn configure_bytes(&self, configuration: &[u8]) -> bool {
        self.configure_root(self.root, configuration)
    }

    pub(crate) fn configure_root(&self, root: u32, configuration: &[u8]) -> bool {
        self.host(|host| host.configuration = configuration.to_vec());
        self.run("proxy_on_configure", root, || export::proxy_on_configure(root, configuration.len()))
    }

    /// A request comes. It is asked about, and is then forwarded, answered, or paused.
    pub(crate) fn request(&self, headers: Pairs) -> Request<'_> {
        self.request_of(self.root, headers, None)
    }

    /// The same, with a body of which nothing has come yet.
    pub(crate) fn request_with_body(&self, headers: Pairs) -> Request<'_> {
        self.begin_request(self.root, headers, None, false)
    }

    /// The same, at a host that hands its headers over as these bytes.
    pub(crate) fn request_in_bytes(&self, headers: Pairs, raw: Vec<u8>) -> Request<'_> {
        self.request_of(self.root, headers, Some(raw))
    }

    pub(crate) fn request_of(&self, root: u32, headers: Pairs, raw: Option<Vec<u8>>) -> Request<'_> {
        self.begin_request(root, headers, raw, true)
    }

    fn begin_request(&self, root: u32, headers: Pairs, raw: Option<Vec<u8>>, ends: bool) -> Request<'_> {
        let (id, count) = (next_context(), headers.len());
        self.host(|host| {
            host.add_stream(id, root, headers);
            host.streams.get_mut(&id).unwrap().raw = raw;
        });
        self.run("proxy_on_context_create", id, || {
            export::proxy_on_context_create(id, root);
        });
        let action =
            self.run("proxy_on_request_headers", id, || export::proxy_on_request_headers(id, count, ends));
        self.host(|host| {
            let stream = host.streams.get_mut(&id).unwrap();
            if stream.state == State::Asked {
                stream.state = if action == CONTINUE { State::Forwarded } else { State::Paused };
            }
        });
        Request { vm: self, id }
    }

    /// Time passes: timers run out, and calls that nobody has answered are answered by the host.
    pub(crate) fn pass(&self, span: Duration) {
        let end = clock::monotonic() + span;
        let sleep_until = |due: Duration| clock::pass(due.saturating_sub(clock::monotonic()));
        loop {
            let tick = self.host(|host| host.next_tick()).filter(|(due, _)| *due <= end);
            let call = self.host(|host| host.next_timeout()).filter(|call| call.due <= end);
            match (tick, call) {
                (Some((due, root)), call) if call.as_ref().is_none_or(|call| due < call.due) => {
                    sleep_until(due);
                    self.tick(root);
                }
                (_, Some(call)) => {
                    sleep_until(call.due);
                    self.deliver(&call, reply(504, "upstream request timeout"));
                }
                _ => break,
            }
        }
        sleep_until(end);
    }

    /// Time passes until the next timer has run out.
    pub(crate) fn wake(&self) {
        let (due, _) = self.host(|host| host.next_tick()).expect("an armed timer");
        self.pass(due.saturating_sub(clock::monotonic()));
    }

    /// A root's timer runs out now.
    pub(crate) fn tick(&self, root: u32) {
        self.host(|host| host.before_tick(root));
        self.run("proxy_on_tick", root, || export::proxy_on_tick(root));
        self.host(|host| host.after_tick(root));
    }

    /// The calls that were not answered yet.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.host(|host| host.calls.clone())
    }

    /// The answer to a call comes.
    pub(crate) fn deliver(&self, call: &Call, answer: Delivery) {
        let (headers, body) = (answer.headers.len(), answer.body.len());
        let answered: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        self.host(|host| {
            host.secrets.extend(answered["access_token"].as_str().map(|token| token.as_bytes().to_vec()));
            host.calls.retain(|other| other.token != call.token);
            host.delivery = Some(answer);
        });
        self.run("proxy_on_http_call_response", call.root, || {
            export::proxy_on_http_call_response(call.root, call.token, headers, body, 0);
        });
        self.host(|host| host.delivery = None);
    }

    /// The plugin's instance is over.
    pub(crate) fn delete_root(&self, root: u32) {
        self.run("proxy_on_delete", root, || export::proxy_on_delete(root));
        self.host(|host| host.forget(root));
    }

    /// Callbacks and host calls since they were last taken.
    pub(crate) fn record(&self) -> Vec<String> {
        self.host(Host::take_record)
    }

    /// Lines written so far, without their levels.
    pub(crate) fn log(&self) -> Vec<String> {
        self.host(|host| host.log.iter().map(|(_, line)| line.clone()).collect())
    }

    /// The period of the root's timer.
    pub(crate) fn period(&self) -> Duration {
        self.host(|host| host.period(self.root))
    }

    /// The violations so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.host(Host::violations)
    }

    fn run<T>(&self, name: &'static str, context: u32, callback: impl FnOnce() -> T) -> T {
        assert!(CALLBACKS.contains(&name));
        self.host(|host| host.begin(name, context));
        let result = callback();
        self.host(Host::end);
        result
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for id in self.host(|host| host.living()) {
            Request { vm: self, id }.end();
        }
        for root in self.host(|host| host.roots()) {
            self.delete_root(root);
        }
        let violations = self.violations();
        host::replace(None);
        clock::release();
        if !thread::panicking() {
            assert_eq!(violations, [""; 0], "what must never happen");
        }
    }
}

/// A request and what became of it.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    vm: &'a Vm,
    id: u32,
}

impl Request<'_> {
    pub(crate) fn state(self) -> State {
        self.vm.host(|host| host.streams[&self.id].state.clone())
    }

    pub(crate) fn waits(self) -> bool {
        self.state() == State::Paused
    }

    pub(crate) fn is_forwarded(self) -> bool {
        self.state() == State::Forwarded
    }

    /// The answer that it got.
    pub(crate) fn answer(self) -> Answer {
        match self.state() {
            State::Answered(answer) => answer,
            other => panic!("not answered but {other:?}"),
        }
    }

    /// Status and reason of the answer; 200 and an empty reason when it was forwarded.
    pub(crate) fn outcome(self) -> (u32, String) {
        match self.state() {
            State::Forwarded => (200, String::new()),
            State::Answered(answer) => (answer.status, answer.reason()),
            State::Paused | State::Asked => (0, "waits".to_owned()),
        }
    }

    /// The values of one header, as the service gets them.
    pub(crate) fn header(self, name: &str) -> Vec<Vec<u8>> {
        self.vm.host(|host| {
            let values = pairs::values(&host.streams[&self.id].headers, name);
            values.into_iter().map(<[u8]>::to_vec).collect()
        })
    }

    /// Its filter state.
    pub(crate) fn filter_state(self) -> BTreeMap<String, String> {
        self.vm.host(|host| host.streams[&self.id].filter_state.clone())
    }

    /// The service answers with this status; then the request is over.
    pub(crate) fn end_with(self, status: i64) {
        self.end_with_bytes(status.to_string().into_bytes());
    }

    /// The same, with these headers.
    pub(crate) fn end_with_headers(self, status: i64, headers: &[(&str, &str)]) {
        self.vm.host(|host| host.streams.get_mut(&self.id).unwrap().answered = pairs::of(headers));
        self.end_with(status);
    }

    pub(crate) fn end_with_bytes(self, status: Vec<u8>) {
        self.vm.host(|host| host.streams.get_mut(&self.id).unwrap().status = Some(status));
        self.respond(true);
        self.end();
    }

    /// The service answers 200 with these headers, and then with these trailers; then the request
    /// is over.
    pub(crate) fn end_with_trailers(self, headers: &[(&str, &str)], trailers: &[(&str, &str)]) {
        self.vm.host(|host| {
            let stream = host.streams.get_mut(&self.id).unwrap();
            stream.status = Some(b"200".to_vec());
            (stream.answered, stream.trailers) = (pairs::of(headers), pairs::of(trailers));
        });
        self.respond(false);
        let answer = self.vm.run("proxy_on_response_trailers", self.id, || {
            export::proxy_on_response_trailers(self.id, trailers.len())
        });
        assert_eq!(answer, CONTINUE, "trailers are never held");
        self.end();
    }

    fn respond(self, end: bool) {
        let answer = self
            .vm
            .run("proxy_on_response_headers", self.id, || export::proxy_on_response_headers(self.id, 1, end));
        assert_eq!(answer, CONTINUE, "a response is never held");
    }

    /// What answers is what Envoy says here, instead of the service.
    pub(crate) fn answered_by(self, code_details: Option<&'static str>) -> Self {
        self.vm.host(|host| host.streams.get_mut(&self.id).unwrap().code_details = code_details);
        self
    }

    /// The request is over, or its client has gone.
    pub(crate) fn end(self) {
        self.vm.run("proxy_on_delete", self.id, || export::proxy_on_delete(self.id));
        self.vm.host(|host| host.forget(self.id));
    }
}

/// Runs the module's start on this thread. The first time, the SDK takes over the process's panic
/// hook; it is given back, so that a failing test says why, with one addition: a panic inside the
/// module ends the process, since it cannot unwind out of there, so it is printed where no test
/// captures the output.
fn initialize() {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        let before = panic::take_hook();
        export::_initialize();
        panic::set_hook(Box::new(move |info| {
            if host::with(|host| host.is_inside()) == Some(true) {
                let test = thread::current().name().unwrap_or("?").to_owned();
                let _ = writeln!(io::stderr(), "the module panicked in {test}: {info}");
            }
            before(info);
        }));
    });
    export::_initialize();
}
