//! What each host call does, and when it is refused: as in Envoy.

use super::{Answer, BAD_ARGUMENT, Call, Host, Map, NOT_FOUND, OK, State, Stream, Timer, Verifier, with};
use crate::core::cli::metrics::is_documented;
use crate::shell::pairs;
use crate::shell::{clock, crypto};
use std::time::Duration;

/// Callbacks during which a call may be made: those of a root, once it is configured.
const MAY_CALL: [&str; 2] = ["proxy_on_tick", "proxy_on_http_call_response"];

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
                Some(Stream { raw, headers, state: State::Asked | State::Paused, .. }) => {
                    (raw.clone(), headers.clone())
                }
                _ => return Vec::new(),
            },
            Map::Response => match self.stream() {
                Some(Stream { status: Some(status), answered, .. }) => {
                    let mut headers = answered.clone();
                    headers.insert(0, (b":status".to_vec(), status.clone()));
                    (None, headers)
                }
                _ => return Vec::new(),
            },
            Map::ResponseTrailers => match self.stream() {
                Some(Stream { status: Some(_), trailers, .. }) => (None, trailers.clone()),
                _ => return Vec::new(),
            },
            Map::CallResponse => match &self.delivery {
                Some(delivery) => (delivery.raw.clone(), delivery.headers.clone()),
                None => return Vec::new(),
            },
            Map::Other => return Vec::new(),
        };
        raw.unwrap_or_else(|| if headers.is_empty() { Vec::new() } else { pairs::write(&headers) })
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
            self.say("the headers of an answer", &[name.as_slice(), b": ", value].concat());
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
        // The module sends credentials to its provider only.
        self.secrets.extend(pairs::values(&call.headers, "dpop").into_iter().map(<[u8]>::to_vec));
        for value in pairs::values(&call.headers, "authorization") {
            self.secrets
                .insert(value[value.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1)..].to_vec());
        }
        let complete = [":method", ":path", ":authority"].iter().all(|name| call.header(name).is_some());
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
            self.violate(format!("a timer of {millis} ms: off, or so slow that nothing is noticed"));
        }
        let root = self.root();
        if let Some(timer) = self.roots.get_mut(&root) {
            let period = Duration::from_millis(u64::from(millis));
            let due = (millis > 0).then(|| clock::monotonic() + period);
            *timer = Timer { period, due, armed: true };
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
        if path == "plugin_vm_id" {
            return Some(self.vm_id.clone().into_bytes());
        }
        if path == "plugin_name" {
            return Some(b"m2m_auth".to_vec());
        }
        if path == "response\0code_details" {
            if self.stream().is_none_or(|stream| stream.status.is_none()) {
                self.violate("a look at the response before there is one");
            }
            return self.stream()?.code_details.map(|details| details.as_bytes().to_vec());
        }
        if !self.stream().is_some_and(|stream| stream.state == State::Asked) {
            self.violate("a look at the route when Envoy may have chosen another");
        }
        self.properties.get(&path.replace('\0', ".")).cloned()
    }

    /// Writes to the filter state of a request that has not gone on; as in Envoy, under a prefix.
    pub(crate) fn set_property(&mut self, name: &str, value: String) -> u32 {
        self.say("the filter state", value.as_bytes());
        if value.chars().any(char::is_control) {
            self.violate("a control character on its way to the access log");
        }
        match self.stream() {
            Some(stream) if matches!(stream.state, State::Asked | State::Paused) => {
                stream.filter_state.insert(format!("wasm.{name}"), value);
                OK
            }
            _ => {
                self.violate("filter state that comes too late, or concerns nothing");
                NOT_FOUND
            }
        }
    }

    /// The status of the response.
    pub(crate) fn status(&mut self) -> Option<Vec<u8>> {
        self.stream()?.status.clone()
    }

    /// Writes to what the plugins of one `vm_id` share; as in Envoy, the version counts only for
    /// what is there.
    pub(crate) fn share(&mut self, name: String, value: &[u8], cas: u32) -> u32 {
        const CAS_MISMATCH: u32 = 8;
        let entry = self.shared.entry(name).or_default();
        if cas != 0 && entry.1 != 0 && entry.1 != cas {
            return CAS_MISMATCH;
        }
        *entry = (value.to_vec(), entry.1 + 1);
        0
    }

    pub(crate) fn define(&mut self, name: &str) -> u32 {
        self.say("the name of a metric", name.as_bytes());
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            self.violate("a metric's name that Envoy would change");
        }
        if !is_documented(name) {
            self.violate("a metric that docs/reference/metrics.md does not have");
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
            (Verifier::Real, "sign") => crypto::sign(arguments).ok_or(BAD_ARGUMENT),
            (Verifier::Says(_), "verify_signature") if arguments.is_empty() => Err(BAD_ARGUMENT),
            (Verifier::Says(result), "verify_signature") => Ok(result.clone()),
            (Verifier::Refused(status), "verify_signature") => Err(*status),
            (_, "declare_property") if self.callback() == "proxy_on_configure" => Ok(Vec::new()),
            _ => Err(NOT_FOUND),
        }
    }

    /// For the record: a context by its name.
    pub(crate) fn describe(context: u32) -> String {
        with(|host| host.name_of(context)).unwrap_or_default()
    }
}
