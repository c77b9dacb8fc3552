//! Settings with a fixed set of names, which standards and providers define.

use serde::Deserialize;

/// The claim layout of an issuer's tokens.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Preset {
    #[default]
    Keycloak,
    Auth0,
    Entra,
    Okta,
    Cognito,
    Google,
    Kubernetes,
    Generic,
}

/// JOSE signature algorithms.
#[cfg_attr(not(target_family = "wasm"), derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum SignatureAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    #[serde(alias = "Ed25519")]
    EdDSA,
}
