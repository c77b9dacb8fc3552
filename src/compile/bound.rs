//! To which keys tokens must be bound, and how proofs of them are judged.

use super::Compiler;
use super::proof::origin_of;
use super::sharing::MIN_SECRET;
use crate::bound::{Bound, Certificate};
use crate::config;
use crate::dpop::NonceKey;
use crate::dpop::shown::Terms;
use crate::located::Path;
use std::time::Duration;

/// Defaults and bounds, each with its reason in `config`.
const WINDOW: Duration = Duration::from_secs(60);
const LONGEST_WINDOW: Duration = Duration::from_secs(300);

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn bound(&mut self, path: &Path, written: Option<config::Bound>) -> Option<Bound> {
        let config::Bound { dpop, mtls, danger_xfcc, optional } = written?;
        let certificate = match (mtls, danger_xfcc) {
            (true, false) => Some(Certificate::Connection),
            (false, true) => Some(Certificate::Forwarded),
            (true, true) => {
                self.wrong(path, "both mtls and danger_xfcc, expected one of them");
                None
            }
            (false, false) => {
                if !dpop {
                    let unless = ["dpop", "mtls", "danger_xfcc"].map(|name| path.name(name)).into();
                    let fault = "none of dpop, mtls and danger_xfcc, expected at least one of them";
                    self.wrong_unless(unless, path, fault);
                }
                None
            }
        };
        Some(Bound { certificate, key: dpop, optional })
    }

    /// How proofs are judged; `used`, if any rule takes some.
    #[inline(never)]
    pub(super) fn terms(&mut self, path: &Path, written: Option<&config::Dpop>, used: bool) -> Option<Terms> {
        let plain = config::Dpop::default();
        if written.is_some() && !used {
            let fault = "no rule takes proofs, expected one with bound: dpop";
            self.wrong_unless(vec![Path::default().name("inbound").name("rules")], path, fault);
        }
        let config::Dpop { origins: names, window, nonce_key } = written.unwrap_or(&plain);
        let mut origins = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let origin = origin_of(name);
            if origin.is_none() {
                let fault = format!("{name:?}, expected an origin such as \"https://api.example.com\"");
                self.wrong(&path.name("origins").index(index), &fault);
            }
            origins.extend(origin);
        }
        let window = window.map_or(WINDOW, |span| span.0);
        if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window) {
            self.wrong(&path.name("window"), "outside its bounds, expected between 1s and 5m");
        }
        let path = path.name("nonce_key");
        let nonce_key = nonce_key.as_ref().map(|written| {
            let key = self.text(&path, written).unwrap_or_default();
            if !key.is_empty() && key.len() < MIN_SECRET {
                let fault = "too short, expected at least 32 characters (`openssl rand -base64 32`)";
                self.wrong(&path, fault);
            }
            NonceKey::new(key)
        });
        used.then_some(Terms { origins, window: window.as_secs(), nonce_key })
    }
}
