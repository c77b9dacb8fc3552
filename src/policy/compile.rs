//! Compiles the configuration to a policy: every name resolved, every default filled in.
//!
//! In: the configuration's bytes, and the environment. Out: a [`Policy`], or every error with its
//! path. It is a pure function: the same input has the same result on every worker, as Envoy
//! requires of `on_configure`. If one worker alone rejected a configuration, its requests would
//! pass unchecked.

mod access;
mod client;
mod dpop;
mod forwarded_claims;
mod introspection;
mod issuer;
mod names;
mod outbound;
mod pending;
mod refusals;
mod route_match;
mod secret_files;
mod sharing;
mod token_binding;
mod token_checks;
mod token_locations;

use crate::config::errors::{self, ConfigError};
use crate::config::path_deserializer::Path;
use crate::config::{self, AuthMethod, Config};
use crate::http::route::InspectedAttributes;
use crate::inbound::claim_layout::ClaimLayout;
use crate::inbound::jwt::IssuerName;
use crate::inbound::token_location::TokenSource;
use crate::policy::{Inbound, InboundRule, IssuerId, Policy, PolicyId, Require, SecretFile};
use access::{ConditionFields, layout};
use names::{DeclaredNames, rule_names};
use std::rc::Rc;
use std::time::Duration;

impl Policy {
    /// Reads and compiles a configuration.
    pub fn read(
        document: &[u8],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let read = errors::read::<Config>(document)?;
        let issuers = DeclaredNames::of(&read, "issuers", read.value.issuers.names());
        let credentials = read.value.outbound.iter().flat_map(|outbound| outbound.credentials.names());
        let credentials = DeclaredNames::of(&read, "outbound.credentials", credentials);
        let verifies = read.value.inbound.is_some();
        let layouts =
            read.value.issuers.iter().map(|(name, issuer)| (name.to_owned(), layout(issuer.preset)));
        let layouts = layouts.collect();
        let issuer_names = read.value.issuers.iter().map(|(_, issuer)| issuer::names_of(issuer)).collect();
        let introspecting = read.value.issuers.iter().filter(|(_, issuer)| issuer.introspection.is_some());
        let introspecting = introspecting.map(|(name, _)| name.to_owned()).collect();
        let mut compiler = Compiler {
            policy_id: PolicyId::of(document),
            environment,
            issuers,
            issuer_names,
            layouts,
            introspecting,
            credentials,
            capture_names: Vec::new(),
            files: Vec::new(),
            verifies,
            errors: Vec::new(),
        };
        let policy = compiler.policy(&read.value);
        let errors = read.with_errors(compiler.errors);
        match policy {
            Some(policy) if errors.is_empty() => Ok(policy),
            _ => Err(errors),
        }
    }
}

/// Defaults, each with its reason in `config`.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// Parameters of a token request that have a field of their own, or that must not be overridden.
const RESERVED_PARAMETERS: [&str; 14] = [
    "actor_token",
    "actor_token_type",
    "assertion",
    "audience",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "grant_type",
    "requested_token_type",
    "resource",
    "scope",
    "subject_token",
    "subject_token_type",
];

/// Walks the configuration, and collects all errors. Never inlined: it runs once, and inlining adds
/// 30 KB of module, which Envoy compiles at every start.
struct Compiler<'a> {
    policy_id: PolicyId,
    environment: &'a dyn Fn(&str) -> Option<String>,
    issuers: DeclaredNames,
    /// The claim layout of each issuer's tokens.
    layouts: Vec<(String, &'static ClaimLayout)>,
    /// The accepted `iss` values of each issuer.
    issuer_names: Vec<Vec<IssuerName>>,
    credentials: DeclaredNames,
    /// The issuers with introspection.
    introspecting: Vec<String>,
    /// The names of the placeholders in the path of the rule that is being compiled.
    capture_names: Vec<String>,
    /// The files that secrets are read from.
    files: Vec<Rc<SecretFile>>,
    /// Whether inbound requests are verified.
    verifies: bool,
    errors: Vec<ConfigError>,
}

impl Compiler<'_> {
    #[inline(never)]
    fn error(&mut self, path: &Path, message: &str) {
        self.errors.push(ConfigError::new(path, message));
    }

    #[inline(never)]
    fn error_if(&mut self, path: &Path, message: Option<String>) {
        self.errors.extend(message.map(|message| ConfigError::new(path, message)));
    }

    /// An error that may only follow from others: it is not reported if a value within one of these
    /// paths could not be read.
    #[inline(never)]
    fn error_unless(&mut self, unless: Vec<Path>, path: &Path, message: &str) {
        self.errors.push(ConfigError { explained_by: unless, ..ConfigError::new(path, message) });
    }

    /// A duration outside its bounds.
    #[inline(never)]
    fn duration_error(&mut self, path: &Path, found: Duration, expected: &str) {
        self.error(path, &format!("{}, expected {expected}", duration_text(found)));
    }

    #[inline(never)]
    fn policy(&mut self, config: &Config) -> Option<Policy> {
        let root = Path::default();
        if config.inbound.is_none() && config.outbound.is_none() {
            let message = "neither inbound nor outbound, expected at least one of them";
            self.error_unless(vec![root.name("inbound"), root.name("outbound")], &root, message);
        }
        let uses = IssuerUses::of(config);
        let mut issuers = Vec::new();
        for (index, (name, issuer)) in config.issuers.iter().enumerate() {
            let names = self.issuer_names.get(index).cloned().unwrap_or_default();
            issuers.push(Rc::new(self.issuer(&root.name("issuers").name(name), name, names, issuer, &uses)));
        }
        let inbound = config.inbound.as_ref().map(|inbound| self.inbound(config, inbound));
        let (credentials, outbound) = match &config.outbound {
            Some(outbound) => self.outbound(outbound),
            None => Default::default(),
        };
        let pending_requests = self.pending_requests(&config.pending_requests);
        let sharing = self.sharing(config);
        self.errors.is_empty().then_some(Policy {
            id: self.policy_id,
            issuers,
            inbound,
            files: std::mem::take(&mut self.files),
            credentials,
            outbound_attributes: InspectedAttributes::of(
                outbound.iter().map(|rule| &rule.matcher),
                config.outbound.as_ref().is_some_and(|outbound| outbound.danger_case_sensitive_paths),
            ),
            outbound_headers: outbound::token_headers(&outbound),
            outbound,
            pending_requests,
            sharing,
            plugin_name: Vec::new(),
        })
    }

    #[inline(never)]
    fn inbound(&mut self, config: &Config, inbound: &config::Inbound) -> Inbound {
        let path = Path::default().name("inbound");
        let (refusal_format, resource) = self.refusal_format(&path, config, inbound);
        if inbound.rules.is_empty() {
            let message = "missing, expected at least one rule (requests that match no rule are denied)";
            self.error_unless(vec![path.name("rules")], &path.name("rules"), message);
        }
        let sources = self.token_sources(&path.name("token_locations"), inbound.token_locations.as_deref());
        let mut rules = Vec::new();
        let names = inbound.rules.iter().map(|rule| (rule.name.as_deref(), &rule.r#match));
        for ((index, rule), name) in inbound.rules.iter().enumerate().zip(rule_names(names)) {
            rules.extend(self.rule(&path.name("rules").index(index), name, rule, &sources));
        }
        let uses_dpop = inbound
            .rules
            .iter()
            .filter_map(|rule| rule.require.as_ref()?.token_binding)
            .any(|bound| bound.dpop);
        let dpop_policy = self.dpop_policy(&path.name("dpop"), inbound.dpop.as_ref(), uses_dpop);
        let reserved_headers = forwarded_claims::reserved_headers(&rules);
        let decision_headers = forwarded_claims::decision_headers(&rules);
        self.check_distinct(&path.name("rules"), inbound.rules.iter().map(|rule| rule.name.as_deref()));
        let attributes = InspectedAttributes::of(
            rules.iter().map(|rule| &rule.matcher),
            inbound.danger_case_sensitive_paths,
        );
        let filter_state = inbound.filter_state;
        Inbound {
            refusal_format,
            resource,
            reserved_headers,
            decision_headers,
            dpop_policy,
            rules,
            attributes,
            filter_state,
        }
    }

    #[inline(never)]
    fn rule(
        &mut self,
        path: &Path,
        name: Rc<str>,
        rule: &config::InboundRule,
        sources: &[TokenSource],
    ) -> Option<InboundRule> {
        let matcher = self.inbound_matcher(&path.name("match"), &rule.r#match);
        if rule.require.is_some() == rule.allow {
            let found = if rule.allow { "both require and allow" } else { "neither require nor allow" };
            let unless = vec![path.name("require"), path.name("allow")];
            self.error_unless(unless, path, &format!("{found}, expected exactly one of them"));
        }
        self.capture_names = matcher.names().map(str::to_owned).collect();
        let require = rule.require.as_ref().map(|require| self.require(&path.name("require"), require));
        let claims_to_headers = self.claims_to_headers(path, rule);
        let payload_header = self.payload_header(path, rule);
        let token_locations = self.token_locations(path, rule, sources);
        let require = match require {
            Some(require) => Some(require?),
            None => None,
        };
        let compared_captures = require.as_ref().map(|require| require.access.compared_captures());
        Some(InboundRule {
            name,
            matcher,
            compared_captures: compared_captures.unwrap_or_default(),
            mode: rule.mode,
            require,
            token_locations,
            claims_to_headers,
            payload_header,
            cors_preflight: rule.cors_preflight,
        })
    }

    #[inline(never)]
    fn require(&mut self, path: &Path, require: &config::Require) -> Option<Require> {
        let issuers = self.issuers_of(path, require);
        let requirements = self.rule_requirements(path, require);
        let layouts = self.layouts_of(named(require));
        let access = self.access(path, &ConditionFields::from(require), &layouts, 0);
        let introspect = self.introspect_mode(path, require);
        let token_binding = self.token_binding(&path.name("token_binding"), require.token_binding);
        Some(Require { issuers: issuers?, requirements, token_binding, introspect, access })
    }

    #[inline(never)]
    fn issuer_named(&mut self, path: &Path, name: Option<&str>) -> Option<IssuerId> {
        let index = self.issuers.index_of(name, "an issuer");
        let id = |index| IssuerId { policy: self.policy_id, index };
        index.map(id).map_err(|message| self.error_if(path, message)).ok()
    }
}

/// A duration in the notation of the configuration.
fn duration_text(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// The issuers that a rule names.
fn named(require: &config::Require) -> impl Iterator<Item = &str> + Clone {
    require.issuer.iter().chain(&require.issuers).map(String::as_str)
}

/// Which issuers are used for what.
struct IssuerUses<'a> {
    verifying: Vec<&'a str>,
    asking: Vec<&'a str>,
    /// Issuers whose clients authenticate by a TLS certificate.
    certified: Vec<&'a str>,
}

impl<'a> IssuerUses<'a> {
    fn of(config: &'a Config) -> Self {
        let rules = config.inbound.iter().flat_map(|inbound| &inbound.rules);
        let required = rules.filter_map(|rule| rule.require.as_ref());
        let verifying = required.flat_map(named).collect();
        let credentials = config.outbound.iter().flat_map(|outbound| &outbound.credentials.0);
        let asking = credentials.clone().filter_map(|(_, credential)| credential.issuer.as_deref()).collect();
        let certified = credentials.filter(|(_, client)| client.auth_method == AuthMethod::TlsClientAuth);
        let certified = certified.filter_map(|(_, credential)| credential.issuer.as_deref()).collect();
        Self { verifying, asking, certified }
    }
}
