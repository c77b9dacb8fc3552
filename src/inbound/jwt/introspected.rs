//! What an issuer says of a token (RFC 7662 section 2.2) to a [`Caller`], by the same checks as a
//! JWT's claims.

use super::{Caller, IssuerProfile, TokenError};
use serde_json::{Map, Value};

/// The caller of a token of which the issuer's own endpoint says this. `verified` is what the
/// token's signature has proven, if it has one: where the answer is silent that counts, and where
/// both speak the answer does, as it is newer.
pub fn introspected(
    answer: Map<String, Value>,
    verified: Option<&Caller>,
    expect: &IssuerProfile,
    now: u64,
) -> Result<Caller, TokenError> {
    if answer.get("active") != Some(&Value::Bool(true)) {
        return Err(TokenError::Inactive);
    }
    if ["token_type", "token_use"].iter().any(|name| !is_access_token(answer.get(*name))) {
        return Err(TokenError::NotAccessToken);
    }
    let mut claims = verified.map(|caller| caller.0.claims.clone()).unwrap_or_default();
    let token_use = claims.get("token_use").cloned();
    claims.extend(answer.into_iter().filter(|(name, _)| name != "active"));
    expect.check_access_token_claims(&claims)?;
    // Its values are the endpoint's own, checked above; the preset's are those of tokens.
    match token_use {
        Some(token_use) => drop(claims.insert("token_use".to_owned(), token_use)),
        None => drop(claims.remove("token_use")),
    }
    // All but `active` is optional. Who else may have issued it is no question: it is this issuer's
    // endpoint that knows it. Of which tenant it is, is one.
    if claims.contains_key("iss") || expect.names.iter().any(|name| name.tenant.is_some()) {
        expect.check_name(&claims)?;
    }
    expect.check_kind(&claims, true)?;
    let end = expect.check_times(&claims, now)?.unwrap_or(u64::MAX);
    Ok(Caller::new(claims, end, expect.layout))
}

/// RFC 7662 has the types of RFC 6749 section 5.1; providers that issue refresh tokens distinguish
/// them here too (Ory Hydra: `token_use`).
fn is_access_token(kind: Option<&Value>) -> bool {
    let known = ["Bearer", "DPoP", "access_token", "access"];
    kind.is_none_or(|kind| {
        kind.as_str().is_some_and(|kind| known.iter().any(|own| own.eq_ignore_ascii_case(kind)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn expect() -> IssuerProfile {
        IssuerProfile { names: vec!["https://idp".into()], clock_skew: 60, ..IssuerProfile::default() }
    }

    fn read(answer: &Value) -> Result<Caller, TokenError> {
        introspected(answer.as_object().unwrap().clone(), None, &expect(), NOW)
    }

    /// A good answer, with one member changed; null takes it out.
    fn with(name: &str, value: Value) -> Result<Caller, TokenError> {
        let mut answer = json!({
            "active": true, "iss": "https://idp", "sub": "s", "aud": ["svc", "other"], "client_id": "c",
            "exp": NOW + 300, "iat": NOW - 10, "nbf": NOW - 10, "scope": "a b", "token_type": "Bearer", "typ": "Bearer",
        });
        answer[name] = value;
        answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        read(&answer)
    }

    #[test]
    fn an_active_token_has_a_caller_with_the_answers_claims() {
        let caller = with("jti", json!("j")).unwrap();
        assert_eq!((caller.subject(), caller.client()), (Some("s"), Some("c")));
        assert_eq!(caller.claim(&["aud"]), Some(&json!(["svc", "other"])));
        assert_eq!((caller.accepted_until(), caller.expires()), (NOW + 360, Some(NOW + 300)));
        assert_eq!(caller.claim(&["active"]), None, "it says nothing about the caller");
    }

    #[test]
    fn nothing_but_true_is_active() {
        for odd in [json!(false), json!("true"), json!(1), json!(null), json!({})] {
            assert_eq!(with("active", odd.clone()).unwrap_err(), TokenError::Inactive, "{odd}");
        }
    }

    #[test]
    fn what_may_be_absent_may_be_absent_and_what_is_there_must_be_good() {
        assert_eq!(read(&json!({ "active": true })).unwrap().accepted_until(), u64::MAX);
        for name in ["iss", "exp", "iat", "nbf", "token_type", "typ", "scope"] {
            assert!(with(name, json!(null)).is_ok(), "{name}");
        }
        for (name, value, reason) in [
            ("iss", json!("https://evil"), TokenError::Issuer),
            ("iss", json!(["https://idp"]), TokenError::Issuer),
            ("exp", json!(NOW - 60), TokenError::Expired),
            ("exp", json!("soon"), TokenError::InvalidClaim),
            ("nbf", json!(NOW + 61), TokenError::NotYetValid),
            ("iat", json!(NOW + 61), TokenError::NotYetValid),
            ("typ", json!("Refresh"), TokenError::NotAccessToken),
            ("token_type", json!("refresh_token"), TokenError::NotAccessToken),
            ("token_use", json!("refresh_token"), TokenError::NotAccessToken),
            ("token_use", json!(7), TokenError::NotAccessToken),
            ("sub", json!(7), TokenError::InvalidClaim),
        ] {
            assert_eq!(with(name, value.clone()).unwrap_err(), reason, "{name} {value}");
        }
        assert!(with("token_use", json!("access_token")).is_ok());
    }

    #[test]
    fn where_tenants_count_the_answer_says_which_and_a_bound_lifetime_needs_both_ends() {
        let name = crate::inbound::jwt::IssuerName { iss: "https://idp/a".into(), tenant: Some("a".into()) };
        let tenants = IssuerProfile { names: vec![name], ..expect() };
        let read = |answer: Value, expect: &IssuerProfile| {
            introspected(answer.as_object().unwrap().clone(), None, expect, NOW).map(|_| ())
        };
        let of = |iss: &str, tid: &str| json!({ "active": true, "iss": iss, "tid": tid });
        assert_eq!(read(of("https://idp/a", "a"), &tenants), Ok(()));
        assert_eq!(read(of("https://idp/a", "b"), &tenants), Err(TokenError::Tenant));
        assert_eq!(read(of("https://idp/b", "b"), &tenants), Err(TokenError::Issuer));
        assert_eq!(read(json!({ "active": true }), &tenants), Err(TokenError::Issuer));
        let short = IssuerProfile { max_lifetime: Some(300), ..expect() };
        assert_eq!(read(json!({ "active": true, "iat": NOW, "exp": NOW + 300 }), &short), Ok(()));
        assert_eq!(
            read(json!({ "active": true, "iat": NOW, "exp": NOW + 301 }), &short),
            Err(TokenError::Lifetime)
        );
        assert_eq!(read(json!({ "active": true, "exp": NOW + 1 }), &short), Err(TokenError::InvalidClaim));
    }

    #[test]
    fn the_answer_counts_and_of_what_it_does_not_mention_the_signature_does() {
        let signed = json!({
            "active": true, "iss": "https://idp", "aud": "svc", "exp": NOW + 300, "scope": "old", "azp": "c",
        });
        let signed = read(&signed).unwrap();
        let answer = json!({ "active": true, "scope": "new" });
        let both = introspected(answer.as_object().unwrap().clone(), Some(&signed), &expect(), NOW).unwrap();
        assert_eq!(both.claim(&["scope"]), Some(&json!("new")));
        assert_eq!(both.claim(&["aud"]), Some(&json!("svc")));
        assert_eq!(both.accepted_until(), NOW + 360);
        let ended = introspected(answer.as_object().unwrap().clone(), Some(&signed), &expect(), NOW + 360);
        assert_eq!(ended.unwrap_err(), TokenError::Expired, "what was signed still ends");
    }
}
