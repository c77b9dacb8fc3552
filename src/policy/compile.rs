//! The configuration as written, to the policy that was meant: every name resolved, every default filled in.
//!
//! In: the configuration's bytes, and the environment. Out: a [`Policy`], or every error with its place. It is a pure
//! function: the same input has the same outcome on every worker, which Envoy demands of `on_configure` (a worker that
//! alone refuses would let requests through unchecked).

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
use crate::policy::{Inbound, InboundRule, IssuerId, Policy, PolicyId, Require};
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
        let tokens_of = read.value.issuers.iter().map(|(_, issuer)| issuer::names_of(issuer)).collect();
        let introspecting = read.value.issuers.iter().filter(|(_, issuer)| issuer.introspection.is_some());
        let introspecting = introspecting.map(|(name, _)| name.to_owned()).collect();
        let mut compiler = Compiler {
            policy_id: PolicyId::of(document),
            environment,
            issuers,
            issuer_names: tokens_of,
            layouts,
            introspecting,
            credentials,
            capture_names: Vec::new(),
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

/// Parameters of a token request that have a member of their own, or that must not be overridden.
const RESERVED_PARAMETERS: [&str; 12] = [
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

/// Walks the configuration; notes what is wrong, and carries on. Never inlined: it runs once, and inlined it is 30 KB more
/// of module, which Envoy compiles at every start.
struct Compiler<'a> {
    policy_id: PolicyId,
    environment: &'a dyn Fn(&str) -> Option<String>,
    issuers: DeclaredNames,
    /// How the tokens of each issuer are laid out.
    layouts: Vec<(String, &'static ClaimLayout)>,
    /// What the tokens of each issuer call it.
    issuer_names: Vec<Vec<IssuerName>>,
    credentials: DeclaredNames,
    /// The issuers that are asked about tokens.
    introspecting: Vec<String>,
    /// The names of the places in the path of the rule that is being compiled.
    capture_names: Vec<String>,
    /// Whether there are callers whose tokens are verified.
    verifies: bool,
    errors: Vec<ConfigError>,
}

impl Compiler<'_> {
    #[inline(never)]
    fn error(&mut self, path: &Path, fault: &str) {
        self.errors.push(ConfigError::new(path, fault));
    }

    #[inline(never)]
    fn error_if(&mut self, path: &Path, fault: Option<String>) {
        self.errors.extend(fault.map(|fault| ConfigError::new(path, fault)));
    }

    /// An error that may only follow from others: it is not told when something in one of these places could not be read.
    #[inline(never)]
    fn error_unless(&mut self, unless: Vec<Path>, path: &Path, fault: &str) {
        self.errors.push(ConfigError { explained_by: unless, ..ConfigError::new(path, fault) });
    }

    #[inline(never)]
    fn policy(&mut self, config: &Config) -> Option<Policy> {
        let root = Path::default();
        if config.inbound.is_none() && config.outbound.is_none() {
            let fault = "neither inbound nor outbound, expected at least one of them";
            self.error_unless(vec![root.name("inbound"), root.name("outbound")], &root, fault);
        }
        let uses = IssuerUses::of(config);
        let mut issuers = Vec::new();
        for (place, (name, issuer)) in config.issuers.iter().enumerate() {
            let names = self.issuer_names.get(place).cloned().unwrap_or_default();
            issuers.push(Rc::new(self.issuer(&root.name("issuers").name(name), name, names, issuer, &uses)));
        }
        let inbound = config.inbound.as_ref().map(|inbound| self.inbound(config, inbound));
        let (credentials, outbound) = match &config.outbound {
            Some(outbound) => self.outbound(outbound),
            None => Default::default(),
        };
        let waiting = self.pending_requests(&config.pending_requests);
        let sharing = self.sharing(config);
        self.errors.is_empty().then_some(Policy {
            id: self.policy_id,
            issuers,
            inbound,
            credentials,
            outbound_attributes: InspectedAttributes::of(
                outbound.iter().map(|rule| &rule.matcher),
                config.outbound.as_ref().is_some_and(|outbound| outbound.danger_case_sensitive_paths),
            ),
            outbound_headers: outbound::token_headers(&outbound),
            outbound,
            pending_requests: waiting,
            sharing,
            plugin_name: Vec::new(),
        })
    }

    #[inline(never)]
    fn inbound(&mut self, config: &Config, inbound: &config::Inbound) -> Inbound {
        let path = Path::default().name("inbound");
        let (manner, resource) = self.refusal_format(&path, config, inbound);
        if inbound.rules.is_empty() {
            let fault = "missing, expected at least one rule (a request that matches none is refused)";
            self.error_unless(vec![path.name("rules")], &path.name("rules"), fault);
        }
        let places = self.token_sources(&path.name("token_locations"), inbound.token_locations.as_deref());
        let mut rules = Vec::new();
        let names = inbound.rules.iter().map(|rule| (rule.name.as_deref(), &rule.r#match));
        for ((index, rule), name) in inbound.rules.iter().enumerate().zip(rule_names(names)) {
            rules.extend(self.rule(&path.name("rules").index(index), name, rule, &places));
        }
        let proves = inbound
            .rules
            .iter()
            .filter_map(|rule| rule.require.as_ref()?.token_binding)
            .any(|bound| bound.dpop);
        let terms = self.dpop_policy(&path.name("dpop"), inbound.dpop.as_ref(), proves);
        let own_headers = forwarded_claims::reserved_headers(&rules);
        let judged_headers = forwarded_claims::decision_headers(&rules);
        self.check_distinct(&path.name("rules"), inbound.rules.iter().map(|rule| rule.name.as_deref()));
        let attributes = InspectedAttributes::of(
            rules.iter().map(|rule| &rule.matcher),
            inbound.danger_case_sensitive_paths,
        );
        let filter_state = inbound.filter_state;
        Inbound {
            refusal_format: manner,
            resource,
            reserved_headers: own_headers,
            decision_headers: judged_headers,
            dpop_policy: terms,
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
        places: &[TokenSource],
    ) -> Option<InboundRule> {
        let matches = self.inbound_matcher(&path.name("match"), &rule.r#match);
        if rule.require.is_some() == rule.allow {
            let found = if rule.allow { "both require and allow" } else { "neither require nor allow" };
            let unless = vec![path.name("require"), path.name("allow")];
            self.error_unless(unless, path, &format!("{found}, expected exactly one of them"));
        }
        self.capture_names = matches.names().map(str::to_owned).collect();
        let require = rule.require.as_ref().map(|require| self.require(&path.name("require"), require));
        let claims_to_headers = self.claims_to_headers(path, rule);
        let payload_header = self.payload_header(path, rule);
        let tokens = self.token_locations(path, rule, places);
        let require = match require {
            Some(require) => Some(require?),
            None => None,
        };
        let compared_captures = require.as_ref().map(|require| require.access.compared_captures());
        Some(InboundRule {
            name,
            matcher: matches,
            compared_captures: compared_captures.unwrap_or_default(),
            mode: rule.mode,
            require,
            token_locations: tokens,
            claims_to_headers,
            payload_header,
            cors_preflight: rule.cors_preflight,
        })
    }

    #[inline(never)]
    fn require(&mut self, path: &Path, require: &config::Require) -> Option<Require> {
        let issuers = self.issuers_of(path, require);
        let demand = self.rule_requirements(path, require);
        let layouts = self.layouts_of(named(require));
        let access = self.access(path, &ConditionFields::from(require), &layouts, 0);
        let introspect = self.introspect_mode(path, require);
        let bound = self.token_binding(&path.name("token_binding"), require.token_binding);
        Some(Require { issuers: issuers?, requirements: demand, token_binding: bound, introspect, access })
    }

    #[inline(never)]
    fn issuer_named(&mut self, path: &Path, name: Option<&str>) -> Option<IssuerId> {
        let place = self.issuers.index_of(name, "an issuer");
        let id = |index| IssuerId { policy: self.policy_id, index };
        place.map(id).map_err(|fault| self.error_if(path, fault)).ok()
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
    /// Those that clients ask for tokens by a certificate.
    certified: Vec<&'a str>,
}

impl<'a> IssuerUses<'a> {
    fn of(config: &'a Config) -> Self {
        let rules = config.inbound.iter().flat_map(|inbound| &inbound.rules);
        let required = rules.filter_map(|rule| rule.require.as_ref());
        let verifying = required.flat_map(named).collect();
        let credentials = config.outbound.iter().flat_map(|outbound| &outbound.credentials.0);
        let asking = credentials.clone().filter_map(|(_, credential)| credential.issuer.as_deref()).collect();
        let certified = credentials.filter(|(_, own)| own.auth_method == AuthMethod::TlsClientAuth);
        let certified = certified.filter_map(|(_, credential)| credential.issuer.as_deref()).collect();
        Self { verifying, asking, certified }
    }
}
