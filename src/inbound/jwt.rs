//! A bearer string to a [`Caller`], or the one reason why not.
//!
//! In: the token's bytes, the issuer's keys, what is expected of it, the time. Strict where RFC
//! 7515 and RFC 7519 leave a choice. It knows nothing of roles, routes or HTTP, and believes
//! nothing before the signature is verified.

mod confirmation;
mod introspected;
mod issuer_checks;
mod rule_checks;
mod token_kind;

use crate::decision_trace;
use crate::inbound::claim_layout::ClaimLayout;
use crate::jose::jwk::{Algorithm, KeySet};
use crate::jose::jws::{self, Jws, media_type};
use crate::jose::verifier::{self, Verify};
pub use confirmation::Confirmation;
pub use introspected::introspected;
use issuer_checks::numeric_date;
pub use issuer_checks::{AcceptedTypes, IssuerName, IssuerProfile};
pub use rule_checks::{AudienceRequirement, AuthenticationRequirement, RuleRequirements};
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;
pub use token_kind::AccessTokenClaim;

/// The largest token that is looked at, in bytes. Envoy takes 60 KiB of headers in all; tokens with
/// many roles have been seen at 12 KiB.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The longest `kid` that is looked at. The longest of a common provider is 44 bytes.
const MAX_KID_BYTES: usize = 256;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Its caller did not authenticate in one of the ways that are asked for (RFC 9470).
    Acr,
    /// Issued longer ago than is allowed.
    TooOld,
    /// The header names an algorithm that is not allowed here, or that no key of that name can
    /// have.
    Algorithm,
    /// Meant for another audience.
    Audience,
    /// Its caller authenticated longer ago than is allowed (RFC 9470).
    AuthTime,
    /// Bound to a key that was not shown with it (RFC 9449 section 7.1, RFC 8705 section 3), or not
    /// bound where it must be.
    BindingMismatch,
    /// Issued to a client that is not one of those that may.
    ClientNotAllowed,
    /// Says that it has extensions which must be understood (RFC 7515 section 4.1.11).
    UnsupportedCrit,
    /// Past its `exp`.
    Expired,
    /// The issuer says that it is not, or no longer, good (RFC 7662 section 2.2).
    Inactive,
    /// From another issuer.
    Issuer,
    /// Signed with a key that the issuer does not publish.
    UnknownKey,
    /// An ID or refresh token, or of another kind that is not for calling services (RFC 8725
    /// section 3.12).
    NotAccessToken,
    /// Good for longer than its issuer's tokens may be.
    Lifetime,
    /// Not a compact JWS with a JSON object in it.
    Malformed,
    /// A claim of the wrong type, or none where one is needed, such as `exp`.
    InvalidClaim,
    /// Before its `nbf`, or issued in the future.
    NotYetValid,
    /// The signature is not one of the key.
    Signature,
    /// Issued for a subject that is not one of those that may.
    SubjectNotAllowed,
    /// Nested deeper than [`json::MAX_DEPTH`](crate::json::MAX_DEPTH).
    TooDeep,
    /// Larger than [`MAX_TOKEN_BYTES`], or its `kid` is longer than any provider's.
    TooLarge,
    /// More of the issuer's keys could have signed it than are tried, and none of those that were
    /// has.
    TooManyKeys,
    /// Of another tenant than its `iss` says, or of none.
    Tenant,
    /// The header's `typ` is not that of an access token (RFC 9068 section 4).
    InvalidTyp,
}

impl From<jws::JwsError> for TokenError {
    fn from(fault: jws::JwsError) -> Self {
        match fault {
            jws::JwsError::Algorithm => Self::Algorithm,
            jws::JwsError::UnsupportedCrit => Self::UnsupportedCrit,
            jws::JwsError::Malformed => Self::Malformed,
            jws::JwsError::TooDeep => Self::TooDeep,
        }
    }
}

/// A token taken apart. Nothing in it is believed yet.
pub struct UnverifiedToken<'a> {
    signing_input: &'a [u8],
    claims: Result<Map<String, Value>, TokenError>,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
}

/// Takes a token apart: its shape and its header. Whether its claims can be read counts only once a
/// key has signed them.
pub fn read(token: &[u8]) -> Result<UnverifiedToken<'_>, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLarge);
    }
    let Jws { signing_input: signed, header, algorithm, payload, signature } = jws::read(token)?;
    // The key is one of the issuer's. What brings another one, or says where it is, is not read:
    // `jku`, `jwk`, `x5u`, `x5c` and its thumbprints (RFC 7515 sections 4.1.2, 4.1.3, 4.1.5 to
    // 4.1.8).
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() > MAX_KID_BYTES => return Err(TokenError::TooLarge),
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(TokenError::Malformed),
    };
    let typ = match header.get("typ") {
        None => None,
        Some(Value::String(typ)) => Some(media_type(typ)),
        Some(_) => return Err(TokenError::InvalidTyp),
    };
    decision_trace::record("header", true, || {
        let [kid, typ] = [&kid, &typ].map(|text| text.as_deref().unwrap_or("missing"));
        format!("alg {algorithm}, kid {kid}, typ {typ}")
    });
    let claims = jws::object(payload).map_err(TokenError::from);
    Ok(UnverifiedToken { signing_input: signed, claims, signature, algorithm, kid, typ })
}

/// When a token says that it ends, if it is a JWT. Nobody has verified it: good for not using it
/// longer, and nothing else.
pub fn unverified_exp(token: &[u8]) -> Option<u64> {
    let payload = token.split(|byte| *byte == b'.').nth(1)?;
    let exp = numeric_date(&jws::object(payload).ok()?, "exp").ok().flatten()?;
    Some(u64::try_from(exp).unwrap_or_default())
}

/// The payload of a verified token, as it is in the token: base64url without padding.
pub fn payload(token: &[u8]) -> Option<&[u8]> {
    token.split(|byte| *byte == b'.').nth(1)
}

impl UnverifiedToken<'_> {
    /// The name of the key that is said to have signed this.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The issuer that it claims. It only selects whose keys are tried.
    pub fn issuer(&self) -> Result<&str, TokenError> {
        decision_trace::record_if(self.claims.is_err(), "claims", || {
            "no JSON object that can be read".to_owned()
        });
        let claims = self.claims.as_ref().map_err(|error| *error)?;
        let iss = claims.get("iss").and_then(Value::as_str);
        decision_trace::record_if(iss.is_none(), "issuer", || {
            format!("iss {}, a text is needed", issuer_checks::for_log(claims, "iss"))
        });
        iss.ok_or(TokenError::Issuer)
    }

    /// The caller, if a key of the issuer signed this and every claim holds.
    pub fn verify(
        self,
        keys: &KeySet,
        verifier: &dyn Verify,
        expect: &IssuerProfile,
        now: u64,
    ) -> Result<Caller, TokenError> {
        let typed = expect.types.accepts(self.typ.as_deref());
        decision_trace::record("typ", typed, || self.typ.as_deref().unwrap_or("missing").to_owned());
        if !typed {
            return Err(TokenError::InvalidTyp);
        }
        let allowed = expect.algorithms.contains(&self.algorithm);
        decision_trace::record("algorithm", allowed, || self.algorithm.to_string());
        if !allowed {
            return Err(TokenError::Algorithm);
        }
        self.verify_signature(keys, verifier, expect.names_algorithms)?;
        decision_trace::record_if(self.claims.is_err(), "claims", || {
            "no JSON object that can be read".to_owned()
        });
        let claims = self.claims?;
        let end = expect.check(&claims, now)?;
        Ok(Caller::new(claims, end, expect.layout))
    }

    fn verify_signature(&self, keys: &KeySet, verifier: &dyn Verify, named: bool) -> Result<(), TokenError> {
        let known = keys.contains_kid(self.kid());
        decision_trace::record("key", known, || {
            format!("kid {}, {} usable keys", self.kid().unwrap_or("missing"), keys.len())
        });
        if !known {
            return Err(TokenError::UnknownKey);
        }
        let mut candidates = keys.candidates(self.kid(), self.algorithm, named).peekable();
        if candidates.peek().is_none() {
            decision_trace::record("key", false, || {
                let named = keys.candidates(self.kid(), self.algorithm, true).next().is_some();
                let hint =
                    if named { " by its alg, and the issuer has no algorithms that name it" } else { "" };
                format!("none of that name is for {}{hint}", self.algorithm)
            });
            return Err(TokenError::Algorithm);
        }
        // RFC 7515 section 5.2: over the bytes as they came. RFC 8725 section 3.3: nothing is
        // accepted unless this succeeds.
        let holds = candidates.any(|key| {
            self.signature.len() == verifier::length(self.algorithm, key)
                && verifier.verify(self.algorithm, key, self.signing_input, &self.signature)
        });
        decision_trace::record("signature", holds, || self.algorithm.to_string());
        match (holds, keys.are_too_many(self.kid(), self.algorithm, named)) {
            (true, _) => Ok(()),
            (false, true) => Err(TokenError::TooManyKeys),
            (false, false) => Err(TokenError::Signature),
        }
    }
}

/// Who calls: the claims of a verified token, or what its issuer says of it. Only this module makes
/// one.
#[derive(Clone)]
pub struct Caller(Rc<VerifiedToken>);

struct VerifiedToken {
    claims: Map<String, Value>,
    accepted_until: u64,
    confirmation: Confirmation,
    /// Of the token, once somebody has asked.
    digest: OnceCell<String>,
    layout: &'static ClaimLayout,
}

impl Caller {
    fn new(claims: Map<String, Value>, end: u64, layout: &'static ClaimLayout) -> Self {
        let (binding, digest) = (Confirmation::from_claims(&claims), OnceCell::new());
        Self(Rc::new(VerifiedToken { claims, accepted_until: end, confirmation: binding, digest, layout }))
    }

    /// The claim at `path`, each step a member's literal name.
    pub fn claim<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let start = self.0.claims.get(first.as_ref())?;
        rest.iter().try_fold(start, |value, name| value.as_object()?.get(name.as_ref()))
    }

    /// Seconds since 1970 from which on the token is no longer accepted, the clock skew included.
    pub fn accepted_until(&self) -> u64 {
        self.0.accepted_until
    }

    /// Whose key must be shown together with the token.
    pub fn confirmation(&self) -> &Confirmation {
        &self.0.confirmation
    }

    /// The digest of the token, made once and then remembered with it.
    pub fn digest(&self, make: impl FnOnce() -> String) -> &str {
        self.0.digest.get_or_init(make)
    }

    /// `exp`, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        let exp = numeric_date(&self.0.claims, "exp").ok().flatten()?;
        Some(u64::try_from(exp).unwrap_or_default())
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// The client that the token was issued to, under the name that its provider gives it.
    pub fn client(&self) -> Option<&str> {
        self.0.layout.client.iter().find_map(|name| self.text(name))
    }

    /// Where the issuer's tokens say what.
    pub fn layout(&self) -> &'static ClaimLayout {
        self.0.layout
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.claims.get(name)?.as_str()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("subject", &self.subject()).field("client", &self.client()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::claim_layout;
    use crate::jose::jwk;
    use crate::jose::verifier::SoftwareCrypto;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jwt_compact::Algorithm as _;
    use jwt_compact::alg::Ed25519;
    use jwt_compact::alg::SigningKey as _;
    use jwt_compact::jwk::JsonWebKey;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn signer() -> <Ed25519 as jwt_compact::Algorithm>::SigningKey {
        ed25519_key(&[9; 32])
    }

    fn ed25519_key(seed: &[u8; 32]) -> <Ed25519 as jwt_compact::Algorithm>::SigningKey {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public(seed)),
                          "d": URL_SAFE_NO_PAD.encode(seed) });
        (&serde_json::from_value::<JsonWebKey<'_>>(jwk).unwrap()).try_into().unwrap()
    }

    fn public(seed: &[u8; 32]) -> Vec<u8> {
        use ed25519_compact::{KeyPair, Seed};
        KeyPair::from_seed(Seed::new(*seed)).pk.as_ref().to_vec()
    }

    fn keys() -> KeySet {
        let verifying = signer().to_verifying_key();
        let x = URL_SAFE_NO_PAD.encode(verifying.as_ref());
        let document =
            json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": x }] });
        jwk::parse(document.to_string().as_bytes()).unwrap().keys
    }

    fn expect() -> IssuerProfile {
        IssuerProfile { names: vec!["https://idp".into()], clock_skew: 60, ..IssuerProfile::default() }
    }

    fn claims() -> Value {
        json!({ "iss": "https://idp", "aud": "svc", "exp": NOW + 300, "iat": NOW, "sub": "s", "typ": "Bearer" })
    }

    fn sign(header: &str, payload: &str) -> Vec<u8> {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = Ed25519.sign(&signer(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(jwt_compact::AlgorithmSignature::as_bytes(&signature)))
            .into()
    }

    fn check(token: &[u8]) -> Result<Caller, TokenError> {
        read(token)?.verify(&keys(), &SoftwareCrypto, &expect(), NOW)
    }

    fn with_claims(edit: impl FnOnce(&mut Value)) -> Result<Caller, TokenError> {
        let mut claims = claims();
        edit(&mut claims);
        check(&sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims.to_string()))
    }

    fn with_header(header: &str) -> Result<Caller, TokenError> {
        check(&sign(header, &claims().to_string()))
    }

    #[test]
    fn a_good_token_yields_its_claims() {
        let caller = with_claims(|_| {}).unwrap();
        assert_eq!(caller.subject(), Some("s"));
        assert_eq!(caller.accepted_until(), NOW + 360);
    }

    #[test]
    fn every_time_claim_is_kept_to_the_second() {
        assert!(with_claims(|c| c["exp"] = json!(NOW - 59)).is_ok());
        assert_eq!(with_claims(|c| c["exp"] = json!(NOW - 60)).unwrap_err(), TokenError::Expired);
        assert!(with_claims(|c| c["nbf"] = json!(NOW + 60)).is_ok());
        assert_eq!(with_claims(|c| c["nbf"] = json!(NOW + 61)).unwrap_err(), TokenError::NotYetValid);
        assert_eq!(with_claims(|c| c["iat"] = json!(NOW + 61)).unwrap_err(), TokenError::NotYetValid);
        assert!(with_claims(|c| c["exp"] = json!(1_800_000_000.5)).is_ok());
        for odd in [json!("1800000300"), json!(null), json!([NOW]), json!(true)] {
            assert_eq!(
                with_claims(|c| c["exp"] = odd.clone()).unwrap_err(),
                TokenError::InvalidClaim,
                "{odd}"
            );
        }
        assert_eq!(
            with_claims(|c| c["exp"] = json!(-8_334_601_228_800_i64)).unwrap_err(),
            TokenError::Expired
        );
        assert_eq!(with_claims(|c| c["exp"] = json!(-1e300)).unwrap_err(), TokenError::Expired);
        assert!(with_claims(|c| c["nbf"] = json!(i64::MIN)).is_ok());
        assert_eq!(with_claims(|c| c["nbf"] = json!(u64::MAX)).unwrap_err(), TokenError::InvalidClaim);
        assert_eq!(
            with_claims(|c| drop(c.as_object_mut().unwrap().remove("exp"))).unwrap_err(),
            TokenError::InvalidClaim
        );
    }

    #[test]
    fn a_skew_of_zero_means_zero() {
        let expect = IssuerProfile { clock_skew: 0, ..expect() };
        let token = sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims().to_string());
        let verify = |now| read(&token).unwrap().verify(&keys(), &SoftwareCrypto, &expect, now);
        assert!(verify(NOW + 299).is_ok());
        assert_eq!(verify(NOW + 300).unwrap_err(), TokenError::Expired);
    }

    #[test]
    fn tokens_that_are_not_access_tokens_are_refused() {
        for (name, kind) in [
            ("typ", "ID"),
            ("typ", "Refresh"),
            ("typ", "DPoP"),
            ("typ", ""),
            ("typ", "Bearer2"),
            ("token_use", "id"),
            ("token_use", "access_token"),
        ] {
            assert_eq!(
                with_claims(|c| c[name] = json!(kind)).unwrap_err(),
                TokenError::NotAccessToken,
                "{name} {kind}"
            );
        }
        assert!(with_claims(|c| c["typ"] = json!("bearer")).is_ok());
        for name in ["sub", "jti"] {
            for odd in [json!(1), json!(null), json!(["x"])] {
                assert_eq!(
                    with_claims(|c| c[name] = odd.clone()).unwrap_err(),
                    TokenError::InvalidClaim,
                    "{name} {odd}"
                );
            }
        }
        let cognito = IssuerProfile { layout: &claim_layout::COGNITO, ..expect() };
        let error_of = |kind: Option<&str>| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().extend(kind.map(|kind| ("token_use".to_owned(), json!(kind))));
            let token = sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims.to_string());
            read(&token).unwrap().verify(&keys(), &SoftwareCrypto, &cognito, NOW).err()
        };
        assert_eq!(error_of(Some("access")), None);
        assert_eq!(error_of(Some("id")), Some(TokenError::NotAccessToken));
        assert_eq!(
            error_of(None),
            Some(TokenError::NotAccessToken),
            "a claim that every access token of the provider has"
        );
        let bound = |typ: &str| {
            with_claims(|c| {
                c["typ"] = json!(typ);
                c["cnf"] = json!({ "jkt": URL_SAFE_NO_PAD.encode([7; 32]) });
            })
        };
        assert_eq!(bound("DPoP").unwrap().confirmation(), bound("Bearer").unwrap().confirmation());
        assert_ne!(*bound("DPoP").unwrap().confirmation(), Confirmation::None);
        assert_eq!(bound("ID").unwrap_err(), TokenError::NotAccessToken);
    }

    #[test]
    fn the_issuer_is_one_exact_string() {
        for odd in [json!("https://idp/"), json!(["https://idp"]), json!(null), json!("HTTPS://idp")] {
            assert_eq!(with_claims(|c| c["iss"] = odd.clone()).unwrap_err(), TokenError::Issuer, "{odd}");
        }
    }

    #[test]
    fn the_header_is_read_strictly() {
        assert!(with_header(r#"{"alg":"Ed25519","kid":"k","typ":"at+JWT"}"#).is_ok());
        assert!(with_header(r#"{"alg":"EdDSA"}"#).is_ok(), "without a kid the keys that fit are tried");
        assert!(with_header(r#"{"alg":"EdDSA","typ":"application/at+jwt"}"#).is_ok());
        let refused = |header: &str| with_header(header).unwrap_err();
        assert_eq!(refused(r#"{"alg":"none"}"#), TokenError::Algorithm);
        assert_eq!(refused(r#"{"alg":"HS256"}"#), TokenError::Algorithm);
        assert_eq!(
            refused(r#"{"alg":"RS256","kid":"k"}"#),
            TokenError::Algorithm,
            "the key is of another kind"
        );
        assert_eq!(refused(r#"{"alg":"EdDSA","kid":"other"}"#), TokenError::UnknownKey);
        assert_eq!(refused(r#"{"alg":"EdDSA","kid":7}"#), TokenError::Malformed);
        assert_eq!(refused(r#"{"alg":"EdDSA","crit":[]}"#), TokenError::UnsupportedCrit);
        assert_eq!(refused(r#"{"alg":"EdDSA","b64":false}"#), TokenError::UnsupportedCrit);
        assert_eq!(refused(r#"{"alg":"EdDSA","typ":"dpop+jwt"}"#), TokenError::InvalidTyp);
        assert_eq!(refused(r#"{"alg":"EdDSA","alg":"EdDSA"}"#), TokenError::Malformed);
        assert_eq!(refused(r#"["EdDSA"]"#), TokenError::Malformed);
    }

    #[test]
    fn exactly_three_parts_make_a_token() {
        let token = String::from_utf8(sign(r#"{"alg":"EdDSA","kid":"k"}"#, &claims().to_string())).unwrap();
        let (signed, _) = token.rsplit_once('.').unwrap();
        for odd in [
            String::new(),
            "..".into(),
            format!(".{token}"),
            format!("{token}."),
            format!("{signed}."),
            signed.into(),
            token.replacen('.', "..", 1),
            format!("{token}="),
            format!("{token}\n"),
        ] {
            assert_eq!(check(odd.as_bytes()).unwrap_err(), TokenError::Malformed, "{odd}");
        }
        assert_eq!(check(&vec![b'a'; MAX_TOKEN_BYTES + 1]).unwrap_err(), TokenError::TooLarge);
        let other = URL_SAFE_NO_PAD.encode([7; 64]);
        assert_eq!(check(format!("{signed}.{other}").as_bytes()).unwrap_err(), TokenError::Signature);
        let short = URL_SAFE_NO_PAD.encode([7; 63]);
        assert_eq!(check(format!("{signed}.{short}").as_bytes()).unwrap_err(), TokenError::Signature);
    }
}
