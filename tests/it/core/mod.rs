//! Needs nothing but Rust, and takes three minutes on two cores: the whole plugin and the
//! command-line tool natively, without a host; time is virtual.

pub(crate) mod cli;
pub(crate) mod sim;

mod access;
mod attacks;
mod config;
mod fleet;
mod fuzz;
mod reports;
mod vectors;
