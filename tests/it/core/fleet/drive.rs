//! Many workers, one provider, one queue of events: a worker runs only when something is due for
//! it.

use crate::core::sim::provider::{Answer, Endpoint, MARK, Mode, Provider};
use m2m_auth::http::message::{HttpReply, MessageHead, RequestId};
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::store::FetchId;
use m2m_auth::time::{Instant, Now};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// When every fleet begins.
const UNIX_START: u64 = 1_800_000_000;

/// An event of one of the proxies.
enum What {
    /// It starts, or starts again.
    Start,
    /// Its timer fires, unless it has been set to another time since.
    Tick,
    /// The provider's answer arrives.
    Reply(Box<(FetchId, HttpReply)>),
    /// It is asked for something, and again after that time.
    Request(Duration),
}

struct Event {
    at: Duration,
    /// In the order of their making, where two happen at once.
    number: u64,
    proxy: usize,
    what: What,
}

struct Proxy {
    plugin: Option<Plugin>,
    tick_at: Duration,
    /// Whether it is without what it should have: it has just started, its last fetch failed, or
    /// [`Fleet::all_need`].
    needs: bool,
    /// Whether it has been given the secret of the day.
    has_secret: bool,
}

/// What became of the requests that were sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Requests {
    pub(crate) sent: u64,
    pub(crate) refused: u64,
}

pub(crate) struct Fleet {
    configuration: Vec<u8>,
    proxies: Vec<Proxy>,
    queue: BinaryHeap<Event>,
    made: u64,
    pub(crate) now: Duration,
    pub(crate) provider: Provider,
    /// Whether a proxy needs the secret of the day.
    pub(crate) secret_rotated: bool,
    pub(crate) requests: Requests,
    pub(crate) request: MessageHead,
    last_well: Duration,
    /// When each proxy that lacked something got it.
    pub(crate) wells: Vec<Duration>,
}

impl Fleet {
    /// This many proxies with this configuration; none of them runs yet.
    pub(crate) fn new(configuration: &Value, size: usize) -> Self {
        let idle = || Proxy { plugin: None, tick_at: Duration::MAX, needs: false, has_secret: false };
        Self {
            configuration: configuration.to_string().into_bytes(),
            proxies: std::iter::repeat_with(idle).take(size).collect(),
            queue: BinaryHeap::new(),
            made: 0,
            now: Duration::ZERO,
            provider: Provider::new(),
            secret_rotated: false,
            requests: Requests::default(),
            request: MessageHead::default(),
            last_well: Duration::ZERO,
            wells: Vec::new(),
        }
    }

    /// How many proxies it has.
    pub(crate) fn size(&self) -> usize {
        self.proxies.len()
    }

    /// All start, or start again, evenly over that time.
    pub(crate) fn start_within(&mut self, span: Duration) {
        let count = u32::try_from(self.proxies.len()).unwrap();
        for (proxy, place) in (0..self.proxies.len()).zip(0..) {
            self.add(self.now + span * place / count, proxy, What::Start);
        }
    }

    /// From now on every `nth` proxy gets this request, once in `every`.
    pub(crate) fn ask(&mut self, head: MessageHead, nth: usize, every: Duration) {
        self.request = head;
        let asked = self.proxies.len().div_ceil(nth);
        for (place, proxy) in (0..).zip((0..self.proxies.len()).step_by(nth)) {
            let phase = every * place / u32::try_from(asked).unwrap();
            self.add(self.now + phase, proxy, What::Request(every));
        }
    }

    /// What all of them have is of no use any more.
    pub(crate) fn all_need(&mut self) {
        self.proxies.iter_mut().for_each(|proxy| proxy.needs = true);
    }

    /// Since when all of them have what they should have; none while one of them has not.
    pub(crate) fn all_well_since(&self) -> Option<Duration> {
        self.proxies.iter().all(|proxy| !proxy.needs).then_some(self.last_well)
    }

    /// Time passes, and whatever happens in it happens.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.peek().is_some_and(|event| event.at <= end) {
            let Event { at, proxy, what, .. } = self.queue.pop().unwrap();
            self.now = at;
            self.happen(proxy, what);
        }
        self.now = end;
    }

    fn happen(&mut self, proxy: usize, what: What) {
        let now = self.clock();
        match what {
            What::Start => {
                let environment = |name: &str| (name == "SECRET").then(|| MARK.to_owned());
                let policy = Policy::read(&self.configuration, &environment).unwrap();
                // A proxy that starts again has another random seed.
                let plugin = Plugin::new(
                    policy,
                    Box::new(SoftwareCrypto),
                    crate::core::sim::world::signer(),
                    self.made,
                );
                let state = &mut self.proxies[proxy];
                (state.plugin, state.has_secret, state.needs) = (Some(plugin), self.secret_rotated, true);
                self.tick(proxy, now);
            }
            What::Tick if self.proxies[proxy].tick_at == self.now => self.tick(proxy, now),
            What::Tick => {}
            What::Reply(arrived) => {
                let (ticket, reply) = *arrived;
                let state = &mut self.proxies[proxy];
                let failed = reply.status != Some(200);
                if state.needs && !failed {
                    self.last_well = self.now;
                    self.wells.push(self.now);
                }
                state.needs = failed;
                if let Some(plugin) = &mut state.plugin {
                    plugin.reply(ticket, &reply, now);
                    self.tick(proxy, now);
                }
            }
            What::Request(every) => {
                self.add(self.now + every, proxy, What::Request(every));
                let head = self.request.clone();
                if let Some(plugin) = &mut self.proxies[proxy].plugin {
                    self.requests.sent += 1;
                    let step = plugin.request(RequestId(0), head, now);
                    self.count(&step);
                    self.work(proxy, now);
                }
            }
        }
    }

    fn tick(&mut self, proxy: usize, now: Now) {
        if let Some(plugin) = &mut self.proxies[proxy].plugin {
            plugin.tick(now);
            self.work(proxy, now);
        }
    }

    /// Does what the plugin wants done, and sets its timer.
    fn work(&mut self, proxy: usize, now: Now) {
        while let Some(effect) = self.proxies[proxy].plugin.as_mut().and_then(Plugin::next_effect) {
            match effect {
                Effect::Log(..) => {}
                Effect::Resume(_, step) => self.count(&step),
                Effect::Call(ticket, call) => {
                    let refused = self.secret_rotated && !self.proxies[proxy].has_secret;
                    let invalid_client = || Mode::json(401, &json!({ "error": "invalid_client" }));
                    let tokens =
                        refused.then(|| std::mem::replace(&mut self.provider.tokens, invalid_client()));
                    if let Answer::After(latency, reply) = self.provider.answer(&call, self.now) {
                        self.add(self.now + latency, proxy, What::Reply(Box::new((ticket, reply))));
                    }
                    self.provider.tokens = tokens.unwrap_or_else(|| self.provider.tokens.clone());
                }
            }
        }
        let deadline = self.proxies[proxy].plugin.as_ref().and_then(|plugin| plugin.deadline(now));
        let at =
            deadline.map_or(Duration::MAX, |deadline| deadline.0.max(self.now + Duration::from_millis(1)));
        if at != self.proxies[proxy].tick_at && at < Duration::MAX {
            self.add(at, proxy, What::Tick);
        }
        self.proxies[proxy].tick_at = at;
    }

    fn count(&mut self, step: &RequestOutcome) {
        self.requests.refused += u64::from(matches!(step, RequestOutcome::Respond(_)));
    }

    fn add(&mut self, at: Duration, proxy: usize, what: What) {
        self.made += 1;
        self.queue.push(Event { at, number: self.made, proxy, what });
    }

    fn clock(&self) -> Now {
        Now { instant: Instant(self.now), unix: UNIX_START + self.now.as_secs() }
    }

    /// How often the provider was asked for something, second by second, from `start` to `end`.
    pub(crate) fn per_second(&self, endpoint: Endpoint, start: Duration, end: Duration) -> Vec<u32> {
        let second = |at: Duration| usize::try_from((at - start).as_secs()).unwrap();
        let mut counts = vec![0; second(end)];
        for at in self.provider.times(endpoint).into_iter().filter(|at| (start..end).contains(at)) {
            counts[second(at)] += 1;
        }
        counts
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest, as the heap gives away the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
