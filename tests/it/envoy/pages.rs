//! The pages of the documentation, run: a page's `yaml` blocks configure a real Envoy, its
//! `console` blocks are commands with what they print. Only addresses are replaced. See
//! [`harness`].

mod harness;

mod debug_a_refusal;
mod dpop_and_mtls;
mod dry_run_rollout;
mod identity_for_later_filters;
mod inbound;
mod introspection;
mod rules_and_paths;
mod several_issuers;
mod troubleshooting;
