//! What a rule requires of a token beyond its issuer's profile: audience, client, subject and age.
//!
//! It is asked for every request, since a caller that was verified before may come to another rule,
//! or later.

use super::issuer_checks::{for_log, is_empty_audience};
use super::{Caller, TokenError, numeric_date};
use crate::decision_trace;
use serde_json::Value;
use std::rc::Rc;

/// What a rule asks of a token.
#[derive(Clone, Debug, Default)]
pub struct RuleRequirements {
    /// Its audience.
    pub audiences: AudienceRequirement,
    /// Whose it may be (`sub`); empty is anybody's.
    pub subjects: Vec<String>,
    /// The clients that it may have been issued to; empty means any.
    pub clients: Vec<String>,
    /// How and when its caller must have authenticated; a refusal carries it, for the challenge.
    pub authentication: Rc<AuthenticationRequirement>,
}

/// How and when a caller must have authenticated (RFC 9470).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationRequirement {
    /// The most seconds since its caller authenticated (`auth_time`), else since it was issued
    /// (`iat`).
    pub max_age: Option<u64>,
    /// How its caller may have authenticated (`acr`), the best way first; empty is anyhow.
    pub acr_values: Vec<String>,
}

/// The audiences that a token must name (RFC 7519 section 4.1.3). Empty: any.
#[derive(Clone, Debug, Default)]
pub struct AudienceRequirement {
    /// At least one of these, if there are any.
    pub any_of: Vec<String>,
    /// All of these.
    pub all_of: Vec<String>,
}

impl RuleRequirements {
    /// Whether the token of this caller is what is asked for, now: audience (RFC 8725 section 3.9),
    /// client, subject (RFC 8725 section 3.8) and age.
    pub fn check(&self, caller: &Caller, now: u64) -> Result<(), TokenError> {
        let for_us = self.audiences.matches(caller);
        decision_trace::record("audience", for_us, || {
            let AudienceRequirement { any_of, all_of } = &self.audiences;
            let aud = for_log(&caller.0.claims, "aud");
            match (any_of.as_slice(), all_of.as_slice()) {
                ([], []) => format!("aud {aud}, none is needed"),
                (any, []) => format!("aud {aud}, one of {} is needed", any.join(", ")),
                ([], all) => format!("aud {aud}, all of {} are needed", all.join(", ")),
                (any, all) => {
                    format!("aud {aud}, one of {} and all of {} are needed", any.join(", "), all.join(", "))
                }
            }
        });
        if !for_us {
            return Err(TokenError::Audience);
        }
        let AuthenticationRequirement { max_age, acr_values } = &*self.authentication;
        for (what, names, own, error) in [
            ("client", &self.clients, caller.client(), TokenError::ClientNotAllowed),
            ("subject", &self.subjects, caller.subject(), TokenError::SubjectNotAllowed),
            ("acr", acr_values, caller.text("acr"), TokenError::Acr),
        ] {
            if names.is_empty() {
                continue;
            }
            let holds = own.is_some_and(|own| names.iter().any(|name| name == own));
            decision_trace::record(what, holds, || {
                format!("{}, one of {} is needed", own.unwrap_or("missing"), names.join(", "))
            });
            if !holds {
                return Err(error);
            }
        }
        max_age.map_or(Ok(()), |most| check_age(caller, most, now))
    }
}

impl AudienceRequirement {
    /// RFC 7519 section 4.1.3: exact, no folding of any kind; and a token for another audience is
    /// refused by a rule without one.
    fn matches(&self, caller: &Caller) -> bool {
        let aud = caller.0.claims.get("aud");
        if self.any_of.is_empty() && self.all_of.is_empty() {
            return is_empty_audience(aud);
        }
        let has = |own: &String| match aud {
            Some(Value::Array(names)) => names.iter().any(|name| name == own),
            Some(name) => name == own,
            None => false,
        };
        (self.any_of.is_empty() || self.any_of.iter().any(has)) && self.all_of.iter().all(has)
    }
}

/// RFC 9470 section 4: what counts is when the caller authenticated. Tokens of services do not say;
/// theirs counts from `iat`.
fn check_age(caller: &Caller, most: u64, now: u64) -> Result<(), TokenError> {
    let claims = &caller.0.claims;
    let (since, error) = if let Some(since) = numeric_date(claims, "auth_time")? {
        (since, TokenError::AuthTime)
    } else {
        let issued = numeric_date(claims, "iat")?;
        decision_trace::record_if(issued.is_none(), "age", || "neither auth_time nor iat".to_owned());
        (issued.ok_or(TokenError::InvalidClaim)?, TokenError::TooOld)
    };
    let [now, most] = [now, most].map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let young = now.saturating_sub(since) <= most;
    decision_trace::record("age", young, || format!("since {since}, now {now}, at most {most} s"));
    if young { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::claim_layout;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn caller(claims: &Value) -> Caller {
        Caller::new(claims.as_object().unwrap().clone(), NOW + 300, &claim_layout::KEYCLOAK)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn authenticated(authentication: AuthenticationRequirement) -> RuleRequirements {
        RuleRequirements { authentication: Rc::new(authentication), ..RuleRequirements::default() }
    }

    #[test]
    fn an_audience_is_one_exact_text_or_in_a_list() {
        let any = |own: &[&str], aud: Value| {
            let requirements = RuleRequirements {
                audiences: AudienceRequirement { any_of: names(own), ..AudienceRequirement::default() },
                ..RuleRequirements::default()
            };
            requirements.check(&caller(&json!({ "aud": aud })), NOW).is_ok()
        };
        assert!(any(&["x", "svc"], json!("svc")) && any(&["svc"], json!(["a", "svc"])));
        for odd in [
            json!("sv"),
            json!("svc/"),
            json!("SVC"),
            json!(["a", "b"]),
            json!([]),
            json!(null),
            json!({ "svc": 1 }),
        ] {
            assert!(!any(&["svc"], odd.clone()), "{odd}");
        }
        assert!(!any(&["svc"], json!([["svc"]])));
    }

    #[test]
    fn all_audiences_means_every_one_of_them() {
        let all = AudienceRequirement { all_of: names(&["a", "b"]), any_of: Vec::new() };
        let both = AudienceRequirement { all_of: names(&["a"]), any_of: names(&["x", "y"]) };
        for (audiences, aud, holds) in [
            (&all, json!(["b", "c", "a"]), true),
            (&all, json!(["a"]), false),
            (&all, json!("a"), false),
            (&both, json!(["a", "y"]), true),
            (&both, json!(["a"]), false),
            (&both, json!(["x", "y"]), false),
        ] {
            assert_eq!(audiences.matches(&caller(&json!({ "aud": aud }))), holds, "{aud}");
        }
    }

    #[test]
    fn a_token_that_names_others_is_not_for_those_who_name_nobody() {
        let nobody = AudienceRequirement::default();
        assert!(nobody.matches(&caller(&json!({}))));
        for aud in [json!([]), json!(null)] {
            assert!(nobody.matches(&caller(&json!({ "aud": aud }))), "{aud} names nobody either");
        }
        for aud in
            [json!("other"), json!(["other"]), json!([null]), json!(""), json!({}), json!(0), json!(false)]
        {
            assert!(!nobody.matches(&caller(&json!({ "aud": aud }))), "{aud}");
        }
    }

    #[test]
    fn clients_are_known_under_every_providers_name_and_subjects_under_one() {
        let requirements = RuleRequirements { clients: names(&["a", "b"]), ..RuleRequirements::default() };
        for name in ["azp", "client_id", "cid", "appid"] {
            assert_eq!(requirements.check(&caller(&json!({ name: "b" })), NOW), Ok(()), "{name}");
            assert_eq!(
                requirements.check(&caller(&json!({ name: "c" })), NOW),
                Err(TokenError::ClientNotAllowed),
                "{name}"
            );
            assert_eq!(
                requirements.check(&caller(&json!({ name: ["a"] })), NOW),
                Err(TokenError::ClientNotAllowed),
                "{name}"
            );
        }
        assert_eq!(
            requirements.check(&caller(&json!({ "sub": "a" })), NOW),
            Err(TokenError::ClientNotAllowed)
        );
        let requirements = RuleRequirements { subjects: names(&["a"]), ..RuleRequirements::default() };
        assert_eq!(requirements.check(&caller(&json!({ "sub": "a", "azp": "x" })), NOW), Ok(()));
        assert_eq!(
            requirements.check(&caller(&json!({ "sub": "x", "azp": "a" })), NOW),
            Err(TokenError::SubjectNotAllowed)
        );
        assert_eq!(requirements.check(&caller(&json!({})), NOW), Err(TokenError::SubjectNotAllowed));
    }

    #[test]
    fn age_counts_from_auth_time_and_where_there_is_none_from_iat() {
        let requirements = authenticated(AuthenticationRequirement {
            max_age: Some(60),
            ..AuthenticationRequirement::default()
        });
        let holds = |claims: Value| requirements.check(&caller(&claims), NOW);
        assert_eq!(holds(json!({ "iat": NOW - 60 })), Ok(()));
        assert_eq!(holds(json!({ "iat": NOW - 61 })), Err(TokenError::TooOld));
        assert_eq!(holds(json!({ "iat": NOW, "auth_time": NOW - 61 })), Err(TokenError::AuthTime));
        assert_eq!(holds(json!({ "iat": NOW - 600, "auth_time": NOW - 60 })), Ok(()));
        assert_eq!(holds(json!({ "iat": NOW, "auth_time": "0" })), Err(TokenError::InvalidClaim));
        assert_eq!(holds(json!({ "iat": i64::MIN })), Err(TokenError::TooOld));
        assert_eq!(holds(json!({})), Err(TokenError::InvalidClaim));
    }

    #[test]
    fn a_way_of_authenticating_is_one_of_those_named() {
        let acr_values = names(&["gold", "silver"]);
        let requirements =
            authenticated(AuthenticationRequirement { acr_values, ..AuthenticationRequirement::default() });
        assert_eq!(requirements.check(&caller(&json!({ "acr": "silver" })), NOW), Ok(()));
        for odd in [json!("bronze"), json!("gold silver"), json!(["gold"]), json!(1)] {
            assert_eq!(
                requirements.check(&caller(&json!({ "acr": odd })), NOW),
                Err(TokenError::Acr),
                "{odd}"
            );
        }
        assert_eq!(requirements.check(&caller(&json!({})), NOW), Err(TokenError::Acr));
    }
}
