//! What an issuer's tokens must be like, whatever they are used for: a token's claims to when it
//! ends, or to what is wrong.
//!
//! Everything here is the issuer's; what a rule asks beside that is a
//! [`RuleRequirements`](super::RuleRequirements).

use super::{AccessTokenClaim, TokenError};
use crate::decision_trace;
use crate::inbound::claim_layout::{self, ClaimLayout};
use crate::jose::jwk::Algorithm;
use crate::json;
use serde_json::{Map, Value};

/// What an issuer's tokens must look like.
#[derive(Clone, Debug)]
pub struct IssuerProfile {
    /// Its names; a token has one of them.
    pub names: Vec<IssuerName>,
    /// Algorithms that may be used (RFC 8725 section 3.1).
    pub algorithms: Vec<Algorithm>,
    /// Whether the operator names them. Where not, keys say themselves whether they are for PS*.
    pub names_algorithms: bool,
    /// Where its tokens say what.
    pub layout: &'static ClaimLayout,
    /// The header's `typ`.
    pub types: AcceptedTypes,
    /// Further claims in which its access tokens differ from its other tokens.
    pub access_token_claims: Vec<AccessTokenClaim>,
    /// Tolerance for `exp`, `nbf` and `iat` in seconds; 0 means 0.
    pub clock_skew: u64,
    /// The most seconds from `iat` to `exp`.
    pub max_lifetime: Option<u64>,
    /// Whether every claim must be there that RFC 9068 section 2.2 requires.
    pub rfc9068: bool,
}

/// A name of an issuer: `iss`, exact (RFC 7519 section 4.1.1), without folding (RFC 7519 section
/// 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerName {
    /// `iss`.
    pub iss: String,
    /// What `tid` must be beside it, where each tenant has a name of its own.
    pub tenant: Option<String>,
}

/// What the header's `typ` may be.
#[derive(Clone, Debug)]
pub struct AcceptedTypes {
    /// Whether there need not be any.
    pub absent: bool,
    /// Media types in lower case, without `application/`, as
    /// [`media_type`](crate::jose::jws::media_type) makes them.
    pub names: Vec<String>,
}

impl Default for IssuerProfile {
    /// A token of nobody, with nothing else asked of it.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            algorithms: Algorithm::ALL.to_vec(),
            names_algorithms: true,
            layout: &claim_layout::KEYCLOAK,
            types: AcceptedTypes::default(),
            access_token_claims: Vec::new(),
            clock_skew: 0,
            max_lifetime: None,
            rfc9068: false,
        }
    }
}

impl From<&str> for IssuerName {
    fn from(iss: &str) -> Self {
        Self { iss: iss.to_owned(), tenant: None }
    }
}

impl Default for AcceptedTypes {
    /// What access tokens of common providers have: Okta and Cognito none, Keycloak and Entra
    /// `JWT`, RFC 9068 `at+jwt`.
    fn default() -> Self {
        Self { absent: true, names: vec!["jwt".to_owned(), "at+jwt".to_owned()] }
    }
}

impl AcceptedTypes {
    /// Those of RFC 9068 section 4.
    pub fn rfc9068() -> Self {
        Self { absent: false, names: vec!["at+jwt".to_owned()] }
    }

    /// Explicit types (RFC 8725 section 3.11). A DPoP proof, which has a type of its own, is no
    /// access token (RFC 9449 section 11.4). Whether this is one of them, in the form that
    /// [`AcceptedTypes::names`] have.
    pub(super) fn accepts(&self, typ: Option<&str>) -> bool {
        typ.map_or(self.absent, |typ| self.names.iter().any(|name| name == typ))
    }
}

impl IssuerProfile {
    /// Whether this is a name of the issuer. A list would pass a membership test, so it is a text
    /// (CVE-2026-75509).
    pub fn has_name(&self, iss: &str) -> bool {
        self.name(iss).is_some()
    }

    fn name(&self, iss: &str) -> Option<&IssuerName> {
        self.names.iter().find(|name| name.iss == iss)
    }

    /// Checks every claim that says whether this token may be used at all; returns when it ends.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, TokenError> {
        self.check_name(claims)?;
        self.check_kind(claims, false)?;
        self.check_access_token_claims(claims)?;
        let absent = |name: &&str| !claims.get(*name).is_some_and(Value::is_string);
        let profile = ["sub", "client_id", "jti"];
        if self.rfc9068 && (profile.iter().any(absent) || is_empty_audience(claims.get("aud"))) {
            decision_trace::record("claims", false, || {
                "sub, client_id, jti and aud are needed (RFC 9068)".to_owned()
            });
            return Err(TokenError::InvalidClaim);
        }
        let end = self.check_times(claims, now)?;
        decision_trace::record_if(end.is_none(), "expiry", || "no exp".to_owned());
        let end = end.ok_or(TokenError::InvalidClaim)?;
        if self.rfc9068 && !claims.contains_key("iat") {
            decision_trace::record("claims", false, || "iat is needed (RFC 9068)".to_owned());
            return Err(TokenError::InvalidClaim);
        }
        Ok(end)
    }

    /// Whether it is one of the issuer's names, beside that name's tenant.
    pub(super) fn check_name(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let name = text("iss").and_then(|iss| self.name(iss));
        decision_trace::record("issuer", name.is_some(), || {
            let names: Vec<&str> = self.names.iter().map(|name| name.iss.as_str()).collect();
            format!("iss {}, one of {} is needed", for_log(claims, "iss"), names.join(", "))
        });
        let name = name.ok_or(TokenError::Issuer)?;
        if name.tenant.is_some() && name.tenant.as_deref() != text("tid") {
            decision_trace::record("tenant", false, || format!("tid {}", for_log(claims, "tid")));
            return Err(TokenError::Tenant);
        }
        Ok(())
    }

    /// Checks `exp` (RFC 7519 section 4.1.4), `nbf` (RFC 7519 section 4.1.5) and `iat` (RFC 7519
    /// section 4.1.6, which does not refuse one in the future; this does); returns when the token
    /// expires, if it does.
    pub(super) fn check_times(
        &self,
        claims: &Map<String, Value>,
        now: u64,
    ) -> Result<Option<u64>, TokenError> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let skew = i64::try_from(self.clock_skew).unwrap_or(i64::MAX);
        let exp = numeric_date(claims, "exp")?;
        let end = exp.map(|exp| exp.saturating_add(skew));
        if let Some((exp, end)) = exp.zip(end) {
            decision_trace::record("expiry", now < end, || {
                format!("exp {exp}, clock_skew {skew} s, now {now}")
            });
        }
        if end.is_some_and(|end| now >= end) {
            return Err(TokenError::Expired);
        }
        let issued = numeric_date(claims, "iat")?;
        for (name, start) in [("nbf", numeric_date(claims, "nbf")?), ("iat", issued)] {
            let Some(start) = start else { continue };
            let begun = now >= start.saturating_sub(skew);
            decision_trace::record("start", begun, || {
                format!("{name} {start}, clock_skew {skew} s, now {now}")
            });
            if !begun {
                return Err(TokenError::NotYetValid);
            }
        }
        if let Some(most) = self.max_lifetime {
            decision_trace::record_if(exp.zip(issued).is_none(), "lifetime", || {
                "exp and iat are needed".to_owned()
            });
            let (exp, issued) = exp.zip(issued).ok_or(TokenError::InvalidClaim)?;
            if exp.saturating_sub(issued) > i64::try_from(most).unwrap_or(i64::MAX) {
                decision_trace::record("lifetime", false, || format!("more than {most} s from iat to exp"));
                return Err(TokenError::Lifetime);
            }
        }
        Ok(end.map(|end| u64::try_from(end).unwrap_or_default()))
    }
}

/// A claim for people; none is a secret, but one may be long.
pub(super) fn for_log(claims: &Map<String, Value>, name: &str) -> String {
    claims
        .get(name)
        .map_or_else(|| "missing".to_owned(), |value| value.to_string().chars().take(128).collect())
}

/// RFC 7519 section 2, `NumericDate`: seconds, possibly with a fraction, which is dropped; none
/// that lies [beyond](LAST_SECOND).
pub(super) fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenError> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let number = claim.as_number();
    let seconds = number.and_then(|own| own.as_i64().or_else(|| own.as_f64().map(json::floor)));
    let seconds = seconds.filter(|seconds| *seconds <= LAST_SECOND);
    decision_trace::record_if(seconds.is_none(), "date", || {
        format!("{name} {} is none", for_log(claims, name))
    });
    seconds.map(Some).ok_or(TokenError::InvalidClaim)
}

/// 9999-12-31T23:59:59Z, the last second that a date can say (RFC 3339 section 5.6). What counts
/// milliseconds, as clocks of programs do, lies beyond, and would be a token that never ends.
const LAST_SECOND: i64 = 253_402_300_799;

/// Whether this `aud` names nobody: Ory Hydra writes an empty list for a client without audiences.
pub(super) fn is_empty_audience(aud: Option<&Value>) -> bool {
    match aud {
        None | Some(Value::Null) => true,
        Some(aud) => aud.as_array().is_some_and(Vec::is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jws::media_type;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn claims() -> Value {
        json!({ "iss": "https://idp", "aud": "svc", "exp": NOW + 300, "iat": NOW, "sub": "s", "client_id": "c", "jti": "j" })
    }

    fn check(expect: &IssuerProfile, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<u64, TokenError> {
        let mut claims = claims().as_object().unwrap().clone();
        edit(&mut claims);
        expect.check(&claims, NOW)
    }

    fn idp() -> IssuerProfile {
        IssuerProfile { names: vec!["https://idp".into()], ..IssuerProfile::default() }
    }

    #[test]
    fn any_name_of_the_issuer_will_do_and_no_other() {
        let expect = IssuerProfile { names: vec!["https://new".into(), "https://old".into()], ..idp() };
        for iss in ["https://new", "https://old"] {
            assert!(check(&expect, |c| c["iss"] = json!(iss)).is_ok());
        }
        for odd in [json!("https://idp"), json!("https://new/"), json!(["https://new"]), json!(null)] {
            assert_eq!(check(&expect, |c| c["iss"] = odd.clone()), Err(TokenError::Issuer), "{odd}");
        }
    }

    #[test]
    fn a_tenants_name_counts_only_beside_its_own_tid() {
        let tenant =
            |tid: &str| IssuerName { iss: format!("https://idp/{tid}"), tenant: Some(tid.to_owned()) };
        let expect = IssuerProfile { names: vec![tenant("a"), tenant("b")], ..idp() };
        let of = |iss: &str, tid: Value| {
            check(&expect, |c| {
                c["iss"] = json!(iss);
                c.insert("tid".to_owned(), tid);
            })
        };
        assert!(of("https://idp/a", json!("a")).is_ok());
        assert!(of("https://idp/b", json!("b")).is_ok());
        for odd in [json!("b"), json!("A"), json!(["a"]), json!(null)] {
            assert_eq!(of("https://idp/a", odd.clone()), Err(TokenError::Tenant), "{odd}");
        }
        assert_eq!(check(&expect, |c| c["iss"] = json!("https://idp/a")), Err(TokenError::Tenant), "no tid");
        assert_eq!(of("https://idp/c", json!("c")), Err(TokenError::Issuer), "not in the list");
    }

    #[test]
    fn a_lifetime_is_kept_to_the_second_and_needs_an_iat() {
        let expect = IssuerProfile { max_lifetime: Some(300), ..idp() };
        assert!(check(&expect, |_| {}).is_ok());
        assert_eq!(check(&expect, |c| c["exp"] = json!(NOW + 301)), Err(TokenError::Lifetime));
        assert_eq!(check(&expect, |c| c["iat"] = json!(NOW - 1)), Err(TokenError::Lifetime));
        assert_eq!(check(&expect, |c| c["iat"] = json!(i64::MIN)), Err(TokenError::Lifetime));
        assert_eq!(check(&expect, |c| drop(c.remove("iat"))), Err(TokenError::InvalidClaim));
        assert!(check(&idp(), |c| c["exp"] = json!(LAST_SECOND)).is_ok(), "without a bound any life will do");
    }

    #[test]
    fn a_date_beyond_the_calendar_is_none() {
        let milliseconds = (NOW + 300) * 1000;
        for name in ["exp", "nbf", "iat"] {
            for odd in
                [json!(milliseconds), json!(LAST_SECOND + 1), json!(i64::MAX), json!(u64::MAX), json!(1e30)]
            {
                assert_eq!(
                    check(&idp(), |c| drop(c.insert(name.to_owned(), odd.clone()))),
                    Err(TokenError::InvalidClaim),
                    "{name} {odd}"
                );
            }
        }
        assert_eq!(check(&idp(), |c| c["exp"] = json!(LAST_SECOND)), Ok(253_402_300_799));
        assert_eq!(check(&idp(), |c| c["iat"] = json!(LAST_SECOND)), Err(TokenError::NotYetValid));
    }

    #[test]
    fn the_strict_profile_misses_every_claim_that_it_requires() {
        let expect = IssuerProfile { rfc9068: true, ..idp() };
        assert!(check(&expect, |_| {}).is_ok());
        for (name, error) in [
            ("iss", TokenError::Issuer),
            ("exp", TokenError::InvalidClaim),
            ("aud", TokenError::InvalidClaim),
            ("sub", TokenError::InvalidClaim),
            ("client_id", TokenError::InvalidClaim),
            ("iat", TokenError::InvalidClaim),
            ("jti", TokenError::InvalidClaim),
        ] {
            assert_eq!(check(&expect, |c| drop(c.remove(name))), Err(error), "{name}");
        }
        for name in ["client_id", "aud", "sub", "iat", "jti"] {
            assert!(check(&idp(), |c| drop(c.remove(name))).is_ok(), "{name}");
        }
        assert_eq!(check(&expect, |c| c["client_id"] = json!(["c"])), Err(TokenError::InvalidClaim));
    }

    #[test]
    fn a_type_is_one_of_those_named_whatever_its_case() {
        let hold = |types: &AcceptedTypes, typ: Option<&str>| types.accepts(typ.map(media_type).as_deref());
        let standard = AcceptedTypes::default();
        for typ in [
            None,
            Some("JWT"),
            Some("jwt"),
            Some("at+jwt"),
            Some("application/AT+JWT"),
            Some("Application/jwt"),
        ] {
            assert!(hold(&standard, typ), "{typ:?}");
        }
        for typ in
            ["", "absent", "dpop+jwt", "application/", "application/application/jwt", "jwt ", "at+jwts"]
        {
            assert!(!hold(&standard, Some(typ)), "{typ:?}");
        }
        let profile = AcceptedTypes::rfc9068();
        assert!(hold(&profile, Some("at+jwt")) && hold(&profile, Some("application/at+jwt")));
        assert!(!hold(&profile, None) && !hold(&profile, Some("JWT")));
    }
}
