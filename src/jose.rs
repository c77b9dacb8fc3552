//! JOSE (RFC 7515 to 7519): keys, signatures, and how many may be verified.

pub mod jwk;
pub mod jws;
pub mod private_key;
pub mod signer;
pub mod verification_budget;
pub mod verifier;
