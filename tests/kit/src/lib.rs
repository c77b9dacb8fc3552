//! The shared library of the tests, the demo and the bench. It knows nothing of the filter, only
//! what surrounds it.
//!
//! | module | what it is |
//! |---|---|
//! | [`idp`] | a simulated `OpenID` provider, shaped as Keycloak, that fails on command |
//! | [`keycloak`] | a real Keycloak as a child process, where a simulated one would prove nothing |
//! | [`story`] | the walkthroughs' three services on it, with all their sidecars |
//! | [`upstream`] | a service that answers with what it was asked |
//! | [`envoy`] | a real Envoy as a child process: configure it, push to it, read its logs and numbers |
//! | [`peers`] | programs in other languages: clients, and the service in Express |
//! | [`servers`] | real servers behind the filter, and the strange requests that clients may send them |
//! | [`client`] | an HTTP client that sends exactly the bytes it is given, legal or not |
//! | [`faults`] | what a provider's fault costs requests that need its tokens: our filter and Envoy's own, side by side |
//! | [`load`] | a bounded load driver for loopback |
//! | [`key`], [`token`] | keys that sign, tokens good and forged |
//! | [`tools`] | programs of others that `make` gets: a registry, a reader of compose files, Prometheus |
//! | [`record`] | what a server of ours was asked, and how to wait for it |
//! | [`wait`] | waiting for an event instead of for a while |
//!
//! A test in four lines:
//!
//! ```no_run
//! # async fn test() {
//! use m2m_auth_kit::{client, envoy::{self, Envoy}, idp::Idp, upstream::Upstream};
//! let (idp, upstream) = (Idp::start().await, Upstream::start().await);
//! let envoy = Envoy::builder()
//!     .cluster(envoy::cluster("keycloak", idp.address()))
//!     .cluster(envoy::cluster("inventory", upstream.address()))
//!     .listener(envoy::listener("in", vec![], envoy::route_to("inventory")))
//!     .start().await.unwrap();
//! assert_eq!(client::get(envoy.url("in", "/inventory")).send().await.status, 200);
//! # }
//! ```
//!
//! The servers run on a runtime of their own, so a test may use any runtime, block its thread, or
//! have none at all ([`block_on`]). Everything is on loopback, is dropped when its value is
//! dropped, and waits for events, never for a time.

#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test tool: it lives in real time, and failing loudly at once is how it reports"
)]

pub mod client;
pub mod dpop;
pub mod envoy;
pub mod faults;
pub mod idp;
pub mod key;
pub mod keycloak;
pub mod load;
pub mod peers;
pub mod public;
pub mod record;
mod serve;
pub mod servers;
pub mod story;
pub mod token;
pub mod tools;
pub mod upstream;
pub mod wait;

pub use envoy::module;
pub use serde_json::{Value, json};

use std::path::{Path, PathBuf};

/// Runs an asynchronous test or tool to its end, on the servers' own runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    serve::runtime().block_on(future)
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    here.canonicalize().unwrap_or(here)
}
