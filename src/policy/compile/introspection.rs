//! Compiles introspection: the client that asks an issuer about tokens, and the tokens that it asks about.

use super::{Compiler, named};
use crate::config::path_deserializer::Path;
use crate::config::{self, AuthMethod, Introspect};
use crate::oauth::IntrospectionClient;
use std::time::Duration;

/// Defaults, each with its reason in `config`.
const DEFAULT_CACHE: Duration = Duration::from_secs(30);
const DEFAULT_NEGATIVE_CACHE: Duration = Duration::from_secs(10);
pub(super) const REQUESTS_PER_SECOND: u32 = 100;

/// The most `requests_per_second`: as many as a worker can ask about.
const MAX_REQUESTS_PER_SECOND: u32 = 10_000;

/// The longest `cache` and `negative_cache`: who would let a revoked token in for longer has no use for being told.
const MAX_CACHE: Duration = Duration::from_secs(300);

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn introspection(
        &mut self,
        path: &Path,
        issuer: &config::Issuer,
        own: Option<&str>,
        verifies: bool,
    ) -> Option<IntrospectionClient> {
        let Some(written) = &issuer.introspection else {
            if issuer.introspection_endpoint.is_some() {
                let fault = "nobody asks there, expected introspection with the client that does";
                let unless = vec![path.name("introspection")];
                self.error_unless(unless, &path.name("introspection_endpoint"), fault);
            }
            return None;
        };
        let path = path.name("introspection");
        if !verifies {
            let unless = vec![Path::default().name("inbound")];
            let fault = "no inbound rule uses this issuer, expected one that does";
            self.error_unless(unless, &path, fault);
        }
        // A client is a client, whatever it asks for.
        let client = config::Credential {
            client_id: written.client_id.clone(),
            client_secret: written.client_secret.clone(),
            auth_method: written.auth_method,
            private_key: written.private_key.clone(),
            kid: written.kid.clone(),
            assertion_algorithm: written.assertion_algorithm,
            assertion_audience: written.assertion_audience.clone(),
            ..config::Credential::default()
        };
        let by_cluster = written.auth_method == AuthMethod::External;
        let client_id = self.client_id(&path, written.client_id.as_ref(), written.auth_method);
        let auth = self.client(&path, &client, own);
        let mut span = |member: &str, span: Option<config::DurationValue>, default: Duration| {
            let span = span.map_or(default, |span| span.0);
            if span < Duration::from_secs(1) || span > MAX_CACHE {
                self.error(&path.name(member), "outside its bounds, expected between 1s and 5m");
            }
            span
        };
        let cache = span("cache", written.cache, DEFAULT_CACHE);
        let negative_cache = span("negative_cache", written.negative_cache, DEFAULT_NEGATIVE_CACHE);
        let requests_per_second = self.requests_per_second(&path, written.requests_per_second);
        let requests_per_second = requests_per_second.unwrap_or(REQUESTS_PER_SECOND);
        let client_id = client_id.or_else(|| by_cluster.then(String::new))?;
        Some(IntrospectionClient { client_id, auth: auth?, cache, negative_cache, requests_per_second })
    }

    /// Of how many unknown tokens a second a provider is asked, if that is given.
    #[inline(never)]
    pub(super) fn requests_per_second(&mut self, path: &Path, written: Option<u32>) -> Option<u32> {
        if let Some(per_second) = written.filter(|own| !(1..=MAX_REQUESTS_PER_SECOND).contains(own)) {
            let fault = format!("{per_second}, expected between 1 and 10000");
            self.error(&path.name("requests_per_second"), &fault);
        }
        written
    }

    /// Which tokens of the rule's issuers are asked about: an opaque one says nothing of its issuer, so one that can be asked is
    /// enough; a JWT names its own, so that every one of them must be.
    #[inline(never)]
    pub(super) fn introspect_mode(&mut self, path: &Path, require: &config::Require) -> Option<Introspect> {
        let mut names = named(require);
        let asked = |name: &str| self.introspecting.iter().any(|own| own == name);
        let silent = match require.introspect {
            Some(Introspect::Always) => names.find(|name| !asked(name)),
            Some(Introspect::Opaque) => names.clone().next().filter(|_| !names.any(asked)),
            None => return names.any(asked).then_some(Introspect::Opaque),
        };
        if let Some(name) = silent
            && self.issuers.index_of(Some(name), "").is_ok()
        {
            let fault = format!("the issuer {name:?} has no introspection, expected one that has");
            let unless = vec![Path::default().name("issuers")];
            self.error_unless(unless, &path.name("introspect"), &fault);
        }
        require.introspect
    }
}
