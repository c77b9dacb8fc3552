//! What the provider is at the moment, and what it answers when nothing is wrong.

use super::{
    client::ClientSpec,
    fault::{Endpoint, Fault, Good},
    grant,
};
use crate::{
    key::{Alg, Key, encode, encryption_jwk},
    record::Recorded,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What the provider is at the moment.
pub(crate) struct State {
    pub(super) issuer: String,
    /// The newest signs.
    pub(super) keys: Vec<Key>,
    /// More members of the published set, unchanged.
    pub(super) extra_keys: Vec<Value>,
    pub(super) clients: BTreeMap<String, ClientSpec>,
    pub(super) used_assertions: Vec<String>,
    /// Tokens that are no JWT, and their claims.
    pub(super) opaque: BTreeMap<String, Value>,
    pub(super) revoked: BTreeSet<String>,
    pub(super) faults: [(Fault, Option<usize>); Endpoint::ALL.len()],
    /// How requests about these tokens fail.
    pub(super) poison: BTreeMap<String, Fault>,
    pub(super) headers: [Vec<(String, String)>; Endpoint::ALL.len()],
    /// Endpoints that are elsewhere than Keycloak's.
    pub(super) paths: [Option<String>; Endpoint::ALL.len()],
    pub(super) metadata: bool,
    pub(super) etags: bool,
    /// What each proof must hold.
    pub(super) nonce: Option<String>,
    /// How many seconds its clock is ahead of ours.
    pub(super) ahead: i64,
}

impl State {
    pub(super) fn new() -> Self {
        let clients = ClientSpec::defaults().into_iter().map(|client| (client.id.clone(), client));
        Self {
            issuer: String::new(),
            keys: vec![Key::new(Alg::Rs256)],
            extra_keys: Vec::new(),
            clients: clients.collect(),
            used_assertions: Vec::new(),
            opaque: BTreeMap::new(),
            revoked: BTreeSet::new(),
            faults: Endpoint::ALL.map(|_| (Fault::None, None)),
            poison: BTreeMap::new(),
            headers: Endpoint::ALL.map(|_| Vec::new()),
            paths: Endpoint::ALL.map(|_| None),
            metadata: false,
            etags: false,
            nonce: None,
            ahead: 0,
        }
    }

    pub(super) fn signing_key(&self) -> &Key {
        self.keys.last().expect("never without a key")
    }

    pub(super) fn url(&self, below: &str) -> String {
        format!("{}{below}", self.issuer)
    }

    pub(super) fn endpoint_url(&self, endpoint: Endpoint) -> String {
        let origin = self.issuer.strip_suffix(self.issuer_path()).unwrap_or_default();
        format!("{origin}{}", self.endpoint_path(endpoint))
    }

    pub(super) fn endpoint_path(&self, endpoint: Endpoint) -> String {
        if let Some(path) = &self.paths[endpoint as usize] {
            return path.clone();
        }
        let base = self.issuer_path();
        match endpoint {
            Endpoint::Discovery => format!("{base}/.well-known/openid-configuration"),
            Endpoint::Metadata => format!("/.well-known/oauth-authorization-server{base}"),
            Endpoint::Keys => format!("{base}/protocol/openid-connect/certs"),
            Endpoint::Token => format!("{base}/protocol/openid-connect/token"),
            Endpoint::Introspection => format!("{base}/protocol/openid-connect/token/introspect"),
            Endpoint::Other => base.to_owned(),
        }
    }

    fn issuer_path(&self) -> &str {
        let rest = self.issuer.split_once("://").map_or("", |(_, rest)| rest);
        rest.find('/').map_or("", |start| &rest[start..])
    }

    pub(super) fn endpoint_of(&self, request: &Recorded) -> Endpoint {
        let path = request.path.split('?').next().unwrap_or_default();
        let known = Endpoint::ALL.into_iter().find(|endpoint| self.endpoint_path(*endpoint) == path);
        known.unwrap_or(Endpoint::Other)
    }

    pub(super) fn next_fault(&mut self, endpoint: Endpoint, request: &Recorded) -> Fault {
        let token = request.parameter("token").or_else(|| request.parameter("subject_token"));
        if let Some(fault) = token.and_then(|token| self.poison.get(&token)) {
            return fault.clone();
        }
        let (fault, left) = &mut self.faults[endpoint as usize];
        match left {
            None => fault.clone(),
            Some(0) => Fault::None,
            Some(left) => {
                *left -= 1;
                fault.clone()
            }
        }
    }

    pub(super) fn answer(&mut self, endpoint: Endpoint, request: &Recorded) -> Good {
        let missing = || Good {
            status: 404,
            headers: no_store(),
            body: json!({ "error": "Unable to find matching target resource method" }).to_string(),
        };
        let mut good = match endpoint {
            Endpoint::Discovery => self.published(&self.discovery(), request),
            Endpoint::Metadata if self.metadata => self.published(&self.discovery(), request),
            Endpoint::Keys => self.published(&self.key_set(), request),
            Endpoint::Token => grant::token(self, request),
            Endpoint::Introspection => grant::introspect(self, request),
            Endpoint::Metadata | Endpoint::Other => missing(),
        };
        for (name, value) in &self.headers[endpoint as usize] {
            good.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            good.headers.push((name.clone(), value.clone()));
        }
        good
    }

    fn published(&self, document: &Value, request: &Recorded) -> Good {
        let body = document.to_string();
        let usual = [("content-type", "application/json"), ("cache-control", "no-cache")];
        let mut headers = usual.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        if self.etags {
            let etag = format!("\"{}\"", encode(&Sha256::digest(&body)[..12]));
            headers.push(("etag".to_owned(), etag.clone()));
            if request.header("if-none-match").is_some_and(|known| known == etag) {
                return Good { status: 304, headers, body: String::new() };
            }
        }
        Good { status: 200, headers, body }
    }

    pub(super) fn key_set(&self) -> Value {
        let mut keys = vec![encryption_jwk()];
        // Newest first, as Keycloak orders by priority.
        keys.extend(self.keys.iter().rev().map(Key::jwk));
        keys.extend(self.extra_keys.iter().cloned());
        json!({ "keys": keys })
    }

    pub(super) fn discovery(&self) -> Value {
        let methods = [
            "private_key_jwt",
            "client_secret_basic",
            "client_secret_post",
            "tls_client_auth",
            "client_secret_jwt",
        ];
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": self.url("/protocol/openid-connect/auth"),
            "token_endpoint": self.endpoint_url(Endpoint::Token),
            "introspection_endpoint": self.endpoint_url(Endpoint::Introspection),
            "jwks_uri": self.endpoint_url(Endpoint::Keys),
            "grant_types_supported": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
            "response_types_supported": ["code", "none"],
            "subject_types_supported": ["public", "pairwise"],
            "id_token_signing_alg_values_supported": ["PS256", "RS256", "ES256", "EdDSA"],
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": ["PS256", "RS256", "ES256", "HS256"],
            "scopes_supported": ["openid", "inventory-api", "payment-api"],
            "claims_supported": ["aud", "sub", "iss"],
            "tls_client_certificate_bound_access_tokens": true,
            "dpop_signing_alg_values_supported": ["PS256", "RS256", "ES256", "EdDSA"],
        })
    }
}

/// Headers of every answer of the token endpoint, good or bad.
pub(super) fn no_store() -> Vec<(String, String)> {
    [("content-type", "application/json"), ("cache-control", "no-store"), ("pragma", "no-cache")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}
