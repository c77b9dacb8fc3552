//! Compiles forwarded claims: the headers that describe the caller to the service, and the headers
//! that decisions depend on.

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
                self.error(&path, "an empty name in the claim path, expected a claim such as \"sub\"");
            }
            if rule.allow {
                self.error(
                    &path,
                    "a rule with allow has no caller, expected claims_to_headers only with require",
                );
            }
            let header = self.header(&path, header);
            if *header == *DECISION {
                self.error(&path, "the header that reports decisions, expected another header");
            }
            claims_to_headers.push((header, claim.0.clone()));
        }
        claims_to_headers
    }

    #[inline(never)]
    pub(super) fn payload_header(&mut self, path: &Path, rule: &config::InboundRule) -> Option<Rc<str>> {
        let path = path.name("payload_header");
        let header = self.header(&path, rule.payload_header.as_deref()?);
        if rule.allow {
            self.error(&path, "a rule with allow has no caller, expected payload_header only with require");
        }
        if *header == *"authorization" {
            self.error(&path, "the header that carries the token, expected another header");
        }
        if *header == *DECISION {
            self.error(&path, "the header that reports decisions, expected another header");
        }
        if rule.claims_to_headers.names().any(|name| name.eq_ignore_ascii_case(&header)) {
            self.error(&path, &format!("{header:?} is also in claims_to_headers, expected another header"));
        }
        Some(header)
    }
}

/// The headers that decisions depend on, each once.
#[inline(never)]
pub(super) fn decision_headers(rules: &[InboundRule]) -> Vec<Rc<str>> {
    let mut headers: Vec<Rc<str>> = Vec::new();
    for rule in rules {
        headers.extend(rule.matcher.headers.iter().map(|(name, _)| Rc::clone(name)));
        headers.extend(rule.token_locations.iter().filter_map(|location| location.source.header().cloned()));
        if let Some(require) = &rule.require {
            headers.extend(require.access.compared_headers());
            if require
                .token_binding
                .is_some_and(|bound| bound.certificate == Some(CertificateSource::Forwarded))
            {
                headers.push(Rc::from(XFCC));
            }
        }
        if !rule.matcher.methods.is_empty() || rule.cors_preflight {
            headers.extend(OVERRIDE_HEADERS.map(Rc::from));
        }
    }
    headers.sort();
    headers.dedup();
    headers
}

/// The headers that only this filter may set, each once.
#[inline(never)]
pub(super) fn reserved_headers(rules: &[InboundRule]) -> Vec<Rc<str>> {
    let mut reserved: Vec<Rc<str>> = Vec::new();
    for rule in rules {
        let claims = rule.claims_to_headers.iter().map(|(header, _)| header);
        for header in claims.chain(&rule.payload_header) {
            if !reserved.contains(header) {
                reserved.push(Rc::clone(header));
            }
        }
    }
    if rules.iter().any(|rule| rule.mode == Mode::DangerPermissive) {
        reserved.push(DECISION.into());
    }
    reserved
}
