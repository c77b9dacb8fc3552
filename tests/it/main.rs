//! The integration suites, in rings: each ring's `mod.rs` says what it needs and how long it takes.
//!
//! Two suites are binaries of their own, for what they start takes long: `envoy/servers` and `keycloak`.

mod core;
mod envoy;
mod project;
mod shell;
