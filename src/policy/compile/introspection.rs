//! Compiles introspection: the client that introspects tokens, and which tokens it introspects.

use super::client::needs_no_id;
use super::{Compiler, named};
use crate::config::path_deserializer::Path;
use crate::config::{self, Introspect};
use crate::oauth::IntrospectionClient;
use std::time::Duration;

/// Defaults, each with its reason in `config`.
const DEFAULT_CACHE: Duration = Duration::from_secs(30);
const DEFAULT_NEGATIVE_CACHE: Duration = Duration::from_secs(10);
pub(super) const REQUESTS_PER_SECOND: u32 = 100;

/// The maximum `requests_per_second`: as many as a worker can introspect.
const MAX_REQUESTS_PER_SECOND: u32 = 10_000;

/// The longest `cache` and `negative_cache`: introspection is pointless if a revoked token is
/// accepted for longer.
const MAX_CACHE: Duration = Duration::from_secs(300);

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn introspection(
        &mut self,
        path: &Path,
        issuer: &config::Issuer,
        issuer_name: Option<&str>,
        verifies: bool,
    ) -> Option<IntrospectionClient> {
        let Some(written) = &issuer.introspection else {
            if issuer.introspection_endpoint.is_some() {
                let message = "unused without introspection, expected introspection with its client";
                let unless = vec![path.name("introspection")];
                self.error_unless(unless, &path.name("introspection_endpoint"), message);
            }
            return None;
        };
        let path = path.name("introspection");
        if !verifies {
            let unless = vec![Path::default().name("inbound")];
            let message = "not used by any inbound rule, expected at least one";
            self.error_unless(unless, &path, message);
        }
        // Client authentication is the same as for a credential.
        let client = config::Credential {
            client_id: written.client_id.clone(),
            client_secret: written.client_secret.clone(),
            auth_method: written.auth_method,
            client_assertion: written.client_assertion.clone(),
            client_assertion_type: written.client_assertion_type,
            assertion_header_type: written.assertion_header_type.clone(),
            private_key: written.private_key.clone(),
            kid: written.kid.clone(),
            assertion_algorithm: written.assertion_algorithm,
            assertion_audience: written.assertion_audience.clone(),
            ..config::Credential::default()
        };
        let without_id = needs_no_id(written.auth_method);
        let client_id = self.client_id(&path, written.client_id.as_ref(), written.auth_method);
        let auth = self.client(&path, &client, issuer_name);
        let mut duration = |member: &str, value: Option<config::DurationValue>, default: Duration| {
            let value = value.map_or(default, |value| value.0);
            if value < Duration::from_secs(1) || value > MAX_CACHE {
                self.duration_error(&path.name(member), value, "between 1s and 5m");
            }
            value
        };
        let cache = duration("cache", written.cache, DEFAULT_CACHE);
        let negative_cache = duration("negative_cache", written.negative_cache, DEFAULT_NEGATIVE_CACHE);
        let requests_per_second = self.requests_per_second(&path, written.requests_per_second);
        let requests_per_second = requests_per_second.unwrap_or(REQUESTS_PER_SECOND);
        let client_id = client_id.or_else(|| without_id.then(String::new))?;
        Some(IntrospectionClient { client_id, auth: auth?, cache, negative_cache, requests_per_second })
    }

    /// The limit on unknown tokens per second, if configured.
    #[inline(never)]
    pub(super) fn requests_per_second(&mut self, path: &Path, written: Option<u32>) -> Option<u32> {
        if let Some(per_second) = written.filter(|rate| !(1..=MAX_REQUESTS_PER_SECOND).contains(rate)) {
            let message = format!("{per_second}, expected between 1 and 10000");
            self.error(&path.name("requests_per_second"), &message);
        }
        written
    }

    /// Which tokens of the rule's issuers are introspected. An opaque token does not name its
    /// issuer, so one issuer with introspection is enough. A JWT names its issuer, so all must have
    /// it.
    #[inline(never)]
    pub(super) fn introspect_mode(&mut self, path: &Path, require: &config::Require) -> Option<Introspect> {
        let mut names = named(require);
        let introspected = |name: &str| self.introspecting.iter().any(|known| known == name);
        let missing = match require.introspect {
            Some(Introspect::Always) => names.find(|name| !introspected(name)),
            Some(Introspect::Opaque) => names.clone().next().filter(|_| !names.any(introspected)),
            None => return names.any(introspected).then_some(Introspect::Opaque),
        };
        if let Some(name) = missing
            && self.issuers.index_of(Some(name), "").is_ok()
        {
            let message =
                format!("the issuer {name:?} has no introspection, expected an issuer with introspection");
            let unless = vec![Path::default().name("issuers")];
            self.error_unless(unless, &path.name("introspect"), &message);
        }
        require.introspect
    }
}
