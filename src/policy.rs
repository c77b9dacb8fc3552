//! What the operator meant: the configuration compiled once, with every name resolved and every default filled in.
//!
//! `compile` makes it from the configuration; from then on it is only read.

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
use crate::oauth::{Grant, IntrospectionClient};
use crate::secret::SharingKey;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

/// An issuer of one policy. Where the policy is another one, there is no such issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId {
    policy: PolicyId,
    index: usize,
}

/// A credential of one policy. Where the policy is another one, there is no such credential.
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

    /// Its place in [`Policy::issuers`].
    pub fn index(self) -> usize {
        self.index
    }
}

impl CredentialId {
    #[cfg(test)]
    pub(crate) const fn in_tests(index: usize) -> Self {
        Self { policy: PolicyId(0), index }
    }

    /// Its place in [`Policy::credentials`].
    pub fn index(self) -> usize {
        self.index
    }
}

/// Everything that the operator meant.
#[derive(Debug)]
pub struct Policy {
    id: PolicyId,
    /// The identity providers.
    pub issuers: Vec<Rc<Issuer>>,
    /// What callers must show, if they must.
    pub inbound: Option<Inbound>,
    /// The clients as which tokens are fetched.
    pub credentials: Vec<Rc<Credential>>,
    /// Which requests get whose token.
    pub outbound: Vec<OutboundRule>,
    /// What those rules look at.
    pub outbound_attributes: InspectedAttributes,
    /// The headers in which those rules attach tokens.
    pub outbound_headers: Vec<Rc<str>>,
    /// The bounds of waiting.
    pub pending_requests: PendingRequests,
    /// Whether workers share what they fetch.
    pub sharing: Sharing,
    /// What Envoy calls this filter among those of the process; the host knows it. Empty where nobody does.
    pub plugin_name: Vec<u8>,
}

/// What a route names instead of a credential, so that nothing is attached.
pub const NO_CREDENTIAL: &str = "none";

/// The header with the decision, for the service; reserved where a rule sets it.
pub const DECISION: &str = "m2m-auth-decision";

/// The route names a credential that is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCredential;

impl Policy {
    /// The issuer of this id; none if the id is of another policy.
    pub fn issuer(&self, id: IssuerId) -> Option<&Rc<Issuer>> {
        self.issuers.get(id.index).filter(|_| id.policy == self.id)
    }

    /// The ids of [`Policy::issuers`].
    pub fn issuer_ids(&self) -> impl Iterator<Item = IssuerId> + use<> {
        let policy = self.id;
        (0..self.issuers.len()).map(move |index| IssuerId { policy, index })
    }

    /// The credential of this id; none if the id is of another policy.
    pub fn credential(&self, id: CredentialId) -> Option<&Rc<Credential>> {
        self.credentials.get(id.index).filter(|_| id.policy == self.id)
    }

    /// The ids of [`Policy::credentials`].
    pub fn credential_ids(&self) -> impl Iterator<Item = CredentialId> + use<> {
        let policy = self.id;
        (0..self.credentials.len()).map(move |index| CredentialId { policy, index })
    }

    /// What the host must be asked about a request before it can be decided.
    pub fn request_attributes(&self) -> RequestAttributes {
        let cluster = self.outbound.iter().any(|rule| rule.matcher.cluster.is_some());
        let credential = self.outbound.iter().any(|rule| rule.credential.is_none());
        let rules = self.inbound.iter().flat_map(|inbound| &inbound.rules);
        let mut bound = rules.filter_map(|rule| rule.require.as_ref()?.token_binding);
        let certificate = bound.any(|bound| bound.certificate == Some(CertificateSource::Connection));
        RequestAttributes { cluster, credential, certificate }
    }

    /// The one of these issuers that a token says it is from.
    pub fn issuer_named(&self, among: &[IssuerId], iss: &str) -> Option<(IssuerId, &Issuer)> {
        let mut known = among.iter().filter_map(|id| Some((*id, &**self.issuer(*id)?)));
        let found = known.find(|(_, issuer)| issuer.profile.has_name(iss));
        if found.is_none() {
            decision_trace::record("issuer", false, || format!("iss {iss:?} is none of the rule's"));
        }
        found
    }

    /// The first of these issuers that can be asked about a token which does not say whose it is.
    pub fn introspecting(&self, among: &[IssuerId]) -> Option<IssuerId> {
        let asked = |id: &IssuerId| self.issuer(*id).is_some_and(|own| own.introspection.is_some());
        among.iter().copied().find(asked)
    }

    /// Whether any rule takes proofs.
    pub fn accepts_dpop(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.dpop_policy.is_some())
    }

    /// Whether the filter state says what was decided.
    pub fn writes_filter_state(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.filter_state)
    }

    /// The outbound rule for a request.
    pub fn outbound_rule(&self, target: Target<'_>) -> Result<Option<&OutboundRule>, Ambiguity> {
        if self.outbound.is_empty() {
            return Ok(None);
        }
        let names = target.route().credential.is_some();
        let chosen = target.readings(self.outbound_attributes)?.select(&self.outbound, |rule, view| {
            if rule.credential.is_some() || names { rule.matcher.fit(view) } else { MatchResult::No }
        })?;
        Ok(chosen.and_then(|place| self.outbound.get(place)))
    }

    /// Whose token that rule attaches on this route; none, if the route wants none.
    pub fn credential_for(
        &self,
        rule: &OutboundRule,
        route: &Route,
    ) -> Result<Option<CredentialId>, UnknownCredential> {
        match (rule.credential, &route.credential) {
            (Some(own), _) => Ok(Some(own)),
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
    /// Where nobody else can write what they share.
    WhereSafe,
    /// No.
    Off,
    /// Yes.
    On,
    /// Yes, and what others write is not believed.
    Sealed(SharingKey),
}

/// How far sharing reaches.
#[derive(Clone, Debug)]
pub enum SharingScope {
    /// The configurations of one worker, the old and the new one.
    Vm,
    /// All workers of the process, and every plugin with the same `vm_id`.
    Process,
    /// The same, under a key.
    Sealed(SharingKey),
}

/// The most that waiting may take.
#[derive(Clone, Copy, Debug)]
pub struct PendingRequests {
    /// For one request.
    pub timeout: Duration,
    /// Requests that wait for one thing.
    pub max: usize,
    /// What all take up that wait and whose callers are not known, in bytes.
    pub max_bytes: usize,
}

/// An identity provider.
#[derive(Debug)]
pub struct Issuer {
    /// Its name in the configuration.
    pub name: String,
    /// What its tokens must look like.
    pub profile: IssuerProfile,
    /// Its key set, if it is given.
    pub jwks: Option<KeySet>,
    /// Its key set's place, if it is given.
    pub jwks_uri: Option<Endpoint>,
    /// Its token endpoint, if it is given.
    pub token_endpoint: Option<Endpoint>,
    /// Its introspection endpoint, if it is given.
    pub introspection_endpoint: Option<Endpoint>,
    /// The client for introspection, if it is used.
    pub introspection: Option<IntrospectionClient>,
    /// How to find what is not given.
    pub discovery: Option<Discovery>,
    /// How long keys are used before they are renewed; none: as the provider says, within bounds.
    pub jwks_refresh_interval: Option<Duration>,
    /// How long keys are used when they cannot be renewed.
    pub jwks_max_stale: Duration,
    /// How long one call may take.
    pub timeout: Duration,
    /// The longest pause between two attempts while it is down.
    pub max_backoff: Duration,
    /// Whether a rule needs its keys.
    pub verifies: bool,
}

/// How long keys are used where neither the operator nor the provider says: it bounds how long a withdrawn key is believed.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// The least that a provider's `max-age` counts for: Auth0 says 15 s, and a key that is missing is looked for at once anyway.
const REFRESH_FLOOR: Duration = Duration::from_secs(60);

/// The most: Google says hours, and Okta has said weeks, in which a withdrawn key would be believed. Native Envoy keeps keys
/// for 10 minutes by default.
const REFRESH_CEILING: Duration = Duration::from_secs(600);

impl Issuer {
    /// How long keys are used before they are renewed, if the provider says that they are good for `max_age`.
    pub fn renew_after(&self, max_age: Option<Duration>) -> Duration {
        let said = max_age.map_or(DEFAULT_REFRESH, |age| age.clamp(REFRESH_FLOOR, REFRESH_CEILING));
        self.jwks_refresh_interval.unwrap_or(said)
    }
}

/// What callers must show.
#[derive(Debug)]
pub struct Inbound {
    /// How callers are refused.
    pub refusal_format: RefusalFormat,
    /// What is said of the resource, if it is.
    pub resource: Option<Resource>,
    /// Headers that only we may set; a client's copies are removed.
    pub reserved_headers: Vec<Rc<str>>,
    /// Headers that decisions depend on; others whose names a server may take for theirs are removed.
    pub decision_headers: Vec<Rc<str>>,
    /// How proofs are judged, if any are asked for.
    pub dpop_policy: Option<DpopPolicy>,
    /// In order.
    pub rules: Vec<InboundRule>,
    /// What they look at.
    pub attributes: InspectedAttributes,
    /// Whether the filter state is written, for later filters and the access log.
    pub filter_state: bool,
}

impl Inbound {
    /// The rule for a request, whichever server reads it.
    pub fn rule(&self, target: Target<'_>) -> Result<Option<MatchedRule<'_>>, Ambiguity> {
        let preflight = target.preflight();
        let readings = target.readings(self.attributes)?;
        let chosen = readings.select(&self.rules, |rule, view| match preflight {
            Some(announced) if rule.cors_preflight => rule.matcher.fit(&view.announcing(announced)),
            _ => rule.matcher.fit(view),
        })?;
        let Some(rule) = chosen.and_then(|place| self.rules.get(place)) else {
            return Ok(None);
        };
        let capture = |name: &Rc<str>| Ok((Rc::clone(name), readings.captured(&rule.matcher, name)?));
        let captures = rule.compared_captures.iter().map(capture).collect::<Result<_, Ambiguity>>()?;
        Ok(Some(MatchedRule { rule, captures, preflight: preflight.is_some() && rule.cors_preflight }))
    }
}

/// The rule for a request.
pub struct MatchedRule<'p> {
    /// The rule.
    pub rule: &'p InboundRule,
    /// What the request's path has in those places of the rule's path that conditions compare with, decoded once.
    pub captures: Captures,
    /// Whether the request only asks, as a CORS preflight, whether another one may be sent.
    pub preflight: bool,
}

/// Requests, and what they need.
#[derive(Debug)]
pub struct InboundRule {
    /// Its name in metrics and logs.
    pub name: Rc<str>,
    /// Which requests.
    pub matcher: RequestMatcher,
    /// The names of places in the path that conditions compare with.
    pub compared_captures: Vec<Rc<str>>,
    /// What becomes of the decision.
    pub mode: Mode,
    /// What the caller must show; none: nothing.
    pub require: Option<Require>,
    /// Where the token stands, and whether it stays there.
    pub token_locations: Vec<TokenLocation>,
    /// Header and claim path.
    pub claims_to_headers: Vec<(Rc<str>, Vec<String>)>,
    /// The header for the whole payload.
    pub payload_header: Option<Rc<str>>,
    /// Whether CORS preflights for these requests go on.
    pub cors_preflight: bool,
}

/// What a caller must show.
#[derive(Debug)]
pub struct Require {
    /// Who may have signed the token; its `iss` chooses among them.
    pub issuers: Vec<IssuerId>,
    /// What the token must be.
    pub requirements: RuleRequirements,
    /// To which keys it must be bound; none: to none.
    pub token_binding: Option<BindingRequirement>,
    /// Which tokens are asked about; none, if nobody is asked.
    pub introspect: Option<Introspect>,
    /// What the caller must be allowed.
    pub access: Requirement,
}

impl Require {
    /// How its callers may show their tokens.
    pub fn schemes(&self) -> Schemes {
        let by_key = self.token_binding.is_some_and(|bound| bound.dpop);
        let otherwise = self.token_binding.is_none_or(|bound| bound.optional || bound.certificate.is_some());
        Schemes { bearer: otherwise, dpop: by_key, used_dpop: false }
    }
}

/// A client, and the token that it asks for.
#[derive(Debug)]
pub struct Credential {
    /// Its name in the configuration.
    pub name: String,
    /// At whose token endpoint.
    pub issuer: IssuerId,
    /// What it asks for.
    pub grant: Grant,
    /// Whose token it is exchanged for, if it is.
    pub subject: Option<SubjectToken>,
    /// Whether that one is forwarded beside it.
    pub forward_subject: bool,
    /// Of how many unknown subject tokens a second the provider is asked by one worker, if that is bounded.
    pub requests_per_second: Option<u32>,
}

/// Where the token stands that is exchanged for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectToken {
    /// The verified caller's.
    Caller,
    /// Whatever this header holds; the provider judges it.
    Header(Rc<str>),
}

/// Requests, and whose token they get.
#[derive(Debug)]
pub struct OutboundRule {
    /// Its name in metrics and logs.
    pub name: Rc<str>,
    /// Which requests.
    pub matcher: RequestMatcher,
    /// Whose token; none: of the credential that the route names.
    pub credential: Option<CredentialId>,
    /// The header.
    pub header: Rc<str>,
    /// What stands before the token, with the blank.
    pub prefix: String,
    /// Another header, for the token alone.
    pub second_header: Option<Rc<str>>,
    /// The header of a proof, where the token stands in the place of a credential that may have brought its own.
    pub proof_header: Option<Rc<str>>,
    /// The proof that the token needs.
    pub dpop_target: Option<DpopTarget>,
    /// What happens to a header of that name.
    pub existing: Existing,
    /// What happens while there is no token.
    pub unavailable: Unavailable,
}

/// What a bound token's proof claims beside the request itself.
#[derive(Debug)]
pub struct DpopTarget {
    /// The origin that the called service believes to be called as; none: the request's own.
    pub origin: Option<Rc<str>>,
}
