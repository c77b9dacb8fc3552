//! What a host holds: requests, calls and their answers, and what may be wrong with it.

use crate::shell::pairs::{self, Pairs};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What `verify_signature` is like on this host.
#[derive(Default)]
pub(crate) enum Verifier {
    /// As in Envoy.
    #[default]
    Real,
    /// It does not exist: `NotFound`.
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
    /// Which call, by its number since the fault began, and by its name.
    pub(crate) hits: Box<Hits>,
    pub(super) seen: usize,
}

impl Fault {
    pub(crate) fn new(status: u32, hits: impl Fn(usize, &str) -> bool + 'static) -> Self {
        Self { status, hits: Box::new(hits), seen: 0 }
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
    /// Its filter state.
    pub(crate) filter_state: BTreeMap<String, String>,
    /// `:status`, once there is a response.
    pub(crate) status: Option<Vec<u8>>,
    /// The response's other headers.
    pub(crate) answered: Pairs,
    /// The response's trailers.
    pub(crate) trailers: Pairs,
    /// What Envoy says of where the response is from.
    pub(crate) code_details: Option<&'static str>,
    pub(super) root: u32,
    pub(super) gone: bool,
}

/// Where a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The module is being asked.
    Asked,
    /// It waits.
    Paused,
    /// It was forwarded to the service.
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
    /// When the host answers instead of the provider.
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

/// What is being read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    Request,
    Response,
    ResponseTrailers,
    CallResponse,
    Other,
}

impl Map {
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::Request,
            2 => Self::Response,
            3 => Self::ResponseTrailers,
            6 => Self::CallResponse,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::ResponseTrailers => "response trailers",
            Self::CallResponse => "call response",
            Self::Other => "of another kind",
        })
    }
}
