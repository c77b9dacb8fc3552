//! Needs nothing but Rust, and takes under a minute: the real `wasm` module natively, between a
//! host of our own and its callbacks.
//!
//! The module imports `proxy_*` functions and exports others. Here this test binary *is* the host:
//! [`import`] defines what the module imports, [`vm`] calls what it exports, and [`host`] holds in
//! between what Envoy would hold. No WebAssembly is involved, and no Envoy: an hour passes in a
//! microsecond, and every host call is on record.
//!
//! Each test has its thread, and with it its own host, its own clock ([`clock`]) and its own
//! instance of the module, whose state the SDK keeps per thread. Every test also asserts, when its
//! [`vm::Vm`] is dropped: nothing was resumed that did not wait, nothing was changed after it was
//! forwarded, no call was made from a request's callback, and no secret reached a log, an answer or
//! a metric's name.

#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the ABI is pointers and lengths of 32 bits"
)]

mod clock;
mod crypto;
mod host;
mod import;
mod pairs;
mod scene;
mod vm;

mod budget;
mod configure;
mod dpop;
mod faults;
mod fetch;
mod handing;
mod hostile;
mod provider;
mod routes;
mod signatures;
mod time;
mod upstream;
mod waiting;
