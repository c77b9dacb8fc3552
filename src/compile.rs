//! The configuration as written, to the policy that was meant: every name resolved, every default filled in.
//!
//! In: the configuration's bytes, and the environment. Out: a [`Policy`], or every mistake with its place. It is a pure
//! function: the same input has the same outcome on every worker, which Envoy demands of `on_configure` (a worker that
//! alone refuses would let requests through unchecked).

mod access;
mod answers;
mod client;
mod condition;
mod handing;
mod names;
mod outbound;
mod proof;
mod sharing;

use crate::config::{self, Config};
use crate::discovery::{Discovery, Url};
use crate::io::Endpoint;
use crate::jwk::{self, Algorithm};
use crate::jwt::Expect;
use crate::layout::Layout;
use crate::located::Path;
use crate::mistake::{self, Mistake};
use crate::policy::{Inbound, Issuer, IssuerId, Policy, Require, Rule, Waiting};
use access::{Conditions, layout};
use names::Names;
use std::rc::Rc;
use std::time::Duration;

impl Policy {
    /// Reads and compiles a configuration.
    pub fn read(document: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let read = mistake::read::<Config>(document)?;
        let issuers = Names::of(&read, "issuers", read.value.issuers.names());
        let credentials = read.value.outbound.iter().flat_map(|outbound| outbound.credentials.names());
        let credentials = Names::of(&read, "outbound.credentials", credentials);
        let verifies = read.value.inbound.is_some();
        let layouts =
            read.value.issuers.iter().map(|(name, issuer)| (name.to_owned(), layout(issuer.preset)));
        let layouts = layouts.collect();
        let mut compiler = Compiler {
            environment,
            issuers,
            layouts,
            credentials,
            places: Vec::new(),
            verifies,
            mistakes: Vec::new(),
        };
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
const MAX_BACKOFF: Duration = Duration::from_secs(160);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
const WAITING: Waiting = Waiting { timeout: Duration::from_secs(5), requests: 1000 };

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
    environment: &'a dyn Fn(&str) -> Option<String>,
    issuers: Names,
    /// How the tokens of each issuer are laid out.
    layouts: Vec<(String, &'static Layout)>,
    credentials: Names,
    /// The names of the places in the path of the rule that is being compiled.
    places: Vec<String>,
    /// Whether there are callers whose tokens are verified.
    verifies: bool,
    mistakes: Vec<Mistake>,
}

impl Compiler<'_> {
    #[inline(never)]
    fn wrong(&mut self, path: &Path, fault: &str) {
        self.mistakes.push(Mistake::new(path, fault));
    }

    #[inline(never)]
    fn wrong_if(&mut self, path: &Path, fault: Option<String>) {
        self.mistakes.extend(fault.map(|fault| Mistake::new(path, fault)));
    }

    /// A mistake that may only follow from others: it is not told when something in one of these places could not be read.
    #[inline(never)]
    fn wrong_unless(&mut self, unless: Vec<Path>, path: &Path, fault: &str) {
        self.mistakes.push(Mistake { unless, ..Mistake::new(path, fault) });
    }

    #[inline(never)]
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
        let inbound = config.inbound.as_ref().map(|inbound| self.inbound(config, inbound));
        let (credentials, outbound) = match &config.outbound {
            Some(outbound) => self.outbound(outbound, &config.issuers),
            None => Default::default(),
        };
        let waiting = self.waiting(&config.waiting);
        let sharing = self.sharing(config);
        self.mistakes.is_empty().then_some(Policy {
            issuers,
            inbound,
            credentials,
            outbound,
            waiting,
            sharing,
        })
    }

    #[inline(never)]
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
            let fault = format!(
                "{}, expected at most 10000: each waiting request holds its headers",
                bounds.requests
            );
            self.wrong(&path.name("requests"), &fault);
        }
        bounds
    }

    #[inline(never)]
    fn issuer(
        &mut self,
        path: &Path,
        name: &str,
        issuer: &config::Issuer,
        uses: &Uses<'_>,
    ) -> Option<Issuer> {
        let own = issuer.issuer.clone();
        let url = own.as_deref().and_then(Url::parse);
        match &own {
            None => {
                self.wrong(&path.name("issuer"), "missing, expected the exact `iss` of the issuer's tokens");
            }
            Some(text) if text.is_empty() => {
                self.wrong(&path.name("issuer"), "empty, expected the exact `iss`");
            }
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
            self.wrong(
                &path.name("cluster"),
                "missing, expected the name of the Envoy cluster that reaches the issuer",
            );
        }
        let jwks_uri = self.endpoint(&path.name("jwks_uri"), issuer.jwks_uri.as_deref(), &cluster);
        let token_endpoint =
            self.endpoint(&path.name("token_endpoint"), issuer.token_endpoint.as_deref(), &cluster);
        let discovers = (verifies && issuer.jwks.is_none() && issuer.jwks_uri.is_none())
            || (asks && issuer.token_endpoint.is_none());
        let timeout = self.timeout(&path.name("timeout"), issuer.timeout);
        let max_backoff = issuer.max_backoff.map_or(MAX_BACKOFF, |span| span.0);
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&max_backoff) {
            self.wrong(&path.name("max_backoff"), "outside its bounds, expected between 1s and 5m");
        }
        if discovers && url.is_none() && own.as_ref().is_some_and(|own| !own.is_empty()) {
            let fault = "not an http(s) URL, expected one, or jwks_uri and token_endpoint (it is where discovery starts)";
            self.wrong(&path.name("issuer"), fault);
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
        let expect = Expect {
            issuer: own?,
            algorithms: algorithms(&issuer.algorithms),
            clock_skew: clock_skew.as_secs(),
            layout: layout(issuer.preset),
        };
        let name = name.to_owned();
        Some(Issuer {
            name,
            expect,
            jwks,
            jwks_uri,
            token_endpoint,
            discovery,
            refresh,
            max_stale,
            timeout,
            max_backoff,
            verifies,
        })
    }

    #[inline(never)]
    fn timeout(&mut self, path: &Path, span: Option<config::Span>) -> Duration {
        let timeout = span.map_or(TIMEOUT, |span| span.0);
        // The host takes 0 for "never" and whole milliseconds only.
        if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(60) {
            self.wrong(path, "outside its bounds, expected between 1ms and 60s");
        }
        timeout
    }

    #[inline(never)]
    fn endpoint(&mut self, path: &Path, text: Option<&str>, cluster: &str) -> Option<Endpoint> {
        let text = text?;
        let url = Url::parse(text);
        if url.is_none() {
            self.wrong(path, &format!("{text:?}, expected an http(s) URL"));
        }
        url.map(|url| url.through(cluster))
    }

    #[inline(never)]
    fn inbound(&mut self, config: &Config, inbound: &config::Inbound) -> Inbound {
        let path = Path::default().name("inbound");
        let (manner, resource) = self.manner(&path, config, inbound);
        if inbound.rules.is_empty() {
            let fault = "empty, expected at least one rule (a request that matches none is refused)";
            self.wrong_unless(vec![path.name("rules")], &path.name("rules"), fault);
        }
        let mut rules = Vec::new();
        for (index, rule) in inbound.rules.iter().enumerate() {
            rules.extend(self.rule(&path.name("rules").index(index), index, rule));
        }
        let own_headers = handing::own_headers(&rules);
        self.distinct(&path.name("rules"), inbound.rules.iter().map(|rule| rule.name.as_deref()));
        Inbound { manner, resource, own_headers, rules, filter_state: inbound.filter_state }
    }

    /// Names that the operator gave, or that follow from positions.
    #[inline(never)]
    fn distinct<'n>(&mut self, path: &Path, names: impl Iterator<Item = Option<&'n str>>) {
        let mut seen: Vec<(Rc<str>, bool)> = Vec::new();
        for (index, written) in names.enumerate() {
            let name = rule_name(written, index);
            let twice =
                seen.iter().find(|(known, _)| *known == name).map(|(_, given)| *given && written.is_some());
            // A position is not what it was once a rule before it could not be read.
            let unless = if twice == Some(true) { Vec::new() } else { vec![path.clone()] };
            if twice.is_some() {
                let fault = format!("{name:?} twice, expected distinct names");
                self.wrong_unless(unless, &path.index(index).name("name"), &fault);
            }
            seen.push((name, written.is_some()));
        }
    }

    #[inline(never)]
    fn rule(&mut self, path: &Path, index: usize, rule: &config::InboundRule) -> Option<Rule> {
        let matches = self.matches_inbound(&path.name("match"), &rule.r#match);
        if rule.require.is_some() == rule.allow {
            let found = if rule.allow { "both require and allow" } else { "neither require nor allow" };
            let unless = vec![path.name("require"), path.name("allow")];
            self.wrong_unless(unless, path, &format!("{found}, expected exactly one of them"));
        }
        self.places = matches.names().map(str::to_owned).collect();
        let require = rule.require.as_ref().map(|require| self.require(&path.name("require"), require));
        let claims_to_headers = self.claims_to_headers(path, rule);
        let payload_header = self.payload_header(path, rule);
        let name = rule_name(rule.name.as_deref(), index);
        let forward_token = rule.forward_token.unwrap_or(true);
        let require = match require {
            Some(require) => Some(require?),
            None => None,
        };
        Some(Rule { name, matches, require, claims_to_headers, payload_header, forward_token })
    }

    #[inline(never)]
    fn require(&mut self, path: &Path, require: &config::Require) -> Option<Require> {
        let issuer = self.issuer_named(&path.name("issuer"), require.issuer.as_deref());
        let layouts = self.layouts_of(require.issuer.as_deref().into_iter());
        let access = self.access(path, &Conditions::from(require), &layouts, 0);
        // RFC 7519 section 4.1.3, RFC 8725 section 3.9: without an audience every token of the issuer would do.
        if require.audiences.is_empty() {
            self.wrong(&path.name("audiences"), "empty, expected at least one audience");
        }
        if require.audiences.iter().any(String::is_empty) {
            self.wrong(&path.name("audiences"), "an empty audience, expected the `aud` of this service");
        }
        Some(Require { issuer: issuer?, audiences: require.audiences.clone(), access })
    }

    #[inline(never)]
    fn issuer_named(&mut self, path: &Path, name: Option<&str>) -> Option<IssuerId> {
        let place = self.issuers.place(name, "an issuer");
        place.map(IssuerId).map_err(|fault| self.wrong_if(path, fault)).ok()
    }
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
