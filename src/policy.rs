//! The compiled configuration: every name resolved, every default filled in.
//!
//! `compile` builds it from the configuration. It is read-only after that.

pub mod compile;
pub use crate::config::Mode;
use crate::config::{Existing, Introspect, Unavailable};
use crate::decision_trace;
use crate::dpop::verify::DpopPolicy;
use crate::http::message::{Endpoint, RequestAttributes, Route};
use crate::http::route::{Ambiguity, InspectedAttributes, MatchResult, RequestMatcher, Target};
use crate::inbound::authorize::{Captures, Requirement};
use crate::inbound::client_certificate::{BindingRequirement, CertificateSource};
use crate::inbound::jwt::{IssuerProfile, RuleRequirements};
use crate::inbound::refusal::{RefusalFormat, Schemes};
use crate::inbound::resource_metadata::Resource;
use crate::inbound::token_location::TokenLocation;
use crate::jose::jwk::KeySet;
use crate::oauth::discovery::Discovery;
use crate::oauth::secret_file::{FileForm, FileRef};
use crate::oauth::{Grant, IntrospectionClient};
use crate::secret::SharingKey;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

/// An issuer of one policy. It does not exist in another policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId {
    policy: PolicyId,
    index: usize,
}

/// A credential of one policy. It does not exist in another policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId {
    policy: PolicyId,
    index: usize,
}

/// A policy, by its configuration: where that is the same, the ids are interchangeable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PolicyId(u64);

impl PolicyId {
    fn of(document: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(document);
        Self(hasher.finish())
    }
}

impl fmt::Debug for PolicyId {
    /// Not the number: the configuration may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyId")
    }
}

impl IssuerId {
    #[cfg(test)]
    pub(crate) const fn in_tests(index: usize) -> Self {
        Self { policy: PolicyId(0), index }
    }

    /// Its index in [`Policy::issuers`].
    pub fn index(self) -> usize {
        self.index
    }
}

impl CredentialId {
    #[cfg(test)]
    pub(crate) const fn in_tests(index: usize) -> Self {
        Self { policy: PolicyId(0), index }
    }

    /// Its index in [`Policy::credentials`].
    pub fn index(self) -> usize {
        self.index
    }
}

/// The compiled configuration.
#[derive(Debug)]
pub struct Policy {
    id: PolicyId,
    /// The identity providers.
    pub issuers: Vec<Rc<Issuer>>,
    /// What inbound requests must present. `None`: requests are not checked.
    pub inbound: Option<Inbound>,
    /// The files that secrets are read from.
    pub files: Vec<Rc<SecretFile>>,
    /// The clients for which tokens are fetched.
    pub credentials: Vec<Rc<Credential>>,
    /// Which requests get which token.
    pub outbound: Vec<OutboundRule>,
    /// The request attributes that those rules match.
    pub outbound_attributes: InspectedAttributes,
    /// The headers to which those rules attach tokens.
    pub outbound_headers: Vec<Rc<str>>,
    /// Bounds on waiting requests.
    pub pending_requests: PendingRequests,
    /// Whether workers share what they fetch.
    pub sharing: Sharing,
    /// Envoy's name of this plugin, from the host; empty if unknown.
    pub plugin_name: Vec<u8>,
}

/// The name in a route's metadata that means no credential: nothing is attached.
pub const NO_CREDENTIAL: &str = "none";

/// The header that reports the decision to the service; reserved if a rule sets it.
pub const DECISION: &str = "m2m-auth-decision";

/// The route names an unknown credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCredential;

impl Policy {
    /// The issuer of this id; `None` if the id is of another policy.
    pub fn issuer(&self, id: IssuerId) -> Option<&Rc<Issuer>> {
        self.issuers.get(id.index).filter(|_| id.policy == self.id)
    }

    /// The ids of [`Policy::issuers`].
    pub fn issuer_ids(&self) -> impl Iterator<Item = IssuerId> + use<> {
        let policy = self.id;
        (0..self.issuers.len()).map(move |index| IssuerId { policy, index })
    }

    /// The credential of this id; `None` if the id is of another policy.
    pub fn credential(&self, id: CredentialId) -> Option<&Rc<Credential>> {
        self.credentials.get(id.index).filter(|_| id.policy == self.id)
    }

    /// The ids of [`Policy::credentials`].
    pub fn credential_ids(&self) -> impl Iterator<Item = CredentialId> + use<> {
        let policy = self.id;
        (0..self.credentials.len()).map(move |index| CredentialId { policy, index })
    }

    /// The ids of [`Policy::files`].
    pub fn file_ids(&self) -> impl Iterator<Item = SecretFileId> + use<> {
        let policy = self.id;
        (0..self.files.len()).map(move |index| SecretFileId { policy, index })
    }

    /// The attributes of a request that the filter must get from the host.
    pub fn request_attributes(&self) -> RequestAttributes {
        let cluster = self.outbound.iter().any(|rule| rule.matcher.cluster.is_some());
        let credential = self.outbound.iter().any(|rule| rule.credential.is_none());
        let rules = self.inbound.iter().flat_map(|inbound| &inbound.rules);
        let mut bound = rules.filter_map(|rule| rule.require.as_ref()?.token_binding);
        let certificate = bound.any(|bound| bound.certificate == Some(CertificateSource::Connection));
        RequestAttributes { cluster, credential, certificate }
    }

    /// The issuer among these that the token's `iss` names.
    pub fn issuer_named(&self, among: &[IssuerId], iss: &str) -> Option<(IssuerId, &Issuer)> {
        let mut known = among.iter().filter_map(|id| Some((*id, &**self.issuer(*id)?)));
        let found = known.find(|(_, issuer)| issuer.profile.has_name(iss));
        if found.is_none() {
            decision_trace::record("issuer", false, || format!("iss {iss:?} is not an issuer of this rule"));
        }
        found
    }

    /// The first of these issuers that can introspect an opaque token.
    pub fn introspecting(&self, among: &[IssuerId]) -> Option<IssuerId> {
        let introspects =
            |id: &IssuerId| self.issuer(*id).is_some_and(|issuer| issuer.introspection.is_some());
        among.iter().copied().find(introspects)
    }

    /// Whether any rule accepts `DPoP` proofs.
    pub fn accepts_dpop(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.dpop_policy.is_some())
    }

    /// Whether the decision is written to the filter state.
    pub fn writes_filter_state(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.filter_state)
    }

    /// The outbound rule that matches a request.
    pub fn outbound_rule(&self, target: Target<'_>) -> Result<Option<&OutboundRule>, Ambiguity> {
        if self.outbound.is_empty() {
            return Ok(None);
        }
        let route_has_credential = target.route().credential.is_some();
        let chosen = target.readings(self.outbound_attributes)?.select(&self.outbound, |rule, view| {
            if rule.credential.is_some() || route_has_credential {
                rule.matcher.fit(view)
            } else {
                MatchResult::No
            }
        })?;
        Ok(chosen.and_then(|index| self.outbound.get(index)))
    }

    /// The credential whose token that rule attaches on this route; `None` if nothing is attached.
    pub fn credential_for(
        &self,
        rule: &OutboundRule,
        route: &Route,
    ) -> Result<Option<CredentialId>, UnknownCredential> {
        match (rule.credential, &route.credential) {
            (Some(id), _) => Ok(Some(id)),
            (None, Some(name)) if name != NO_CREDENTIAL.as_bytes() => {
                let mut all = self.credential_ids().zip(&self.credentials);
                let named = all.find(|(_, credential)| credential.name.as_bytes() == name);
                named.map(|(id, _)| Some(id)).ok_or(UnknownCredential)
            }
            (None, _) => Ok(None),
        }
    }
}

/// Whether the workers of a process share what they fetch.
#[derive(Clone, Debug)]
pub enum Sharing {
    /// Only if no other plugin can write the shared data.
    WhereSafe,
    /// Never.
    Off,
    /// Always.
    On,
    /// Always, encrypted: data that others write is rejected.
    Sealed(SharingKey),
}

/// The scope of sharing.
#[derive(Clone, Debug)]
pub enum SharingScope {
    /// The configurations of one worker, the old and the new one.
    Vm,
    /// All workers of the process, and every plugin with the same `vm_id`.
    Process,
    /// All workers and plugins, encrypted with this key.
    Sealed(SharingKey),
}

/// Bounds on waiting requests.
#[derive(Clone, Copy, Debug)]
pub struct PendingRequests {
    /// How long one request waits.
    pub timeout: Duration,
    /// How many requests wait for the same key set or token.
    pub max: usize,
    /// Memory of all waiting requests whose callers are not verified, in bytes.
    pub max_bytes: usize,
}

/// An identity provider.
#[derive(Debug)]
pub struct Issuer {
    /// Its name in the configuration.
    pub name: String,
    /// The requirements on its tokens.
    pub profile: IssuerProfile,
    /// Its inline key set, if configured.
    pub jwks: Option<KeySet>,
    /// Its key set's URL, if configured.
    pub jwks_uri: Option<Endpoint>,
    /// Its token endpoint, if configured.
    pub token_endpoint: Option<Endpoint>,
    /// Its introspection endpoint, if configured.
    pub introspection_endpoint: Option<Endpoint>,
    /// The client for introspection, if it is used.
    pub introspection: Option<IntrospectionClient>,
    /// Discovery of the endpoints that are not configured.
    pub discovery: Option<Discovery>,
    /// How long keys are used before they are refreshed. `None`: the provider's `max-age`, within
    /// bounds.
    pub jwks_refresh_interval: Option<Duration>,
    /// How long keys are used while they cannot be refreshed.
    pub jwks_max_stale: Duration,
    /// How long one call may take.
    pub timeout: Duration,
    /// The longest pause between two attempts while it fails.
    pub max_backoff: Duration,
    /// Whether a rule needs its keys.
    pub verifies: bool,
}

/// How long keys are used by default, if the provider sends no `max-age`. It bounds how long a
/// withdrawn key is accepted.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// The lower bound on a provider's `max-age`: Auth0 sends 15 s, and a missing key is fetched at
/// once anyway.
const REFRESH_FLOOR: Duration = Duration::from_secs(60);

/// The upper bound: Google sends hours, and Okta has sent weeks, during which a withdrawn key would
/// be accepted. Native Envoy caches keys for 10 minutes by default.
const REFRESH_CEILING: Duration = Duration::from_secs(600);

impl Issuer {
    /// How long keys are used before they are refreshed, if the provider sends this `max-age`.
    pub fn renew_after(&self, max_age: Option<Duration>) -> Duration {
        let from_provider = max_age.map_or(DEFAULT_REFRESH, |age| age.clamp(REFRESH_FLOOR, REFRESH_CEILING));
        self.jwks_refresh_interval.unwrap_or(from_provider)
    }
}

/// What inbound requests must present.
#[derive(Debug)]
pub struct Inbound {
    /// The format of error responses.
    pub refusal_format: RefusalFormat,
    /// The protected resource metadata, if published.
    pub resource: Option<Resource>,
    /// Headers that only this filter may set; a client's copies are removed.
    pub reserved_headers: Vec<Rc<str>>,
    /// Headers that decisions depend on. Headers with names that a server may treat as the same are
    /// removed.
    pub decision_headers: Vec<Rc<str>>,
    /// How `DPoP` proofs are verified, if any rule requires them.
    pub dpop_policy: Option<DpopPolicy>,
    /// The rules, in order.
    pub rules: Vec<InboundRule>,
    /// The request attributes that the rules match.
    pub attributes: InspectedAttributes,
    /// Whether the filter state is written, for later filters and the access log.
    pub filter_state: bool,
}

impl Inbound {
    /// The rule that matches a request in all of its readings.
    pub fn rule(&self, target: Target<'_>) -> Result<Option<MatchedRule<'_>>, Ambiguity> {
        let preflight = target.preflight();
        let readings = target.readings(self.attributes)?;
        let chosen = readings.select(&self.rules, |rule, view| match preflight {
            Some(announced) if rule.cors_preflight => rule.matcher.fit(&view.announcing(announced)),
            _ => rule.matcher.fit(view),
        })?;
        let Some(rule) = chosen.and_then(|index| self.rules.get(index)) else {
            return Ok(None);
        };
        let capture = |name: &Rc<str>| Ok((Rc::clone(name), readings.captured(&rule.matcher, name)?));
        let captures = rule.compared_captures.iter().map(capture).collect::<Result<_, Ambiguity>>()?;
        Ok(Some(MatchedRule { rule, captures, preflight: preflight.is_some() && rule.cors_preflight }))
    }
}

/// The rule that matches a request.
pub struct MatchedRule<'p> {
    /// The rule.
    pub rule: &'p InboundRule,
    /// The values of the placeholders that conditions compare with, decoded once.
    pub captures: Captures,
    /// Whether the request is a CORS preflight.
    pub preflight: bool,
}

/// Which requests the rule matches, and what it requires.
#[derive(Debug)]
pub struct InboundRule {
    /// Its name in metrics and logs.
    pub name: Rc<str>,
    /// Which requests the rule matches.
    pub matcher: RequestMatcher,
    /// The names of the placeholders that conditions compare with.
    pub compared_captures: Vec<Rc<str>>,
    /// How the decision is enforced.
    pub mode: Mode,
    /// What the caller must present; `None`: nothing.
    pub require: Option<Require>,
    /// The locations of the token, and whether it is forwarded.
    pub token_locations: Vec<TokenLocation>,
    /// Header names and claim paths.
    pub claims_to_headers: Vec<(Rc<str>, Vec<String>)>,
    /// The header for the token's whole payload.
    pub payload_header: Option<Rc<str>>,
    /// Whether CORS preflights for these requests are forwarded.
    pub cors_preflight: bool,
}

/// What a caller must present.
#[derive(Debug)]
pub struct Require {
    /// The issuers that may have signed the token; its `iss` selects one.
    pub issuers: Vec<IssuerId>,
    /// The requirements on the token.
    pub requirements: RuleRequirements,
    /// Required token binding, if any.
    pub token_binding: Option<BindingRequirement>,
    /// Which tokens are introspected; `None`: none.
    pub introspect: Option<Introspect>,
    /// The roles, scopes and claims that are required.
    pub access: Requirement,
}

impl Require {
    /// The authentication schemes that this rule accepts.
    pub fn schemes(&self) -> Schemes {
        let dpop = self.token_binding.is_some_and(|bound| bound.dpop);
        let bearer = self.token_binding.is_none_or(|bound| bound.optional || bound.certificate.is_some());
        Schemes { bearer, dpop, used_dpop: false }
    }
}

/// A client, and the token that it requests.
#[derive(Debug)]
pub struct Credential {
    /// Its name in the configuration.
    pub name: String,
    /// The issuer whose token endpoint is called.
    pub issuer: IssuerId,
    /// The token request.
    pub grant: Grant,
    /// The token of the request that the token depends on, if any: then each caller has its own.
    pub subject: Option<SubjectToken>,
    /// The credential whose token for the same request is exchanged, instead of that token itself.
    pub via: Option<CredentialId>,
    /// The token that is exchanged or asserted for all requests.
    pub input: Option<TokenInput>,
    /// The actor's token, if one is sent.
    pub actor: Option<TokenInput>,
    /// Whether the exchanged token is forwarded too.
    pub forward_subject: bool,
    /// Limit on unknown subject tokens that one worker exchanges per second, if any.
    pub requests_per_second: Option<u32>,
}

/// A token that a token request contains, the same for all requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenInput {
    /// What this file contains.
    File(FileRef),
    /// The token of a credential that has one of its own.
    Credential(CredentialId),
}

/// A file that a secret is read from.
#[derive(Debug)]
pub struct SecretFile {
    /// Its index, and its name in logs and metrics.
    pub file: FileRef,
    /// Where it is served.
    pub endpoint: Endpoint,
    /// What it must contain.
    pub form: FileForm,
}

/// A file of one policy. It does not exist in another policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretFileId {
    policy: PolicyId,
    index: usize,
}

impl SecretFileId {
    /// Its index in [`Policy::files`].
    pub fn index(self) -> usize {
        self.index
    }
}

/// The location of the token that is exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectToken {
    /// The verified caller's token.
    Caller,
    /// The content of this header; the provider verifies it.
    Header(Rc<str>),
}

/// Which requests the rule matches, and which token they get.
#[derive(Debug)]
pub struct OutboundRule {
    /// Its name in metrics and logs.
    pub name: Rc<str>,
    /// Which requests the rule matches.
    pub matcher: RequestMatcher,
    /// The credential; `None`: the one that the route names.
    pub credential: Option<CredentialId>,
    /// The header.
    pub header: Rc<str>,
    /// The scheme before the token, with the space.
    pub prefix: String,
    /// Another header, for the token alone.
    pub second_header: Option<Rc<str>>,
    /// The header of a `DPoP` proof to remove, if the token replaces a credential that may have
    /// come with one.
    pub proof_header: Option<Rc<str>>,
    /// The `DPoP` proof that the token needs.
    pub dpop_target: Option<DpopTarget>,
    /// What happens to a header of that name.
    pub existing: Existing,
    /// What happens to a request if no token is available.
    pub unavailable: Unavailable,
}

/// The target of a `DPoP` proof, apart from the request itself.
#[derive(Debug)]
pub struct DpopTarget {
    /// The origin by which the called service knows itself; `None`: the request's own.
    pub origin: Option<Rc<str>>,
}
