//! Compiles token binding, and how `DPoP` proofs are verified.

use super::Compiler;
use super::dpop::origin_of;
use super::sharing::MIN_SECRET;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::dpop::verify::DpopPolicy;
use crate::inbound::client_certificate::{BindingRequirement, CertificateSource};
use crate::secret::NonceKey;
use std::mem::take;
use std::time::Duration;

/// Defaults and bounds, each with its reason in `config`.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const MAX_WINDOW: Duration = Duration::from_secs(300);

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn token_binding(
        &mut self,
        path: &Path,
        written: Option<config::TokenBinding>,
    ) -> Option<BindingRequirement> {
        let config::TokenBinding { dpop, mtls, danger_xfcc, optional } = written?;
        let certificate = match (mtls, danger_xfcc) {
            (true, false) => Some(CertificateSource::Connection),
            (false, true) => Some(CertificateSource::Forwarded),
            (true, true) => {
                self.error(path, "both mtls and danger_xfcc, expected one of them");
                None
            }
            (false, false) => {
                if !dpop {
                    let unless = ["dpop", "mtls", "danger_xfcc"].map(|name| path.name(name)).into();
                    let message = "none of dpop, mtls and danger_xfcc, expected at least one of them";
                    self.error_unless(unless, path, message);
                }
                None
            }
        };
        Some(BindingRequirement { certificate, dpop, optional })
    }

    /// How `DPoP` proofs are verified; `used`: whether any rule accepts them.
    #[inline(never)]
    pub(super) fn dpop_policy(
        &mut self,
        path: &Path,
        written: Option<&config::Dpop>,
        used: bool,
    ) -> Option<DpopPolicy> {
        let plain = config::Dpop::default();
        if written.is_some() && !used {
            let message = "not used by any rule, expected a rule with token_binding: dpop";
            self.error_unless(vec![Path::default().name("inbound").name("rules")], path, message);
        }
        let config::Dpop { origins: names, window, nonce_key } = written.unwrap_or(&plain);
        let mut origins = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let origin = origin_of(name);
            if origin.is_none() {
                let message = format!("{name:?}, expected an origin such as \"https://api.example.com\"");
                self.error(&path.name("origins").index(index), &message);
            }
            origins.extend(origin);
        }
        let window = window.map_or(DEFAULT_WINDOW, |span| span.0);
        if !(Duration::from_secs(1)..=MAX_WINDOW).contains(&window) {
            self.duration_error(&path.name("window"), window, "between 1s and 5m");
        }
        let path = path.name("nonce_key");
        let nonce_key = nonce_key.as_ref().map(|written| {
            let mut key = self.secret_value(&path, written).unwrap_or_default();
            if !key.is_empty() && key.len() < MIN_SECRET {
                let message = "too short, expected at least 32 characters (`openssl rand -base64 32`)";
                self.error(&path, message);
            }
            NonceKey::new(take(&mut *key))
        });
        used.then_some(DpopPolicy { origins, window: window.as_secs(), nonce_key })
    }
}
