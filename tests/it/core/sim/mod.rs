//! The whole plugin under a virtual clock, with a scripted identity provider: hours of token life
//! in microseconds.
//!
//! [`world`] is the driver, and asserts after every event what must hold always; [`provider`]
//! answers by script. Each scenario is a test of its own; [`random`] mixes all of them.

#![allow(clippy::unchecked_time_subtraction, reason = "virtual time does not go back")]

pub(crate) mod provider;
pub(crate) mod world;

mod audit_log;
mod bound;
mod clients;
mod dpop;
mod exchange;
mod files;
mod introspection;
mod keys;
mod limits;
mod modes;
mod random;
mod redirect;
mod routes;
mod services;
mod start;
mod starved;
mod token_locations;
mod tokens;
mod waiting;
mod workers;
