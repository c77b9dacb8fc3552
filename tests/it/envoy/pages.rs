//! The pages of the documentation, run: a page's `yaml` blocks configure a real Envoy, its
//! `console` blocks are commands with what they print. Only addresses are replaced. See
//! [`harness`].

mod harness;

mod attach_tokens;
mod client_authentication;
mod debug_a_refusal;
mod dpop_and_mtls;
mod dry_run_rollout;
mod identity_for_later_filters;
mod inbound;
mod install;
mod introspection;
mod monitor;
mod rules_and_paths;
mod several_issuers;
mod token_exchange;
mod troubleshooting;
mod upgrade;
