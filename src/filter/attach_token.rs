//! Outbound: the token that is attached to a request.
//!
//! The second half of a decision. A pending fetch suspends the request, which is then decided again.

use super::{Authenticated, Interrupt, Request, wait_or_refuse};
use crate::config::{Existing, Unavailable};
use crate::decision_trace;
use crate::dpop;
use crate::filter::header_edits::HeaderEdits;
use crate::http::message::Service;
use crate::inbound::jwt::{self, TokenError};
use crate::inbound::refusal::Refusal;
use crate::inbound::token_location::{self, TokenLocation};
use crate::oauth::fetch::FetchErrorKind;
use crate::policy::{self, CredentialId, OutboundRule, UnknownCredential};
use crate::store::{ExchangeSubject, IssuedToken, LookupError};
use std::rc::Rc;
use std::time::Duration;

impl<'a> Request<'a> {
    /// Attaches the token of the rule's credential, or of the one that the route names; `caller` and its token are there if a rule required them.
    pub(super) fn attach_token(
        &mut self,
        rule: &OutboundRule,
        caller: Option<&Authenticated<'a>>,
        edits: &mut HeaderEdits,
    ) -> Result<(), Interrupt> {
        decision_trace::record("outbound rule", true, || rule.name.to_string());
        self.record.outbound_rule = Some(Rc::clone(&rule.name));
        let whose = self.policy.credential_for(rule, self.head.route());
        decision_trace::record_if(whose.is_err(), "credential", || {
            "the one that the route names is not known".to_owned()
        });
        let Some(id) = whose.map_err(|UnknownCredential| Refusal::UnknownCredential)? else {
            decision_trace::record("credential", true, || "none, says the route".to_owned());
            return Ok(());
        };
        decision_trace::record("credential", true, || self.store.credential_name(id).to_owned());
        self.strip_subject_token(id, rule, caller, edits);
        let existing = self.head.first(&rule.header).filter(|value| !self.store.has_issued(value));
        if rule.existing == Existing::Keep && existing.is_some() {
            decision_trace::record("existing", true, || format!("the request's own {} is kept", rule.header));
            return Ok(());
        }
        let service = Service::of(self.head);
        let missing = match self.token(id, rule.unavailable, service, caller)? {
            Ok(held) => {
                // RFC 9449 section 7.1: whatever the rule says, a bound token is never sent as Bearer.
                let scheme = if held.digest.is_some() { "DPoP " } else { rule.prefix.as_str() };
                edits.remove_lookalikes(&rule.header, self.head);
                edits.set(&rule.header, [scheme.as_bytes(), held.token.reveal().as_bytes()].concat());
                if let Some(second) = &rule.second_header {
                    edits.remove_lookalikes(second, self.head);
                    edits.set(second, held.token.reveal().as_bytes().to_vec());
                }
                return self.add_dpop_proof(rule, &held, service, edits);
            }
            Err(missing) => missing,
        };
        match (missing, rule.unavailable) {
            (LookupError::Denied(cause), _) => Err(exchange_refusal(cause).into()),
            (_, Unavailable::DangerPass) => {
                let further = rule.second_header.iter().chain(&rule.proof_header);
                for header in std::iter::once(&rule.header).chain(further) {
                    edits.remove(header, self.head);
                }
                Ok(())
            }
            (LookupError::Wait(_), Unavailable::Fail) => {
                Err(Refusal::OutboundTokenUnavailable(Duration::ZERO).into())
            }
            (missing, Unavailable::Hold | Unavailable::Fail) => {
                Err(wait_or_refuse(Refusal::OutboundTokenUnavailable)(missing))
            }
        }
    }

    /// Takes out the token that is exchanged: it is for us and the provider, not for the called service. A header that the rule
    /// sets, or keeps, is the rule's.
    fn strip_subject_token(
        &self,
        id: CredentialId,
        rule: &OutboundRule,
        caller: Option<&Authenticated<'a>>,
        edits: &mut HeaderEdits,
    ) {
        let credential = self.policy.credential(id).filter(|credential| !credential.forward_subject);
        let is_rules = |name: &Rc<str>| *name == rule.header || rule.second_header.as_ref() == Some(name);
        match credential.and_then(|credential| credential.subject.as_ref()) {
            Some(policy::SubjectToken::Header(name)) if !is_rules(name) => {
                edits.strip_reserved(name, self.head);
            }
            Some(policy::SubjectToken::Caller) => {
                let places = caller.map_or(&[][..], |caller| caller.locations).iter();
                let others = places.filter(|place| !place.source.header().is_some_and(is_rules));
                let others: Vec<_> = others
                    .map(|place| TokenLocation { source: place.source.clone(), forward: false })
                    .collect();
                edits.strip_tokens(&others, self.head);
            }
            Some(policy::SubjectToken::Header(_)) | None => {}
        }
    }

    /// Takes out a token of ours that no rule attaches here. Envoy's internal redirect (`internal_redirect_policy`) runs the filters
    /// again, on the headers as we left them, on the way to another host. What an inbound rule has verified as its caller's is
    /// that rule's to keep.
    pub(super) fn strip_attached(&mut self, caller: Option<&Authenticated<'a>>, edits: &mut HeaderEdits) {
        for name in &self.policy.outbound_headers {
            let Some(value) = self.head.first(name).filter(|_| !edits.changes(name)) else { continue };
            let is_callers = caller.is_some_and(|caller| value.ends_with(&caller.token));
            if !is_callers && self.store.has_issued(value) {
                decision_trace::record("token of another rule", true, || format!("taken out of {name}"));
                self.record.stripped = true;
                edits.remove(name, self.head);
                if **name == *"authorization" && !edits.sets(dpop::HEADER) {
                    edits.remove(&Rc::from(dpop::HEADER), self.head); // a proof of nothing
                }
            }
        }
    }

    /// The credential's own token, or the one exchanged for the request's token.
    fn token(
        &mut self,
        id: CredentialId,
        unavailable: Unavailable,
        service: Service,
        caller: Option<&Authenticated<'a>>,
    ) -> Result<Result<IssuedToken, LookupError>, Interrupt> {
        let patience = match unavailable {
            Unavailable::Hold if !self.cannot_wait => {
                self.store.remaining_wait(self.arrived_at, self.now.instant)
            }
            Unavailable::Hold | Unavailable::Fail | Unavailable::DangerPass => Duration::ZERO,
        };
        let credential = self.policy.credential(id);
        let Some(subject) = credential.and_then(|credential| credential.subject.as_ref()) else {
            return Ok(self.store.token(id, self.now.instant, patience, service));
        };
        let (token, ends) = match subject {
            policy::SubjectToken::Caller => {
                decision_trace::record_if(caller.is_none(), "subject token", || {
                    "no rule has asked for a caller".to_owned()
                });
                let Authenticated { token, caller, .. } = caller.ok_or(Refusal::NoToken)?;
                (&**token, caller.expires())
            }
            policy::SubjectToken::Header(name) => {
                let token = token_location::in_header(self.head, name)?;
                (token, jwt::unverified_exp(token))
            }
        };
        let token = token_location::token_str(token).ok_or(Refusal::Token(TokenError::Malformed))?;
        if ends.is_some_and(|ends| ends <= self.now.unix) {
            return Err(Refusal::Token(TokenError::Expired).into()); // there is nothing to fetch for it
        }
        Ok(self.store.exchanged(id, ExchangeSubject { token, expires_at: ends }, self.now, patience, service))
    }
}

/// The provider does not exchange the request's token: an error of the token's owner.
fn exchange_refusal(cause: FetchErrorKind) -> Refusal {
    match cause {
        FetchErrorKind::Denied => Refusal::ExchangeDenied,
        _ => Refusal::SubjectToken,
    }
}
