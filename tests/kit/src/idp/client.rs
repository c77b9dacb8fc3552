//! The clients of the provider, and client authentication.

use super::refusal::Refusal;
use crate::{
    dpop::{self, Fault},
    key::Key,
    record::Recorded,
    token::{now, read, verifies, verifies_by_secret},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One confidential client with a service account. [`ClientSpec::new`] gives one that gets a bare
/// token.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// The client id.
    pub id: String,
    /// Every secret that is good at present.
    pub secrets: Vec<String>,
    /// Keys that sign valid assertions (`private_key_jwt`).
    pub assertion_keys: Vec<Key>,
    /// May it come without client authentication? As with mTLS, or a cluster that adds the
    /// credential elsewhere.
    pub without_proof: bool,
    /// `aud` of its tokens: absent for none, a string for one, an array for several.
    pub audiences: Vec<String>,
    /// `realm_access.roles`.
    pub realm_roles: Vec<String>,
    /// `resource_access.<client>.roles`.
    pub client_roles: BTreeMap<String, Vec<String>>,
    /// The scopes that it always gets.
    pub scopes: Vec<String>,
    /// The scopes that it may ask for, each with the audiences that it adds.
    pub optional_scopes: BTreeMap<String, Vec<String>>,
    /// Seconds from `iat` to `exp`, and `expires_in`.
    pub lifetime: u64,
    /// Are all its tokens bound to a key (RFC 9449)? A proof at the token endpoint binds even if
    /// not.
    pub dpop_bound: bool,
    /// May it exchange tokens (RFC 8693)?
    pub exchange: bool,
    /// More claims, or other values for the usual ones.
    pub claims: Map<String, Value>,
}

impl ClientSpec {
    /// A client that gets a token without audience, roles or scopes, good for 300 s.
    pub fn new(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secrets: vec![secret.to_owned()],
            assertion_keys: Vec::new(),
            without_proof: false,
            audiences: Vec::new(),
            realm_roles: Vec::new(),
            client_roles: BTreeMap::new(),
            scopes: Vec::new(),
            optional_scopes: BTreeMap::new(),
            lifetime: 300,
            dpop_bound: false,
            exchange: false,
            claims: Map::new(),
        }
    }

    /// The clients of the demo's realm: `order-service`, which may read the inventory,
    /// `inventory-service`, which may exchange a token for `payment-service`, and
    /// `payment-service`. The secret of `x-service` is `x-secret`.
    pub fn defaults() -> Vec<Self> {
        let payment = || BTreeMap::from([("payment-api".to_owned(), vec!["payment-service".to_owned()])]);
        let roles = vec!["inventory:read".to_owned()];
        vec![
            Self {
                audiences: vec!["inventory-service".to_owned()],
                client_roles: BTreeMap::from([("inventory-service".to_owned(), roles)]),
                scopes: vec!["inventory-api".to_owned()],
                optional_scopes: payment(),
                exchange: true,
                ..Self::new("order-service", "order-secret")
            },
            Self {
                optional_scopes: payment(),
                exchange: true,
                ..Self::new("inventory-service", "inventory-secret")
            },
            Self::new("payment-service", "payment-secret"),
        ]
    }
}

/// How the client authenticates.
pub(crate) enum Proof {
    Secret(String),
    Assertion(String),
    Nothing,
}

/// The client id and the client authentication of a request (RFC 6749 section 2.3, RFC 7523 section
/// 2.2).
pub(crate) fn presented(request: &Recorded) -> Result<(String, Proof), Refusal> {
    let missing = || Refusal::new(400, "invalid_client", "Missing client_id parameter");
    if let Some((id, secret)) = request.header("authorization").as_deref().and_then(basic) {
        return Ok((id, Proof::Secret(secret)));
    }
    if let Some(assertion) = request.parameter("client_assertion") {
        if request.parameter("client_assertion_type").as_deref() != Some(JWT_BEARER) {
            return Err(Refusal::new(400, "invalid_client", "Parameter client_assertion_type is invalid"));
        }
        let id = subject_of(&assertion).or_else(|| request.parameter("client_id")).ok_or_else(missing)?;
        return Ok((id, Proof::Assertion(assertion)));
    }
    let id = request.parameter("client_id").ok_or_else(missing)?;
    let secret = request.parameter("client_secret");
    Ok((id, secret.map_or(Proof::Nothing, Proof::Secret)))
}

/// Is the proof good for this client? `audiences` are the names of the provider that an assertion
/// may carry. `used` holds the assertions seen so far, as each is good once.
pub(crate) fn prove(
    client: &ClientSpec,
    proof: &Proof,
    audiences: &[String],
    used: &mut Vec<String>,
) -> Result<(), Refusal> {
    match proof {
        Proof::Secret(secret) if client.secrets.contains(secret) => Ok(()),
        Proof::Nothing if client.without_proof => Ok(()),
        Proof::Secret(_) | Proof::Nothing => Err(Refusal::wrong_secret()),
        Proof::Assertion(assertion) => {
            let by_key = client.assertion_keys.iter().any(|key| verifies(assertion, key));
            if !by_key
                && !client.secrets.iter().any(|secret| verifies_by_secret(assertion, secret.as_bytes()))
            {
                return Err(Refusal::new(400, "invalid_client", "Client assertion signature is not valid"));
            }
            let (_, claims) = read(assertion).ok_or_else(Refusal::wrong_secret)?;
            assertion_is_fresh(&claims, &client.id, audiences, used)
        }
    }
}

fn assertion_is_fresh(
    claims: &Value,
    client: &str,
    audiences: &[String],
    used: &mut Vec<String>,
) -> Result<(), Refusal> {
    let wrong = |text: &str| Err(Refusal::new(400, "invalid_client", text));
    let now = now();
    if claims["iss"] != client || claims["sub"] != client {
        return wrong("Issuer or subject of the assertion is not the client");
    }
    if !claims["aud"].as_str().is_some_and(|aud| audiences.iter().any(|known| known == aud)) {
        return wrong("Invalid token audience");
    }
    let Some(end) = claims["exp"].as_u64() else {
        return wrong("Token exp claim is required");
    };
    if end + SKEW < now {
        return wrong("Token is not active");
    }
    if end > now + LONGEST_ASSERTION + SKEW {
        return wrong("Token expiration is too far in the future");
    }
    match claims["jti"].as_str() {
        None => wrong("Token jti claim is required"),
        Some(jti) if used.iter().any(|seen| seen == jti) => wrong("Token reuse detected"),
        Some(jti) => {
            used.push(jti.to_owned());
            Ok(())
        }
    }
}

/// The thumbprint of the key that the request is bound to by a `DPoP` proof (RFC 9449 section 4.3),
/// if it brings one.
pub(crate) fn bound_to(
    client: &ClientSpec,
    request: &Recorded,
    url: &str,
    nonce: Option<&str>,
    used: &mut Vec<String>,
) -> Result<Option<String>, Refusal> {
    match dpop::check(request, url, None, nonce, used) {
        Ok(key) => Ok(Some(key)),
        Err(Fault::Missing) if client.dpop_bound => {
            Err(Refusal::new(400, "invalid_request", "DPoP proof is missing"))
        }
        Err(Fault::Missing) => Ok(None),
        Err(Fault::Bad(text)) => Err(Refusal::new(400, "invalid_dpop_proof", text)),
        Err(Fault::Nonce) => Err(Refusal::new(400, "use_dpop_nonce", "Proof lacks the nonce")),
    }
}

/// `Basic` of an id and a secret, each form-encoded before it was put in (RFC 6749 section 2.3.1).
pub(crate) fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    // A client that does not encode has `&` in there; the rest is one value, whatever it holds.
    let form = format!("value={}", text.replace('&', "%26"));
    form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn subject_of(assertion: &str) -> Option<String> {
    read(assertion)?.1["sub"].as_str().map(str::to_owned)
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Keycloak's `token.endpoint.auth.signing.max.exp`, seconds.
const LONGEST_ASSERTION: u64 = 60;
/// Keycloak's allowed skew for assertions, seconds.
const SKEW: u64 = 15;
