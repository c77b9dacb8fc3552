//! To whose key a token is bound (RFC 7800 section 3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Whose key must be shown together with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// None: a bearer token.
    None,
    /// That of the certificate with this SHA-256 (RFC 8705 section 3.1).
    Certificate([u8; 32]),
    /// The key with this thumbprint (RFC 9449 section 6.1).
    Key([u8; 32]),
    /// Both: that of the certificate, and the key.
    Both([u8; 32], [u8; 32]),
    /// A key that is named in a way which is not understood.
    Unsupported,
}

impl Confirmation {
    /// What `cnf` says. What is not understood is no reason to take a token for one that is not
    /// bound.
    pub(super) fn from_claims(claims: &Map<String, Value>) -> Self {
        claims
            .get("cnf")
            .map_or(Self::None, |confirmation| Self::read(confirmation).unwrap_or(Self::Unsupported))
    }

    fn read(confirmation: &Value) -> Option<Self> {
        let (mut certificate, mut key) = (None, None);
        for (name, value) in confirmation.as_object()? {
            match name.as_str() {
                "x5t#S256" => certificate = Some(digest(value)?),
                "jkt" => key = Some(digest(value)?),
                // The other ones that are registered (RFC 7800 section 6.2.2, RFC 8747, RFC 9203):
                // any of them is to be proven too.
                "jwk" | "jwe" | "kid" | "jku" | "osc" => return None,
                _ => {}
            }
        }
        Some(match (certificate, key) {
            (Some(certificate), Some(key)) => Self::Both(certificate, key),
            (Some(certificate), None) => Self::Certificate(certificate),
            (None, Some(key)) => Self::Key(key),
            (None, None) => return None,
        })
    }

    /// The SHA-256 of the certificate.
    pub fn certificate(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Certificate(digest) | Self::Both(digest, _) => Some(digest),
            Self::None | Self::Key(_) | Self::Unsupported => None,
        }
    }

    /// The thumbprint of the key.
    pub fn key(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Key(thumbprint) | Self::Both(_, thumbprint) => Some(thumbprint),
            Self::None | Self::Certificate(_) | Self::Unsupported => None,
        }
    }
}

/// A SHA-256 in base64url.
fn digest(value: &Value) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(value.as_str()?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(cnf: &Value) -> Confirmation {
        Confirmation::from_claims(json!({ "cnf": cnf }).as_object().unwrap())
    }

    #[test]
    fn a_certificate_and_a_key_are_known_by_their_digests() {
        let [seven, eight] = [7, 8].map(|byte| URL_SAFE_NO_PAD.encode([byte; 32]));
        assert_eq!(of(&json!({ "x5t#S256": seven })), Confirmation::Certificate([7; 32]));
        assert_eq!(of(&json!({ "x5t#S256": seven, "x": 1 })), Confirmation::Certificate([7; 32]));
        assert_eq!(of(&json!({ "jkt": eight })), Confirmation::Key([8; 32]));
        let both = of(&json!({ "x5t#S256": seven, "jkt": eight }));
        assert_eq!((both.certificate(), both.key()), (Some(&[7; 32]), Some(&[8; 32])));
        assert_eq!(Confirmation::from_claims(&Map::new()), Confirmation::None);
    }

    #[test]
    fn what_is_not_understood_is_bound_all_the_same() {
        let digest = URL_SAFE_NO_PAD.encode([7; 32]);
        for odd in [
            json!(null),
            json!({}),
            json!([]),
            json!("x"),
            json!({ "jkt": "x" }),
            json!({ "jkt": digest, "jwk": {} }),
            json!({ "x5t#S256": digest, "kid": "k" }),
            json!({ "x5t#S256": 7 }),
            json!({ "x5t#S256": "" }),
            json!({ "x5t#S256": digest, "jkt": null }),
            json!({ "x5t#S256": digest[1..] }),
            json!({ "x5t#S256": format!("{digest}=") }),
            json!({ "X5T#S256": digest }),
            json!({ "jkt": format!("{digest}AA") }),
        ] {
            assert_eq!(of(&odd), Confirmation::Unsupported, "{odd}");
        }
    }
}
