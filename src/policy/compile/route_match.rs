//! Compiles which requests a rule matches: hosts, paths and methods in the form in which requests
//! are compared with them.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::http::path;
use crate::http::path::PathReadings;
use crate::http::route::{HeaderMatch, HostMatch, PathMatch, RequestMatcher, Template, TemplateSegment};
use crate::inbound::token_location::is_tchar;
use std::rc::Rc;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn inbound_matcher(&mut self, path: &Path, written: &config::Match) -> RequestMatcher {
        if written.cluster.is_some() {
            let message = "not supported in inbound rules, expected a host, a path or headers (Envoy may change the cluster later)";
            self.error(&path.name("cluster"), message);
        }
        self.request_matcher(path, written)
    }

    #[inline(never)]
    pub(super) fn request_matcher(&mut self, path: &Path, written: &config::Match) -> RequestMatcher {
        let host = written.host.as_deref().and_then(|host| self.host(&path.name("host"), host));
        let paths = [&written.path, &written.path_prefix, &written.path_template];
        if paths.into_iter().flatten().count() > 1 {
            self.error(path, "several of path, path_prefix and path_template, expected at most one of them");
        }
        let exact = written.path.as_deref().and_then(|value| self.literal(&path.name("path"), value));
        let prefix =
            written.path_prefix.as_deref().and_then(|value| self.literal(&path.name("path_prefix"), value));
        let template = written.path_template.as_deref();
        let template = template.and_then(|value| self.template(&path.name("path_template"), value));
        for (index, method) in written.methods.iter().enumerate() {
            if !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
                let message = format!("{method:?}, expected an upper-case method such as \"GET\"");
                self.error(&path.name("methods").index(index), &message);
            }
        }
        let mut headers = Vec::new();
        for (name, value) in written.headers.iter() {
            let path = path.name("headers").name(name);
            let name = self.header_to_compare(&path, name);
            let value = match value {
                config::HeaderValue::Exact(value) => HeaderMatch::Exact(value.clone().into_bytes()),
                config::HeaderValue::Prefix(value) => HeaderMatch::Prefix(value.clone().into_bytes()),
                config::HeaderValue::Present(present) => HeaderMatch::Present(*present),
            };
            headers.push((name, value));
        }
        let cluster = written.cluster.clone();
        let path = exact.map(PathMatch::Exact).or(prefix.map(PathMatch::Prefix));
        let path = path.or(template.map(PathMatch::Template));
        let mut methods = written.methods.clone();
        let has = |methods: &[String], method: &str| methods.iter().any(|known| known == method);
        // RFC 9110 section 9.3.2: a service runs the same code for both.
        if has(&methods, "GET") && !has(&methods, "HEAD") {
            methods.push("HEAD".to_owned());
        }
        RequestMatcher { host, path, methods, headers, cluster }
    }

    /// A header that a request may have, in lower case.
    #[inline(never)]
    pub(super) fn header_to_compare(&mut self, path: &Path, name: &str) -> Rc<str> {
        let pseudo = matches!(name, ":authority" | ":method" | ":path" | "host");
        if pseudo || name.is_empty() || !name.bytes().all(is_tchar) {
            self.error(
                path,
                &format!("{name:?} cannot be matched, expected the name of a header other than host"),
            );
        }
        name.to_ascii_lowercase().into()
    }

    #[inline(never)]
    fn host(&mut self, path: &Path, value: &str) -> Option<HostMatch> {
        let lower = value.to_ascii_lowercase();
        let suffix = lower.strip_prefix('*');
        let name = suffix.unwrap_or(&lower);
        let sound = !matches!(name, "" | ".")
            && name.starts_with('.') == suffix.is_some()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        if !sound {
            self.error(path, &format!("{value:?}, expected a host such as \"svc\" or \"*.example.com\""));
            return None;
        }
        Some(
            suffix.map_or_else(
                || HostMatch::Exact(lower.clone()),
                |suffix| HostMatch::Suffix(suffix.to_owned()),
            ),
        )
    }

    /// A rule's path must be in normal form itself, or it would never match. Its trailing slash is
    /// removed.
    #[inline(never)]
    fn path(&mut self, path: &Path, value: &str) -> Option<Vec<u8>> {
        match path::normal(value.as_bytes()) {
            Ok(normal) if *normal == *value.as_bytes() => {
                if PathReadings::of(value.as_bytes()).is_ok_and(|readings| readings.count() > 1) {
                    let message = format!("{value:?}, expected a path that all servers interpret alike");
                    self.error(path, &message);
                }
                return Some(normal.strip_suffix(b"/").unwrap_or(&normal).to_vec());
            }
            Ok(normal) => {
                self.error(
                    path,
                    &format!("{value:?}, expected its normal form {:?}", String::from_utf8_lossy(&normal)),
                );
            }
            Err(path::AmbiguousPath) => self
                .error(path, &format!("{value:?}, expected a path that starts with / and needs no encoding")),
        }
        None
    }

    /// A path without placeholders. A literal brace is an error, since no URL may contain one (RFC
    /// 3986 section 2).
    #[inline(never)]
    fn literal(&mut self, path: &Path, value: &str) -> Option<Vec<u8>> {
        if value.contains(['{', '}']) {
            self.error(path, &format!("{value:?}, expected path_template for a path with placeholders"));
        }
        self.path(path, value)
    }

    /// A path with placeholders: `{name}` and `*` for one segment, `**` and `{name=**}` at the end
    /// for any number.
    #[inline(never)]
    fn template(&mut self, path: &Path, value: &str) -> Option<Template> {
        self.path(path, value)?;
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let mut written = value.split('/').skip(1).filter(|segment| !segment.is_empty()).peekable();
        while let Some(segment) = written.next() {
            let placeholder = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
            let (name, rest) = match (segment, placeholder) {
                ("*", _) => (None, false),
                ("**", _) => (None, true),
                (_, Some(placeholder)) => {
                    let name = placeholder.strip_suffix("=**");
                    (Some(name.unwrap_or(placeholder)), name.is_some())
                }
                (literal, None) => {
                    if literal.contains(['{', '}', '*']) {
                        let message = format!(
                            "{literal:?}, expected a literal, a name in braces, * or, at the end, ** as a whole segment"
                        );
                        self.error(path, &message);
                    }
                    segments.push(TemplateSegment::Literal(literal.into()));
                    continue;
                }
            };
            if rest && written.peek().is_some() {
                self.error(path, &format!("{segment:?} in the middle, expected it at the end only"));
            }
            if let Some(name) = name {
                let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                if name.is_empty() || !name.bytes().all(sound) {
                    let message =
                        format!("{segment:?}, expected a name of letters, digits and _ in the braces");
                    self.error(path, &message);
                }
                if names.contains(&name) {
                    self.error(path, &format!("duplicate placeholder {segment:?}, expected distinct names"));
                }
                names.push(name);
            }
            let name = name.map(Rc::from);
            segments.push(if rest { TemplateSegment::Rest(name) } else { TemplateSegment::One(name) });
        }
        Some(Template::new(segments))
    }

    #[inline(never)]
    pub(super) fn header(&mut self, path: &Path, value: &str) -> Rc<str> {
        // The filter may not set Envoy's pseudo headers.
        let reserved = ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade"];
        if value.is_empty()
            || !value.bytes().all(is_tchar)
            || reserved.contains(&value.to_ascii_lowercase().as_str())
        {
            self.error(path, &format!("{value:?}, expected the name of a header that may be set"));
        }
        value.to_ascii_lowercase().into()
    }
}
