//! HTTP (RFC 9110): messages, URLs, paths and their readings, and which rule a request matches.

pub mod message;
pub mod route;
