//! The pages of the documentation, run: a page's `yaml` blocks configure a real Envoy, its
//! `console` blocks are commands with what they print. Only addresses are replaced. See
//! [`harness`].

mod harness;

mod protect_a_service;
