//! Machine-to-machine authentication for Envoy and Istio, as one proxy-wasm module.
//!
//! *Inbound* it is the resource server: it validates bearer tokens against the issuer's fetched key sets, and decides by
//! audience, roles and scopes. *Outbound* it is the OAuth 2.0 client: it fetches client-credentials tokens, keeps them
//! fresh and attaches them. The services behind it hold no authentication code.
//!
//! # A functional core in a thin shell
//!
//! The core is told events and answers with data; it performs no I/O and knows no clock. The shell turns Envoy's callbacks
//! into events and effects into host calls, and decides nothing.
//!
//! ```text
//! bytes -config-> Config -policy-> Policy                       once per configuration; refused => Envoy keeps the old one
//!
//! Head ---------------------------+
//! Policy (read) + Store (learnt) -+-> filter::Request::decide -> Result<Edits, Stop>
//!                                         Stop::Refuse(Refusal) -reply-> Response  400 | 401 | 403 | 503
//!                                         Stop::Wait(Want)      -plugin-> held; decided again, from the top, on arrival
//!
//! Envoy -wasm-> Reply -plugin-> store.finish -> lease -> decide again -> Effect::Settle -wasm-> resume | answer
//! ```
//!
//! # Where to read
//!
//! [`filter`] is one request, from top to bottom; start there. What it asks:
//! [`route`] which rule, [`bearer`] where the token is, [`jwt`] who calls (with [`jws`], [`jwk`], [`signature`] and its [`budget`]), [`bound`] and
//! [`dpop`] whether it is theirs, [`access`] may they (with [`layout`]), [`store`] what is known, [`clock`] what time it is, [`reply`] what to answer, [`state`] what later filters are told. What the resource
//! says of itself: [`resource`]. What keeps the store fresh: [`lease`] when to fetch, [`discovery`] where from, [`oauth`] what
//! to ask for, [`dpop`] how to prove that a token is ours. What the operator wrote and meant: [`config`] and [`policy`],
//! with [`compile`] between them. What drives it all: [`plugin`], and [`wasm`] around it.

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
pub mod store;
pub mod time;
pub mod wasm;
