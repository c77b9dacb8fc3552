//! All readings of one request, and the one rule that they choose.
//!
//! In: a request, and what a set of rules looks at. What no rule looks at has one reading, whatever it is.

use super::{Case, MatchResult, RequestMatcher, Target};
use crate::decision_trace;
use crate::http::host;
use crate::http::path::{MAX_READINGS, PathReading, PathReadings, Unreadable};
use std::borrow::Cow;

/// The most methods that one request may have: no client that means well sends two.
const MAX_METHODS: usize = 4;

/// What the rules of one direction look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectedAttributes {
    path: bool,
    method: bool,
    host: bool,
    /// Whether the servers behind take `/a` and `/A` for one path.
    case: Case,
}

/// The readings of a request lead to different rules, or are too many; by what they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// Its path.
    Path,
    /// Its method.
    Method,
    /// Its host.
    Host,
    /// A header that it has several times, or that its `Connection` header takes from the service.
    Header,
}

/// A request, in all of its readings.
pub struct Readings<'a> {
    target: Target<'a>,
    case: Case,
    paths: PathReadings<'a>,
    /// Beside the one that was sent.
    methods: Vec<Vec<u8>>,
    /// Beside the one that was sent.
    hosts: Vec<Cow<'a, [u8]>>,
}

/// A request, read in one way.
#[derive(Clone, Copy)]
pub struct View<'v> {
    target: Target<'v>,
    case: Case,
    path: &'v [u8],
    method: &'v [u8],
    host: &'v [u8],
    /// What makes it another one than the request as it was sent.
    differs: Option<Ambiguity>,
}

impl InspectedAttributes {
    /// What these rules look at.
    pub fn of<'m>(rules: impl Iterator<Item = &'m RequestMatcher>, case_sensitive: bool) -> Self {
        let case = if case_sensitive { Case::Exact } else { Case::Ignored };
        rules.fold(Self { case, ..Self::default() }, |own, rule| Self {
            path: own.path || rule.path.is_some(),
            method: own.method || !rule.methods.is_empty(),
            host: own.host || rule.host.is_some(),
            ..own
        })
    }
}

impl<'a> Target<'a> {
    /// Its readings, as far as rules that look at these attributes can tell them apart.
    pub fn readings(self, looked_at: InspectedAttributes) -> Result<Readings<'a>, Ambiguity> {
        let paths = if looked_at.path {
            PathReadings::of(self.path).map_err(|Unreadable| unreadable(Ambiguity::Path))?
        } else {
            PathReadings::as_sent(self.path)
        };
        let methods = if looked_at.method { self.other_methods()? } else { Vec::new() };
        if (looked_at.path || looked_at.host) && self.head.first(":authority") == Some(b"") {
            return Err(unreadable(Ambiguity::Host)); // what a URL parser takes for the host is then the path
        }
        let hosts = if looked_at.host { host::readings(self.head.host()) } else { Ok(Vec::new()) };
        let hosts = hosts.map_err(|Unreadable| unreadable(Ambiguity::Host))?;
        let readings = Readings { target: self, case: looked_at.case, paths, methods, hosts };
        if readings.count() > MAX_READINGS {
            return Err(unreadable(Ambiguity::Path));
        }
        Ok(readings)
    }

    /// The method in upper case, as some servers route it; those that override it; and `GET` where the request is to be upgraded:
    /// over HTTP/2 Envoy sends it as an extended CONNECT (RFC 8441), which the next proxy makes a GET again.
    fn other_methods(self) -> Result<Vec<Vec<u8>>, Ambiguity> {
        let own = self.method();
        let upper = own.iter().any(u8::is_ascii_lowercase).then(|| own.to_ascii_uppercase());
        let upgraded = self.head.first("upgrade").map(|_| b"GET".to_vec());
        let others = self.override_methods().map(<[u8]>::to_ascii_uppercase).chain(upgraded);
        let mut methods = Vec::new();
        for method in upper.into_iter().chain(others) {
            if method != own && !methods.contains(&method) {
                methods.push(method);
            }
            if methods.len() > MAX_METHODS {
                return Err(unreadable(Ambiguity::Method));
            }
        }
        Ok(methods)
    }
}

fn unreadable(by: Ambiguity) -> Ambiguity {
    decision_trace::record(by.attribute(), false, || match by {
        Ambiguity::Path => "it leads above its root, or can be read in too many ways".to_owned(),
        _ => "it is empty, or can be read in too many ways".to_owned(),
    });
    by
}

impl Ambiguity {
    /// What it is about.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Host => "host",
            Self::Header => "header",
        }
    }
}

impl Readings<'_> {
    /// The first rule that is for the request, by its place; the same one for every reading.
    pub fn select<R>(
        &self,
        rules: &[R],
        fit: impl Fn(&R, &View<'_>) -> MatchResult,
    ) -> Result<Option<usize>, Ambiguity> {
        let mut chosen = None;
        for view in self.views() {
            let mut fits = rules.iter().map(|rule| fit(rule, &view)).enumerate();
            let found = fits.find(|(_, fit)| *fit != MatchResult::No);
            if let Some((place, MatchResult::Ambiguous(by))) = found {
                decision_trace::record(by.attribute(), false, || {
                    format!("some servers read it as one for which rules[{place}] decides, others do not")
                });
                return Err(by);
            }
            let found = found.map(|(place, _)| place);
            if *chosen.get_or_insert(found) != found {
                view.record(found);
                return Err(view.differs.unwrap_or(Ambiguity::Path));
            }
        }
        Ok(chosen.flatten())
    }

    /// What stands in the place of that name in the rule's path, decoded once; the same for every reading.
    pub fn captured(&self, rule: &RequestMatcher, name: &str) -> Result<Option<Vec<u8>>, Ambiguity> {
        let value = |reading: &PathReading<'_>| {
            Some(reading.decoded_once(rule.captured(&reading.path, name)?).into_owned())
        };
        let mut values = self.paths.iter().map(value);
        let first = values.next().flatten();
        if values.all(|other| other == first) {
            return Ok(first);
        }
        decision_trace::record("path", false, || format!("servers read {{{name}}} in different ways"));
        Err(Ambiguity::Path)
    }

    fn count(&self) -> usize {
        let (methods, hosts) = (self.methods.len().saturating_add(1), self.hosts.len().saturating_add(1));
        self.paths.count().saturating_mul(methods).saturating_mul(hosts)
    }

    /// Every combination; the first is the request as it was sent.
    fn views(&self) -> impl Iterator<Item = View<'_>> {
        let target = self.target;
        let hosts = || std::iter::once(target.head.host()).chain(self.hosts.iter().map(AsRef::as_ref));
        let methods = move || std::iter::once(target.method()).chain(self.methods.iter().map(Vec::as_slice));
        let paths = || self.paths.iter().enumerate();
        hosts().enumerate().flat_map(move |(of_host, host)| {
            methods().enumerate().flat_map(move |(of_method, method)| {
                paths().map(move |(of_path, reading)| {
                    let differs = match (of_path, of_method, of_host) {
                        (0, 0, 0) => None,
                        (0, 0, _) => Some(Ambiguity::Host),
                        (0, _, _) => Some(Ambiguity::Method),
                        _ => Some(Ambiguity::Path),
                    };
                    View { target, case: self.case, path: &reading.path, method, host, differs }
                })
            })
        })
    }
}

impl<'v> View<'v> {
    /// The same, as the request that a preflight announces.
    #[must_use]
    pub fn announcing(self, method: &'v [u8]) -> Self {
        Self { method, ..self }
    }

    pub(super) fn target(&self) -> Target<'v> {
        self.target
    }

    pub(super) fn case(&self) -> Case {
        self.case
    }

    pub(super) fn path(&self) -> &'v [u8] {
        self.path
    }

    pub(super) fn method(&self) -> &'v [u8] {
        self.method
    }

    pub(super) fn host(&self) -> &'v [u8] {
        self.host
    }

    /// Whether it is the request as it was sent.
    pub(super) fn is_first(&self) -> bool {
        self.differs.is_none()
    }

    /// Why the request is ambiguous, for `explain`.
    fn record(&self, place: Option<usize>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let rule = || place.map_or_else(|| "no rule".to_owned(), |place| format!("rules[{place}]"));
        match self.differs {
            None | Some(Ambiguity::Header) => {}
            Some(Ambiguity::Path) => decision_trace::record("path", false, || {
                format!("some servers read it as {:?}, for which {} decides", text(self.path), rule())
            }),
            Some(Ambiguity::Method) => decision_trace::record("method", false, || {
                format!("some servers read it as {:?}, for which {} decides", text(self.method), rule())
            }),
            Some(Ambiguity::Host) => decision_trace::record("host", false, || {
                format!("some servers read it as {:?}, for which {} decides", text(self.host), rule())
            }),
        }
    }
}
