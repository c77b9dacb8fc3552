//! The configuration as written, to the policy that was meant: every name resolved, every default filled in.
//!
//! In: the configuration's bytes, and the environment. Out: a [`Policy`], or every mistake with its place. It is a pure
//! function: the same input has the same outcome on every worker, which Envoy demands of `on_configure` (a worker that
//! alone refuses would let requests through unchecked).

use crate::access::{Quantifier, Requirement, Source};
use crate::config::{self, Config};
use crate::discovery::{Discovery, Url};
use crate::io::Endpoint;
use crate::jwk::{self, Algorithm};
use crate::jwt::Expect;
use crate::located::Path;
use crate::mistake::{self, Mistake};
use crate::oauth::{ClientAuth, Grant, Secret};
use crate::policy::{Attach, Credential, CredentialId, Inbound, Issuer, IssuerId, Policy, Require, Rule, Waiting};
use crate::route::{self, Host, Match, PathMatch};
use std::rc::Rc;
use std::time::Duration;

impl Policy {
    /// Reads and compiles a configuration.
    pub fn read(document: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let read = mistake::read::<Config>(document)?;
        let issuers = Names::of(read.value.issuers.names(), read.removed_from("issuers"));
        let credentials = read.value.outbound.iter().flat_map(|outbound| outbound.credentials.names());
        let credentials = Names::of(credentials, read.removed_from("outbound.credentials"));
        let mut compiler = Compiler { environment, issuers, credentials, mistakes: Vec::new() };
        let policy = compiler.policy(&read.value);
        let mistakes = read.and_also(compiler.mistakes);
        match policy {
            Some(policy) if mistakes.is_empty() => Ok(policy),
            _ => Err(mistakes),
        }
    }
}

/// Defaults, each with its reason in `config`.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(300);
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
const TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
const WAITING: Waiting = Waiting { timeout: Duration::from_secs(5), requests: 1000 };
const REALM: &str = "m2m";

/// Parameters of a token request that have a member of their own, or that must not be overridden.
const RESERVED_PARAMETERS: [&str; 8] = [
    "audience", "client_assertion", "client_assertion_type", "client_id", "client_secret", "grant_type", "resource", "scope",
];

/// Walks the configuration; notes what is wrong, and carries on.
struct Compiler<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    issuers: Names,
    credentials: Names,
    mistakes: Vec<Mistake>,
}

/// Names that others may refer to.
struct Names {
    known: Vec<String>,
    /// Those whose own mistake has been told: a reference to them is not another one.
    broken: Vec<String>,
}

impl Names {
    fn of<'n>(known: impl Iterator<Item = &'n str>, broken: Vec<String>) -> Self {
        Self { known: known.map(str::to_owned).collect(), broken }
    }
}

impl Compiler<'_> {
    fn wrong(&mut self, path: &Path, fault: &str) {
        self.mistakes.push(Mistake::new(path, fault));
    }

    /// A mistake that may only follow from others: it is not told when something in one of these places could not be read.
    fn wrong_unless(&mut self, unless: Vec<Path>, path: &Path, fault: &str) {
        self.mistakes.push(Mistake { unless, ..Mistake::new(path, fault) });
    }

    fn policy(&mut self, config: &Config) -> Option<Policy> {
        let root = Path::default();
        if config.inbound.is_none() && config.outbound.is_none() {
            let fault = "neither inbound nor outbound, expected at least one of them";
            self.wrong_unless(vec![root.name("inbound"), root.name("outbound")], &root, fault);
        }
        let uses = Uses::of(config);
        let mut issuers = Vec::new();
        for (name, issuer) in config.issuers.iter() {
            issuers.extend(self.issuer(&root.name("issuers").name(name), name, issuer, &uses));
        }
        let inbound = config.inbound.as_ref().map(|inbound| self.inbound(inbound));
        let (credentials, outbound) = match &config.outbound {
            Some(outbound) => self.outbound(outbound),
            None => Default::default(),
        };
        let waiting = self.waiting(&config.waiting);
        self.mistakes.is_empty().then_some(Policy { issuers, inbound, credentials, outbound, waiting })
    }

    fn waiting(&mut self, waiting: &config::Waiting) -> Waiting {
        let path = Path::default().name("waiting");
        let bounds = Waiting {
            timeout: waiting.timeout.map_or(WAITING.timeout, |span| span.0),
            requests: waiting.requests.unwrap_or(WAITING.requests),
        };
        if bounds.timeout > Duration::from_secs(60) {
            self.wrong(&path.name("timeout"), "above 60s, expected at most 60s: callers give up before");
        }
        if bounds.requests > 10_000 {
            let fault = format!("{}, expected at most 10000: each waiting request holds its headers", bounds.requests);
            self.wrong(&path.name("requests"), &fault);
        }
        bounds
    }

    fn issuer(&mut self, path: &Path, name: &str, issuer: &config::Issuer, uses: &Uses<'_>) -> Option<Issuer> {
        let own = issuer.issuer.clone();
        let url = own.as_deref().and_then(Url::parse);
        match &own {
            None => self.wrong(&path.name("issuer"), "missing, expected the exact `iss` of the issuer's tokens"),
            Some(text) if text.is_empty() => self.wrong(&path.name("issuer"), "empty, expected the exact `iss`"),
            Some(_) => {}
        }
        let jwks = issuer.jwks.as_ref().and_then(|document| match jwk::parse_object(document) {
            Ok(parsed) => Some(parsed.keys),
            Err(error) => {
                self.wrong(&path.name("jwks"), &format!("{error}, expected a JWK set (RFC 7517)"));
                None
            }
        });
        if issuer.jwks.is_some() && issuer.jwks_uri.is_some() {
            self.wrong(path, "both jwks and jwks_uri, expected one of them");
        }
        let (verifies, asks) = (uses.verifying.contains(&name), uses.asking.contains(&name));
        if !verifies && !asks {
            let users = vec![Path::default().name("inbound"), Path::default().name("outbound")];
            let fault = "no rule and no credential uses this issuer, expected at least one that does";
            self.wrong_unless(users, path, fault);
        }
        let fetches = asks || (verifies && issuer.jwks.is_none());
        let cluster = issuer.cluster.clone().unwrap_or_default();
        if fetches && cluster.is_empty() {
            self.wrong(&path.name("cluster"), "missing, expected the name of the Envoy cluster that reaches the issuer");
        }
        let jwks_uri = self.endpoint(&path.name("jwks_uri"), issuer.jwks_uri.as_deref(), &cluster);
        let token_endpoint = self.endpoint(&path.name("token_endpoint"), issuer.token_endpoint.as_deref(), &cluster);
        let discovers = (verifies && issuer.jwks.is_none() && issuer.jwks_uri.is_none())
            || (asks && issuer.token_endpoint.is_none());
        let timeout = self.timeout(&path.name("timeout"), issuer.timeout);
        if discovers && url.is_none() && own.as_ref().is_some_and(|own| !own.is_empty()) {
            let fault = "not an http(s) URL, expected one, or jwks_uri and token_endpoint (it is where discovery starts)";
            self.wrong(&path.name("issuer"), &fault);
        }
        let discovery = url.zip(own.clone()).filter(|_| discovers).map(|(url, issuer_url)| Discovery {
            issuer: issuer_url,
            url,
            cluster,
            allowed_hosts: issuer.allowed_hosts.clone(),
            timeout,
            for_keys: verifies && issuer.jwks.is_none() && issuer.jwks_uri.is_none(),
            for_tokens: asks && issuer.token_endpoint.is_none(),
        });
        let refresh = issuer.refresh.map_or(REFRESH, |span| span.0);
        let max_stale = issuer.max_stale.map_or(MAX_STALE.max(refresh), |span| span.0);
        if refresh < Duration::from_secs(5) {
            self.wrong(&path.name("refresh"), "below 5s, expected at least 5s");
        }
        if max_stale < refresh {
            self.wrong(&path.name("max_stale"), "shorter than refresh, expected at least as long");
        }
        let clock_skew = issuer.clock_skew.map_or(CLOCK_SKEW, |span| span.0);
        if clock_skew > Duration::from_secs(600) {
            self.wrong(&path.name("clock_skew"), "above 10m, expected at most 10m (RFC 7519 section 4.1.4)");
        }
        let expect = Expect { issuer: own?, algorithms: algorithms(&issuer.algorithms), clock_skew: clock_skew.as_secs() };
        let name = name.to_owned();
        Some(Issuer { name, expect, jwks, jwks_uri, token_endpoint, discovery, refresh, max_stale, timeout, verifies })
    }

    fn timeout(&mut self, path: &Path, span: Option<config::Span>) -> Duration {
        let timeout = span.map_or(TIMEOUT, |span| span.0);
        // The host takes 0 for "never" and whole milliseconds only.
        if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(60) {
            self.wrong(path, "outside its bounds, expected between 1ms and 60s");
        }
        timeout
    }

    fn endpoint(&mut self, path: &Path, text: Option<&str>, cluster: &str) -> Option<Endpoint> {
        let text = text?;
        let url = Url::parse(text);
        if url.is_none() {
            self.wrong(path, &format!("{text:?}, expected an http(s) URL"));
        }
        url.map(|url| url.through(cluster))
    }

    fn inbound(&mut self, inbound: &config::Inbound) -> Inbound {
        let path = Path::default().name("inbound");
        let realm = inbound.realm.clone().unwrap_or_else(|| REALM.to_owned());
        if !realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte)) {
            self.wrong(&path.name("realm"), "characters that a header cannot quote, expected printable ASCII without \" and \\");
        }
        if inbound.rules.is_empty() {
            let fault = "empty, expected at least one rule (a request that matches none is refused)";
            self.wrong_unless(vec![path.name("rules")], &path.name("rules"), fault);
        }
        let mut rules = Vec::new();
        for (index, rule) in inbound.rules.iter().enumerate() {
            rules.extend(self.rule(&path.name("rules").index(index), index, rule));
        }
        let mut own_headers: Vec<Rc<str>> = Vec::new();
        for (header, _) in rules.iter().flat_map(|rule: &Rule| &rule.claims_to_headers) {
            if !own_headers.contains(header) {
                own_headers.push(Rc::clone(header));
            }
        }
        self.distinct(&path.name("rules"), inbound.rules.iter().map(|rule| rule.name.as_deref()));
        Inbound { realm, own_headers, rules }
    }

    /// Names that the operator gave; the others are positions.
    fn distinct<'n>(&mut self, path: &Path, names: impl Iterator<Item = Option<&'n str>>) {
        let mut seen: Vec<&str> = Vec::new();
        for (index, name) in names.enumerate() {
            let Some(name) = name else { continue };
            if seen.contains(&name) {
                self.wrong(&path.index(index).name("name"), &format!("{name:?} twice, expected distinct names"));
            }
            seen.push(name);
        }
    }

    fn rule(&mut self, path: &Path, index: usize, rule: &config::InboundRule) -> Option<Rule> {
        let matches = self.matches(&path.name("match"), &rule.r#match);
        if rule.require.is_some() == rule.allow {
            let found = if rule.allow { "both require and allow" } else { "neither require nor allow" };
            let unless = vec![path.name("require"), path.name("allow")];
            self.wrong_unless(unless, path, &format!("{found}, expected exactly one of them"));
        }
        let require = rule.require.as_ref().map(|require| self.require(&path.name("require"), require));
        let mut claims_to_headers = Vec::new();
        for (header, claim) in rule.claims_to_headers.iter() {
            let path = path.name("claims_to_headers").name(header);
            if claim.0.iter().any(String::is_empty) || claim.0.is_empty() {
                self.wrong(&path, "an empty name in the claim's path, expected a claim such as \"sub\"");
            }
            if rule.allow {
                self.wrong(&path, "a rule with allow has no caller, expected claims_to_headers beside require only");
            }
            claims_to_headers.push((self.header(&path, header), claim.0.clone()));
        }
        let name = rule_name(rule.name.as_deref(), index);
        let forward_token = rule.forward_token.unwrap_or(true);
        let require = match require {
            Some(require) => Some(require?),
            None => None,
        };
        Some(Rule { name, matches, require, claims_to_headers, forward_token })
    }

    fn require(&mut self, path: &Path, require: &config::Require) -> Option<Require> {
        let issuer = self.issuer_named(&path.name("issuer"), require.issuer.as_deref());
        let mut access = Requirement::default();
        if let Some(names) = &require.realm_roles {
            self.names(&path.name("realm_roles"), &Source::RealmRoles, names, &mut access);
        }
        for (client, names) in require.client_roles.iter() {
            let path = path.name("client_roles").name(client);
            self.names(&path, &Source::ClientRoles(client.to_owned()), names, &mut access);
        }
        if let Some(names) = &require.scopes {
            self.names(&path.name("scopes"), &Source::Scopes, names, &mut access);
        }
        // RFC 7519 section 4.1.3, RFC 8725 section 3.9: without an audience every token of the issuer would do.
        if require.audiences.is_empty() {
            self.wrong(&path.name("audiences"), "empty, expected at least one audience");
        }
        if require.audiences.iter().any(String::is_empty) {
            self.wrong(&path.name("audiences"), "an empty audience, expected the `aud` of this service");
        }
        Some(Require { issuer: issuer?, audiences: require.audiences.clone(), access })
    }

    fn names(&mut self, path: &Path, source: &Source, names: &config::Names, access: &mut Requirement) {
        let lists = [
            ("all_of", Quantifier::All, &names.all_of),
            ("any_of", Quantifier::Any, &names.any_of),
            ("none_of", Quantifier::None, &names.none_of),
        ];
        let mut any = false;
        for (member, quantifier, list) in lists {
            let Some(list) = list else { continue };
            any = true;
            if list.is_empty() || list.iter().any(String::is_empty) {
                self.wrong(&path.name(member), "empty, expected at least one name and no empty name");
            }
            access.add(source.clone(), quantifier, list.clone());
        }
        if !any {
            self.wrong(path, "empty, expected a list of names, or all_of, any_of, none_of");
        }
    }

    fn issuer_named(&mut self, path: &Path, name: Option<&str>) -> Option<IssuerId> {
        let (place, fault) = referred(name, "an issuer", &self.issuers);
        fault.into_iter().for_each(|fault| self.wrong(path, &fault));
        place.map(IssuerId)
    }

    fn credential_named(&mut self, path: &Path, name: Option<&str>) -> Option<CredentialId> {
        let (place, fault) = referred(name, "a credential", &self.credentials);
        fault.into_iter().for_each(|fault| self.wrong(path, &fault));
        place.map(CredentialId)
    }

    fn matches(&mut self, path: &Path, written: &config::Match) -> Match {
        let host = written.host.as_deref().and_then(|host| self.host(&path.name("host"), host));
        if written.path.is_some() && written.path_prefix.is_some() {
            self.wrong(path, "both path and path_prefix, expected one of them");
        }
        let exact = written.path.as_deref().and_then(|text| self.path(&path.name("path"), text));
        let prefix = written.path_prefix.as_deref().and_then(|text| self.path(&path.name("path_prefix"), text));
        let prefix = prefix.map(|bytes| PathMatch::Prefix(bytes.strip_suffix(b"/").unwrap_or(&bytes).to_vec()));
        for (index, method) in written.methods.iter().enumerate() {
            if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
                let fault = format!("{method:?}, expected an upper-case method such as \"GET\"");
                self.wrong(&path.name("methods").index(index), &fault);
            }
        }
        Match { host, path: exact.map(PathMatch::Exact).or(prefix), methods: written.methods.clone() }
    }

    fn host(&mut self, path: &Path, text: &str) -> Option<Host> {
        let lower = text.to_ascii_lowercase();
        let suffix = lower.strip_prefix('*');
        let name = suffix.unwrap_or(&lower);
        let sound = !matches!(name, "" | ".")
            && name.starts_with('.') == suffix.is_some()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        if !sound {
            self.wrong(path, &format!("{text:?}, expected a host such as \"svc\" or \"*.example.com\""));
            return None;
        }
        Some(suffix.map_or_else(|| Host::Exact(lower.clone()), |suffix| Host::Suffix(suffix.to_owned())))
    }

    /// A path of a rule must be in normal form itself, or it would never match.
    fn path(&mut self, path: &Path, text: &str) -> Option<Vec<u8>> {
        match route::normal(text.as_bytes()) {
            Ok(normal) if *normal == *text.as_bytes() => return Some(normal.into_owned()),
            Ok(normal) => {
                self.wrong(path, &format!("{text:?}, expected its normal form {:?}", String::from_utf8_lossy(&normal)));
            }
            Err(route::Ambiguous) => self.wrong(path, &format!("{text:?}, expected a path that starts with / and needs no encoding")),
        }
        None
    }

    fn header(&mut self, path: &Path, text: &str) -> Rc<str> {
        // RFC 9110 section 5.6.2 `token`; Envoy's pseudo headers are not ours to set.
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let reserved = ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade"];
        if text.is_empty() || !text.bytes().all(token) || reserved.contains(&text.to_ascii_lowercase().as_str()) {
            self.wrong(path, &format!("{text:?}, expected the name of a header that may be set"));
        }
        text.to_ascii_lowercase().into()
    }

    fn outbound(&mut self, outbound: &config::Outbound) -> (Vec<Credential>, Vec<Attach>) {
        let path = Path::default().name("outbound");
        let mut credentials = Vec::new();
        for (name, credential) in outbound.credentials.iter() {
            let path = path.name("credentials").name(name);
            credentials.extend(self.credential(&path, name, credential));
            if !outbound.rules.iter().any(|rule| rule.credential.as_deref() == Some(name)) {
                let unless = vec![Path::default().name("outbound").name("rules")];
                let fault = "no rule uses this credential, expected at least one that does";
                self.wrong_unless(unless, &path, fault);
            }
        }
        if outbound.rules.is_empty() {
            self.wrong_unless(vec![path.name("rules")], &path.name("rules"), "empty, expected at least one rule");
        }
        let mut rules = Vec::new();
        for (index, rule) in outbound.rules.iter().enumerate() {
            rules.extend(self.attach(&path.name("rules").index(index), index, rule));
        }
        self.distinct(&path.name("rules"), outbound.rules.iter().map(|rule| rule.name.as_deref()));
        (credentials, rules)
    }

    fn credential(&mut self, path: &Path, name: &str, written: &config::Credential) -> Option<Credential> {
        let issuer = self.issuer_named(&path.name("issuer"), written.issuer.as_deref());
        let client_id = written.client_id.clone().filter(|id| !id.is_empty());
        if client_id.is_none() {
            self.wrong(&path.name("client_id"), "missing, expected the client's id at the issuer");
        }
        let secret = self.secret(&path.name("client_secret"), written.client_secret.as_ref());
        let mut parameters = Vec::new();
        if !written.scopes.is_empty() {
            parameters.push(("scope".to_owned(), written.scopes.join(" ")));
        }
        for (index, scope) in written.scopes.iter().enumerate() {
            // RFC 6749 section 3.3, `scope-token`.
            if scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)) {
                self.wrong(&path.name("scopes").index(index), &format!("{scope:?}, expected one scope without blanks"));
            }
        }
        parameters.extend(written.audience.iter().map(|audience| ("audience".to_owned(), audience.clone())));
        parameters.extend(written.resource.iter().map(|resource| ("resource".to_owned(), resource.clone())));
        for (name, value) in written.parameters.iter() {
            if RESERVED_PARAMETERS.contains(&name) {
                let fault = "a reserved parameter, expected the credential's own members to set it";
                self.wrong(&path.name("parameters").name(name), &fault);
            }
            parameters.push((name.to_owned(), value.clone()));
        }
        let default_lifetime = written.default_lifetime.map_or(DEFAULT_LIFETIME, |span| span.0);
        if default_lifetime < Duration::from_secs(1) {
            self.wrong(&path.name("default_lifetime"), "below 1s, expected at least 1s");
        }
        let secret = secret?;
        let auth = match written.auth_method {
            config::AuthMethod::ClientSecretBasic => ClientAuth::Basic(secret),
            config::AuthMethod::ClientSecretPost => ClientAuth::Post(secret),
        };
        let grant = Grant { client_id: client_id?, auth, parameters, default_lifetime };
        Some(Credential { name: name.to_owned(), issuer: issuer?, grant })
    }

    fn secret(&mut self, path: &Path, written: Option<&config::Secret>) -> Option<Secret> {
        match written {
            None => {
                self.wrong(path, "missing, expected {\"env\": \"NAME\"}");
                None
            }
            Some(config::Secret::Inline(secret)) => Some(Secret::new(secret.clone())),
            Some(config::Secret::Env(name)) => {
                let value = (self.environment)(name).map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
                let value = value.filter(|value| !value.is_empty());
                if value.is_none() {
                    let fault = format!(
                        "environment variable {name} is not set, expected it in Envoy's environment and in the plugin's host_env_keys"
                    );
                    self.wrong(&path.name("env"), &fault);
                }
                value.map(Secret::new)
            }
        }
    }

    fn attach(&mut self, path: &Path, index: usize, rule: &config::OutboundRule) -> Option<Attach> {
        let matches = self.matches(&path.name("match"), &rule.r#match);
        let header = self.header(&path.name("header"), rule.header.as_deref().unwrap_or("authorization"));
        let scheme = rule.scheme.clone().unwrap_or_else(|| {
            let scheme = if *header == *"authorization" { "Bearer" } else { "" };
            scheme.to_owned()
        });
        if !scheme.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong(&path.name("scheme"), &format!("{scheme:?}, expected one word such as \"Bearer\", or nothing"));
        }
        let prefix = if scheme.is_empty() { scheme } else { format!("{scheme} ") };
        let credential = self.credential_named(&path.name("credential"), rule.credential.as_deref())?;
        let name = rule_name(rule.name.as_deref(), index);
        let (existing, unavailable) = (rule.existing, rule.unavailable);
        Some(Attach { name, matches, credential, header, prefix, existing, unavailable })
    }
}

/// The place of a name among those that are known, or what is wrong with it.
fn referred(name: Option<&str>, kind: &str, names: &Names) -> (Option<usize>, Option<String>) {
    let place = name.and_then(|name| names.known.iter().position(|known| known == name));
    let told = place.is_some() || name.is_some_and(|name| names.broken.iter().any(|broken| broken == name));
    let fault = (!told).then(|| {
        let found = name.map_or_else(|| "missing".to_owned(), |name| format!("{name:?} is not {kind}"));
        format!("{found}, expected one of: {}", names.known.join(", "))
    });
    (place, fault)
}

/// Which issuers are used for what.
struct Uses<'a> {
    verifying: Vec<&'a str>,
    asking: Vec<&'a str>,
}

impl<'a> Uses<'a> {
    fn of(config: &'a Config) -> Self {
        let rules = config.inbound.iter().flat_map(|inbound| &inbound.rules);
        let verifying = rules.filter_map(|rule| rule.require.as_ref()?.issuer.as_deref()).collect();
        let credentials = config.outbound.iter().flat_map(|outbound| &outbound.credentials.0);
        let asking = credentials.filter_map(|(_, credential)| credential.issuer.as_deref()).collect();
        Self { verifying, asking }
    }
}

fn rule_name(name: Option<&str>, index: usize) -> Rc<str> {
    name.map_or_else(|| format!("rule-{index}").into(), Into::into)
}

fn algorithms(written: &[config::Algorithm]) -> Vec<Algorithm> {
    if written.is_empty() {
        return Algorithm::ALL.to_vec();
    }
    written
        .iter()
        .map(|algorithm| match algorithm {
            config::Algorithm::RS256 => Algorithm::Rs256,
            config::Algorithm::RS384 => Algorithm::Rs384,
            config::Algorithm::RS512 => Algorithm::Rs512,
            config::Algorithm::PS256 => Algorithm::Ps256,
            config::Algorithm::PS384 => Algorithm::Ps384,
            config::Algorithm::PS512 => Algorithm::Ps512,
            config::Algorithm::ES256 => Algorithm::Es256,
            config::Algorithm::ES384 => Algorithm::Es384,
            config::Algorithm::ES512 => Algorithm::Es512,
            config::Algorithm::EdDSA => Algorithm::EdDsa,
        })
        .collect()
}
