//! Where requests carry their tokens, and which of them the service sees.

use super::Compiler;
use crate::bearer::is_token;
use crate::bearer::{At, Place};
use crate::config::{self, Mode};
use crate::dpop::SCHEME;
use crate::located::Path;

impl Compiler<'_> {
    /// Places for all rules.
    #[inline(never)]
    pub(super) fn places(&mut self, path: &Path, written: Option<&[config::TokenPlace]>) -> Vec<At> {
        let Some(written) = written else {
            return vec![At::Scheme("authorization".into(), "Bearer".to_owned())];
        };
        let mut places = Vec::new();
        for (index, place) in written.iter().enumerate() {
            let path = path.index(index);
            let Some(at) = self.place(&path, place) else { continue };
            if places.contains(&at) {
                self.wrong(&path, "twice, expected distinct places");
            }
            places.push(at);
        }
        places
    }

    /// Those of one rule, and whether what stands there stays.
    #[inline(never)]
    pub(super) fn tokens(&mut self, path: &Path, rule: &config::InboundRule, common: &[At]) -> Vec<Place> {
        if rule.allow && rule.mode != Mode::Enforce {
            let fault = "a rule with allow decides nothing, expected mode beside require only";
            self.wrong(&path.name("mode"), fault);
        }
        if rule.allow && rule.tokens.is_some() {
            let fault = "a rule with allow looks at no token, expected tokens beside require only";
            self.wrong(&path.name("tokens"), fault);
        }
        let own = rule.tokens.as_deref().map(|own| self.places(&path.name("tokens"), Some(own)));
        let place = |at: At| {
            let usual =
                matches!(&at, At::Scheme(header, _) | At::Header(header, _) if **header == *"authorization");
            Place { at, forward: rule.forward_token.unwrap_or(usual) }
        };
        let mut places = own.unwrap_or_else(|| common.to_vec());
        // A token that is bound to a key has one place and one scheme (RFC 9449 section 7.1).
        let bound = rule.require.as_ref().and_then(|require| require.bound);
        let proven = At::Scheme("authorization".into(), SCHEME.to_owned());
        if bound.is_some_and(|bound| bound.dpop) && !places.contains(&proven) {
            places.push(proven);
        }
        places.into_iter().map(place).collect()
    }

    #[inline(never)]
    fn place(&mut self, path: &Path, written: &config::TokenPlace) -> Option<At> {
        let names = [&written.header, &written.cookie, &written.danger_query];
        if names.into_iter().flatten().count() != 1 {
            let fault = "none or several of header, cookie and danger_query, expected exactly one of them";
            self.wrong_unless(vec![path.clone()], path, fault);
            return None;
        }
        let leads = written.scheme.is_some() || written.prefix.is_some();
        if let Some(name) = &written.header {
            return Some(self.place_in_header(path, name, written));
        }
        if leads {
            self.wrong(path, "scheme or prefix without header, expected neither");
        }
        let (member, name) = match (&written.cookie, &written.danger_query) {
            (Some(name), _) => ("cookie", name),
            (None, query) => ("danger_query", query.as_ref()?),
        };
        if !name.bytes().all(|byte| is_token(byte) && !b"%&+#".contains(&byte)) {
            let fault = format!("{name:?}, expected a name such as \"access_token\"");
            self.wrong(&path.name(member), &fault);
        }
        Some(if member == "cookie" { At::Cookie(name.clone()) } else { At::Query(name.clone()) })
    }

    #[inline(never)]
    fn place_in_header(&mut self, path: &Path, name: &str, written: &config::TokenPlace) -> At {
        let header = self.header(&path.name("header"), name);
        if *header == *"cookie" {
            self.wrong(&path.name("header"), "\"cookie\", expected {\"cookie\": \"NAME\"}");
        }
        let usual = (*header == *"authorization").then_some("Bearer");
        match (&written.scheme, &written.prefix) {
            (Some(_), Some(_)) => {
                self.wrong(path, "both scheme and prefix, expected one of them");
            }
            (Some(scheme), None) => {
                if !scheme.bytes().all(is_token) {
                    let fault =
                        format!("{scheme:?}, expected one word such as \"Bearer\" (a text is a prefix)");
                    self.wrong(&path.name("scheme"), &fault);
                }
                return At::Scheme(header, scheme.clone());
            }
            (None, Some(prefix)) => {
                if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                    let fault = format!("{prefix:?}, expected printable ASCII, or no prefix");
                    self.wrong(&path.name("prefix"), &fault);
                }
                return At::Header(header, prefix.clone());
            }
            (None, None) => {}
        }
        match usual {
            Some(scheme) => At::Scheme(header, scheme.to_owned()),
            None => At::Header(header, String::new()),
        }
    }
}
