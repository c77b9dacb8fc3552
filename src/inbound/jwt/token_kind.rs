//! Whether a token is an access token: the claims in which a provider's access tokens differ from
//! the other tokens that it signs with the same keys (RFC 8725 section 3.12, RFC 9068 section 5).

use super::TokenError;
use super::issuer_checks::{IssuerProfile, for_log};
use crate::decision_trace;
use crate::inbound::claim_layout::KindClaim;
use serde_json::{Map, Value};

/// A claim that the configuration requires of an issuer's access tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenClaim {
    /// Its name in the payload.
    pub name: String,
    /// Whether a token without it is accepted.
    pub absent: bool,
    /// The accepted values, exact.
    pub values: Vec<String>,
}

impl IssuerProfile {
    /// Whether these can be the claims of an access token. `introspected`: they are, or include,
    /// those of an introspection response, which may omit what the preset requires.
    pub(super) fn check_kind(
        &self,
        claims: &Map<String, Value>,
        introspected: bool,
    ) -> Result<(), TokenError> {
        // Keycloak's `typ` is DPoP in tokens that are bound to a key (RFC 9449 section 6.1).
        let by_key = claims.get("cnf").is_some_and(|confirmation| confirmation.get("jkt").is_some());
        for kind in self.layout.kind {
            if !is_access_token(kind, claims, by_key, introspected) {
                return Err(TokenError::NotAccessToken);
            }
        }
        let mut named = self.layout.kind.iter().filter(|kind| kind.values.is_empty()).peekable();
        let any_value = self.layout.kind.iter().any(|kind| !kind.values.is_empty());
        if named.peek().is_some() && !any_value && self.access_token_claims.is_empty() {
            decision_trace::record("access token", true, || {
                let names: Vec<&str> = named.map(|kind| kind.name).collect();
                format!("without {}; the issuer has no access_token_claims", names.join(" and "))
            });
        }
        // RFC 7519 section 4.1.2: `sub` is a string.
        if ["sub", "jti"].iter().any(|name| claims.get(*name).is_some_and(|value| !value.is_string())) {
            decision_trace::record("claims", false, || {
                "sub and jti are texts, where they are there".to_owned()
            });
            return Err(TokenError::InvalidClaim);
        }
        Ok(())
    }

    /// Whether each of these claims has a value that the configuration accepts.
    pub(super) fn check_access_token_claims(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        for AccessTokenClaim { name, absent, values } in &self.access_token_claims {
            let holds = match claims.get(name) {
                None => *absent,
                Some(claim) => claim.as_str().is_some_and(|own| values.iter().any(|value| value == own)),
            };
            decision_trace::record("access token", holds, || {
                let accepted =
                    absent.then_some("absent").into_iter().chain(values.iter().map(String::as_str));
                let accepted: Vec<&str> = accepted.collect();
                format!("{name} {}, {} is needed", for_log(claims, name), accepted.join(" or "))
            });
            if !holds {
                return Err(TokenError::NotAccessToken);
            }
        }
        Ok(())
    }
}

/// Whether a claim of the provider's does not say that this is another kind of token.
fn is_access_token(kind: &KindClaim, claims: &Map<String, Value>, by_key: bool, introspected: bool) -> bool {
    let KindClaim { name, values, if_bound, required } = kind;
    let (claim, expected) = (claims.get(*name), values.first().copied().unwrap_or("none"));
    let Some(claim) = claim else {
        let missing = *required && !introspected;
        decision_trace::record_if(missing, "access token", || {
            format!("{name} missing, {expected} is needed")
        });
        return !missing;
    };
    let accepted = values.iter().chain(if_bound.iter().filter(|_| by_key));
    let holds =
        claim.as_str().is_some_and(|own| accepted.into_iter().any(|value| own.eq_ignore_ascii_case(value)));
    decision_trace::record("access token", holds, || {
        format!("{name} {}, {expected} is needed", for_log(claims, name))
    });
    holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::claim_layout::{self, ClaimLayout};
    use crate::inbound::jwt::introspected;
    use serde_json::json;

    fn of(layout: &'static ClaimLayout) -> IssuerProfile {
        IssuerProfile { layout, ..IssuerProfile::default() }
    }

    fn kind(profile: &IssuerProfile, claims: &Value) -> Result<(), TokenError> {
        let claims = claims.as_object().unwrap();
        profile.check_kind(claims, false).and_then(|()| profile.check_access_token_claims(claims))
    }

    fn requiring(name: &str, absent: bool, values: &[&str]) -> IssuerProfile {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let claim = AccessTokenClaim { name: name.to_owned(), absent, values };
        IssuerProfile { access_token_claims: vec![claim], ..of(&claim_layout::GENERIC) }
    }

    const NOT_ONE: Result<(), TokenError> = Err(TokenError::NotAccessToken);

    /// Every preset.
    const ALL: [&ClaimLayout; 8] = [
        &claim_layout::KEYCLOAK,
        &claim_layout::AUTH0,
        &claim_layout::ENTRA,
        &claim_layout::OKTA,
        &claim_layout::COGNITO,
        &claim_layout::GOOGLE,
        &claim_layout::KUBERNETES,
        &claim_layout::GENERIC,
    ];

    #[test]
    fn a_claim_typ_means_something_at_keycloak_only() {
        for layout in ALL {
            let refused = if layout.name == "keycloak" { NOT_ONE } else { Ok(()) };
            for typ in [json!("ID"), json!("Refresh"), json!("invoice"), json!(7), json!(["Bearer"])] {
                let claims = json!({ "typ": typ, "token_use": "access" });
                assert_eq!(kind(&of(layout), &claims), refused, "{} {claims}", layout.name);
            }
            assert_eq!(kind(&of(layout), &json!({ "typ": "Bearer", "token_use": "access" })), Ok(()));
        }
    }

    #[test]
    fn the_hash_of_an_access_token_is_in_no_access_token() {
        for layout in ALL {
            // Google's are ID tokens; those of Kubernetes are issued by no login.
            let accepts = matches!(layout.name, "google" | "kubernetes");
            let expected = if accepts { Ok(()) } else { NOT_ONE };
            for hash in ["at_hash", "c_hash"] {
                for value in [json!("fPlsvVszI29LU2UhDyJ9vg"), json!(""), json!(null), json!(7)] {
                    let claims = json!({ "token_use": "access", hash: value });
                    assert_eq!(kind(&of(layout), &claims), expected, "{} {claims}", layout.name);
                }
            }
        }
    }

    #[test]
    fn a_configured_claim_has_one_of_its_values_exactly() {
        let profile = requiring("token_use", false, &["access", "m2m"]);
        for value in ["access", "m2m"] {
            assert_eq!(kind(&profile, &json!({ "token_use": value })), Ok(()));
        }
        for claims in [
            json!({}),
            json!({ "token_use": "Access" }),
            json!({ "token_use": "absent" }),
            json!({ "token_use": ["access"] }),
            json!({ "token_use": null }),
            json!({ "token_use": "id" }),
        ] {
            assert_eq!(kind(&profile, &claims), NOT_ONE, "{claims}");
        }
        let profile = requiring("nonce", true, &[]);
        assert_eq!(kind(&profile, &json!({})), Ok(()));
        for nonce in [json!("n"), json!(""), json!(null), json!("absent")] {
            assert_eq!(kind(&profile, &json!({ "nonce": nonce })), NOT_ONE, "{nonce}");
        }
        let profile = requiring("typ", true, &["Bearer"]);
        for (claims, expected) in
            [(json!({}), Ok(())), (json!({ "typ": "Bearer" }), Ok(())), (json!({ "typ": "ID" }), NOT_ONE)]
        {
            assert_eq!(kind(&profile, &claims), expected, "{claims}");
        }
    }

    #[test]
    fn what_is_configured_comes_on_top_of_the_preset() {
        let claims = requiring("typ", true, &["ID"]).access_token_claims;
        let keycloak = IssuerProfile { access_token_claims: claims, ..of(&claim_layout::KEYCLOAK) };
        assert_eq!(kind(&keycloak, &json!({ "typ": "ID" })), NOT_ONE, "the preset's check stays");
        assert_eq!(kind(&keycloak, &json!({ "typ": "Bearer" })), NOT_ONE);
    }

    #[test]
    fn an_introspection_response_must_have_the_configured_claims_too() {
        let profile = requiring("token_use", false, &["access_token"]);
        let ask = |answer: Value| {
            let answer = answer.as_object().unwrap().clone();
            introspected(answer, None, &profile, 1_800_000_000).map(|_| ())
        };
        assert_eq!(ask(json!({ "active": true, "token_use": "access_token" })), Ok(()));
        for answer in [json!({ "active": true }), json!({ "active": true, "token_use": "access" })] {
            assert_eq!(ask(answer.clone()), NOT_ONE, "{answer}");
        }
        let cognito = of(&claim_layout::COGNITO);
        let answer = json!({ "active": true }).as_object().unwrap().clone();
        assert!(introspected(answer, None, &cognito, 1_800_000_000).is_ok(), "the endpoint says what it is");
    }
}
