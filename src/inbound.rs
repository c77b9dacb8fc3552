//! Inbound: from a token in a request to an authenticated caller, its authorization, and the responses to refused clients.

pub mod authorize;
pub mod claim_layout;
pub mod client_certificate;
pub mod jwt;
pub mod refusal;
pub mod resource_metadata;
pub mod token_location;
