//! The token endpoint (RFC 6749, RFC 8693) and introspection (RFC 7662), with Keycloak's checks in
//! Keycloak's order.

use super::{
    client::{ClientSpec, bound_to, presented, prove},
    fault::Good,
    refusal::Refusal,
    state::{State, no_store},
};
use crate::{
    key::merge,
    record::Recorded,
    token::{self, Mint, now, read, uuid, verifies},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Answers a request to the token endpoint.
pub(crate) fn token(state: &mut State, request: &Recorded) -> Good {
    if request.method != "POST" {
        return Good { status: 405, headers: Vec::new(), body: String::new() };
    }
    let mut good: Good = match grant(state, request) {
        Ok(body) => Good { status: 200, headers: no_store(), body: body.to_string() },
        Err(refusal) => refusal.into(),
    };
    // RFC 9449 section 8.2: with any answer.
    good.headers.extend(state.nonce.iter().map(|nonce| ("dpop-nonce".to_owned(), nonce.clone())));
    good
}

/// Answers a request to the introspection endpoint.
pub(crate) fn introspect(state: &mut State, request: &Recorded) -> Good {
    if let Err(refusal) = authenticate(state, request) {
        return refusal.into();
    }
    let body = match request.parameter("token").and_then(|token| alive(state, &token)) {
        Some(mut claims) => {
            let azp = claims["azp"].clone();
            merge(&mut claims, json!({ "active": true, "client_id": azp, "token_type": "Bearer" }));
            claims["username"] = claims["preferred_username"].clone();
            claims
        }
        None => json!({ "active": false }),
    };
    Good { status: 200, headers: no_store(), body: body.to_string() }
}

fn grant(state: &mut State, request: &Recorded) -> Result<Value, Refusal> {
    let Some(kind) = request.parameter("grant_type") else {
        return Err(Refusal::new(400, "invalid_request", "Missing form parameter: grant_type"));
    };
    if !["client_credentials", TOKEN_EXCHANGE, JWT_BEARER].contains(&kind.as_str()) {
        return Err(Refusal::new(400, "unsupported_grant_type", "Unsupported grant_type"));
    }
    let client = if kind == JWT_BEARER { asserted(state, request)? } else { authenticate(state, request)? };
    let mut seen = BTreeSet::new();
    let repeatable = |name: &str| kind == TOKEN_EXCHANGE && name == "audience";
    if request.form().into_iter().any(|(name, _)| !repeatable(&name) && !seen.insert(name)) {
        return Err(Refusal::new(400, "invalid_request", "duplicated parameter"));
    }
    let wanted = request.parameter("scope").unwrap_or_default();
    let granted = scopes(&client, &wanted)?;
    let url = state.url("/protocol/openid-connect/token");
    let nonce = state.nonce.clone();
    let bound_to = bound_to(&client, request, &url, nonce.as_deref(), &mut state.used_assertions)?;
    let mut claims = claims(state, &client, &granted);
    if kind == TOKEN_EXCHANGE {
        exchange(state, request, &client, &mut claims)?;
    }
    if let Some(key) = &bound_to {
        merge(&mut claims, json!({ "typ": "DPoP", "cnf": { "jkt": key, "kc-jkt-type": "DPoP" } }));
    }
    let mut answer = json!({
        "access_token": Mint::of(claims).sign(state.signing_key()),
        "expires_in": client.lifetime,
        "refresh_expires_in": 0,
        "token_type": if bound_to.is_some() { "DPoP" } else { "Bearer" },
        "not-before-policy": 0,
        "scope": granted.join(" "),
    });
    if kind == TOKEN_EXCHANGE {
        answer["issued_token_type"] = json!(ACCESS_TOKEN);
    }
    Ok(answer)
}

fn authenticate(state: &mut State, request: &Recorded) -> Result<ClientSpec, Refusal> {
    let (id, proof) = presented(request)?;
    let client = state.clients.get(&id).cloned().ok_or_else(Refusal::unknown_client)?;
    let audiences = [state.issuer.clone(), state.url("/protocol/openid-connect/token")];
    prove(&client, &proof, &audiences, &mut state.used_assertions)?;
    Ok(client)
}

/// The client of a request with an assertion alone (RFC 7523 section 2.1), as Google's service
/// accounts send: the `iss`, if one of that client's keys has signed the assertion for this
/// provider.
fn asserted(state: &mut State, request: &Recorded) -> Result<ClientSpec, Refusal> {
    let assertion = request.parameter("assertion").unwrap_or_default();
    let wrong = |text: &str| Refusal::new(400, "invalid_grant", text);
    let (_, claims) = read(&assertion).ok_or_else(|| wrong("Invalid JWT"))?;
    let id = claims["iss"].as_str().unwrap_or_default();
    let client = state.clients.get(id).cloned().ok_or_else(|| wrong("Invalid grant: account not found"))?;
    let audiences = [state.issuer.clone(), state.url("/protocol/openid-connect/token")];
    let for_us = audiences.iter().any(|own| claims["aud"] == **own);
    let fresh = claims["exp"].as_u64().is_some_and(|exp| (now()..=now() + 3600).contains(&exp));
    if !for_us || !fresh || !client.assertion_keys.iter().any(|key| verifies(&assertion, key)) {
        return Err(wrong("Invalid JWT Signature."));
    }
    if state.used_assertions.contains(&assertion) {
        return Err(wrong("Token reuse detected"));
    }
    state.used_assertions.push(assertion);
    Ok(client)
}

/// The scopes of the token: those that it always gets, and those asked for, if it may have them.
fn scopes(client: &ClientSpec, wanted: &str) -> Result<Vec<String>, Refusal> {
    let wanted: Vec<_> = wanted.split(' ').filter(|scope| !scope.is_empty()).collect();
    let allowed = |scope: &str| {
        client.optional_scopes.contains_key(scope) || client.scopes.iter().any(|known| known == scope)
    };
    if wanted.iter().any(|scope| !allowed(scope)) {
        return Err(Refusal::new(400, "invalid_scope", format!("Invalid scopes: {}", wanted.join(" "))));
    }
    let mut granted = client.scopes.clone();
    granted.extend(
        wanted.into_iter().filter(|scope| !client.scopes.iter().any(|it| it == scope)).map(str::to_owned),
    );
    Ok(granted)
}

fn claims(state: &State, client: &ClientSpec, scopes: &[String]) -> Value {
    let mut claims = token::claims(&state.issuer);
    let added = scopes.iter().filter_map(|scope| client.optional_scopes.get(scope)).flatten();
    // Keycloak writes the audiences that a scope added first.
    let audiences: Vec<_> = added.chain(&client.audiences).cloned().collect();
    set_audience(&mut claims, &audiences);
    let account = format!("service-account-{}", client.id);
    let issued = now().saturating_add_signed(state.ahead);
    let more = json!({
        "exp": issued + client.lifetime,
        "iat": issued,
        "azp": client.id,
        "client_id": client.id,
        "preferred_username": account,
        "scope": scopes.join(" "),
        "sub": subject(&client.id),
    });
    merge(&mut claims, more);
    let roles = client.client_roles.iter().map(|(of, roles)| (of.clone(), json!({ "roles": roles })));
    claims["resource_access"] = roles.collect();
    if client.client_roles.is_empty() {
        claims.as_object_mut().expect("an object").remove("resource_access");
    }
    if !client.realm_roles.is_empty() {
        claims["realm_access"] = json!({ "roles": client.realm_roles });
    }
    merge(&mut claims, Value::Object(client.claims.clone()));
    claims
}

/// Makes `claims` those of an exchanged token. Keycloak's standard token exchange, version 2:
/// `audience` narrows what the requester may have, and never adds.
fn exchange(
    state: &State,
    request: &Recorded,
    client: &ClientSpec,
    claims: &mut Value,
) -> Result<(), Refusal> {
    let bad = |text: String| Err(Refusal::new(400, "invalid_request", text));
    if !client.exchange {
        return bad("Standard token exchange is not enabled for the requested client".to_owned());
    }
    let Some(subject) = request.parameter("subject_token") else {
        return bad("Parameter 'subject_token' required for standard token exchange".to_owned());
    };
    if request.parameter("subject_token_type").as_deref() != Some(ACCESS_TOKEN) {
        return bad("Parameter 'subject_token' supports access tokens only".to_owned());
    }
    if request.parameter("requested_token_type").is_some_and(|kind| kind != ACCESS_TOKEN) {
        return bad("requested_token_type unsupported".to_owned());
    }
    let Some(subject) = alive(state, &subject) else {
        return bad("Invalid token".to_owned());
    };
    if subject["azp"] != *client.id && !audiences_of(&subject).contains(&client.id) {
        return Err(Refusal::new(403, "access_denied", "Client is not within the token audience"));
    }
    let wanted: Vec<_> =
        request.form().into_iter().filter(|(name, _)| name == "audience").map(|(_, it)| it).collect();
    if wanted.iter().any(|audience| !state.clients.contains_key(audience)) {
        return Err(Refusal::new(400, "invalid_client", "Audience not found"));
    }
    let available = audiences_of(claims);
    if let Some(missing) = wanted.iter().find(|audience| !available.contains(audience)) {
        return bad(format!("Requested audience not available: {missing}"));
    }
    if !wanted.is_empty() {
        set_audience(claims, &wanted);
    }
    let account = subject["preferred_username"].clone();
    let jti = format!("trrtte:{}", uuid());
    let more =
        json!({ "sub": subject["sub"], "preferred_username": account, "jti": jti, "resource_access": {} });
    merge(claims, more);
    Ok(())
}

/// The claims of a token of ours that has not ended.
fn alive(state: &State, token: &str) -> Option<Value> {
    if state.revoked.contains(token) {
        return None;
    }
    if let Some(claims) = state.opaque.get(token) {
        return (claims["exp"].as_u64()? > now()).then(|| claims.clone());
    }
    let (_, claims) = read(token)?;
    if !state.keys.iter().any(|key| verifies(token, key)) {
        return None;
    }
    (claims["iss"] == *state.issuer && claims["exp"].as_u64()? > now()).then_some(claims)
}

fn audiences_of(claims: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match &claims["aud"] {
        Value::Array(several) => several.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

/// Absent for none, a string for one, an array for several: as Keycloak does.
fn set_audience(claims: &mut Value, audiences: &[String]) {
    match audiences {
        [] => drop(claims.as_object_mut().expect("an object").remove("aud")),
        [one] => claims["aud"] = json!(one),
        several => claims["aud"] = json!(several),
    }
}

/// Always the same for a client, another one for each.
fn subject(client: &str) -> String {
    if client == "order-service" {
        return token::SUBJECT.to_owned();
    }
    let sum = client.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    format!("{:08x}-0000-4000-a000-{:012x}", sum >> 32, sum & 0xffff_ffff)
}

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
