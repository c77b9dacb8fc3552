//! The integration suites; this list is their table of contents.

mod scene;
mod tree;

mod access;
mod attacks;
mod burst;
mod compose;
mod config;
mod conformance;
mod desk;
mod differential;
mod docs;
mod examples;
mod faults;
mod fleet;
mod fuzz;
mod holding;
mod inbound;
mod istio;
mod layers;
mod limits;
mod oci;
mod outage;
mod outbound;
mod push;
mod reports;
mod rotation;
mod secrets;
mod sharing;
mod shell;
mod sim;
mod trimmed;
mod vectors;
