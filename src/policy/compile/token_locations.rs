//! Compiles where requests carry their tokens, and which tokens are forwarded.

use super::Compiler;
use crate::config::path_deserializer::Path;
use crate::config::{self, Mode};
use crate::dpop::SCHEME;
use crate::inbound::token_location::is_tchar;
use crate::inbound::token_location::{TokenLocation, TokenSource};

impl Compiler<'_> {
    /// The locations for all rules.
    #[inline(never)]
    pub(super) fn token_sources(
        &mut self,
        path: &Path,
        written: Option<&[config::TokenLocation]>,
    ) -> Vec<TokenSource> {
        let Some(written) = written else {
            return vec![TokenSource::Scheme("authorization".into(), "Bearer".to_owned())];
        };
        let mut sources = Vec::new();
        for (index, location) in written.iter().enumerate() {
            let path = path.index(index);
            let Some(source) = self.token_source(&path, location) else { continue };
            if sources.contains(&source) {
                self.error(&path, "duplicate location, expected distinct locations");
            }
            sources.push(source);
        }
        sources
    }

    /// The locations of one rule, and whether a token there is forwarded.
    #[inline(never)]
    pub(super) fn token_locations(
        &mut self,
        path: &Path,
        rule: &config::InboundRule,
        common: &[TokenSource],
    ) -> Vec<TokenLocation> {
        if rule.allow && rule.mode != Mode::Enforce {
            let message = "a rule with allow requires nothing, expected mode only with require";
            self.error(&path.name("mode"), message);
        }
        if rule.allow && rule.token_locations.is_some() {
            let message = "a rule with allow reads no token, expected token_locations only with require";
            self.error(&path.name("token_locations"), message);
        }
        let own_sources = rule
            .token_locations
            .as_deref()
            .map(|written| self.token_sources(&path.name("token_locations"), Some(written)));
        let location = |source: TokenSource| {
            let by_default = matches!(&source, TokenSource::Scheme(header, _) | TokenSource::Header(header, _) if **header == *"authorization");
            TokenLocation { source, forward: rule.forward_token.unwrap_or(by_default) }
        };
        let mut sources = own_sources.unwrap_or_else(|| common.to_vec());
        // A token that is bound to a key has one location and one scheme (RFC 9449 section 7.1).
        let bound = rule.require.as_ref().and_then(|require| require.token_binding);
        let dpop_source = TokenSource::Scheme("authorization".into(), SCHEME.to_owned());
        if bound.is_some_and(|bound| bound.dpop) && !sources.contains(&dpop_source) {
            sources.push(dpop_source);
        }
        sources.into_iter().map(location).collect()
    }

    #[inline(never)]
    fn token_source(&mut self, path: &Path, written: &config::TokenLocation) -> Option<TokenSource> {
        let names = [&written.header, &written.cookie, &written.danger_query];
        if names.into_iter().flatten().count() != 1 {
            let message = "none or several of header, cookie and danger_query, expected exactly one of them";
            self.error_unless(vec![path.clone()], path, message);
            return None;
        }
        let has_leader = written.scheme.is_some() || written.prefix.is_some();
        if let Some(name) = &written.header {
            return Some(self.header_source(path, name, written));
        }
        if has_leader {
            self.error(path, "scheme or prefix without header, expected neither");
        }
        let (member, name) = match (&written.cookie, &written.danger_query) {
            (Some(name), _) => ("cookie", name),
            (None, query) => ("danger_query", query.as_ref()?),
        };
        if !name.bytes().all(|byte| is_tchar(byte) && !b"%&+#".contains(&byte)) {
            let message = format!("{name:?}, expected a name such as \"access_token\"");
            self.error(&path.name(member), &message);
        }
        Some(if member == "cookie" {
            TokenSource::Cookie(name.clone())
        } else {
            TokenSource::Query(name.clone())
        })
    }

    #[inline(never)]
    fn header_source(&mut self, path: &Path, name: &str, written: &config::TokenLocation) -> TokenSource {
        let header = self.header(&path.name("header"), name);
        if *header == *"cookie" {
            self.error(&path.name("header"), "\"cookie\", expected {\"cookie\": \"NAME\"}");
        }
        let default_scheme = (*header == *"authorization").then_some("Bearer");
        match (&written.scheme, &written.prefix) {
            (Some(_), Some(_)) => {
                self.error(path, "both scheme and prefix, expected one of them");
            }
            (Some(scheme), None) => {
                if !scheme.bytes().all(is_tchar) {
                    let message = format!(
                        "{scheme:?}, expected one word such as \"Bearer\" (use prefix for other strings)"
                    );
                    self.error(&path.name("scheme"), &message);
                }
                return TokenSource::Scheme(header, scheme.clone());
            }
            (None, Some(prefix)) => {
                if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                    let message = format!("{prefix:?}, expected printable ASCII, or no prefix");
                    self.error(&path.name("prefix"), &message);
                }
                return TokenSource::Header(header, prefix.clone());
            }
            (None, None) => {}
        }
        match default_scheme {
            Some(scheme) => TokenSource::Scheme(header, scheme.to_owned()),
            None => TokenSource::Header(header, String::new()),
        }
    }
}
