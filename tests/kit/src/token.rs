//! Tokens, good and forged: claims that a test edits, and a [`Mint`] that signs whatever it is
//! given.

use crate::{
    key::{Key, encode},
    public,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::time::SystemTime;

/// Seconds since 1970, of the real clock.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs()
}

/// The claims of a token that Keycloak gives `order-service`, good from now on for 300 s. Edit them
/// as you like: `claims["aud"] = json!(["a", "b"])`,
/// `claims.as_object_mut().unwrap().remove("exp")`.
pub fn claims(issuer: &str) -> Value {
    let now = now();
    json!({
        "exp": now + 300,
        "iat": now,
        "jti": format!("trrtcc:{}", uuid()),
        "iss": issuer,
        "aud": "inventory-service",
        "sub": SUBJECT,
        "typ": "Bearer",
        "azp": "order-service",
        "acr": "1",
        "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
        "scope": "inventory-api",
        "clientHost": "127.0.0.1",
        "preferred_username": "service-account-order-service",
        "clientAddress": "127.0.0.1",
        "client_id": "order-service",
    })
}

/// The `sub` of [`claims`].
pub const SUBJECT: &str = "6f1f2a5e-5f43-4f0c-9d57-3c0f3f1d7a10";

/// How a token is made. Starts as a good token of the given claims; each method spoils or changes
/// one thing.
#[derive(Clone, Debug)]
pub struct Mint {
    claims: Value,
    header: Map<String, Value>,
    without: Vec<String>,
    signer: Signer,
}

#[derive(Clone, Debug)]
enum Signer {
    /// The key that the provider signs with at the time.
    Current,
    Key(Key),
    Secret(Vec<u8>),
    Nobody,
}

impl Mint {
    /// A good token of these claims.
    pub fn of(claims: Value) -> Self {
        Self { claims, header: Map::new(), without: Vec::new(), signer: Signer::Current }
    }

    /// Signs with that key (its `kid` and `alg` go into the header).
    #[must_use]
    pub fn key(mut self, key: &Key) -> Self {
        self.signer = Signer::Key(key.clone());
        self
    }

    /// Signs with HMAC-SHA-256 of that secret, and says `HS256`.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.signer = Signer::Secret(secret.into());
        self
    }

    /// No signature, and `alg: none`.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.signer = Signer::Nobody;
        self
    }

    /// What the header says of the algorithm, whatever was used.
    #[must_use]
    pub fn alg(self, alg: &str) -> Self {
        self.header("alg", alg)
    }

    /// What the header says of the key, whichever was used.
    #[must_use]
    pub fn kid(self, kid: &str) -> Self {
        self.header("kid", kid)
    }

    /// One more header member, or another value for one.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// One more claim, or another value for one.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// Leaves a header member out.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.without.push(name.to_owned());
        self
    }

    /// The token; `current` signs it unless another signer was named.
    pub fn sign(&self, current: &Key) -> String {
        let (alg, kid) = match &self.signer {
            Signer::Current => (current.alg().name(), Some(current.kid())),
            Signer::Key(key) => (key.alg().name(), Some(key.kid())),
            Signer::Secret(_) => ("HS256", None),
            Signer::Nobody => ("none", None),
        };
        let mut header = json!({ "alg": alg, "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        for (name, value) in &self.header {
            header[name] = value.clone();
        }
        for name in &self.without {
            header.as_object_mut().expect("an object").remove(name);
        }
        let signer = match &self.signer {
            Signer::Current => Signer::Key(current.clone()),
            other => other.clone(),
        };
        assemble(header.to_string().as_bytes(), self.claims.to_string().as_bytes(), &signer)
    }
}

/// A token of exactly these bytes, so that they need not be JSON, or may name a member twice.
pub fn sign_bytes(key: &Key, header: &[u8], payload: &[u8]) -> String {
    assemble(header, payload, &Signer::Key(key.clone()))
}

/// Header and claims of a token, unverified; panics when it is no token.
pub fn decode(token: &str) -> (Value, Value) {
    read(token).unwrap_or_else(|| panic!("no token: {token}"))
}

/// Header and claims of what may be a token, unverified.
pub(crate) fn read(token: &str) -> Option<(Value, Value)> {
    let [header, claims, _signature] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
    let json = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some((json(header)?, json(claims)?))
}

/// Was this token signed by `key`?
pub fn verifies(token: &str, key: &Key) -> bool {
    verifies_by_jwk(token, &key.bare_jwk())
}

/// Was this token signed by the owner of that public JWK, in the way that its header says?
pub fn verifies_by_jwk(token: &str, jwk: &Value) -> bool {
    let Some((text, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let Some((header, _)) = read(token) else {
        return false;
    };
    let alg = header["alg"].as_str().unwrap_or_default();
    let signature = URL_SAFE_NO_PAD.decode(signature);
    signature.is_ok_and(|signature| public::verifies(jwk, alg, text.as_bytes(), &signature))
}

/// A `DPoP` proof (RFC 9449 section 4.2) for one request, bound to `access_token` if there is one;
/// to be changed, and then signed: `dpop_proof(&key, "GET", url, Some(&token)).sign(&key)`.
pub fn dpop_proof(key: &Key, method: &str, url: &str, access_token: Option<&str>) -> Mint {
    let mut claims = json!({ "jti": uuid(), "htm": method, "htu": url, "iat": now() });
    if let Some(token) = access_token {
        claims["ath"] = json!(encode(Sha256::digest(token)));
    }
    Mint::of(claims).key(key).header("typ", "dpop+jwt").header("jwk", key.bare_jwk()).without_header("kid")
}

/// Was this token signed by HMAC-SHA-256 of `secret`?
pub fn verifies_by_secret(token: &str, secret: &[u8]) -> bool {
    let Some((text, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length is fine").chain_update(text);
    URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
}

/// A random UUID, version 4.
pub(crate) fn uuid() -> String {
    let random = rand::random::<u128>();
    let hex = format!("{random:032x}");
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn assemble(header: &[u8], payload: &[u8], signer: &Signer) -> String {
    let text = format!("{}.{}", encode(header), encode(payload));
    let signature = match signer {
        Signer::Key(key) => key.sign(text.as_bytes()),
        Signer::Secret(secret) => {
            let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length is fine");
            mac.chain_update(&text).finalize().into_bytes().to_vec()
        }
        Signer::Nobody | Signer::Current => Vec::new(),
    };
    format!("{text}.{}", encode(signature))
}
