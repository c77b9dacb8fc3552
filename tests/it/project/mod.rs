//! Needs all that `make test` installs, and takes half a minute: the repository itself, its
//! documents, examples, manifests, image and source.

pub(crate) mod tree;

mod compose;
mod conformance;
mod defaults;
mod docs;
mod envoy_gateway;
mod examples;
mod explanations;
pub(crate) mod istio;
mod layers;
mod limits;
mod oci;
mod reasons;
mod schemas;
mod secrets;
mod shipped;
mod tutorial;
mod words;
