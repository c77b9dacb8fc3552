//! Compiles forwarded claims: the headers that describe the caller to the service, and those that decisions depend on.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::http::route::OVERRIDE_HEADERS;
use crate::inbound::client_certificate::{CertificateSource, XFCC};
use crate::policy::{DECISION, InboundRule, Mode};
use std::rc::Rc;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn claims_to_headers(
        &mut self,
        path: &Path,
        rule: &config::InboundRule,
    ) -> Vec<(Rc<str>, Vec<String>)> {
        let mut claims_to_headers = Vec::new();
        for (header, claim) in rule.claims_to_headers.iter() {
            let path = path.name("claims_to_headers").name(header);
            if claim.0.iter().any(String::is_empty) || claim.0.is_empty() {
                self.error(&path, "an empty name in the claim's path, expected a claim such as \"sub\"");
            }
            if rule.allow {
                self.error(
                    &path,
                    "a rule with allow has no caller, expected claims_to_headers beside require only",
                );
            }
            let header = self.header(&path, header);
            if *header == *DECISION {
                self.error(&path, "a header that tells of decisions, expected another one");
            }
            claims_to_headers.push((header, claim.0.clone()));
        }
        claims_to_headers
    }

    #[inline(never)]
    pub(super) fn payload_header(&mut self, path: &Path, rule: &config::InboundRule) -> Option<Rc<str>> {
        let own = path.name("payload_header");
        let header = self.header(&own, rule.payload_header.as_deref()?);
        if rule.allow {
            self.error(&own, "a rule with allow has no caller, expected payload_header beside require only");
        }
        if *header == *"authorization" {
            self.error(&own, "the token's own header, expected another one");
        }
        if *header == *DECISION {
            self.error(&own, "a header that tells of decisions, expected another one");
        }
        if rule.claims_to_headers.names().any(|name| name.eq_ignore_ascii_case(&header)) {
            self.error(&own, &format!("{header:?} is one of claims_to_headers, expected another one"));
        }
        Some(header)
    }
}

/// The headers that decisions depend on, each once.
#[inline(never)]
pub(super) fn decision_headers(rules: &[InboundRule]) -> Vec<Rc<str>> {
    let mut judged: Vec<Rc<str>> = Vec::new();
    for rule in rules {
        judged.extend(rule.matcher.headers.iter().map(|(name, _)| Rc::clone(name)));
        judged.extend(rule.token_locations.iter().filter_map(|place| place.source.header().cloned()));
        if let Some(require) = &rule.require {
            judged.extend(require.access.compared_headers());
            if require
                .token_binding
                .is_some_and(|bound| bound.certificate == Some(CertificateSource::Forwarded))
            {
                judged.push(Rc::from(XFCC));
            }
        }
        if !rule.matcher.methods.is_empty() || rule.cors_preflight {
            judged.extend(OVERRIDE_HEADERS.map(Rc::from));
        }
    }
    judged.sort();
    judged.dedup();
    judged
}

/// The headers that only we may set, each once.
#[inline(never)]
pub(super) fn reserved_headers(rules: &[InboundRule]) -> Vec<Rc<str>> {
    let mut own: Vec<Rc<str>> = Vec::new();
    for rule in rules {
        let claims = rule.claims_to_headers.iter().map(|(header, _)| header);
        for header in claims.chain(&rule.payload_header) {
            if !own.contains(header) {
                own.push(Rc::clone(header));
            }
        }
    }
    if rules.iter().any(|rule| rule.mode == Mode::DangerPermissive) {
        own.push(DECISION.into());
    }
    own
}
