//! Compiles whether workers share what they fetch, and the scope of sharing.

use super::Compiler;
use crate::config::errors::ConfigError;
use crate::config::path_deserializer::Path;
use crate::config::{self, Config};
use crate::policy::{Policy, Sharing, SharingScope};
use crate::secret::SharingKey;
use std::mem::take;

/// 256 bits in hexadecimal are 64 characters, in base64 44; 32 of either are at least 128 bits.
pub(super) const MIN_SECRET: usize = 32;

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn sharing(&mut self, config: &Config) -> Sharing {
        let path = Path::default().name("sharing_key");
        match (config.sharing, &config.sharing_key) {
            (Some(config::Sharing::Sealed), written) => {
                if written.is_none() {
                    self.error(&path, "missing, expected {\"env\": \"NAME\"}");
                }
                let mut key = written
                    .as_ref()
                    .and_then(|written| self.secret_value(&path, written))
                    .unwrap_or_default();
                if written.is_some() && !key.is_empty() && key.len() < MIN_SECRET {
                    self.error(
                        &path,
                        "too short, expected at least 32 characters (`openssl rand -base64 32`)",
                    );
                }
                return Sharing::Sealed(SharingKey::new(take(&mut *key)));
            }
            (_, Some(_)) => self.error(&path, "without sharing: sealed, expected both or neither"),
            (_, None) => {}
        }
        match config.sharing {
            None | Some(config::Sharing::Sealed) => Sharing::WhereSafe,
            Some(config::Sharing::On) => Sharing::On,
            Some(config::Sharing::Off) => Sharing::Off,
        }
    }
}

impl Policy {
    /// The scope of sharing in a VM with this id. `None`: the host does not provide it, and sharing
    /// stays within the VM.
    pub fn sharing_scope(&self, vm_id: Option<&[u8]>) -> Result<SharingScope, ConfigError> {
        match &self.sharing {
            Sharing::Sealed(key) => Ok(SharingScope::Sealed(key.clone())),
            Sharing::On | Sharing::WhereSafe if vm_id.is_some_and(|id| !id.is_empty()) => {
                Ok(SharingScope::Process)
            }
            Sharing::On if vm_id.is_some() => {
                let message = "on, expected a vm_id in the plugin's vm_config (plugins without one share the empty one), or sealed";
                Err(ConfigError::new(&Path::default().name("sharing"), message))
            }
            Sharing::Off | Sharing::On | Sharing::WhereSafe => Ok(SharingScope::Vm),
        }
    }
}
