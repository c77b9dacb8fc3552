//! Machine-to-machine authentication for Envoy and Istio, as one proxy-wasm module.
//!
//! *Inbound* it is the resource server: it validates bearer tokens against the issuer's fetched key
//! sets, and decides by audience, roles and scopes. *Outbound* it is the OAuth 2.0 client: it
//! fetches client-credentials tokens, keeps them fresh and attaches them. The services behind it
//! hold no authentication code.
//!
//! # A functional core in a thin shell
//!
//! The core takes events and returns data; it performs no I/O and knows no clock. The shell turns
//! Envoy's callbacks into events and effects into host calls, and decides nothing.
//!
//! ```text
//! bytes -config-> Config -policy::compile-> Policy    once per configuration; an error => Envoy
//!                                                     keeps the old one
//!
//! MessageHead --------------------+
//! Policy (read) + Store (fetched) +-> filter::Request::decide -> Result<HeaderEdits, Interrupt>
//!     Interrupt::Refuse(Refusal)  -> LocalReply  400 | 401 | 403 | 503
//!     Interrupt::Wait(FetchKey)   -> held; decided again, from the top, when the fetch has ended
//!
//! Envoy -wasm-> HttpReply -plugin-> store.finish -> lease -> decide again -> Effect
//!                                                   -wasm-> resume | respond
//! ```
//!
//! # Where to read
//!
//! [`filter`] is one request, from top to bottom; start there. The rooms, lowest first; none uses a
//! later one:
//!
//! - [`time`], [`rng`], [`secret`], [`json`], [`metrics`], [`decision_trace`]: small things that
//!   everything may use;
//! - [`config`]: what the operator wrote;
//! - [`http`]: messages, paths and their readings, and which rule a request matches
//!   ([`http::route`]);
//! - [`jose`]: keys and signatures; [`dpop`]: proofs of possession;
//! - [`oauth`]: what is asked of a provider, and what its responses mean;
//! - [`inbound`]: where the token is, who calls ([`inbound::jwt`]), may they
//!   ([`inbound::authorize`]), and what a refused client gets ([`inbound::refusal`]);
//! - [`policy`]: the configuration as it is meant, compiled once ([`policy::compile`]);
//! - [`store`]: what was fetched, and when to fetch it again ([`store::lease`]);
//! - [`filter`]: the decision; [`plugin`]: what drives it, and [`wasm`] around it.

pub mod config;
pub mod decision_trace;
pub mod dpop;
pub mod filter;
pub mod http;
pub mod inbound;
pub mod jose;
pub mod json;
pub mod metrics;
pub mod oauth;
pub mod plugin;
pub mod policy;
pub mod rng;
pub mod secret;
pub mod store;
pub mod time;
pub mod wasm;
