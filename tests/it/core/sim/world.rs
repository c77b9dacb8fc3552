//! One worker in a world of its own: a virtual clock, the scripted provider, requests that come and
//! go.
//!
//! After every event the invariants are asserted, whatever the test is about:
//!
//! - never two calls for the same thing at once, and never two within a second;
//! - no request passes a rule that requires a token without one that is good at that moment;
//! - no token is attached that its provider has ended;
//! - a good token is never answered 401;
//! - a pending request is settled within the bound, once, and not after it has gone;
//! - no more requests wait than allowed;
//! - no output of the plugin holds a secret or a token.

use crate::core::cli::metrics::is_documented;
use crate::core::sim::provider::{Answer, ISSUER, Key, MARK, Provider};
use m2m_auth::dpop;
use m2m_auth::filter::header_edits::{AttachedToken, Edit, HeaderEdits};
use m2m_auth::http::message::{HttpReply, LocalReply, MessageHead, RequestId, Route};
use m2m_auth::jose::jwk::Algorithm;
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::plugin::audit_log::AuditEvent;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::rng::OsRandom;
use m2m_auth::store::{FetchId, FetchKey};
use m2m_auth::time::Now;
use m2m_auth::time::clock::Clock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

/// When every world begins.
const UNIX_START: u64 = 1_800_000_000;

/// A timer of the host fires this much late at most.
const TICK: Duration = Duration::from_millis(2);

/// How long an introspection answer counts by default.
const REVOKED_WITHIN: Duration = Duration::from_secs(30);

/// This many requests are answered or resumed between two ticks.
pub(crate) const PORTION: usize = 64;

/// A fetch counts as lost this long after its timeout.
const LOST_MARGIN: Duration = Duration::from_secs(1);

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Waiting,
    Gone,
    Forwarded { after: Duration, edits: HeaderEdits },
    Answered { after: Duration, response: LocalReply },
}

impl Outcome {
    /// 200 for a forwarded request; 0 for one that still waits or has gone.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Waiting | Self::Gone => 0,
            Self::Forwarded { .. } => 200,
            Self::Answered { response, .. } => response.status,
        }
    }

    /// How long the request waited.
    pub(crate) fn waited(&self) -> Duration {
        match self {
            Self::Waiting | Self::Gone => Duration::MAX,
            Self::Forwarded { after, .. } | Self::Answered { after, .. } => *after,
        }
    }

    pub(crate) fn at_once(&self) -> bool {
        self.waited() == Duration::ZERO
    }

    /// It was forwarded, and did not wait.
    pub(crate) fn passed(&self) -> bool {
        self.status() == 200 && self.at_once()
    }

    /// `reason` of the answer's body.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Answered { response, .. } => {
                let body: Value = serde_json::from_str(&response.body).unwrap();
                body["reason"].as_str().unwrap().to_owned()
            }
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        match self {
            Self::Answered { response, .. } => {
                response.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
            }
            _ => None,
        }
    }

    /// `Retry-After`, in seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after").map(|text| text.parse().unwrap())
    }

    pub(crate) fn edits(&self) -> &HeaderEdits {
        match self {
            Self::Forwarded { edits, .. } => edits,
            other => panic!("not forwarded: {other:?}"),
        }
    }

    /// Whether the client's header of that name goes.
    pub(crate) fn removes(&self, name: &str) -> bool {
        self.edits().headers.iter().any(|edit| matches!(edit, Edit::Remove(own) if **own == *name))
    }

    /// The value that a header is set to.
    pub(crate) fn set(&self, name: &str) -> Option<String> {
        self.edits().headers.iter().find_map(|edit| match edit {
            Edit::Set(own, value) if **own == *name => Some(String::from_utf8(value.clone()).unwrap()),
            _ => None,
        })
    }
}

/// A request to send.
#[derive(Clone)]
pub(crate) struct Get {
    fields: Vec<(String, String)>,
    route: Route,
    has_body: bool,
}

/// `GET` of a path.
pub(crate) fn get(path: &str) -> Get {
    Get { fields: Vec::new(), route: Route::default(), has_body: false }
        .header(":method", "GET")
        .header(":path", path)
        .header(":authority", "svc")
}

impl Get {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(own, _)| own != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body comes after its headers.
    pub(crate) fn with_body(self) -> Self {
        Self { has_body: true, ..self }
    }

    pub(crate) fn host(self, host: &str) -> Self {
        self.header(":authority", host)
    }

    /// Its route leads to that cluster.
    pub(crate) fn to(mut self, cluster: &str) -> Self {
        self.route.cluster = Some(cluster.as_bytes().to_vec());
        self
    }

    /// Its route names that credential.
    pub(crate) fn naming(mut self, credential: impl AsRef<[u8]>) -> Self {
        self.route.credential = Some(credential.as_ref().to_vec());
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn value(&self, name: &str) -> &str {
        self.fields.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    fn token(&self) -> &str {
        self.value("authorization").strip_prefix("Bearer ").unwrap_or_default()
    }
}

/// What is known of a token that a test signed.
#[derive(Clone)]
struct Minted {
    kid: String,
    exp: u64,
    audience: String,
}

struct Asked {
    get: Get,
    at: Duration,
    outcome: Outcome,
}

struct Open {
    ticket: FetchId,
    lost_at: Duration,
}

/// The key set that the plugin has.
struct Learnt {
    kids: BTreeSet<String>,
    start: Duration,
}

pub(crate) struct World {
    plugin: Plugin,
    clock: Clock,
    pub(crate) provider: Provider,
    pub(crate) now: Duration,
    /// How far the wall clock is off.
    pub(crate) wall_step: i64,
    pub(crate) logs: Vec<String>,
    /// The fields of the lines so far, each with the event of its line.
    pub(crate) fields: BTreeSet<(String, String)>,
    /// Those that have waited, in the order in which they were settled, and when.
    pub(crate) settled: Vec<(RequestId, Duration)>,
    pub(crate) most_waiting: usize,
    timeout: Duration,
    most: usize,
    wants: usize,
    max_stale: Duration,
    skew: u64,
    requires: bool,
    answers: BTreeMap<(Duration, u64), (FetchId, Duration, HttpReply)>,
    sent: u64,
    open: BTreeMap<FetchKey, Open>,
    last_start: BTreeMap<FetchKey, Duration>,
    /// Fetches whose last answer was an unknown client, a missing nonce or a 404: those are
    /// repeated at once.
    asked_again: BTreeSet<FetchKey>,
    learnt: Option<Learnt>,
    requests: BTreeMap<RequestId, Asked>,
    waiting: BTreeSet<RequestId>,
    minted: HashMap<String, Minted>,
    /// Opaque tokens, and until when they are active.
    opaque: HashMap<String, Duration>,
    shown_too_early: BTreeSet<String>,
    disowned: BTreeSet<String>,
    last_tick: Duration,
    spins: u32,
}

/// Whatever a test has counted has its place in the page of the metrics.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.counters();
        }
    }
}

impl World {
    /// A worker with this configuration, at its first moment.
    pub(crate) fn new(configuration: &Value) -> Self {
        Self::seeded(configuration, 1)
    }

    pub(crate) fn seeded(configuration: &Value, seed: u64) -> Self {
        Self::made(configuration, signer(), seed)
    }

    /// A worker that signs in another way.
    pub(crate) fn signing(configuration: &Value, signer: Signer) -> Self {
        Self::made(configuration, signer, 1)
    }

    fn made(configuration: &Value, signer: Signer, seed: u64) -> Self {
        let environment = |name: &str| (name == "SECRET").then(|| MARK.to_owned());
        let policy = Policy::read(configuration.to_string().as_bytes(), &environment);
        let policy = policy.unwrap_or_else(|errors| panic!("{errors:?}"));
        Self {
            provider: Provider::new(),
            clock: Clock::start(Duration::ZERO, secs(UNIX_START)),
            now: Duration::ZERO,
            wall_step: 0,
            logs: Vec::new(),
            fields: BTreeSet::new(),
            settled: Vec::new(),
            most_waiting: 0,
            timeout: policy.pending_requests.timeout,
            most: policy.pending_requests.max,
            wants: policy.issuers.len() * 3 + policy.credentials.len(),
            max_stale: policy.issuers.first().map_or(Duration::ZERO, |issuer| issuer.jwks_max_stale),
            skew: policy.issuers.first().map_or(0, |issuer| issuer.profile.clock_skew),
            requires: policy.inbound.is_some(),
            answers: BTreeMap::new(),
            sent: 0,
            open: BTreeMap::new(),
            last_start: BTreeMap::new(),
            asked_again: BTreeSet::new(),
            learnt: None,
            requests: BTreeMap::new(),
            waiting: BTreeSet::new(),
            minted: HashMap::new(),
            opaque: HashMap::new(),
            shown_too_early: BTreeSet::new(),
            disowned: BTreeSet::new(),
            last_tick: Duration::ZERO,
            spins: 0,
            plugin: Plugin::new(policy, Box::new(SoftwareCrypto), signer, seed),
        }
    }

    /// A world in which everything has been fetched already.
    pub(crate) fn warm(configuration: &Value) -> Self {
        let mut world = Self::new(configuration);
        world.pass(secs(1));
        world
    }

    pub(crate) fn unix(&self) -> u64 {
        UNIX_START.checked_add_signed(self.wall_step).unwrap() + self.now.as_secs()
    }

    /// Both clocks are read, as the shell does it.
    fn clock(&mut self) -> Now {
        let wall = secs(self.unix()) + Duration::from_nanos(self.now.subsec_nanos().into());
        let before = self.clock.now(self.now).instant;
        let slept = self.clock.read(self.now, wall);
        let now = self.clock.now(self.now);
        if slept {
            // What was under way has been so for all that time.
            let span = now.instant.since(before);
            for open in self.open.values_mut() {
                open.lost_at = open.lost_at.saturating_sub(span);
            }
            self.last_start.clear();
            self.plugin.on_wake(now);
        }
        now
    }

    /// When the plugin's timer runs out, by the clock of this world; overdue if it has.
    fn deadline(&self) -> Option<(Duration, bool)> {
        let now = self.clock.now(self.now);
        let deadline = self.plugin.deadline(now)?;
        Some((self.now + deadline.since(now.instant), deadline < now.instant))
    }

    /// Time passes, and whatever happens in it happens.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    pub(crate) fn run_until(&mut self, end: Duration) {
        loop {
            let answer = self.answers.first_key_value().map(|((due, _), _)| *due);
            let tick = self.next_tick();
            let next = answer.into_iter().chain(tick).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = next;
            if answer == Some(next) {
                self.deliver();
            } else {
                self.tick();
            }
        }
        self.now = end;
        self.check();
    }

    fn next_tick(&self) -> Option<Duration> {
        let (deadline, _) = self.deadline()?;
        Some(deadline.max(self.last_tick + Duration::from_millis(1)))
    }

    fn tick(&mut self) {
        let overdue = self.deadline().is_some_and(|(_, overdue)| overdue);
        self.last_tick = self.now;
        let now = self.clock();
        self.plugin.tick(now);
        let worked = self.drain();
        self.spins = if overdue && !worked { self.spins + 1 } else { 0 };
        assert!(self.spins < 5, "the timer spins at {:?}", self.now);
        self.check();
    }

    /// As the shell does it: the reply, then what its arrival made possible.
    fn deliver(&mut self) {
        let ((due, _), (ticket, start, reply)) = self.answers.pop_first().unwrap();
        self.now = due;
        let in_time =
            self.open.get(&ticket.key).is_some_and(|open| open.ticket == ticket && due <= open.lost_at);
        if in_time {
            self.open.remove(&ticket.key);
            self.learn(ticket, start, &reply);
        }
        // What is not there may be at the other location, or have moved; and a kept connection may
        // have been closed.
        let closed = reply.status == Some(503)
            && reply.body.as_deref().unwrap_or_default().ends_with(b"reset reason: connection termination");
        let again = closed || matches!(reply.status, Some(300..=405 | 410));
        self.asked_again.retain(|want| *want != ticket.key);
        self.asked_again.extend(again.then_some(ticket.key));
        let now = self.clock();
        self.plugin.reply(ticket, &reply, now);
        self.plugin.run_due(now);
        self.drain();
        self.check();
    }

    fn learn(&mut self, ticket: FetchId, start: Duration, reply: &HttpReply) {
        if let (FetchKey::Keys(_), Some(304), Some(learnt)) = (ticket.key, reply.status, &mut self.learnt) {
            learnt.start = start;
        }
        if !matches!(ticket.key, FetchKey::Keys(_)) || reply.status != Some(200) {
            return;
        }
        let body: Value =
            serde_json::from_slice(reply.body.as_deref().unwrap_or_default()).unwrap_or_default();
        let keys = body["keys"].as_array().into_iter().flatten().filter(|key| key["x"].is_string());
        let kids: BTreeSet<String> = keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
        if !kids.is_empty() {
            self.learnt = Some(Learnt { kids, start });
        }
    }

    fn drain(&mut self) -> bool {
        let mut worked = false;
        while let Some(effect) = self.plugin.next_effect() {
            worked = true;
            silent(&effect);
            match effect {
                Effect::Log(_, line) => {
                    self.fields.extend(fields_of(&line));
                    self.logs.push(message_of(line));
                }
                Effect::Resume(id, step) => {
                    assert!(self.waiting.remove(&id), "{id:?} is settled but does not wait");
                    assert_ne!(step, RequestOutcome::Wait, "settled means settled");
                    self.settled.push((id, self.now));
                    self.conclude(id, step);
                }
                Effect::Call(ticket, call) => {
                    if let Some(open) = self.open.get(&ticket.key) {
                        assert!(
                            self.now >= open.lost_at,
                            "two calls at once for {:?} at {:?}",
                            ticket.key,
                            self.now
                        );
                    }
                    if let Some(last) = self.last_start.insert(ticket.key, self.now) {
                        let apart = self.now - last;
                        let another = self.asked_again.remove(&ticket.key);
                        assert!(
                            another || apart >= secs(1),
                            "two calls within {apart:?} for {:?}",
                            ticket.key
                        );
                    }
                    let lost_at = self.now + call.timeout + LOST_MARGIN;
                    match self.provider.answer(&call, self.now) {
                        Answer::After(latency, reply) => {
                            self.open.insert(ticket.key, Open { ticket, lost_at });
                            self.sent += 1;
                            self.answers.insert((self.now + latency, self.sent), (ticket, self.now, reply));
                        }
                        Answer::Never => drop(self.open.insert(ticket.key, Open { ticket, lost_at })),
                        Answer::Refused => {
                            let note = "the host refuses the call: is there such a cluster?".into();
                            let now = self.clock();
                            self.plugin.reply(
                                ticket,
                                &HttpReply { detail: note, ..HttpReply::default() },
                                now,
                            );
                        }
                    }
                }
            }
        }
        worked
    }

    /// A request arrives; [`World::outcome`] returns its outcome.
    pub(crate) fn send(&mut self, get: &Get) -> RequestId {
        let id = RequestId(u32::try_from(self.requests.len()).unwrap());
        let early = self.minted.get(get.token()).filter(|minted| !self.publishes(&minted.kid));
        self.shown_too_early.extend(early.map(|minted| minted.kid.clone()));
        let head: MessageHead = get.fields.iter().map(|(name, value)| (name, value)).collect();
        let head = head.with_route(get.route.clone());
        let head = if get.has_body { head } else { head.without_body() };
        let asked = Asked { get: get.clone(), at: self.now, outcome: Outcome::Waiting };
        self.requests.insert(id, asked);
        let now = self.clock();
        let step = self.plugin.request(id, head, now);
        silent(&step);
        if step == RequestOutcome::Wait {
            self.waiting.insert(id);
        } else {
            self.conclude(id, step);
        }
        self.drain();
        self.check();
        id
    }

    /// A request, and what becomes of it by the time that it must have ended.
    pub(crate) fn ask(&mut self, get: &Get) -> Outcome {
        let id = self.send(get);
        if self.waiting.contains(&id) {
            self.pass(self.bound());
        }
        self.outcome(id)
    }

    pub(crate) fn outcome(&self, id: RequestId) -> Outcome {
        self.requests[&id].outcome.clone()
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.requests.values().map(|asked| &asked.outcome)
    }

    /// How many calls run.
    pub(crate) fn in_flight(&self) -> usize {
        self.open.values().filter(|open| self.now < open.lost_at).count()
    }

    pub(crate) fn waiting(&self) -> impl ExactSizeIterator<Item = RequestId> + '_ {
        self.waiting.iter().copied()
    }

    /// A request ends, as when its client hangs up.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        if self.waiting.remove(&id) {
            self.requests.get_mut(&id).unwrap().outcome = Outcome::Gone;
        }
        self.plugin.cancel(id);
        self.drain();
        self.check();
    }

    /// The upstream answers 401 to what was attached.
    pub(crate) fn upstream_refuses(&mut self, sent: &AttachedToken) {
        let now = self.clock();
        self.plugin.on_token_rejected(sent, now);
        self.drain();
        self.check();
    }

    /// The upstream accepts what was attached.
    pub(crate) fn upstream_accepts(&mut self, sent: &AttachedToken) {
        self.upstream_answers(sent, &[(":status", "200")].into_iter().collect());
    }

    /// The upstream answers what carried a proof.
    pub(crate) fn upstream_answers(&mut self, sent: &AttachedToken, answer: &MessageHead) {
        let now = self.clock();
        self.plugin.on_upstream_response(sent, answer, now, || None);
        self.drain();
        self.check();
    }

    /// The counters, by name.
    pub(crate) fn counters(&mut self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::new();
        self.plugin.metrics().report(|_, counter, sum| {
            assert!(is_documented(&counter.to_string()), "docs/reference/metrics.md does not have {counter}");
            counters.insert(counter.to_string(), sum);
        });
        counters
    }

    /// A good token of the provider's newest key, for 300 s.
    pub(crate) fn token(&mut self) -> String {
        let key = self.provider.published.last().unwrap().clone();
        self.mint(&key, 300, "inventory-service")
    }

    /// A token of its own each time, ending so many seconds from now.
    pub(crate) fn mint(&mut self, key: &Key, life: i64, audience: &str) -> String {
        let exp = self.unix().saturating_add_signed(life);
        let token = key.sign(&json!({
            "iss": ISSUER, "sub": "someone", "aud": audience, "exp": exp, "jti": self.minted.len().to_string(), "mark": MARK,
            "azp": "order-service", "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
        }));
        let minted = Minted { kid: key.kid.clone(), exp, audience: audience.to_owned() };
        self.minted.insert(token.clone(), minted);
        token
    }

    /// A token that another party has signed with one of the provider's keys.
    pub(crate) fn admit(&mut self, token: &str, key: &Key, exp: u64) {
        let minted = Minted { kid: key.kid.clone(), exp, audience: "inventory-service".to_owned() };
        self.minted.insert(token.to_owned(), minted);
    }

    /// An opaque token of a caller that may read, with these claims beside.
    pub(crate) fn opaque(&mut self, more: &Value) -> String {
        let token = format!("{MARK}-opaque-{}", self.opaque.len());
        self.vouch_for(&token, more);
        token
    }

    /// This opaque token is that of a caller that may read, with these claims beside.
    pub(crate) fn vouch_for(&mut self, token: &str, more: &Value) {
        let mut claims = json!({
            "aud": "inventory-service", "client_id": "order-service", "mark": MARK,
            "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.opaque.insert(token.to_owned(), Duration::MAX);
        self.provider.active.insert(token.to_owned(), claims);
    }

    /// From now on the provider answers that this token is not active.
    pub(crate) fn revoke(&mut self, token: &str) {
        self.disown(token);
        self.provider.active.remove(token);
        self.opaque.insert(token.to_owned(), self.now);
    }

    /// The provider has revoked this token, whatever its claims say.
    pub(crate) fn disown(&mut self, token: &str) {
        self.disowned.insert(token.to_owned());
    }

    fn publishes(&self, kid: &str) -> bool {
        self.provider.published.iter().any(|key| key.kid == kid)
    }

    /// How long a request waits at most: of many at one time, some are answered with each tick.
    fn bound(&self) -> Duration {
        self.timeout + TICK + millis(u64::try_from(self.most_waiting / PORTION).unwrap())
    }

    fn conclude(&mut self, id: RequestId, step: RequestOutcome) {
        let after = self.now - self.requests[&id].at;
        assert!(after <= self.bound(), "{id:?} waited {after:?}");
        let outcome = match step {
            RequestOutcome::Forward(edits) => Outcome::Forwarded { after, edits },
            RequestOutcome::Respond(response) => Outcome::Answered { after, response },
            RequestOutcome::Wait => unreachable!("{id:?}"),
        };
        self.judge(&self.requests[&id].get, &outcome);
        self.requests.get_mut(&id).unwrap().outcome = outcome;
    }

    /// Whether an outcome is one that may be, by what the world knows and the plugin does not.
    fn judge(&self, get: &Get, outcome: &Outcome) {
        let guarded = self.requires && get.value(":path").starts_with("/inventory");
        let minted = self.minted.get(get.token());
        let (now, unix) = (self.now, self.unix());
        match outcome {
            Outcome::Forwarded { edits, .. } => {
                let until = self.opaque.get(get.token());
                if let Some(until) = until.filter(|_| guarded) {
                    assert!(
                        now < until.saturating_add(REVOKED_WITHIN),
                        "passed at {now:?} with a token revoked at {until:?}"
                    );
                }
                if guarded && (until.is_none() || minted.is_some()) {
                    let minted =
                        minted.unwrap_or_else(|| panic!("nobody signed the token that passed at {now:?}"));
                    let learnt =
                        self.learnt.as_ref().unwrap_or_else(|| panic!("passed without keys at {now:?}"));
                    assert!(
                        learnt.kids.contains(&minted.kid),
                        "passed with the withdrawn {} at {now:?}",
                        minted.kid
                    );
                    assert!(now < learnt.start + self.max_stale, "passed with stale keys at {now:?}");
                    assert!(unix < minted.exp + self.skew, "passed with an expired token at {now:?}");
                    assert_eq!(
                        minted.audience, "inventory-service",
                        "passed with another's token at {now:?}"
                    );
                }
                self.judge_edits(edits);
            }
            Outcome::Answered { response, .. } => {
                let good = minted.is_some_and(|minted| {
                    unix < minted.exp + self.skew
                        && minted.audience == "inventory-service"
                        && self.publishes(&minted.kid)
                        && !self.shown_too_early.contains(&minted.kid)
                        && !self.disowned.contains(get.token())
                });
                assert!(
                    !(good && response.status == 401),
                    "a good token is refused at {now:?}: {}",
                    response.body
                );
                let retry_after = outcome.retry_after();
                assert_eq!(
                    response.status == 503,
                    retry_after.is_some_and(|s| (1..=300).contains(&s)),
                    "{response:?}"
                );
            }
            Outcome::Waiting | Outcome::Gone => {}
        }
    }

    fn judge_edits(&self, edits: &HeaderEdits) {
        let mut attached = 0;
        for edit in &edits.headers {
            let Edit::Set(name, value) = edit else { continue };
            let value = std::str::from_utf8(value).unwrap();
            if let Some(token) = value.find(MARK).map(|start| &value[start..]) {
                let issued = self.provider.issued.iter().find(|issued| issued.token == token);
                let issued = issued.unwrap_or_else(|| panic!("nobody issued what is in {name}"));
                assert!(self.now < issued.end, "an ended token is attached at {:?}", self.now);
                attached += 1;
            }
        }
        assert_eq!(
            attached,
            usize::from(edits.attached_token.is_some()),
            "what is attached is reported, and the reverse"
        );
    }

    fn check(&mut self) {
        let count = self.waiting.len();
        assert!(count <= self.most * self.wants, "{count} requests wait");
        self.most_waiting = count.max(self.most_waiting);
        // Requests are numbered as they come.
        if let Some(oldest) = self.waiting.first().map(|id| self.requests[id].at) {
            assert!(
                self.now - oldest <= self.bound(),
                "one waits since {oldest:?}, and it is {:?}",
                self.now
            );
        }
    }
}

/// No printed output may hold a secret.
fn silent(printable: &impl Debug) {
    let text = format!("{printable:?}");
    // Every JWT begins so: it is `{"` in base64.
    assert!(!text.contains(MARK) && !text.contains("eyJ"), "{text}");
}

/// Signs with the same names for assertions, and the same key for proofs, in every world.
pub(crate) fn signer() -> Signer {
    Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom))
        .with_proof_key(dpop::ProofKey::from_seed(&[7; 32], Algorithm::EdDsa).map(Rc::new))
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Both directions: `/inventory` requires a caller, `/public` does not, and requests to `payment`
/// get a token.
pub(crate) fn both() -> Value {
    json!({
        "issuers": { "idp": { "issuer": ISSUER, "cluster": "idp" } },
        "inbound": { "rules": [
            {
                "match": { "path_prefix": "/inventory" },
                "require": {
                    "issuer": "idp",
                    "audiences": ["inventory-service"],
                    "client_roles": { "inventory-service": ["inventory:read"] },
                },
            },
            { "match": { "path_prefix": "/public" }, "allow": true },
        ] },
        "outbound": {
            "credentials": { "order": {
                "issuer": "idp", "client_id": "order-service", "client_secret": { "env": "SECRET" },
            } },
            "rules": [{ "match": { "host": "payment" }, "credential": "order" }],
        },
    })
}

pub(crate) fn inbound() -> Value {
    let mut configuration = both();
    configuration.as_object_mut().unwrap().remove("outbound");
    configuration
}

pub(crate) fn outbound() -> Value {
    let mut configuration = both();
    configuration.as_object_mut().unwrap().remove("inbound");
    configuration
}

/// The same, with the issuer's endpoints given instead of discovered.
pub(crate) fn without_discovery(mut configuration: Value) -> Value {
    configuration["issuers"]["idp"]["jwks_uri"] = json!("https://idp.example/realms/r/keys");
    configuration["issuers"]["idp"]["token_endpoint"] = json!("https://idp.example/realms/r/token");
    configuration
}

/// A request that needs a caller.
pub(crate) fn items(token: &str) -> Get {
    get("/inventory/items").bearer(token)
}

/// A request that gets a token.
pub(crate) fn pay() -> Get {
    get("/public/pay").host("payment")
}

/// The message of a log line about a fetch; other lines unchanged.
fn message_of(line: String) -> String {
    let json: Value = serde_json::from_str(&line).unwrap();
    if json["event"] == AuditEvent::Fetch.name() {
        json["message"].as_str().unwrap().to_owned()
    } else {
        line
    }
}

/// The event and the fields of a line: those that `docs/reference/log-fields.md` describes.
fn fields_of(line: &str) -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let event = AuditEvent::ALL.iter().find(|event| json["event"] == event.name());
    let event = event.unwrap_or_else(|| panic!("about nothing: {line}"));
    let known = |name: &str| event.fields().iter().any(|field| field.name() == name);
    let fields = json.as_object().unwrap().keys();
    let fields = fields.inspect(|name| assert!(known(name), "{name} is not a field of {line}"));
    fields.map(|name| (event.name().to_owned(), name.clone())).collect()
}
