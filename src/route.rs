//! Which rule is for this request?
//!
//! Paths are compared in one normal form, so that no spelling of a path slips past the rule that was written for it:
//! decoded, without parameters (`;x`), empty segments and dot segments. What has no single normal form matches nothing
//! and is refused. The request itself is forwarded as it came. Nothing is allocated for paths that are normal already.

mod template;

use crate::io::{Head, Route};
use crate::trace;
use std::borrow::Cow;
use std::rc::Rc;
pub use template::{Segment, Template};

/// A condition on requests; what is not given holds for all.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Host, in lower case.
    pub host: Option<Host>,
    /// Path, in normal form.
    pub path: Option<PathMatch>,
    /// Methods; empty means all.
    pub methods: Vec<String>,
    /// Headers, by their lower-case names.
    pub headers: Vec<(Rc<str>, HeaderMatch)>,
    /// The cluster that the request goes to; one that is not known is none of these.
    pub cluster: Option<String>,
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// This value, and no other.
    Exact(Vec<u8>),
    /// A value that begins so.
    Prefix(Vec<u8>),
    /// There, or not there.
    Present(bool),
}

/// A condition on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This host, with any port unless one is given.
    Exact(String),
    /// Any host that ends in this, which starts with a dot.
    Suffix(String),
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path. Without the slash at its end.
    Exact(Vec<u8>),
    /// The path, or what stands before a `/` in it. Without the slash at its end.
    Prefix(Vec<u8>),
    /// The whole path, with places in it that may hold anything.
    Template(Template),
}

/// A request as rules see it.
pub struct Target<'a> {
    host: &'a [u8],
    path: Cow<'a, [u8]>,
    method: &'a [u8],
    head: &'a Head,
}

/// The path has no single normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

impl<'a> Target<'a> {
    /// What rules may look at.
    pub fn of(head: &'a Head) -> Result<Self, Ambiguous> {
        let path = normal(head.path());
        trace::tell("path", path.is_ok(), || {
            path.as_ref().map_or_else(|_| "no single meaning".to_owned(), |path| shown(path))
        });
        Ok(Self { host: head.host(), path: path?, method: head.method(), head })
    }

    /// The value of a header, by its lower-case name: several lines are one list (RFC 9110 section 5.3), so that no line
    /// can hide behind another.
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut values = self.head.all(name);
        let first = values.next()?;
        let rest: Vec<&[u8]> = values.collect();
        Some(if rest.is_empty() {
            Cow::Borrowed(first)
        } else {
            Cow::Owned([&[first], rest.as_slice()].concat().join(&b','))
        })
    }

    /// The path, in normal form.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The method.
    pub fn method(&self) -> &'a [u8] {
        self.method
    }

    /// The host, without its port.
    pub fn host_alone(&self) -> &'a [u8] {
        without_port(self.host)
    }

    /// The request that this one announces, if it is a CORS preflight (Fetch standard, "CORS-preflight request").
    pub fn preflight(&self) -> Option<Target<'_>> {
        let only = |name: &str| {
            let mut values = self.head.all(name);
            values.next().filter(|value| !value.is_empty() && values.next().is_none())
        };
        if self.method != b"OPTIONS" {
            return None;
        }
        only("origin")?;
        let method = only("access-control-request-method")?;
        Some(Target { method, path: Cow::Borrowed(&self.path), ..*self })
    }

    /// Where it goes.
    pub fn route(&self) -> &'a Route {
        self.head.route()
    }
}

impl Match {
    /// Whether the request is one of these.
    pub fn holds(&self, target: &Target<'_>) -> bool {
        let misses = self.misses(target);
        trace::tell("match", misses.is_none(), || misses.unwrap_or_default().to_owned());
        misses.is_none()
    }

    /// The first condition that does not hold for the request, if there is one.
    fn misses(&self, target: &Target<'_>) -> Option<&'static str> {
        if self.host.as_ref().is_some_and(|host| !host.holds(target.host)) {
            return Some("host");
        }
        if self.path.as_ref().is_some_and(|path| !path.holds(&target.path)) {
            return Some("path");
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|own| own.as_bytes() == target.method) {
            return Some("method");
        }
        if !self.headers.iter().all(|(name, header)| header.holds(target.header(name).as_deref())) {
            return Some("headers");
        }
        let own = self.cluster.as_ref();
        let cluster = target.route().cluster.as_ref();
        own.is_some_and(|own| cluster.is_none_or(|cluster| own.as_bytes() != cluster)).then_some("cluster")
    }

    /// The names of the places in its path that may hold anything.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.template().into_iter().flat_map(Template::names)
    }

    /// What a request that is one of these has in the place of that name, decoded.
    pub fn captured<'t>(&self, target: &'t Target<'_>, name: &str) -> Option<&'t [u8]> {
        self.template()?.captured(&target.path, name)
    }

    fn template(&self) -> Option<&Template> {
        match &self.path {
            Some(PathMatch::Template(template)) => Some(template),
            _ => None,
        }
    }
}

impl HeaderMatch {
    fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Self::Exact(own) => value == Some(own),
            Self::Prefix(own) => value.is_some_and(|value| value.starts_with(own)),
            Self::Present(present) => value.is_some() == *present,
        }
    }
}

impl Host {
    fn holds(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(own) => {
                let own = own.as_bytes();
                host.eq_ignore_ascii_case(own) || without_port(host).eq_ignore_ascii_case(own)
            }
            Self::Suffix(suffix) => {
                let (host, suffix) = (without_port(host), suffix.as_bytes());
                host.len() > suffix.len()
                    && host
                        .get(host.len().saturating_sub(suffix.len())..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

impl PathMatch {
    fn holds(&self, path: &[u8]) -> bool {
        match self {
            // A slash at the end does not count: most services route `/admin/` as they do `/admin`.
            Self::Exact(own) => {
                path.strip_prefix(own.as_slice()).is_some_and(|rest| matches!(rest, [] | [b'/']))
            }
            Self::Prefix(own) => {
                path.strip_prefix(own.as_slice()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
            }
            Self::Template(own) => own.holds(path),
        }
    }
}

/// `host:8080` without its port; `[::1]:8080` too.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) => {
            let (name, port) = host.split_at(colon);
            let digits = port.get(1..).unwrap_or_default();
            if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) { name } else { host }
        }
        None => host,
    }
}

/// The normal form of a request's path, without its query.
pub fn normal(path: &[u8]) -> Result<Cow<'_, [u8]>, Ambiguous> {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or_default();
    if path.first() != Some(&b'/') {
        return Err(Ambiguous);
    }
    if path.iter().any(|byte| *byte < b' ' || matches!(byte, b'\\' | 0x7f)) {
        return Err(Ambiguous);
    }
    if is_normal(path) {
        return is_utf8(path).map(|()| Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    is_utf8(&decoded)?;
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in decoded.split(|byte| *byte == b'/').skip(1) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        ends_in_slash = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop().ok_or(Ambiguous)?),
            _ => segments.push(name),
        }
    }
    let mut normal = Vec::with_capacity(decoded.len());
    for segment in segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    if ends_in_slash || normal.is_empty() {
        normal.push(b'/');
    }
    Ok(Cow::Owned(normal))
}

/// RFC 3629 section 10: a lenient reader takes `%c0%af` for a slash and `%c0%ae` for a dot, a strict one takes neither.
fn is_utf8(path: &[u8]) -> Result<(), Ambiguous> {
    std::str::from_utf8(path).map(drop).map_err(|_| Ambiguous)
}

/// No percent, no parameter, no empty segment, and no segment that starts with a dot (some of which are fine).
fn is_normal(path: &[u8]) -> bool {
    !path.iter().any(|byte| matches!(byte, b'%' | b';'))
        && !path.windows(2).any(|pair| matches!(pair, [b'/', b'/' | b'.']))
}

/// Percent-decoding, once. What servers disagree about (an encoded slash, a path that is encoded twice) has no one meaning.
fn decode(path: &[u8]) -> Result<Vec<u8>, Ambiguous> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let ([high, low, ..], Some(tail)) = (tail, tail.get(2..)) else {
            return Err(Ambiguous);
        };
        let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or(Ambiguous)?;
        if byte < b' ' || matches!(byte, b'/' | b'\\' | 0x7f) {
            return Err(Ambiguous);
        }
        if byte == b'%' && matches!(tail, [high, low, ..] if hex(*high).is_some() && hex(*low).is_some()) {
            return Err(Ambiguous);
        }
        decoded.push(byte);
        rest = tail;
    }
    Ok(decoded)
}

/// For people.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(path: &str) -> Option<String> {
        normal(path.as_bytes()).ok().map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn every_spelling_of_a_path_has_one_form() {
        for spelling in [
            "/admin",
            "/admin?x",
            "/admin#x",
            "//admin",
            "///admin",
            "/./admin",
            "/x/../admin",
            "/%61dmin",
            "/%61%64min",
            "/admin;x",
            "/;a/admin",
            "/admin;a=b;c",
            "/x/%2e%2e/admin",
            "/x/..;/admin",
            "/x/.%2E/admin",
            "/admin%3bx",
        ] {
            assert_eq!(form(spelling).as_deref(), Some("/admin"), "{spelling}");
        }
        assert_eq!(form("/admin/").as_deref(), Some("/admin/"));
        assert_eq!(form("/admin/.").as_deref(), Some("/admin/"));
        assert_eq!(form("/admin/x/..").as_deref(), Some("/admin/"));
        assert_eq!(form("/").as_deref(), Some("/"));
        assert_eq!(form("/.well-known/x").as_deref(), Some("/.well-known/x"));
        assert_eq!(form("/a..b/...").as_deref(), Some("/a..b/..."));
        assert_eq!(form("/100%25").as_deref(), Some("/100%"));
        assert_eq!(form("/caf%C3%A9").as_deref(), Some("/café"));
    }

    #[test]
    fn a_path_that_is_no_text_is_refused() {
        for path in [&b"/x/\xc0\xae\xc0\xae/admin"[..], b"/caf\xe9", b"/\xff", b"/%61/\xc0\xaf"] {
            assert_eq!(normal(path), Err(Ambiguous), "{}", path.escape_ascii());
        }
        assert_eq!(normal("/café".as_bytes()).as_deref(), Ok("/café".as_bytes()));
    }

    #[test]
    fn what_has_no_single_form_is_refused() {
        for spelling in [
            "/%c0%afadmin",
            "/x/%c0%ae%c0%ae/admin",
            "/%e0%80%afadmin",
            "/%f0%80%80%afadmin",
            "/caf%e9",
            "/%ff",
            "/%u0061dmin",
            "",
            "*",
            "admin",
            "http://x/admin",
            "/..",
            "/x/../../admin",
            "/x%2fadmin",
            "/x%5Cadmin",
            "/x\\admin",
            "/%00",
            "/a\0",
            "/%2561dmin",
            "/%",
            "/%6",
            "/%zz",
            "/\n",
            "/%0a",
            "\u{7f}",
        ] {
            assert_eq!(form(spelling), None, "{spelling:?}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let prefix = PathMatch::Prefix(b"/inventory".to_vec());
        assert!(
            ["/inventory", "/inventory/", "/inventory/items"]
                .iter()
                .all(|path| prefix.holds(path.as_bytes()))
        );
        assert!(
            !["/inventoryx", "/inventor", "/x/inventory"].iter().any(|path| prefix.holds(path.as_bytes()))
        );
        assert!(PathMatch::Prefix(Vec::new()).holds(b"/anything"), "`/` is everything");
    }

    #[test]
    fn a_slash_at_the_end_does_not_count() {
        let exact = PathMatch::Exact(b"/admin".to_vec());
        assert!(exact.holds(b"/admin") && exact.holds(b"/admin/"));
        assert!(
            !["/admi", "/adminx", "/admin/x", "/", "/x/admin"]
                .iter()
                .any(|path| exact.holds(path.as_bytes()))
        );
        let root = PathMatch::Exact(Vec::new());
        assert!(root.holds(b"/") && !root.holds(b"/x"));
    }

    #[test]
    fn places_hold_what_the_service_reads_there_however_it_is_spelt() {
        let template =
            Template::new(vec![Segment::Literal(b"orders".to_vec()), Segment::One(Some("id".into()))]);
        let rule = Match { path: Some(PathMatch::Template(template)), ..Match::default() };
        for path in
            ["/orders/42", "//orders/./42", "/orders/%34%32", "/orders/42;v=1", "/x/../orders/42/?id=7"]
        {
            let head: Head = [(":path", path)].into_iter().collect();
            let target = Target::of(&head).unwrap();
            assert!(rule.holds(&target), "{path}");
            assert_eq!(rule.captured(&target, "id"), Some(&b"42"[..]), "{path}");
            assert_eq!(rule.captured(&target, "order"), None);
            assert_eq!(Match::default().captured(&target, "id"), None);
        }
        assert_eq!(rule.names().collect::<Vec<_>>(), ["id"]);
    }

    #[test]
    fn a_grpc_method_is_a_path_of_two_segments() {
        let service = PathMatch::Prefix(b"/shop.v1.Orders".to_vec());
        assert!(service.holds(b"/shop.v1.Orders/Get") && service.holds(b"/shop.v1.Orders/Delete"));
        assert!(!service.holds(b"/shop.v1.OrdersAdmin/Get") && !service.holds(b"/shop.v1.orders/Get"));
        assert_eq!(form("/shop.v1.Orders/Get").as_deref(), Some("/shop.v1.Orders/Get"));
    }

    #[test]
    fn hosts_are_compared_without_case_and_port() {
        let exact = Host::Exact("svc.example.com".into());
        assert!(exact.holds(b"SVC.example.com") && exact.holds(b"svc.example.com:8080"));
        assert!(!exact.holds(b"svc.example.com.evil.org") && !exact.holds(b"xsvc.example.com"));
        let with_port = Host::Exact("svc:8080".into());
        assert!(with_port.holds(b"svc:8080") && !with_port.holds(b"svc:9090") && !with_port.holds(b"svc"));
        let suffix = Host::Suffix(".example.com".into());
        assert!(
            suffix.holds(b"a.example.com:1")
                && !suffix.holds(b"example.com")
                && !suffix.holds(b".example.com")
        );
    }

    #[test]
    fn methods_are_compared_exactly() {
        let get = Match { methods: vec!["GET".into()], ..Match::default() };
        let head = |method: &str| [(":method", method), (":path", "/")].into_iter().collect::<Head>();
        assert!(get.holds(&Target::of(&head("GET")).unwrap()));
        assert!(!get.holds(&Target::of(&head("get")).unwrap()));
    }

    #[test]
    fn a_cluster_is_matched_exactly_and_one_that_is_not_known_matches_no_rule_that_names_one() {
        let rule = Match { cluster: Some("outbound|443||api".into()), ..Match::default() };
        let head = |cluster: Option<&str>| {
            let head: Head = [(":path", "/")].into_iter().collect();
            head.on(Route { cluster: cluster.map(|name| name.as_bytes().to_vec()), credential: None })
        };
        let holds = |rule: &Match, cluster| rule.holds(&Target::of(&head(cluster)).unwrap());
        assert!(holds(&rule, Some("outbound|443||api")));
        for other in
            [None, Some(""), Some("outbound|443||API"), Some("outbound|443||ap"), Some("outbound|443||api.")]
        {
            assert!(!holds(&rule, other), "{other:?}");
            assert!(holds(&Match::default(), other), "{other:?}");
        }
        let path = Some(PathMatch::Exact(b"/other".to_vec()));
        assert!(!holds(&Match { path, ..rule }, Some("outbound|443||api")), "all that is given must hold");
    }

    #[test]
    fn a_header_is_matched_as_one_value_however_many_lines_it_has() {
        let holds = |wanted: HeaderMatch, lines: &[&str]| {
            let pairs = [(":path", "/")].into_iter().chain(lines.iter().map(|line| ("x-tenant", *line)));
            let head: Head = pairs.collect();
            let rule = Match { headers: vec![("x-tenant".into(), wanted)], ..Match::default() };
            rule.holds(&Target::of(&head).unwrap())
        };
        let exact = |text: &str| HeaderMatch::Exact(text.into());
        assert!(holds(exact("blue"), &["blue"]));
        assert!(
            !holds(exact("blue"), &["Blue"])
                && !holds(exact("blue"), &["blue "])
                && !holds(exact("blue"), &[])
        );
        assert!(!holds(exact("blue"), &["blue", "red"]) && !holds(exact("blue"), &["red", "blue"]));
        assert!(holds(exact("blue,red"), &["blue", "red"]));
        assert!(holds(HeaderMatch::Prefix(b"bl".to_vec()), &["blue"]));
        assert!(!holds(HeaderMatch::Prefix(b"bl".to_vec()), &["red", "blue"]));
        assert!(holds(HeaderMatch::Present(true), &[""]) && !holds(HeaderMatch::Present(true), &[]));
        assert!(holds(HeaderMatch::Present(false), &[]) && !holds(HeaderMatch::Present(false), &[""]));
    }
}
