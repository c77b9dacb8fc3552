//! Finds the rule that matches a request.
//!
//! A path, a method and a host have *readings*: the ways in which different servers interpret them.
//! A rule matches a request only if it matches all of its readings. If they match different rules,
//! the request is ambiguous, and is denied. The request itself is forwarded unchanged. Nothing is
//! allocated for plain requests.

mod path_template;
mod readings;

use crate::decision_trace;
use crate::http::host;
use crate::http::message::{MessageHead, Route};
pub use path_template::{Template, TemplateSegment};
pub use readings::{Ambiguity, InspectedAttributes, Readings, View};
use std::borrow::Cow;
use std::rc::Rc;

/// A condition on requests; what is not given matches every request.
#[derive(Clone, Debug, Default)]
pub struct RequestMatcher {
    /// Host, in lower case.
    pub host: Option<HostMatch>,
    /// Path, in normal form.
    pub path: Option<PathMatch>,
    /// Methods; empty means all.
    pub methods: Vec<String>,
    /// Headers, by their lower-case names.
    pub headers: Vec<(Rc<str>, HeaderMatch)>,
    /// The cluster to which the request is routed; an unknown cluster does not match.
    pub cluster: Option<String>,
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// Exactly this value.
    Exact(Vec<u8>),
    /// A value with this prefix.
    Prefix(Vec<u8>),
    /// Present, or absent.
    Present(bool),
}

/// A condition on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This host, with any port unless one is given.
    Exact(String),
    /// Any host with this suffix, which starts with a dot.
    Suffix(String),
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path, without its trailing slash.
    Exact(Vec<u8>),
    /// The path, or its beginning up to a `/`, without its trailing slash.
    Prefix(Vec<u8>),
    /// The whole path, with placeholders.
    Template(Template),
}

/// The parts of a request that rules match.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    head: &'a MessageHead,
    path: &'a [u8],
}

/// Whether a rule matches a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchResult {
    /// It does not match.
    No,
    /// It matches for some servers only: the path differs in case from the rule's, or the lines of
    /// a header differ.
    Ambiguous(Ambiguity),
    /// It matches.
    Yes,
}

/// Whether upper and lower case differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// They differ.
    Exact,
    /// They are the same.
    #[default]
    Ignored,
}

impl Case {
    fn same(self, one: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Exact => one == other,
            // From the end, since the paths of rules differ there.
            Self::Ignored => {
                let mut pairs = one.iter().rev().zip(other.iter().rev());
                one.len() == other.len() && pairs.all(|(one, other)| one.eq_ignore_ascii_case(other))
            }
        }
    }
}

impl<'a> Target<'a> {
    /// The parts of this request that rules match.
    pub fn of(head: &'a MessageHead) -> Self {
        let path = head.path();
        let end = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
        let path = path.get(..end).unwrap_or_default();
        decision_trace::record("path", true, || String::from_utf8_lossy(path).into_owned());
        Self { head, path }
    }

    /// The value of a header, by its lower-case name: several lines are one list (RFC 9110 section
    /// 5.3), so that no line can hide another.
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

    /// The path as sent, without its query.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// The method.
    pub fn method(&self) -> &'a [u8] {
        self.head.method()
    }

    /// The host, without its port.
    pub fn host_without_port(&self) -> &'a [u8] {
        host::host_of(self.head.host())
    }

    /// The method of the request that this one announces, if it is a CORS preflight (Fetch
    /// standard, "CORS-preflight request"). A request with a body, or with a header that overrides
    /// its method, is not a preflight: browsers send neither.
    pub fn preflight(&self) -> Option<&'a [u8]> {
        let only = |name: &str| {
            let mut values = self.head.all(name);
            values.next().filter(|value| !value.is_empty() && values.next().is_none())
        };
        if self.method() != b"OPTIONS" || self.head.has_body() || self.override_methods().next().is_some() {
            return None;
        }
        only("origin")?;
        only("access-control-request-method")
    }

    /// The methods with which some servers replace the request's own.
    fn override_methods(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let head = self.head;
        let values = OVERRIDE_HEADERS.into_iter().flat_map(|name| head.all(name));
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    /// Whether the next proxy removes one of these headers because `Connection` names it (RFC 9110
    /// section 7.6.1). Envoy forwards `Connection` only if the connection is to be upgraded.
    pub fn drops_any(&self, headers: &[Rc<str>]) -> bool {
        let is_upgrade = self.head.first("upgrade").is_some();
        let options = || self.head.all("connection").flat_map(|line| line.split(|byte| *byte == b','));
        is_upgrade
            && options()
                .map(<[u8]>::trim_ascii)
                .any(|option| headers.iter().any(|header| option.eq_ignore_ascii_case(header.as_bytes())))
    }

    /// The request's route.
    pub fn route(&self) -> &'a Route {
        self.head.route()
    }
}

/// Headers with which some servers and middleware override the method: Express' `method-override`,
/// Rails, Symfony, Spring, ASP.NET, Google's and Microsoft's APIs.
pub const OVERRIDE_HEADERS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

impl RequestMatcher {
    /// Whether this reading of the request matches.
    pub fn fit(&self, view: &View<'_>) -> MatchResult {
        let (misses, fit) = self.first_mismatch(view);
        if view.is_first() {
            decision_trace::record("match", misses.is_none() && fit == MatchResult::Yes, || match misses {
                Some("headers") => "headers do not match".to_owned(),
                Some(attribute) => format!("{attribute} does not match"),
                None if fit == MatchResult::Yes => String::new(),
                None => "matches for some servers only".to_owned(),
            });
        }
        if misses.is_some() { MatchResult::No } else { fit }
    }

    /// The first condition that the request fails, if any; else the result of the others.
    fn first_mismatch(&self, view: &View<'_>) -> (Option<&'static str>, MatchResult) {
        let target = view.target();
        if self.host.as_ref().is_some_and(|host| !host.holds(view.host())) {
            return (Some("host"), MatchResult::No);
        }
        let fit = self.path.as_ref().map_or(MatchResult::Yes, |path| path.fit(view.path(), view.case()));
        if fit == MatchResult::No {
            return (Some("path"), MatchResult::No);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method.as_bytes() == view.method()) {
            return (Some("method"), MatchResult::No);
        }
        let fit = self.headers.iter().fold(fit, |fit, (name, header)| fit.and(header.fit(target, name)));
        if fit == MatchResult::No {
            return (Some("headers"), MatchResult::No);
        }
        let expected = self.cluster.as_ref();
        let cluster = target.route().cluster.as_ref();
        let misses = expected.is_some_and(|name| cluster.is_none_or(|cluster| name.as_bytes() != cluster));
        (misses.then_some("cluster"), fit)
    }

    /// The names of the placeholders in its path.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.template().into_iter().flat_map(Template::names)
    }

    /// The part of a matching path that the placeholder of that name matches.
    pub fn captured<'p>(&self, path: &'p [u8], name: &str) -> Option<&'p [u8]> {
        self.template()?.captured(path, name)
    }

    fn template(&self) -> Option<&Template> {
        match &self.path {
            Some(PathMatch::Template(template)) => Some(template),
            _ => None,
        }
    }
}

impl MatchResult {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    /// Whether both conditions hold.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Ambiguous(by), _) | (_, Self::Ambiguous(by)) => Self::Ambiguous(by),
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

impl HeaderMatch {
    /// Several lines are one value, but some servers read only the first or the last.
    fn fit(&self, target: Target<'_>, name: &str) -> MatchResult {
        let mut lines = target.head.all(name);
        let (first, more) = (lines.next(), lines.next().is_some());
        let fit = MatchResult::of(self.holds(first));
        let agree = |value: Option<&[u8]>| MatchResult::of(self.holds(value)) == fit;
        if !more
            || (agree(target.header(name).as_deref()) && target.head.all(name).all(|line| agree(Some(line))))
        {
            return fit;
        }
        MatchResult::Ambiguous(Ambiguity::Header)
    }

    fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Self::Exact(expected) => value == Some(expected),
            Self::Prefix(expected) => value.is_some_and(|value| value.starts_with(expected)),
            Self::Present(present) => value.is_some() == *present,
        }
    }
}

impl HostMatch {
    fn holds(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => {
                let expected = expected.as_bytes();
                host.eq_ignore_ascii_case(expected) || host::host_of(host).eq_ignore_ascii_case(expected)
            }
            Self::Suffix(suffix) => {
                let (host, suffix) = (host::host_of(host), suffix.as_bytes());
                host.len() > suffix.len()
                    && host
                        .get(host.len().saturating_sub(suffix.len())..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

impl PathMatch {
    fn fit(&self, path: &[u8], case: Case) -> MatchResult {
        match (self.holds(path, case), case) {
            (false, _) => MatchResult::No,
            (true, Case::Ignored) if !self.holds(path, Case::Exact) => {
                MatchResult::Ambiguous(Ambiguity::Path)
            }
            (true, _) => MatchResult::Yes,
        }
    }

    fn holds(&self, path: &[u8], case: Case) -> bool {
        let rest = |expected: &[u8], ends: fn(&[u8]) -> bool| {
            path.split_at_checked(expected.len())
                .is_some_and(|(start, rest)| ends(rest) && case.same(expected, start))
        };
        // The rest is cheaper to check than the beginning.
        match self {
            // A trailing slash is ignored: most services route `/admin/` like `/admin`.
            Self::Exact(expected) => rest(expected, |rest| matches!(rest, [] | [b'/'])),
            Self::Prefix(expected) => rest(expected, |rest| matches!(rest, [] | [b'/', ..])),
            Self::Template(expected) => expected.holds(path, case),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(rule: &PathMatch, path: &str) -> bool {
        rule.fit(path.as_bytes(), Case::Exact) == MatchResult::Yes
    }

    /// The rule for a request, if it matches all of its readings.
    fn chosen(rules: &[RequestMatcher], head: &MessageHead) -> Result<Option<usize>, Ambiguity> {
        let attributes = InspectedAttributes::of(rules.iter(), false);
        Target::of(head).readings(attributes)?.select(rules, RequestMatcher::fit)
    }

    fn is_for(rule: &RequestMatcher, head: &MessageHead) -> bool {
        chosen(std::slice::from_ref(rule), head) == Ok(Some(0))
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let prefix = PathMatch::Prefix(b"/inventory".to_vec());
        assert!(["/inventory", "/inventory/", "/inventory/items"].iter().all(|path| holds(&prefix, path)));
        assert!(!["/inventoryx", "/inventor", "/x/inventory"].iter().any(|path| holds(&prefix, path)));
        assert!(holds(&PathMatch::Prefix(Vec::new()), "/anything"), "`/` is everything");
    }

    #[test]
    fn a_slash_at_the_end_does_not_count() {
        let exact = PathMatch::Exact(b"/admin".to_vec());
        assert!(holds(&exact, "/admin") && holds(&exact, "/admin/"));
        assert!(!["/admi", "/adminx", "/admin/x", "/", "/x/admin"].iter().any(|path| holds(&exact, path)));
        let root = PathMatch::Exact(Vec::new());
        assert!(holds(&root, "/") && !holds(&root, "/x"));
    }

    #[test]
    fn a_placeholder_has_the_value_that_every_server_reads() {
        let template = Template::new(vec![
            TemplateSegment::Literal(b"orders".to_vec()),
            TemplateSegment::One(Some("id".into())),
        ]);
        let rule = RequestMatcher { path: Some(PathMatch::Template(template)), ..RequestMatcher::default() };
        let attributes = InspectedAttributes::of(std::iter::once(&rule), false);
        let captured = |path: &str, name: &str| {
            let head: MessageHead = [(":path", path)].into_iter().collect();
            Target::of(&head).readings(attributes).unwrap().captured(&rule, name)
        };
        for (path, value) in [
            ("/orders/42", "42"),
            ("/orders/42/?id=7", "42"),
            ("/orders/%34%32", "42"),
            ("/orders/caf%C3%A9", "café"),
            ("/orders/a%20b", "a b"),
        ] {
            assert_eq!(captured(path, "id"), Ok(Some(value.into())), "{path}");
            assert_eq!(captured(path, "order"), Ok(None));
        }
        for path in [
            "/orders/42;v=1",
            "/orders/%2534",
            "/orders/victim/..;/acme",
            "/orders/x/../42",
            "/orders/a%2fb",
            "/orders/42.",
            "/orders/a%00b",
        ] {
            assert_eq!(captured(path, "id"), Err(Ambiguity::Path), "{path}");
        }
        assert_eq!(rule.names().collect::<Vec<_>>(), ["id"]);
    }

    fn prefix(path: &str) -> RequestMatcher {
        RequestMatcher {
            path: Some(PathMatch::Prefix(path.trim_end_matches('/').into())),
            ..RequestMatcher::default()
        }
    }

    #[test]
    fn strange_spellings_are_refused_only_where_they_lead_to_different_rules() {
        let rules = [prefix("/health"), prefix("/public"), prefix("/admin"), prefix("/")];
        let rule = |path: &str| {
            let head: MessageHead = [(":path", path)].into_iter().collect();
            chosen(&rules, &head)
        };
        for (path, index) in [
            ("/health", 0),
            ("/public/a%2Fb", 1),
            ("/public/a;v=1", 1),
            ("/public//x", 1),
            ("/public/caf%C3%A9", 1),
            ("/public/caf%E9", 1),
            ("/public/x%", 1),
            ("/admin/x/../y", 2),
            ("/api/queues/%2F/q", 3),
            ("/%7euser", 3),
        ] {
            assert_eq!(rule(path), Ok(Some(index)), "{path}");
        }
        for path in [
            "/admin/../health",
            "/admin/..;/health",
            "/admin/..%3b/health",
            "//public/admin/users",
            "/ADMIN",
            "/Health",
            "/%61dmin",
            "/x/..%2fadmin",
            "admin",
        ] {
            assert_eq!(rule(path), Err(Ambiguity::Path), "{path}");
        }
    }

    #[test]
    fn case_counts_where_the_operator_says_that_it_does() {
        let rules = [prefix("/Admin"), prefix("/")];
        let rule = |path: &str, case_sensitive: bool| {
            let head: MessageHead = [(":path", path)].into_iter().collect();
            let readings =
                Target::of(&head).readings(InspectedAttributes::of(rules.iter(), case_sensitive)).unwrap();
            readings.select(&rules, RequestMatcher::fit)
        };
        assert_eq!(rule("/Admin/x", false), Ok(Some(0)));
        assert_eq!(rule("/admin/x", false), Err(Ambiguity::Path));
        assert_eq!((rule("/Admin/x", true), rule("/admin/x", true)), (Ok(Some(0)), Ok(Some(1))));
    }

    #[test]
    fn what_no_rule_looks_at_is_not_ambiguous() {
        let head: MessageHead =
            [(":method", "delete"), (":path", "/a/..%2f..%2fb"), (":authority", "x:y@z:")]
                .into_iter()
                .collect();
        let header = RequestMatcher {
            headers: vec![("x".into(), HeaderMatch::Present(true))],
            ..RequestMatcher::default()
        };
        assert_eq!(chosen(&[header.clone(), RequestMatcher::default()], &head), Ok(Some(1)));
        assert_eq!(chosen(&[header, prefix("/a")], &head), Err(Ambiguity::Path));
        for method in ["OPTIONS", "CONNECT"] {
            let head: MessageHead = [(":method", method), (":path", "*")].into_iter().collect();
            assert_eq!(chosen(&[RequestMatcher::default()], &head), Ok(Some(0)));
            assert_eq!(
                chosen(&[prefix("/a"), RequestMatcher::default()], &head),
                Ok(Some(1)),
                "no server takes it for /a"
            );
        }
    }

    #[test]
    fn a_grpc_method_is_a_path_of_two_segments() {
        let service = PathMatch::Prefix(b"/shop.v1.Orders".to_vec());
        assert!(holds(&service, "/shop.v1.Orders/Get") && holds(&service, "/shop.v1.Orders/Delete"));
        assert!(!holds(&service, "/shop.v1.OrdersAdmin/Get") && !holds(&service, "/shop.v1.orders/Get"));
    }

    #[test]
    fn hosts_are_compared_without_case_and_port() {
        let exact = HostMatch::Exact("svc.example.com".into());
        assert!(exact.holds(b"SVC.example.com") && exact.holds(b"svc.example.com:8080"));
        assert!(!exact.holds(b"svc.example.com.evil.org") && !exact.holds(b"xsvc.example.com"));
        let with_port = HostMatch::Exact("svc:8080".into());
        assert!(with_port.holds(b"svc:8080") && !with_port.holds(b"svc:9090") && !with_port.holds(b"svc"));
        let suffix = HostMatch::Suffix(".example.com".into());
        assert!(
            suffix.holds(b"a.example.com:1")
                && !suffix.holds(b"example.com")
                && !suffix.holds(b".example.com")
        );
    }

    #[test]
    fn every_method_that_a_server_may_take_it_for_counts() {
        let delete = RequestMatcher { methods: vec!["DELETE".into()], ..RequestMatcher::default() };
        let of = |method: &str, fields: &[(&str, &str)]| {
            let pairs = [(":method", method), (":path", "/")].into_iter().chain(fields.iter().copied());
            chosen(&[delete.clone(), RequestMatcher::default()], &pairs.collect())
        };
        assert_eq!(
            (of("DELETE", &[]), of("GET", &[]), of("get", &[])),
            (Ok(Some(0)), Ok(Some(1)), Ok(Some(1)))
        );
        assert_eq!(of("delete", &[]), Err(Ambiguity::Method));
        for header in OVERRIDE_HEADERS {
            for value in ["DELETE", "delete", "GET, DELETE", " DELETE "] {
                assert_eq!(of("POST", &[(header, value)]), Err(Ambiguity::Method), "{header}: {value}");
            }
            assert_eq!(of("DELETE", &[(header, "POST")]), Err(Ambiguity::Method));
            assert_eq!(of("POST", &[(header, "PATCH")]), Ok(Some(1)), "one rule for both");
            let preflight =
                [("origin", "a"), ("access-control-request-method", "DELETE"), (header, "DELETE")];
            assert_eq!(of("OPTIONS", &preflight), Err(Ambiguity::Method));
        }
    }

    #[test]
    fn every_host_that_a_server_may_take_it_for_counts() {
        let admin = RequestMatcher {
            host: Some(HostMatch::Exact("admin.example.com".into())),
            ..RequestMatcher::default()
        };
        let of = |host: &str| {
            let head: MessageHead = [(":authority", host), (":path", "/")].into_iter().collect();
            chosen(&[admin.clone(), RequestMatcher::default()], &head)
        };
        assert_eq!((of("admin.example.com:8080"), of("Admin.example.com")), (Ok(Some(0)), Ok(Some(0))));
        assert_eq!((of("x.example.com"), of("x.example.com.:y")), (Ok(Some(1)), Ok(Some(1))));
        for host in [
            "admin.example.com:",
            "admin.example.com:x",
            "admin.example.com:+1",
            "admin.example.com:80.",
            "admin.example.com.",
            "x@admin.example.com",
        ] {
            assert_eq!(of(host), Err(Ambiguity::Host), "{host}");
        }
    }

    #[test]
    fn a_preflight_has_no_body_and_no_other_method() {
        let of = |fields: &[(&str, &str)]| {
            let pairs = [(":method", "OPTIONS"), ("origin", "a"), ("access-control-request-method", "PUT")];
            pairs.into_iter().chain(fields.iter().copied()).collect::<MessageHead>()
        };
        let announced = |head: &MessageHead| Target::of(head).preflight().map(<[u8]>::to_vec);
        assert_eq!(announced(&of(&[]).without_body()), Some(b"PUT".to_vec()));
        assert_eq!(announced(&of(&[])), None);
        for field in [("x-http-method-override", "PUT"), ("origin", "b")] {
            assert_eq!(announced(&of(&[field]).without_body()), None, "{field:?}");
        }
    }

    #[test]
    fn a_request_that_is_to_be_upgraded_may_become_a_get() {
        let get = RequestMatcher { methods: vec!["GET".into()], ..RequestMatcher::default() };
        let rules = [get, RequestMatcher::default()];
        for (method, upgrade, rule) in [
            ("POST", None, Ok(Some(1))),
            ("POST", Some("websocket"), Err(Ambiguity::Method)),
            ("GET", Some("websocket"), Ok(Some(0))),
        ] {
            let fields = [(":method", method), (":path", "/")];
            let head: MessageHead =
                fields.into_iter().chain(upgrade.map(|value| ("upgrade", value))).collect();
            assert_eq!(chosen(&rules, &head), rule, "{method} {upgrade:?}");
            assert_eq!(chosen(&rules[1..], &head), Ok(Some(0)), "{method} {upgrade:?}: no rule looks at it");
        }
    }

    #[test]
    fn headers_that_connection_names_are_dropped_where_the_connection_is_upgraded() {
        let drops = |upgrade: &[(&str, &str)], connection: &str| {
            let fields =
                upgrade.iter().copied().chain([("connection", "keep-alive"), ("connection", connection)]);
            let head: MessageHead = fields.collect();
            Target::of(&head).drops_any(&["x-caller".into(), "x-tenant".into()])
        };
        let upgrade = [("upgrade", "websocket")];
        for connection in ["x-caller", "Upgrade, X-Tenant", "upgrade,x-other , x-caller"] {
            assert!(drops(&upgrade, connection) && !drops(&[], connection), "{connection}");
        }
        for connection in ["Upgrade", "", "x-callers", "x-caller x"] {
            assert!(!drops(&upgrade, connection), "{connection}");
        }
    }

    #[test]
    fn a_cluster_is_matched_exactly_and_one_that_is_not_known_matches_no_rule_that_names_one() {
        let rule = RequestMatcher { cluster: Some("outbound|443||api".into()), ..RequestMatcher::default() };
        let head = |cluster: Option<&str>| {
            let head: MessageHead = [(":path", "/")].into_iter().collect();
            head.with_route(Route { cluster: cluster.map(|name| name.as_bytes().to_vec()), credential: None })
        };
        let holds = |rule: &RequestMatcher, cluster| is_for(rule, &head(cluster));
        assert!(holds(&rule, Some("outbound|443||api")));
        for other in
            [None, Some(""), Some("outbound|443||API"), Some("outbound|443||ap"), Some("outbound|443||api.")]
        {
            assert!(!holds(&rule, other), "{other:?}");
            assert!(holds(&RequestMatcher::default(), other), "{other:?}");
        }
        let path = Some(PathMatch::Exact(b"/other".to_vec()));
        assert!(
            !holds(&RequestMatcher { path, ..rule }, Some("outbound|443||api")),
            "all that is given must hold"
        );
    }

    #[test]
    fn a_header_whose_lines_say_different_things_is_ambiguous() {
        let rule = |wanted| RequestMatcher {
            headers: vec![("x-tenant".into(), wanted)],
            ..RequestMatcher::default()
        };
        for (wanted, lines) in [
            (HeaderMatch::Exact(b"blue".to_vec()), ["blue", "red"]),
            (HeaderMatch::Exact(b"blue".to_vec()), ["red", "blue"]),
            (HeaderMatch::Exact(b"blue,red".to_vec()), ["blue", "red"]),
            (HeaderMatch::Prefix(b"blue-".to_vec()), ["blue-1", "red"]),
        ] {
            let head: MessageHead =
                [(":path", "/"), ("x-tenant", lines[0]), ("x-tenant", lines[1])].into_iter().collect();
            assert_eq!(
                chosen(&[rule(wanted), RequestMatcher::default()], &head),
                Err(Ambiguity::Header),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_host_that_is_empty_and_a_list_of_methods_are_ambiguous() {
        let head: MessageHead = [(":path", "/x"), (":authority", "")].into_iter().collect();
        assert_eq!(chosen(&[prefix("/admin"), RequestMatcher::default()], &head), Err(Ambiguity::Host));
        let methods = (0..20_000).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let head: MessageHead =
            [(":path", "/"), ("x-http-method-override", methods.as_str())].into_iter().collect();
        let post = RequestMatcher { methods: vec!["POST".into()], ..RequestMatcher::default() };
        assert_eq!(chosen(&[post, RequestMatcher::default()], &head), Err(Ambiguity::Method));
    }

    #[test]
    fn a_header_is_matched_exactly_by_prefix_or_by_presence() {
        let holds = |wanted: HeaderMatch, lines: &[&str]| {
            let pairs = [(":path", "/")].into_iter().chain(lines.iter().map(|line| ("x-tenant", *line)));
            let head: MessageHead = pairs.collect();
            let rule =
                RequestMatcher { headers: vec![("x-tenant".into(), wanted)], ..RequestMatcher::default() };
            is_for(&rule, &head)
        };
        let exact = |text: &str| HeaderMatch::Exact(text.into());
        assert!(holds(exact("blue"), &["blue"]));
        assert!(
            !holds(exact("blue"), &["Blue"])
                && !holds(exact("blue"), &["blue "])
                && !holds(exact("blue"), &[])
        );
        assert!(holds(HeaderMatch::Prefix(b"bl".to_vec()), &["blue"]));
        assert!(holds(HeaderMatch::Prefix(b"bl".to_vec()), &["blue", "black"]), "whichever line is read");
        assert!(holds(HeaderMatch::Present(true), &[""]) && !holds(HeaderMatch::Present(true), &[]));
        assert!(holds(HeaderMatch::Present(false), &[]) && !holds(HeaderMatch::Present(false), &[""]));
    }
}
