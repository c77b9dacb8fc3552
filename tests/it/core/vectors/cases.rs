//! Bearer tokens from end to end: the decision, the status, and the error of the challenge.

use super::Way;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::http::message::{HttpReply, LocalReply, MessageHead, RequestId};
use m2m_auth::inbound::jwt::{
    self, AudienceRequirement, Caller, IssuerProfile, RuleRequirements, TokenError,
};
use m2m_auth::jose::jwk::{self, Algorithm, KeySet};
use m2m_auth::jose::verifier::{SoftwareCrypto, Verify};
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::plugin::{Effect, Plugin, RequestOutcome};
use m2m_auth::policy::Policy;
use m2m_auth::rng::OsRandom;
use m2m_auth::time::{Instant, Now};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[test]
fn every_jwt_case_ends_as_it_must_with_keys_given_inline() {
    for way in Way::BOTH {
        run_jwt_cases(way, Keys::Inline);
    }
}

#[test]
fn every_jwt_case_ends_as_it_must_with_keys_fetched() {
    for way in Way::BOTH {
        run_jwt_cases(way, Keys::Fetched);
    }
}

/// These sets hold keys, none of which may verify a signature. We hold that against the provider
/// (503), not against the caller (401): `jwk::parse` refuses the document, so that a set that
/// served well is not given up for it.
const NO_USABLE_KEY: [&str; 5] =
    ["jwks_empty", "key_ops_encrypt", "rsa_e1", "rsa_key_1024", "use_enc_no_alg"];

/// What these ask for cannot be written in a configuration: roles under other claims than
/// Keycloak's, no audience at all. They run one level down, at [`jwt::UnverifiedToken::verify`],
/// and their claims are looked up in the [`Caller`].
const ONE_LEVEL_DOWN: [&str; 3] = ["idp_auth0_default", "idp_cognito_client_credentials", "idp_entra_v2_app"];

#[test]
fn the_jwt_cases_are_all_here() {
    let cases = jwt_cases();
    assert_eq!(cases.len(), 100);
    let count = |expect: &str| cases.iter().filter(|case| case.expect == expect).count();
    assert_eq!((count("accept"), count("reject"), count("either")), (33, 62, 5));
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), 100, "a duplicate name");
}

#[derive(Deserialize)]
struct JwtCases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(super) struct Case {
    name: String,
    expect: String,
    expected_http: Value,
    #[serde(default)]
    expected_http_alt: Vec<u16>,
    expected_error: Option<String>,
    now: u64,
    config: CaseConfig,
    pub(super) jwks: Option<Value>,
    jwks_text: Option<String>,
    token: String,
    authorization: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CaseConfig {
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    clock_skew_seconds: u64,
    #[serde(default)]
    required_realm_roles: Vec<String>,
    #[serde(default)]
    required_client_roles: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    required_scopes: Vec<String>,
    #[serde(default)]
    required_claims: Vec<RequiredClaim>,
}

#[derive(Deserialize)]
struct RequiredClaim {
    path: Vec<String>,
    contains: String,
    r#as: String,
}

/// Where a case's keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Inline,
    Fetched,
}

pub(super) fn jwt_cases() -> Vec<Case> {
    let file: JwtCases = serde_json::from_str(include_str!("../../../data/jwt_cases.json")).unwrap();
    file.cases
}

/// A case as a request to another implementation, and the filter's decision with fetched keys and
/// Envoy's own crypto.
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) configuration: Vec<u8>,
    pub(crate) keys: Vec<u8>,
    pub(crate) authorization: Vec<String>,
    pub(crate) now: u64,
    pub(crate) decided: RequestOutcome,
}

/// Every case whose requirements a configuration can state.
pub(crate) fn asked() -> Vec<Asked> {
    let asked = |case: Case| {
        let require = case.requirement()?;
        let sound = case.config.algorithms.iter().filter(|name| Algorithm::from_name(name).is_some());
        let configuration = case.configuration(Keys::Fetched, &sound.collect::<Vec<_>>(), &require);
        let policy = Policy::read(&configuration, &|_| None).unwrap();
        let signer = Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom));
        let mut plugin = Plugin::new(policy, Way::Host.verifier(), signer, 1);
        let mut now = Now { instant: Instant(Duration::from_secs(1000)), unix: case.now };
        case.serve(&mut plugin, now);
        now.instant = now.instant + Duration::from_secs(10);
        let decided = case.ask(&mut plugin, RequestId(1), &mut now);
        let authorization =
            case.authorization.clone().unwrap_or_else(|| vec![format!("Bearer {}", case.token)]);
        let (keys, now) = (case.key_document(), case.now);
        Some(Asked { name: case.name, configuration, keys, authorization, now, decided })
    };
    jwt_cases().into_iter().filter_map(asked).collect()
}

fn run_jwt_cases(way: Way, keys: Keys) {
    let cases = jwt_cases();
    let (mut wrong, mut refused, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for case in &cases {
        let Some(rule) = case.requirement() else {
            down.push(case.name.as_str());
            wrong.extend(case.judge_one_level_down(way));
            continue;
        };
        if case.key_set().is_err() {
            refused.push(case.name.as_str());
        }
        wrong.extend(case.judge_whole(way, keys, &rule));
    }
    println!("jwt_cases, {way:?}, {keys:?}: {} cases, {} of them one level down", cases.len(), down.len());
    assert!(wrong.is_empty(), "{way:?} {keys:?}:\n{}", wrong.join("\n"));
    refused.sort_unstable();
    down.sort_unstable();
    assert_eq!(refused, NO_USABLE_KEY);
    assert_eq!(down, ONE_LEVEL_DOWN);
}

impl Case {
    /// `require` of the rule, if a configuration can say all that the case asks for.
    fn requirement(&self) -> Option<Value> {
        let config = &self.config;
        let mut scopes = config.required_scopes.clone();
        for claim in &config.required_claims {
            match claim.path.as_slice() {
                [name] if name == "scp" || name == "scope" => scopes.push(claim.contains.clone()),
                _ => return None,
            }
        }
        if config.audiences.is_empty() {
            return None;
        }
        let mut require = json!({ "issuer": "idp", "audiences": config.audiences });
        if !config.required_client_roles.is_empty() {
            require["client_roles"] = json!(config.required_client_roles);
        }
        for (member, names) in [("roles", &config.required_realm_roles), ("scopes", &scopes)] {
            if !names.is_empty() {
                require[member] = json!(names);
            }
        }
        Some(require)
    }

    fn configuration(&self, keys: Keys, algorithms: &[&String], require: &Value) -> Vec<u8> {
        let mut issuer = json!({
            "issuer": self.config.issuer,
            "algorithms": algorithms,
            "clock_skew": format!("{}s", self.config.clock_skew_seconds),
        });
        match keys {
            Keys::Inline => {
                issuer["jwks"] = serde_json::from_slice(&self.key_document()).unwrap_or(Value::Null);
            }
            Keys::Fetched => {
                issuer["cluster"] = json!("idp");
                issuer["jwks_uri"] = json!("https://idp.example.com/keys");
            }
        }
        let rules = json!([{ "require": require }]);
        json!({ "issuers": { "idp": issuer }, "inbound": { "rules": rules } }).to_string().into()
    }

    fn key_document(&self) -> Vec<u8> {
        match (&self.jwks_text, &self.jwks) {
            (Some(text), _) => text.clone().into(),
            (None, Some(jwks)) => jwks.to_string().into(),
            (None, None) => Vec::new(),
        }
    }

    fn key_set(&self) -> Result<KeySet, jwk::KeySetError> {
        jwk::parse(&self.key_document()).map(|parsed| parsed.keys)
    }

    /// The request as the host hands it over: without the spaces around a value (RFC 9110 section
    /// 5.5).
    fn head(&self) -> MessageHead {
        let values = self.authorization.clone().unwrap_or_else(|| vec![format!("Bearer {}", self.token)]);
        let pseudo =
            [(":method", "GET"), (":scheme", "https"), (":authority", "orders"), (":path", "/orders/7")];
        let values = values.iter().map(|value| ("authorization", value.trim_matches([' ', '\t'])));
        pseudo.into_iter().chain(values).collect()
    }

    /// The algorithm that the token claims, if it is one.
    fn algorithm(&self) -> Option<Algorithm> {
        let header = URL_SAFE_NO_PAD.decode(self.token.split('.').next()?).ok()?;
        Algorithm::from_name(serde_json::from_slice::<Value>(&header).ok()?["alg"].as_str()?)
    }

    /// A token that should be accepted, but whose algorithm this implementation does not have.
    fn is_beyond(&self, way: Way) -> bool {
        self.expect == "accept" && self.algorithm().is_some_and(|algorithm| !way.can(algorithm))
    }

    /// Runs the case twice: the second decision may come from what the first one left behind, and
    /// must be the same.
    fn judge_whole(&self, way: Way, keys: Keys, require: &Value) -> Option<String> {
        let (sound, unsound): (Vec<_>, Vec<_>) =
            self.config.algorithms.iter().partition(|name| Algorithm::from_name(name).is_some());
        if !unsound.is_empty() {
            let all: Vec<&String> = self.config.algorithms.iter().collect();
            if Policy::read(&self.configuration(keys, &all, require), &|_| None).is_ok() {
                return Some(self.complaint(&format!("a configuration with {unsound:?} was accepted")));
            }
        }
        let policy = match Policy::read(&self.configuration(keys, &sound, require), &|_| None) {
            Ok(policy) => policy,
            // A key set that makes the configuration invalid accepts no token.
            Err(_) if keys == Keys::Inline && self.key_set().is_err() && self.expect != "accept" => {
                return None;
            }
            Err(errors) => {
                return Some(self.complaint(&format!("the configuration was refused: {errors:?}")));
            }
        };
        let mut plugin =
            Plugin::new(policy, way.verifier(), Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom)), 1);
        let mut now = Now { instant: Instant(Duration::from_secs(1000)), unix: self.now };
        // Keys are fetched at start, before the first request; a while later an unknown name may be
        // looked for again.
        self.serve(&mut plugin, now);
        now.instant = now.instant + Duration::from_secs(10);
        let first = self.ask(&mut plugin, RequestId(1), &mut now);
        let again = self.ask(&mut plugin, RequestId(2), &mut now);
        let alike = match (&first, &again) {
            (RequestOutcome::Respond(first), RequestOutcome::Respond(again)) => first.status == again.status,
            (first, again) => first == again,
        };
        if !alike {
            return Some(self.complaint(&format!("first {first:?}, then {again:?}")));
        }
        self.judge(way, &first)
    }

    /// Asks, and plays the provider until there is a decision.
    fn ask(&self, plugin: &mut Plugin, id: RequestId, now: &mut Now) -> RequestOutcome {
        let mut step = plugin.request(id, self.head(), *now);
        for _ in 0..20 {
            for (settled, end) in self.serve(plugin, *now) {
                assert_eq!(settled, id);
                step = end;
            }
            if step != RequestOutcome::Wait {
                return step;
            }
            now.instant = plugin.deadline(*now).unwrap();
        }
        panic!("{}: still waiting", self.name)
    }

    /// Answers every call with the case's keys; returns the decisions that follow.
    fn serve(&self, plugin: &mut Plugin, now: Now) -> Vec<(RequestId, RequestOutcome)> {
        let mut settled = Vec::new();
        plugin.tick(now);
        while let Some(effect) = plugin.next_effect() {
            match effect {
                Effect::Call(ticket, _) => {
                    let reply = HttpReply {
                        status: Some(200),
                        body: Some(self.key_document()),
                        ..HttpReply::default()
                    };
                    plugin.reply(ticket, &reply, now);
                }
                Effect::Resume(id, step) => settled.push((id, step)),
                Effect::Log(..) => {}
            }
        }
        settled
    }

    fn judge(&self, way: Way, step: &RequestOutcome) -> Option<String> {
        match (self.expect.as_str(), step) {
            ("either", _) => None,
            ("accept", RequestOutcome::Forward(_)) if !self.is_beyond(way) => None,
            ("accept", RequestOutcome::Respond(response))
                if self.is_beyond(way) && response.status == 401 =>
            {
                None
            }
            ("reject", RequestOutcome::Respond(response)) => self.judge_answer(response),
            _ => Some(self.complaint(&format!("expected {}, got {step:?}", self.expect))),
        }
    }

    fn judge_answer(&self, response: &LocalReply) -> Option<String> {
        if self.expected_http != json!(response.status) {
            let defensible = self.expected_http_alt.contains(&response.status)
                || (response.status == 503 && NO_USABLE_KEY.contains(&self.name.as_str()));
            return if defensible { None } else { Some(self.complaint(&format!("got {response:?}"))) };
        }
        let challenge = response.headers.iter().find(|(name, _)| *name == "www-authenticate");
        let Some((_, challenge)) = challenge else {
            return Some(self.complaint("no challenge"));
        };
        let error = challenge.split_once("error=\"").and_then(|(_, rest)| rest.split('"').next());
        let right = challenge.starts_with("Bearer ") && error == self.expected_error.as_deref();
        if right { None } else { Some(self.complaint(challenge)) }
    }

    fn judge_one_level_down(&self, way: Way) -> Option<String> {
        let caller = match self.verify(way.verifier().as_ref()) {
            Ok(caller) => caller,
            Err(reject) => return Some(self.complaint(&format!("{reject:?}"))),
        };
        let audiences = &self.config.audiences;
        let audiences = AudienceRequirement { any_of: audiences.clone(), ..AudienceRequirement::default() };
        let demand = RuleRequirements { audiences, ..RuleRequirements::default() };
        let holds = (self.config.audiences.is_empty() || demand.check(&caller, self.now).is_ok())
            && self.config.required_claims.iter().all(|claim| claim.holds(&caller));
        if holds == (self.expect == "accept") { None } else { Some(self.complaint("the claims")) }
    }

    fn verify(&self, verifier: &dyn Verify) -> Result<Caller, TokenError> {
        let algorithms =
            self.config.algorithms.iter().filter_map(|name| Algorithm::from_name(name)).collect();
        let (names, clock_skew) = (vec![self.config.issuer.as_str().into()], self.config.clock_skew_seconds);
        let expect = IssuerProfile { names, algorithms, clock_skew, ..IssuerProfile::default() };
        jwt::read(self.token.as_bytes())?.verify(&self.key_set().unwrap(), verifier, &expect, self.now)
    }

    fn complaint(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }
}

impl RequiredClaim {
    fn holds(&self, caller: &Caller) -> bool {
        let Some(value) = caller.claim(&self.path) else {
            return false;
        };
        match self.r#as.as_str() {
            "array" => value.as_array().is_some_and(|list| list.iter().any(|entry| *entry == self.contains)),
            "space_delimited" => {
                value.as_str().is_some_and(|text| text.split(' ').any(|word| word == self.contains))
            }
            "string" => *value == self.contains,
            other => panic!("{other} is not known"),
        }
    }
}
