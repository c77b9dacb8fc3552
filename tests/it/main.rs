//! The integration suites, in rings: each ring's `mod.rs` says what it needs and how long it takes.
//!
//! Two suites are binaries of their own, for what they start takes long: `envoy/servers` and
//! `keycloak`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot continue fails"
)]

mod core;
mod envoy;
mod project;
mod shell;
