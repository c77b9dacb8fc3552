//! All readings of one request, and the one rule that matches them.
//!
//! In: a request, and the attributes that a set of rules matches. An attribute that no rule matches
//! has one reading.

use super::{Case, MatchResult, RequestMatcher, Target};
use crate::decision_trace;
use crate::http::host;
use crate::http::path::{MAX_READINGS, PathReading, PathReadings, Unreadable};
use std::borrow::Cow;

/// The maximum number of methods of one request: no legitimate client sends two.
const MAX_METHODS: usize = 4;

/// The request attributes that the rules of one direction match.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectedAttributes {
    path: bool,
    method: bool,
    host: bool,
    /// Whether the upstream servers treat `/a` and `/A` as one path.
    case: Case,
}

/// The attribute because of which the readings of a request match different rules, or are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// Its path.
    Path,
    /// Its method.
    Method,
    /// Its host.
    Host,
    /// A header that it has several times, or that its `Connection` header removes before the
    /// service.
    Header,
}

/// All readings of a request.
pub struct Readings<'a> {
    target: Target<'a>,
    case: Case,
    paths: PathReadings<'a>,
    /// In addition to the one that was sent.
    methods: Vec<Vec<u8>>,
    /// In addition to the one that was sent.
    hosts: Vec<Cow<'a, [u8]>>,
}

/// One reading of a request.
#[derive(Clone, Copy)]
pub struct View<'v> {
    target: Target<'v>,
    case: Case,
    path: &'v [u8],
    method: &'v [u8],
    host: &'v [u8],
    /// How it differs from the request as sent, if it does.
    differs: Option<Ambiguity>,
}

impl InspectedAttributes {
    /// The attributes that these rules match.
    pub fn of<'m>(rules: impl Iterator<Item = &'m RequestMatcher>, case_sensitive: bool) -> Self {
        let case = if case_sensitive { Case::Exact } else { Case::Ignored };
        rules.fold(Self { case, ..Self::default() }, |attributes, rule| Self {
            path: attributes.path || rule.path.is_some(),
            method: attributes.method || !rule.methods.is_empty(),
            host: attributes.host || rule.host.is_some(),
            ..attributes
        })
    }
}

impl<'a> Target<'a> {
    /// Its readings, as far as rules that match these attributes can distinguish them.
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

    /// The method in upper case, as some servers route it; the methods that override it; and `GET`
    /// if the request is to be upgraded: over HTTP/2 Envoy sends it as an extended CONNECT (RFC
    /// 8441), which the next proxy converts to a GET.
    fn other_methods(self) -> Result<Vec<Vec<u8>>, Ambiguity> {
        let sent = self.method();
        let upper = sent.iter().any(u8::is_ascii_lowercase).then(|| sent.to_ascii_uppercase());
        let upgraded = self.head.first("upgrade").map(|_| b"GET".to_vec());
        let others = self.override_methods().map(<[u8]>::to_ascii_uppercase).chain(upgraded);
        let mut methods = Vec::new();
        for method in upper.into_iter().chain(others) {
            if method != sent && !methods.contains(&method) {
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
    /// The name of the attribute.
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
    /// The index of the first rule that matches the request; the same for every reading.
    pub fn select<R>(
        &self,
        rules: &[R],
        fit: impl Fn(&R, &View<'_>) -> MatchResult,
    ) -> Result<Option<usize>, Ambiguity> {
        let mut chosen = None;
        for view in self.views() {
            let mut fits = rules.iter().map(|rule| fit(rule, &view)).enumerate();
            let found = fits.find(|(_, fit)| *fit != MatchResult::No);
            if let Some((index, MatchResult::Ambiguous(by))) = found {
                decision_trace::record(by.attribute(), false, || {
                    format!("rules[{index}] matches as some servers read it, and not as others do")
                });
                return Err(by);
            }
            let found = found.map(|(index, _)| index);
            if *chosen.get_or_insert(found) != found {
                view.record(found);
                return Err(view.differs.unwrap_or(Ambiguity::Path));
            }
        }
        Ok(chosen.flatten())
    }

    /// The value of the placeholder of that name in the rule's path, decoded once; the same for
    /// every reading.
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

    /// Every combination; the first is the request as sent.
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
    /// The same, with the method that a preflight announces.
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

    /// Whether it is the request as sent.
    pub(super) fn is_first(&self) -> bool {
        self.differs.is_none()
    }

    /// Records why the request is ambiguous, for `explain`.
    fn record(&self, index: Option<usize>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let rule = || index.map_or_else(|| "no rule".to_owned(), |index| format!("rules[{index}]"));
        match self.differs {
            None | Some(Ambiguity::Header) => {}
            Some(Ambiguity::Path) => decision_trace::record("path", false, || {
                format!("some servers read it as {:?}, which matches {}", text(self.path), rule())
            }),
            Some(Ambiguity::Method) => decision_trace::record("method", false, || {
                format!("some servers read it as {:?}, which matches {}", text(self.method), rule())
            }),
            Some(Ambiguity::Host) => decision_trace::record("host", false, || {
                format!("some servers read it as {:?}, which matches {}", text(self.host), rule())
            }),
        }
    }
}
