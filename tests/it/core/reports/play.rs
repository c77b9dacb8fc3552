//! One worker and a provider that answers by a function: calls, log lines and what became of the
//! requests.

use crate::core::sim::world::signer;
use m2m_auth::filter::header_edits::Edit;
use m2m_auth::http::message::{HttpCall, HttpReply, MessageHead, RequestId};
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::time::{Instant, Now};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// The wall clock at the start of every play.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A call as the provider sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) cluster: String,
    pub(crate) at: Duration,
    pub(crate) accept: String,
    pub(crate) body: String,
}

/// A worker of this configuration, and its provider.
pub(crate) struct Play {
    plugin: Plugin,
    provider: Box<dyn FnMut(&Asked) -> HttpReply>,
    now: Duration,
    next: u32,
    ended: VecDeque<RequestOutcome>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) logs: Vec<String>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct End {
    /// 200 for a request that was forwarded.
    pub(crate) status: u16,
    pub(crate) edits: Vec<Edit>,
    pub(crate) after: Duration,
}

impl End {
    /// The value that a request header is set to.
    pub(crate) fn set(&self, name: &str) -> Option<String> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Set(own, value) if **own == *name => Some(String::from_utf8(value.clone()).unwrap()),
            _ => None,
        })
    }

    pub(crate) fn removes(&self, name: &str) -> bool {
        self.edits.iter().any(|edit| matches!(edit, Edit::Remove(own) if **own == *name))
    }
}

impl Play {
    pub(crate) fn new(
        configuration: &Value,
        environment: &dyn Fn(&str) -> Option<String>,
        provider: impl FnMut(&Asked) -> HttpReply + 'static,
    ) -> Self {
        let policy = Policy::read(configuration.to_string().as_bytes(), environment);
        let policy = policy.unwrap_or_else(|errors| panic!("{errors:?}"));
        let plugin = Plugin::new(policy, Box::new(SoftwareCrypto), signer(), 1);
        let (asked, logs, ended) = (Vec::new(), Vec::new(), VecDeque::new());
        let provider = Box::new(provider);
        Self { plugin, provider, now: Duration::from_secs(1), next: 0, ended, asked, logs }
    }

    fn clock(&self) -> Now {
        Now { instant: Instant(self.now), unix: NOW + self.now.as_secs() - 1 }
    }

    /// A request, and what becomes of it.
    pub(crate) fn ask(&mut self, path: &str, headers: &[(&str, &str)]) -> End {
        let head: MessageHead = [(":method", "GET"), (":authority", "api.example.com"), (":path", path)]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        self.next += 1;
        let start = self.now;
        let mut step = self.plugin.request(RequestId(self.next), head, self.clock());
        self.drain();
        while step == RequestOutcome::Wait {
            if let Some(ended) = self.ended.pop_front() {
                step = ended;
            } else {
                self.advance(None);
            }
        }
        let after = self.now - start;
        match step {
            RequestOutcome::Forward(edits) => End { status: 200, edits: edits.headers, after },
            RequestOutcome::Respond(response) => End { status: response.status, edits: Vec::new(), after },
            RequestOutcome::Wait => unreachable!(),
        }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.advance(Some(end));
        }
    }

    /// To the next deadline, or to `end` if that is earlier.
    fn advance(&mut self, end: Option<Duration>) {
        let next = self.plugin.deadline(self.clock()).map(|at| at.0.max(self.now + Duration::from_millis(1)));
        self.now = next.into_iter().chain(end).min().expect("nothing is ever going to happen");
        self.plugin.tick(self.clock());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.plugin.next_effect() {
            match effect {
                Effect::Log(_, line) => self.logs.push(line),
                Effect::Resume(_, step) => self.ended.push_back(step),
                Effect::Call(ticket, call) => {
                    self.now += Duration::from_millis(10);
                    let asked = asked(&call, self.now);
                    let reply = (self.provider)(&asked);
                    self.asked.push(asked);
                    self.plugin.reply(ticket, &reply, self.clock());
                    self.plugin.tick(self.clock());
                }
            }
        }
    }

    /// How often a URL was asked.
    pub(crate) fn count(&self, url: &str) -> usize {
        self.asked.iter().filter(|asked| asked.url == url).count()
    }

    /// Whether a line of the log has these words.
    pub(crate) fn logged(&self, words: &str) -> bool {
        self.logs.iter().any(|line| line.contains(words))
    }
}

fn asked(call: &HttpCall, at: Duration) -> Asked {
    let endpoint = &call.endpoint;
    let accept = call.headers.iter().find(|(name, _)| *name == "accept");
    Asked {
        url: format!("{}://{}{}", endpoint.scheme, endpoint.authority, endpoint.path),
        cluster: endpoint.cluster.clone(),
        at,
        accept: accept.map(|(_, value)| value.clone()).unwrap_or_default(),
        body: String::from_utf8(call.body.to_vec()).unwrap(),
    }
}

/// An answer of the provider.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> HttpReply {
    let head: MessageHead = headers.iter().copied().collect();
    HttpReply { status: Some(status), head, body: Some(body.as_bytes().to_vec()), ..HttpReply::default() }
}

/// An answer with this document.
pub(crate) fn json(document: &Value) -> HttpReply {
    answer(200, &[], &document.to_string())
}
