//! Proofs of possession (RFC 9449), checked as a provider and a service should: everything of
//! section 4.3.

use crate::{
    key::encode,
    public::thumbprint,
    record::Recorded,
    serve::lock,
    token::{now, read, verifies_by_jwk},
    upstream::Reply,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex};

/// What is wrong with a request's proof.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Bad(&'static str),
    /// It is good but for the nonce.
    Nonce,
}

/// The thumbprint of the key that proves this request. `used` are the proofs that were seen so far.
pub(crate) fn check(
    request: &Recorded,
    url: &str,
    access_token: Option<&str>,
    nonce: Option<&str>,
    used: &mut Vec<String>,
) -> Result<String, Fault> {
    let proofs = request.headers_named("dpop");
    let proof = match proofs.as_slice() {
        [] => return Err(Fault::Missing),
        [proof] => proof,
        _ => return Err(Fault::Bad("More than one proof")),
    };
    let (header, claims) = read(proof).ok_or(Fault::Bad("Proof is not a JWT"))?;
    let jwk = &header["jwk"];
    let private = ["d", "p", "q", "k"].iter().any(|member| !jwk[*member].is_null());
    if header["typ"] != "dpop+jwt" || private || !verifies_by_jwk(proof, jwk) {
        return Err(Fault::Bad("Proof is not signed as it should be"));
    }
    if claims["htm"] != *request.method || claims["htu"] != *url {
        return Err(Fault::Bad("Proof is for another request"));
    }
    if claims["ath"] != access_token.map_or(Value::Null, |token| encode(Sha256::digest(token)).into()) {
        return Err(Fault::Bad("Proof is for another token"));
    }
    if claims["iat"].as_u64().is_none_or(|iat| iat.abs_diff(now()) > LIFETIME + SKEW) {
        return Err(Fault::Bad("Proof is not active"));
    }
    match claims["jti"].as_str() {
        Some(jti) if !used.iter().any(|seen| seen == jti) => used.push(jti.to_owned()),
        _ => return Err(Fault::Bad("Proof has already been used")),
    }
    if nonce.is_some_and(|nonce| claims["nonce"] != *nonce) {
        return Err(Fault::Nonce);
    }
    Ok(thumbprint(jwk))
}

/// A service that takes nothing but a bound token with its proof:
/// `upstream.answer_by(service.rule())`.
#[derive(Clone)]
pub struct Service(Arc<Mutex<State>>);

struct State {
    origin: String,
    nonce: Option<String>,
    used: Vec<String>,
    faults: Vec<String>,
}

impl Service {
    /// The service that is known as this origin.
    pub fn new(origin: &str) -> Self {
        let (nonce, used, faults) = (None, Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { origin: origin.to_owned(), nonce, used, faults })))
    }

    /// From now on each proof must hold this nonce.
    pub fn demand(&self, nonce: &str) {
        lock(&self.0).nonce = Some(nonce.to_owned());
    }

    /// What was wrong with requests so far, but for their nonce.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.0).faults.clone()
    }

    /// How the service answers what is not as it should be.
    pub fn rule(&self) -> impl Fn(&Recorded) -> Option<Reply> + Send + 'static {
        let service = self.clone();
        move |request| service.refusal(request)
    }

    fn refusal(&self, request: &Recorded) -> Option<Reply> {
        let mut state = lock(&self.0);
        let refused = |code: &str| format!("DPoP algs=\"ES256 EdDSA\", error=\"{code}\"");
        let url = format!("{}{}", state.origin, request.path.split('?').next().unwrap_or_default());
        let credentials = request.headers_named("authorization");
        let token = match credentials.as_slice() {
            [credential] => credential.strip_prefix("DPoP "),
            _ => None,
        };
        let Some((token, (_, claims))) = token.and_then(|token| Some((token, read(token)?))) else {
            state.faults.push(format!("no bound token: {credentials:?}"));
            return Some(Reply::new(401, &[("www-authenticate", "DPoP algs=\"ES256 EdDSA\"")]));
        };
        let nonce = state.nonce.clone();
        let outcome = check(request, &url, Some(token), nonce.as_deref(), &mut state.used);
        let fault = match outcome {
            Ok(key) if claims["cnf"]["jkt"] == *key => return None,
            Ok(_) => "the token is bound to another key".to_owned(),
            Err(Fault::Nonce) => {
                let nonce = nonce.unwrap_or_default();
                let challenge = refused("use_dpop_nonce");
                return Some(Reply::new(401, &[("www-authenticate", &challenge), ("dpop-nonce", &nonce)]));
            }
            Err(fault) => format!("{fault:?} for {url}"),
        };
        state.faults.push(fault);
        Some(Reply::new(401, &[("www-authenticate", &refused("invalid_dpop_proof"))]))
    }
}

/// Keycloak's lifetime of a `DPoP` proof, seconds.
const LIFETIME: u64 = 10;
/// Keycloak's allowed skew, seconds.
const SKEW: u64 = 15;
