//! Where requests carry their tokens, and which of them the service sees.

use super::Compiler;
use crate::config::path_deserializer::Path;
use crate::config::{self, Mode};
use crate::dpop::SCHEME;
use crate::inbound::token_location::is_tchar;
use crate::inbound::token_location::{TokenLocation, TokenSource};

impl Compiler<'_> {
    /// Places for all rules.
    #[inline(never)]
    pub(super) fn token_sources(
        &mut self,
        path: &Path,
        written: Option<&[config::TokenLocation]>,
    ) -> Vec<TokenSource> {
        let Some(written) = written else {
            return vec![TokenSource::Scheme("authorization".into(), "Bearer".to_owned())];
        };
        let mut places = Vec::new();
        for (index, place) in written.iter().enumerate() {
            let path = path.index(index);
            let Some(at) = self.token_source(&path, place) else { continue };
            if places.contains(&at) {
                self.error(&path, "twice, expected distinct places");
            }
            places.push(at);
        }
        places
    }

    /// Those of one rule, and whether what stands there stays.
    #[inline(never)]
    pub(super) fn token_locations(
        &mut self,
        path: &Path,
        rule: &config::InboundRule,
        common: &[TokenSource],
    ) -> Vec<TokenLocation> {
        if rule.allow && rule.mode != Mode::Enforce {
            let fault = "a rule with allow decides nothing, expected mode beside require only";
            self.error(&path.name("mode"), fault);
        }
        if rule.allow && rule.token_locations.is_some() {
            let fault = "a rule with allow looks at no token, expected tokens beside require only";
            self.error(&path.name("token_locations"), fault);
        }
        let own = rule
            .token_locations
            .as_deref()
            .map(|own| self.token_sources(&path.name("token_locations"), Some(own)));
        let place = |at: TokenSource| {
            let usual = matches!(&at, TokenSource::Scheme(header, _) | TokenSource::Header(header, _) if **header == *"authorization");
            TokenLocation { source: at, forward: rule.forward_token.unwrap_or(usual) }
        };
        let mut places = own.unwrap_or_else(|| common.to_vec());
        // A token that is bound to a key has one place and one scheme (RFC 9449 section 7.1).
        let bound = rule.require.as_ref().and_then(|require| require.token_binding);
        let proven = TokenSource::Scheme("authorization".into(), SCHEME.to_owned());
        if bound.is_some_and(|bound| bound.dpop) && !places.contains(&proven) {
            places.push(proven);
        }
        places.into_iter().map(place).collect()
    }

    #[inline(never)]
    fn token_source(&mut self, path: &Path, written: &config::TokenLocation) -> Option<TokenSource> {
        let names = [&written.header, &written.cookie, &written.danger_query];
        if names.into_iter().flatten().count() != 1 {
            let fault = "none or several of header, cookie and danger_query, expected exactly one of them";
            self.error_unless(vec![path.clone()], path, fault);
            return None;
        }
        let leads = written.scheme.is_some() || written.prefix.is_some();
        if let Some(name) = &written.header {
            return Some(self.header_source(path, name, written));
        }
        if leads {
            self.error(path, "scheme or prefix without header, expected neither");
        }
        let (member, name) = match (&written.cookie, &written.danger_query) {
            (Some(name), _) => ("cookie", name),
            (None, query) => ("danger_query", query.as_ref()?),
        };
        if !name.bytes().all(|byte| is_tchar(byte) && !b"%&+#".contains(&byte)) {
            let fault = format!("{name:?}, expected a name such as \"access_token\"");
            self.error(&path.name(member), &fault);
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
        let usual = (*header == *"authorization").then_some("Bearer");
        match (&written.scheme, &written.prefix) {
            (Some(_), Some(_)) => {
                self.error(path, "both scheme and prefix, expected one of them");
            }
            (Some(scheme), None) => {
                if !scheme.bytes().all(is_tchar) {
                    let fault =
                        format!("{scheme:?}, expected one word such as \"Bearer\" (a text is a prefix)");
                    self.error(&path.name("scheme"), &fault);
                }
                return TokenSource::Scheme(header, scheme.clone());
            }
            (None, Some(prefix)) => {
                if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                    let fault = format!("{prefix:?}, expected printable ASCII, or no prefix");
                    self.error(&path.name("prefix"), &fault);
                }
                return TokenSource::Header(header, prefix.clone());
            }
            (None, None) => {}
        }
        match usual {
            Some(scheme) => TokenSource::Scheme(header, scheme.to_owned()),
            None => TokenSource::Header(header, String::new()),
        }
    }
}
