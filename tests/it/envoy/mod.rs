//! Needs a real Envoy and the module (`make envoy wasm`), and takes eight minutes: the filter in
//! Envoy, with requests over the network.

mod scene;

mod audit_log;
mod burst;
mod differential;
mod examples_run;
mod failure_policies;
mod faults;
mod holding;
mod inbound;
mod istio;
mod migrate;
mod outage;
mod outbound;
mod pages;
mod providers;
mod push;
mod rotation;
mod sharing;
mod trimmed;
