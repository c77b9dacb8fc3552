//! Compiles an issuer: its endpoints, how long its keys are used, and the requirements on its
//! tokens.

use super::access::layout;
use super::{Compiler, IssuerUses, duration_text};
use crate::config;
use crate::config::AuthMethod;
use crate::config::path_deserializer::Path;
use crate::http::message::Endpoint;
use crate::http::url::Url;
use crate::inbound::jwt::{AcceptedTypes, AccessTokenClaim, IssuerName, IssuerProfile};
use crate::jose::jwk::{self, Algorithm};
use crate::jose::jws::media_type;
use crate::oauth::discovery::{Discovery, EndpointClusters, MtlsEndpoints};
use crate::policy::{DEFAULT_REFRESH, Issuer};
use std::time::Duration;

/// Defaults, each with its reason in `config`.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(160);

/// The longest `clock_skew`: "usually no more than a few minutes" (RFC 7519 section 4.1.4).
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(600);

/// The longest `timeout`: the longest that the host accepts, and no request waits longer.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest `max_backoff`: that of `Retry-After`.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// The entry in a list of types that means no type, and in a list of values that means no claim.
pub(super) const ABSENT: &str = "absent";

/// The accepted `iss` values of an issuer: a template is expanded for each tenant, so that every
/// `iss` is compared as a whole.
pub(super) fn names_of(issuer: &config::Issuer) -> Vec<IssuerName> {
    let written_out = |value: &String| match variable(value) {
        None => vec![IssuerName::from(value.as_str())],
        Some((before, after)) => {
            let name = |tenant: &String| IssuerName {
                iss: format!("{before}{tenant}{after}"),
                tenant: Some(tenant.clone()),
            };
            issuer.tenants.iter().map(name).collect()
        }
    };
    issuer.issuer.0.iter().flat_map(written_out).collect()
}

/// The parts of a template before and after its variable.
fn variable(value: &str) -> Option<(&str, &str)> {
    let (before, rest) = value.split_once('{')?;
    rest.split_once('}').map(|(_, after)| (before, after))
}

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn issuer(
        &mut self,
        path: &Path,
        name: &str,
        names: Vec<IssuerName>,
        issuer: &config::Issuer,
        uses: &IssuerUses<'_>,
    ) -> Issuer {
        self.check_names(path, issuer);
        let issuer_name = names.first().map(|name| name.iss.clone());
        let url = issuer_name.as_deref().and_then(Url::parse);
        let jwks = issuer.jwks.as_ref().and_then(|document| match jwk::parse_object(document) {
            Ok(parsed) => Some(parsed.keys),
            Err(error) => {
                let field = path.name("jwks");
                let message = format!("{error}, expected a JWK set (RFC 7517)");
                self.error_unless(vec![field.clone()], &field, &message);
                None
            }
        });
        if issuer.jwks.is_some() && issuer.jwks_uri.is_some() {
            self.error(path, "both jwks and jwks_uri, expected one of them");
        }
        let (verifies, asks) = (uses.verifying.contains(&name), uses.asking.contains(&name));
        if !verifies && !asks {
            let users = vec![Path::default().name("inbound"), Path::default().name("outbound")];
            let message = "not used by any rule or credential, expected at least one";
            self.error_unless(users, path, message);
        }
        let introspection = self.introspection(path, issuer, issuer_name.as_deref(), verifies);
        let introspects = issuer.introspection.is_some();
        let cluster = issuer.cluster.clone().unwrap_or_default();
        let clusters = clusters(issuer);
        let jwks_uri = self.endpoint(&path.name("jwks_uri"), issuer.jwks_uri.as_deref(), &clusters.keys);
        let field = path.name("token_endpoint");
        let url_text = self.setting_value(&field, issuer.token_endpoint.as_ref());
        let token_endpoint = match issuer.token_endpoint {
            Some(config::Setting::Env(_)) => {
                self.endpoint_of_variable(&field, url_text.as_deref(), &clusters.tokens)
            }
            _ => self.endpoint(&field, url_text.as_deref(), &clusters.tokens),
        };
        let field = path.name("introspection_endpoint");
        let introspection_endpoint =
            self.endpoint(&field, issuer.introspection_endpoint.as_deref(), &clusters.introspection);
        let for_keys = verifies && issuer.jwks.is_none() && issuer.jwks_uri.is_none();
        let for_tokens = asks && issuer.token_endpoint.is_none();
        let for_introspection = introspects && issuer.introspection_endpoint.is_none();
        let discovers = for_keys || for_tokens || for_introspection;
        let reached = [
            (discovers, &cluster),
            (verifies && issuer.jwks.is_none(), &clusters.keys),
            (asks, &clusters.tokens),
            (introspects, &clusters.introspection),
        ];
        if reached.iter().any(|(fetches, cluster)| *fetches && cluster.is_empty()) {
            self.error(
                &path.name("cluster"),
                "missing, expected the name of the Envoy cluster that reaches the issuer",
            );
        }
        let timeout = self.timeout(&path.name("timeout"), issuer.timeout);
        let max_backoff = issuer.max_backoff.map_or(MAX_BACKOFF, |span| span.0);
        if !(Duration::from_secs(1)..=LONGEST_BACKOFF).contains(&max_backoff) {
            self.duration_error(&path.name("max_backoff"), max_backoff, "between 1s and 5m");
        }
        if let Some(found) = issuer_name.filter(|_| discovers && url.is_none()) {
            let message = format!(
                "{found:?}, expected an http(s) URL (discovery starts there), or jwks_uri and token_endpoint"
            );
            self.error(&path.name("issuer"), &message);
        }
        let discovery = url.filter(|_| discovers).map(|url| Discovery {
            issuers: names.iter().map(|name| name.iss.clone()).collect(),
            url,
            cluster,
            clusters,
            allowed_hosts: issuer.allowed_hosts.clone(),
            timeout,
            for_keys,
            for_tokens,
            for_introspection,
            mtls_endpoints: MtlsEndpoints {
                tokens: uses.certified.contains(&name),
                introspection: issuer
                    .introspection
                    .as_ref()
                    .is_some_and(|client| client.auth_method == AuthMethod::TlsClientAuth),
            },
        });
        let refresh = issuer.jwks_refresh_interval.map_or(DEFAULT_REFRESH, |span| span.0);
        let max_stale = issuer.jwks_max_stale.map_or(MAX_STALE.max(refresh), |span| span.0);
        if refresh < Duration::from_secs(5) {
            self.duration_error(&path.name("jwks_refresh_interval"), refresh, "at least 5s");
        }
        if max_stale < refresh {
            let least = format!("at least jwks_refresh_interval ({})", duration_text(refresh));
            self.duration_error(&path.name("jwks_max_stale"), max_stale, &least);
        }
        let profile = self.issuer_profile(path, names, issuer);
        let name = name.to_owned();
        Issuer {
            name,
            profile,
            jwks,
            jwks_uri,
            token_endpoint,
            introspection_endpoint,
            introspection,
            discovery,
            jwks_refresh_interval: issuer.jwks_refresh_interval.map(|span| span.0),
            jwks_max_stale: max_stale,
            timeout,
            max_backoff,
            verifies,
        }
    }

    /// Checks the names of an issuer, and its tenants.
    #[inline(never)]
    fn check_names(&mut self, path: &Path, issuer: &config::Issuer) {
        let (names, tenants) = (&issuer.issuer.0, &issuer.tenants);
        let field = path.name("issuer");
        if names.is_empty() {
            self.error(&field, "missing, expected the exact `iss` of the issuer's tokens");
        }
        let templates = names.iter().filter(|name| name.contains(['{', '}']));
        let (mut any, mut invalid) = (false, None);
        for template in templates {
            any = true;
            let valid = variable(template)
                .is_some_and(|(before, after)| !before.contains('}') && !after.contains(['{', '}']));
            invalid = invalid.or((!valid).then_some(template));
        }
        if let Some(template) = invalid {
            let one_variable = "one variable such as {tenantid}, or no braces";
            let message = format!("{template:?}, expected {one_variable}");
            self.error(&field, &message);
        }
        let field = path.name("tenants");
        if any && invalid.is_none() && tenants.is_empty() {
            let message = "missing, expected the tenants whose tokens are accepted (the template alone would accept every tenant of the provider)";
            self.error_unless(vec![field.clone()], &field, message);
        }
        if !any && !tenants.is_empty() && !names.is_empty() {
            self.error(
                &field,
                "tenants without a template, expected a variable such as {tenantid} in issuer",
            );
        }
        for (index, tenant) in tenants.iter().enumerate() {
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if !tenant.bytes().all(safe) {
                self.error(&field.index(index), &format!("{tenant:?}, expected the `tid` of a tenant"));
            }
        }
    }

    /// The requirements on the issuer's tokens.
    #[inline(never)]
    fn issuer_profile(
        &mut self,
        path: &Path,
        names: Vec<IssuerName>,
        issuer: &config::Issuer,
    ) -> IssuerProfile {
        let clock_skew = issuer.clock_skew.map_or(CLOCK_SKEW, |span| span.0);
        if clock_skew > MAX_CLOCK_SKEW {
            let most = "at most 10m (RFC 7519 section 4.1.4)";
            self.duration_error(&path.name("clock_skew"), clock_skew, most);
        }
        let max_lifetime = self.seconds(&path.name("max_lifetime"), issuer.max_lifetime);
        let field = path.name("token_types");
        let written = issuer.token_types.as_deref();
        if issuer.rfc9068 && written.is_some() {
            self.error(
                &field,
                "both token_types and rfc9068, expected one of them (RFC 9068 allows only at+jwt)",
            );
        }
        let mut types = AcceptedTypes { absent: false, names: Vec::new() };
        for (index, value) in written.into_iter().flatten().enumerate() {
            let name = media_type(value);
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = format!("{value:?}, expected a media type such as \"at+jwt\", or \"absent\"");
                self.error(&field.index(index), &message);
            }
            if name == ABSENT { types.absent = true } else { types.names.push(name) }
        }
        let types = match (issuer.rfc9068, written.is_none()) {
            (true, _) => AcceptedTypes::rfc9068(),
            (false, true) => AcceptedTypes::default(),
            (false, false) => types,
        };
        let algorithms = algorithms(&issuer.algorithms);
        IssuerProfile {
            names,
            algorithms,
            names_algorithms: !issuer.algorithms.is_empty(),
            layout: layout(issuer.preset),
            types,
            access_token_claims: access_token_claims(issuer),
            clock_skew: clock_skew.as_secs(),
            max_lifetime,
            rfc9068: issuer.rfc9068,
        }
    }

    #[inline(never)]
    pub(super) fn timeout(&mut self, path: &Path, duration: Option<config::DurationValue>) -> Duration {
        let timeout = duration.map_or(TIMEOUT, |duration| duration.0);
        // To the host 0 means "never", and it accepts only whole milliseconds.
        if timeout < Duration::from_millis(1) || timeout > MAX_TIMEOUT {
            self.duration_error(path, timeout, "between 1ms and 60s");
        }
        timeout
    }

    #[inline(never)]
    fn endpoint(&mut self, path: &Path, value: Option<&str>, cluster: &str) -> Option<Endpoint> {
        let value = value?;
        let url = Url::parse(value);
        if url.is_none() {
            self.error(path, &format!("{value:?}, expected an http(s) URL"));
        }
        url.map(|url| url.via_cluster(cluster))
    }

    /// The same for an environment variable. Its value is not quoted, since it may be a secret.
    #[inline(never)]
    fn endpoint_of_variable(&mut self, path: &Path, value: Option<&str>, cluster: &str) -> Option<Endpoint> {
        let url = Url::parse(value?);
        if url.is_none() {
            self.error(path, "the environment variable has another value (hidden), expected an http(s) URL");
        }
        url.map(|url| url.via_cluster(cluster))
    }

    /// A duration in whole seconds, the unit of claims.
    #[inline(never)]
    pub(super) fn seconds(&mut self, path: &Path, duration: Option<config::DurationValue>) -> Option<u64> {
        let duration = duration?;
        if duration.0 < Duration::from_secs(1) {
            self.duration_error(path, duration.0, "at least 1s");
        }
        Some(duration.0.as_secs())
    }
}

/// The clusters that reach its endpoints: the endpoint's own cluster, or else the issuer's.
fn clusters(issuer: &config::Issuer) -> EndpointClusters {
    let of =
        |cluster: &Option<String>| cluster.as_ref().or(issuer.cluster.as_ref()).cloned().unwrap_or_default();
    EndpointClusters {
        keys: of(&issuer.jwks_cluster),
        tokens: of(&issuer.token_cluster),
        introspection: of(&issuer.introspection_cluster),
    }
}

/// The claims that the configuration requires of access tokens.
fn access_token_claims(issuer: &config::Issuer) -> Vec<AccessTokenClaim> {
    let claim = |(name, written): (&str, &config::StringOrList)| {
        let values = written.0.iter().filter(|value| *value != ABSENT).cloned().collect();
        let absent = written.0.iter().any(|value| value == ABSENT);
        AccessTokenClaim { name: name.to_owned(), absent, values }
    };
    issuer.access_token_claims.iter().map(claim).collect()
}

fn algorithms(written: &[config::SignatureAlgorithm]) -> Vec<Algorithm> {
    if written.is_empty() {
        return Algorithm::ALL.to_vec();
    }
    written
        .iter()
        .map(|algorithm| match algorithm {
            config::SignatureAlgorithm::RS256 => Algorithm::Rs256,
            config::SignatureAlgorithm::RS384 => Algorithm::Rs384,
            config::SignatureAlgorithm::RS512 => Algorithm::Rs512,
            config::SignatureAlgorithm::PS256 => Algorithm::Ps256,
            config::SignatureAlgorithm::PS384 => Algorithm::Ps384,
            config::SignatureAlgorithm::PS512 => Algorithm::Ps512,
            config::SignatureAlgorithm::ES256 => Algorithm::Es256,
            config::SignatureAlgorithm::ES384 => Algorithm::Es384,
            config::SignatureAlgorithm::ES512 => Algorithm::Es512,
            config::SignatureAlgorithm::EdDSA => Algorithm::EdDsa,
        })
        .collect()
}
