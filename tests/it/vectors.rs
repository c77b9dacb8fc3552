//! Conformance: tokens, keys and signatures whose fate others worked out, and ours beside it.
//!
//! | set | runs |
//! |---|---|
//! | `data/jwt_cases.json` | through the whole plugin, with keys given inline and with keys fetched |
//! | `data/rfc_examples.json` | the examples of RFC 7515 and its kin, at the signature layer |
//! | Wycheproof, signatures | through [`Verify`] itself |
//! | Wycheproof, JWS and JWK | at the signature layer: shape, choice of the key, signature |
//!
//! Each set runs under both ways of verifying: [`Compact`], and [`Host`], which stands for Envoy's BoringSSL and so
//! proves what is sent there. The Wycheproof files are not in this repository; without them their tests say so and pass.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests: failing loudly at once is how they report"
)]

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as lc;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::io::{Head, Instant, Now, Reply, RequestId, Response};
use m2m_auth::jwk::{self, Algorithm, Key, KeySet, Material, der};
use m2m_auth::jwt::{self, Caller, Expect, Reject};
use m2m_auth::plugin::{Effect, Plugin, Step};
use m2m_auth::policy::Policy;
use m2m_auth::signature::{self, Compact, Verify};
use m2m_auth_kit::key::{self, Alg};
use m2m_auth_kit::token;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Plays the host: the same choices as `wasm::crypto`, and in place of the foreign function AWS-LC, which descends from
/// the BoringSSL in Envoy and reads keys with the same `EVP_parse_public_key` and checks with the same `EVP_DigestVerify`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host;

impl Verify for Host {
    fn verify(&self, algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        let how: &'static dyn lc::VerificationAlgorithm = match algorithm {
            Algorithm::Rs256 => &lc::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &lc::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &lc::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Es256 => &lc::ECDSA_P256_SHA256_ASN1,
            Algorithm::Es384 => &lc::ECDSA_P384_SHA384_ASN1,
            Algorithm::Es512 => &lc::ECDSA_P521_SHA512_ASN1,
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => {
                return Compact.verify(algorithm, key, message, signature);
            }
        };
        let signature = match algorithm {
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => der::ecdsa_signature(signature),
            _ => signature.to_vec(),
        };
        lc::UnparsedPublicKey::new(how, key.spki())
            .verify(message, &signature)
            .is_ok()
    }
}

/// Both ways of verifying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Compact,
    Host,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Compact, Self::Host];

    fn verifier(self) -> Box<dyn Verify> {
        match self {
            Self::Compact => Box::new(Compact),
            Self::Host => Box::new(Host),
        }
    }

    /// The pure-Rust crates behind jwt-compact have neither P-384 nor P-521.
    fn can(self, algorithm: Algorithm) -> bool {
        self == Self::Host || !matches!(algorithm, Algorithm::Es384 | Algorithm::Es512)
    }
}

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

/// These sets hold keys, none of which may verify a signature. We hold that against the provider (503), not against the
/// caller (401): `jwk::parse` refuses the document, so that a set that served well is not given up for it.
const NO_USABLE_KEY: [&str; 5] = [
    "jwks_empty",
    "key_ops_encrypt",
    "rsa_e1",
    "rsa_key_1024",
    "use_enc_no_alg",
];

/// What these ask for cannot be written in a configuration: roles under other claims than Keycloak's, no audience at all.
/// They run one level down, at [`jwt::Unverified::verify`], and their claims are looked up in the [`Caller`].
const ONE_LEVEL_DOWN: [&str; 3] = [
    "idp_auth0_default",
    "idp_cognito_client_credentials",
    "idp_entra_v2_app",
];

#[test]
fn the_jwt_cases_are_all_here() {
    let cases = jwt_cases();
    assert_eq!(cases.len(), 100);
    let count = |expect: &str| cases.iter().filter(|case| case.expect == expect).count();
    assert_eq!((count("accept"), count("reject"), count("either")), (33, 62, 5));
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), 100, "a name stands twice");
}

#[derive(Deserialize)]
struct JwtCases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    expect: String,
    expected_http: Value,
    #[serde(default)]
    expected_http_alt: Vec<u16>,
    expected_error: Option<String>,
    now: u64,
    config: CaseConfig,
    jwks: Option<Value>,
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

fn jwt_cases() -> Vec<Case> {
    let file: JwtCases = serde_json::from_str(include_str!("../data/jwt_cases.json")).unwrap();
    file.cases
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
    println!(
        "jwt_cases, {way:?}, {keys:?}: {} cases, {} of them one level down",
        cases.len(),
        down.len()
    );
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
        let mut require = json!({
            "issuer": "idp",
            "audiences": config.audiences,
            "client_roles": config.required_client_roles,
        });
        for (member, names) in [("realm_roles", &config.required_realm_roles), ("scopes", &scopes)] {
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
                issuer["jwks"] = serde_json::from_slice(&self.key_document()).unwrap_or(Value::Null)
            }
            Keys::Fetched => {
                issuer["cluster"] = json!("idp");
                issuer["jwks_uri"] = json!("https://idp.example.com/keys");
            }
        }
        let rules = json!([{ "require": require }]);
        json!({ "issuers": { "idp": issuer }, "inbound": { "rules": rules } })
            .to_string()
            .into()
    }

    fn key_document(&self) -> Vec<u8> {
        match (&self.jwks_text, &self.jwks) {
            (Some(text), _) => text.clone().into(),
            (None, Some(jwks)) => jwks.to_string().into(),
            (None, None) => Vec::new(),
        }
    }

    fn key_set(&self) -> Result<KeySet, jwk::Error> {
        jwk::parse(&self.key_document()).map(|parsed| parsed.keys)
    }

    /// The request as the host hands it over: without the blanks around a value (RFC 9110 section 5.5).
    fn head(&self) -> Head {
        let values = self
            .authorization
            .clone()
            .unwrap_or_else(|| vec![format!("Bearer {}", self.token)]);
        let pseudo = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "orders"),
            (":path", "/orders/7"),
        ];
        let values = values
            .iter()
            .map(|value| ("authorization", value.trim_matches([' ', '\t'])));
        pseudo.into_iter().chain(values).collect()
    }

    /// The algorithm that the token claims, if it is one.
    fn algorithm(&self) -> Option<Algorithm> {
        let header = URL_SAFE_NO_PAD.decode(self.token.split('.').next()?).ok()?;
        Algorithm::from_name(serde_json::from_slice::<Value>(&header).ok()?["alg"].as_str()?)
    }

    /// A token that should get in, but whose algorithm this way of verifying does not have.
    fn is_beyond(&self, way: Way) -> bool {
        self.expect == "accept" && self.algorithm().is_some_and(|algorithm| !way.can(algorithm))
    }

    /// Runs the case twice: the second decision may come from what the first one left behind, and must be the same.
    fn judge_whole(&self, way: Way, keys: Keys, require: &Value) -> Option<String> {
        let (sound, unsound): (Vec<_>, Vec<_>) = self
            .config
            .algorithms
            .iter()
            .partition(|name| Algorithm::from_name(name).is_some());
        if !unsound.is_empty() {
            let all: Vec<&String> = self.config.algorithms.iter().collect();
            if Policy::read(&self.configuration(keys, &all, require), &|_| None).is_ok() {
                return self.complain(&format!("a configuration with {unsound:?} was accepted"));
            }
        }
        let policy = match Policy::read(&self.configuration(keys, &sound, require), &|_| None) {
            Ok(policy) => policy,
            // A key set that is refused with its whole configuration lets nobody in.
            Err(_) if keys == Keys::Inline && self.key_set().is_err() && self.expect != "accept" => {
                return None;
            }
            Err(mistakes) => return self.complain(&format!("the configuration was refused: {mistakes:?}")),
        };
        let mut plugin = Plugin::new(policy, way.verifier(), 1);
        let mut now = Now {
            instant: Instant(Duration::from_secs(1000)),
            unix: self.now,
        };
        // Keys are fetched at start, before the first request; a while later an unknown name may be looked for again.
        self.serve(&mut plugin, now);
        now.instant = now.instant + Duration::from_secs(10);
        let first = self.ask(&mut plugin, RequestId(1), &mut now);
        let again = self.ask(&mut plugin, RequestId(2), &mut now);
        let alike = match (&first, &again) {
            (Step::Answer(first), Step::Answer(again)) => first.status == again.status,
            (first, again) => first == again,
        };
        if !alike {
            return self.complain(&format!("first {first:?}, then {again:?}"));
        }
        self.judge(way, &first)
    }

    /// Asks, and plays the provider until there is a decision.
    fn ask(&self, plugin: &mut Plugin, id: RequestId, now: &mut Now) -> Step {
        let mut step = plugin.request(id, self.head(), *now);
        for _ in 0..20 {
            for (settled, end) in self.serve(plugin, *now) {
                assert_eq!(settled, id);
                step = end;
            }
            if step != Step::Wait {
                return step;
            }
            now.instant = plugin.deadline(*now).unwrap();
        }
        panic!("{}: still waiting", self.name)
    }

    /// Answers every call with the case's keys; returns the decisions that follow.
    fn serve(&self, plugin: &mut Plugin, now: Now) -> Vec<(RequestId, Step)> {
        let mut settled = Vec::new();
        plugin.tick(now);
        while let Some(effect) = plugin.poll() {
            match effect {
                Effect::Call(ticket, _) => {
                    let reply = Reply {
                        status: Some(200),
                        body: Some(self.key_document()),
                        ..Reply::default()
                    };
                    plugin.reply(ticket, &reply, now);
                }
                Effect::Settle(id, step) => settled.push((id, step)),
                Effect::Log(..) => {}
            }
        }
        settled
    }

    fn judge(&self, way: Way, step: &Step) -> Option<String> {
        match (self.expect.as_str(), step) {
            ("either", _) => None,
            ("accept", Step::Forward(_)) if !self.is_beyond(way) => None,
            ("accept", Step::Answer(response)) if self.is_beyond(way) && response.status == 401 => None,
            ("reject", Step::Answer(response)) => self.judge_answer(response),
            _ => self.complain(&format!("expected {}, got {step:?}", self.expect)),
        }
    }

    fn judge_answer(&self, response: &Response) -> Option<String> {
        if self.expected_http != json!(response.status) {
            let defensible = self.expected_http_alt.contains(&response.status)
                || (response.status == 503 && NO_USABLE_KEY.contains(&self.name.as_str()));
            return if defensible {
                None
            } else {
                self.complain(&format!("got {response:?}"))
            };
        }
        let challenge = response
            .headers
            .iter()
            .find(|(name, _)| *name == "www-authenticate");
        let Some((_, challenge)) = challenge else {
            return self.complain("no challenge");
        };
        let error = challenge
            .split_once("error=\"")
            .and_then(|(_, rest)| rest.split('"').next());
        let right = challenge.starts_with("Bearer ") && error == self.expected_error.as_deref();
        if right { None } else { self.complain(challenge) }
    }

    fn judge_one_level_down(&self, way: Way) -> Option<String> {
        let caller = match self.verify(way.verifier().as_ref()) {
            Ok(caller) => caller,
            Err(reject) => return self.complain(&format!("{reject:?}")),
        };
        let audiences = &self.config.audiences;
        let holds = (audiences.is_empty() || caller.is_for_any(audiences))
            && self
                .config
                .required_claims
                .iter()
                .all(|claim| claim.holds(&caller));
        if holds == (self.expect == "accept") {
            None
        } else {
            self.complain("the claims")
        }
    }

    fn verify(&self, verifier: &dyn Verify) -> Result<Caller, Reject> {
        let algorithms = self
            .config
            .algorithms
            .iter()
            .filter_map(|name| Algorithm::from_name(name))
            .collect();
        let (issuer, clock_skew) = (self.config.issuer.clone(), self.config.clock_skew_seconds);
        let expect = Expect {
            issuer,
            algorithms,
            clock_skew,
        };
        jwt::read(self.token.as_bytes())?.verify(&self.key_set().unwrap(), verifier, &expect, self.now)
    }

    fn complain(&self, what: &str) -> Option<String> {
        Some(format!("{}: {what}", self.name))
    }
}

impl RequiredClaim {
    fn holds(&self, caller: &Caller) -> bool {
        let Some(value) = caller.claim(&self.path) else {
            return false;
        };
        match self.r#as.as_str() {
            "array" => value
                .as_array()
                .is_some_and(|list| list.iter().any(|entry| *entry == self.contains)),
            "space_delimited" => value
                .as_str()
                .is_some_and(|text| text.split(' ').any(|word| word == self.contains)),
            "string" => *value == self.contains,
            other => panic!("{other} is not known"),
        }
    }
}

/// What the signature layer makes of a token: everything before the first look at a claim.
///
/// [`jwt::read`] looks at shape and header. Of what [`jwt::Unverified::verify`] then refuses, these three reasons come
/// before the signature holds; every other one comes after, so it tells that the signature did hold.
fn signature_holds(token: &str, jwks: &Value, verifier: &dyn Verify) -> Result<(), String> {
    let keys = jwk::parse(jwks.to_string().as_bytes())
        .map_err(|error| format!("key set: {error}"))?
        .keys;
    let token = jwt::read(token.as_bytes()).map_err(|reject| format!("shape: {reject:?}"))?;
    let expect = Expect {
        issuer: "nobody".into(),
        algorithms: Algorithm::ALL.to_vec(),
        clock_skew: 0,
    };
    match token.verify(&keys, verifier, &expect, 0) {
        Err(reject @ (Reject::Algorithm | Reject::Key | Reject::Signature)) => {
            Err(format!("signature: {reject:?}"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[test]
fn the_examples_of_the_rfcs_end_as_they_must() {
    let file: Value = serde_json::from_str(include_str!("../data/rfc_examples.json")).unwrap();
    let examples = file["examples"].as_array().unwrap();
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    for example in examples {
        let (name, kind) = (
            example["name"].as_str().unwrap(),
            example["kind"].as_str().unwrap(),
        );
        *ran.entry(kind).or_default() += 1;
        let jwks = json!({ "keys": [if example["jwk"].is_null() { some_jwk(examples) } else { example["jwk"].clone() }] });
        for way in Way::BOTH {
            let verifier = way.verifier();
            match (kind, example["expect_asymmetric_only"].as_str()) {
                ("jws", Some("accept-signature")) => {
                    let algorithm = Algorithm::from_name(example["alg"].as_str().unwrap()).unwrap();
                    let outcome = signature_holds(example["jws"].as_str().unwrap(), &jwks, verifier.as_ref());
                    assert_eq!(outcome.is_ok(), way.can(algorithm), "{name} {way:?}: {outcome:?}");
                }
                // A DPoP proof brings its own key; as a bearer token it is of the wrong type (RFC 9449 section 7.1).
                ("jws", Some("dpop-proof")) => {
                    assert_eq!(
                        jwt::read(example["jws"].as_str().unwrap().as_bytes()).err(),
                        Some(Reject::Type),
                        "{name}"
                    );
                }
                ("jws", Some("reject")) => {
                    assert!(
                        signature_holds(example["jws"].as_str().unwrap(), &jwks, verifier.as_ref()).is_err(),
                        "{name}"
                    );
                }
                ("raw-token", Some("reject")) => {
                    let token = example["token"].as_str().unwrap();
                    assert!(
                        jwt::read(token.as_bytes()).is_err(),
                        "{name}: its shape alone refuses it"
                    );
                }
                // RFC 7638, RFC 8705: thumbprints are not computed here, since tokens that are bound to one are refused.
                ("jwk-thumbprint-sha256" | "x5t-s256", None) => {}
                // Claims without a token; see `the_claims_of_the_rfcs_end_as_they_must`.
                ("claims-shape", None) => {}
                other => panic!("{name}: {other:?} is not known"),
            }
        }
    }
    println!("rfc_examples: {ran:?}");
    let expected = [
        ("claims-shape", 3),
        ("jwk-thumbprint-sha256", 3),
        ("jws", 14),
        ("raw-token", 8),
        ("x5t-s256", 1),
    ];
    assert_eq!(ran, BTreeMap::from(expected));
}

/// The key of RFC 7515 appendix A.2, for examples that name none.
fn some_jwk(examples: &[Value]) -> Value {
    examples
        .iter()
        .find(|example| example["name"] == "rfc7515-A.2-RS256")
        .unwrap()["jwk"]
        .clone()
}

#[test]
fn a_token_of_an_rfc_is_good_until_the_second_in_which_it_ends() {
    let file: Value = serde_json::from_str(include_str!("../data/rfc_examples.json")).unwrap();
    let mut count = 0;
    for example in file["examples"].as_array().unwrap() {
        if example["claims"]["iss"] != "joe" {
            continue;
        }
        let expect = Expect {
            issuer: "joe".into(),
            algorithms: Algorithm::ALL.to_vec(),
            clock_skew: 0,
        };
        let keys = jwk::parse(json!({ "keys": [example["jwk"]] }).to_string().as_bytes())
            .unwrap()
            .keys;
        let token = jwt::read(example["jws"].as_str().unwrap().as_bytes()).unwrap();
        let caller = token.verify(&keys, &Compact, &expect, 1_300_819_379).unwrap();
        assert_eq!(caller.claim(&["http://example.com/is_root"]), Some(&json!(true)));
        assert_eq!(
            token.verify(&keys, &Compact, &expect, 1_300_819_380).unwrap_err(),
            Reject::Expired
        );
        count += 1;
    }
    assert_eq!(count, 2, "RFC 7515 appendices A.2 and A.3");
}

#[test]
fn the_claims_of_the_rfcs_end_as_they_must() {
    let file: Value = serde_json::from_str(include_str!("../data/rfc_examples.json")).unwrap();
    let key = key::Key::new(Alg::EdDsa);
    let keys = jwk::parse(json!({ "keys": [key.bare_jwk()] }).to_string().as_bytes())
        .unwrap()
        .keys;
    let verify = |name: &str, header: &Value| {
        let examples = file["examples"].as_array().unwrap();
        let claims = &examples.iter().find(|example| example["name"] == name).unwrap()["claims"];
        let token = token::sign_bytes(&key, header.to_string().as_bytes(), claims.to_string().as_bytes());
        let issuer = claims["iss"].as_str().unwrap().to_owned();
        let expect = Expect {
            issuer,
            algorithms: vec![Algorithm::EdDsa],
            clock_skew: 0,
        };
        jwt::read(token.as_bytes())?.verify(&keys, &Compact, &expect, claims["exp"].as_u64().unwrap() - 1)
    };
    let caller = verify("rfc9068-2.2-shape", &json!({ "alg": "EdDSA", "typ": "at+JWT" })).unwrap();
    assert_eq!(
        (caller.subject(), caller.client()),
        (Some("5ba552d67"), Some("s6BhdRkqt3"))
    );
    let bound = verify("rfc8705-3.1-claims", &json!({ "alg": "EdDSA" })).unwrap_err();
    assert_eq!(bound, Reject::Bound);
}

#[test]
fn keys_are_encoded_as_boringssl_encodes_them() {
    let same = |jwk: &Value, theirs: PublicKeyX509Der<'_>| {
        let keys = jwk::parse(json!({ "keys": [jwk] }).to_string().as_bytes())
            .unwrap()
            .keys;
        let key = Algorithm::ALL
            .iter()
            .find_map(|algorithm| keys.candidates(None, *algorithm).next())
            .unwrap();
        assert_eq!(key.spki(), theirs.as_ref(), "{jwk}");
    };
    let mut sizes = BTreeSet::new();
    for jwk in jwt_cases()
        .iter()
        .filter_map(|case| case.jwks.as_ref()?["keys"].as_array())
        .flatten()
    {
        let keys = jwk::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).map(|parsed| parsed.keys);
        let Ok(Some(key)) = keys
            .as_ref()
            .map(|keys| keys.candidates(None, Algorithm::Rs256).next())
        else {
            continue;
        };
        let Material::Rsa { n, e } = key.material() else {
            panic!("not an RSA key")
        };
        same(jwk, lc::RsaPublicKeyComponents { n, e }.as_der().unwrap());
        sizes.insert(n.len());
    }
    assert!(!sizes.is_empty(), "no RSA key was compared");
    for (curve, length, how) in curves() {
        for _ in 0..32 {
            let pair = lc::EcdsaKeyPair::generate(how).unwrap();
            same(
                &ec_jwk(curve, length, &pair),
                lc::KeyPair::public_key(&pair).as_der().unwrap(),
            );
        }
    }
    let pair = lc::Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(lc::KeyPair::public_key(&pair));
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    same(&jwk, lc::KeyPair::public_key(&pair).as_der().unwrap());
}

/// Signs until every form that DER has for a number was there: with the high bit and without, with zeros before it and
/// without.
#[test]
fn the_host_takes_every_ecdsa_signature_that_we_encode_for_it() {
    let random = SystemRandom::new();
    let algorithms = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];
    for ((curve, length, how), algorithm) in curves().into_iter().zip(algorithms) {
        let pair = lc::EcdsaKeyPair::generate(how).unwrap();
        let document = json!({ "keys": [ec_jwk(curve, length, &pair)] }).to_string();
        let keys = jwk::parse(document.as_bytes()).unwrap().keys;
        let key = keys.candidates(None, algorithm).next().unwrap();
        // 521 bits are a byte of one bit and 65 others: a number that fills its bytes never has the high bit.
        let all = if curve == "P-521" { 3 } else { 4 };
        let mut forms = BTreeSet::new();
        for message in 0..20_000_u32 {
            let message = message.to_be_bytes();
            let raw = pair.sign(&random, &message).unwrap();
            assert_eq!(raw.as_ref().len(), signature::length(algorithm, key));
            assert!(
                Host.verify(algorithm, key, &message, raw.as_ref()),
                "{curve} {message:?}"
            );
            assert!(
                !Host.verify(algorithm, key, b"another", raw.as_ref()),
                "{curve} {message:?}"
            );
            for number in raw.as_ref().chunks(length) {
                let zeros = number.iter().take_while(|byte| **byte == 0).count();
                forms.insert((zeros > 0, number[zeros] >= 0x80));
            }
            if forms.len() == all {
                break;
            }
        }
        assert_eq!(forms.len(), all, "{curve}: {forms:?}");
    }
}

/// [`Verify`] promises that anything odd is simply not a signature; a panic would end the worker.
#[test]
fn an_odd_signature_is_no_signature_and_no_panic() {
    let mut tried = BTreeSet::new();
    for jwk in jwt_cases()
        .iter()
        .filter_map(|case| case.jwks.as_ref()?["keys"].as_array())
        .flatten()
    {
        let Ok(parsed) = jwk::parse(json!({ "keys": [jwk] }).to_string().as_bytes()) else {
            continue;
        };
        for algorithm in Algorithm::ALL {
            let Some(key) = parsed.keys.candidates(None, algorithm).next() else {
                continue;
            };
            if !tried.insert(algorithm) {
                continue;
            }
            for length in [
                0, 1, 2, 3, 31, 32, 63, 64, 65, 95, 96, 97, 131, 132, 133, 255, 256, 257, 512, 10_000,
            ] {
                for way in Way::BOTH {
                    let holds = way
                        .verifier()
                        .verify(algorithm, key, b"message", &vec![0x42; length]);
                    assert!(!holds, "{algorithm}, {length} bytes, {way:?}");
                }
            }
        }
    }
    assert_eq!(tried.len(), Algorithm::ALL.len(), "{tried:?}");
}

fn curves() -> [(&'static str, usize, &'static lc::EcdsaSigningAlgorithm); 3] {
    [
        ("P-256", 32, &lc::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", 48, &lc::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", 66, &lc::ECDSA_P521_SHA512_FIXED_SIGNING),
    ]
}

fn ec_jwk(curve: &str, length: usize, pair: &lc::EcdsaKeyPair) -> Value {
    let point = lc::KeyPair::public_key(pair).as_ref();
    let (x, y) = point[1..].split_at(length);
    json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
}

#[derive(Deserialize)]
struct SignatureFile {
    groups: Vec<SignatureGroup>,
}

#[derive(Deserialize)]
struct SignatureGroup {
    file: String,
    alg: String,
    jwk: Value,
    tests: Vec<SignatureCase>,
}

#[derive(Deserialize)]
struct SignatureCase {
    #[serde(rename = "tcId")]
    id: u64,
    comment: String,
    msg: String,
    sig: String,
    expect: String,
}

#[test]
fn wycheproof_signatures_by_jwt_compact() {
    run_wycheproof_signatures(Way::Compact, 2219);
}

#[test]
fn wycheproof_signatures_by_the_host() {
    run_wycheproof_signatures(Way::Host, 2219);
}

/// [`Verify`] after the check of the length, as in `jwt`: the host is sent DER, in which an ECDSA signature of a wrong size
/// (RFC 7518 section 3.4) looks like one of the right size.
fn run_wycheproof_signatures(way: Way, expected: usize) {
    let Some(file) = wycheproof::<SignatureFile>("wycheproof_signatures.json") else {
        return;
    };
    let (mut ledger, verifier) = (Ledger::of("signatures", way), way.verifier());
    for group in &file.groups {
        let algorithm = Algorithm::from_name(&group.alg).unwrap();
        let keys = jwk::parse(json!({ "keys": [group.jwk] }).to_string().as_bytes())
            .unwrap()
            .keys;
        let key = keys.candidates(None, algorithm).next().unwrap();
        for case in &group.tests {
            let [message, signature] =
                [&case.msg, &case.sig].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
            let holds = signature.len() == signature::length(algorithm, key)
                && verifier.verify(algorithm, key, &message, &signature);
            let outcome = if holds { Ok(()) } else { Err("refused".to_owned()) };
            let expect = if way.can(algorithm) {
                case.expect.as_str()
            } else {
                "reject"
            };
            ledger.note(&group.file, case.id, &case.comment, expect, &outcome);
        }
    }
    ledger.close(expected);
}

#[derive(Deserialize)]
struct JwsFile {
    groups: Vec<JwsGroup>,
}

#[derive(Deserialize)]
struct JwsGroup {
    comment: String,
    jwks: Value,
    tests: Vec<JwsCase>,
}

#[derive(Deserialize)]
struct JwsCase {
    #[serde(rename = "tcId")]
    id: u64,
    comment: String,
    jws: String,
    asymmetric_only_expect: String,
}

#[test]
fn wycheproof_json_web_signature() {
    run_wycheproof_jws("json_web_signature", 200);
}

#[test]
fn wycheproof_json_web_key() {
    run_wycheproof_jws("json_web_key", 13);
}

#[test]
fn wycheproof_json_web_crypto() {
    run_wycheproof_jws("json_web_crypto", 25);
}

fn run_wycheproof_jws(set: &str, expected: usize) {
    let Some(file) = wycheproof::<JwsFile>(&format!("wycheproof_{set}.json")) else {
        return;
    };
    for way in Way::BOTH {
        let (mut ledger, verifier) = (Ledger::of(set, way), way.verifier());
        for group in &file.groups {
            for case in group
                .tests
                .iter()
                .filter(|case| case.asymmetric_only_expect != "skip")
            {
                let outcome = signature_holds(&case.jws, &group.jwks, verifier.as_ref());
                let what = format!("{}, {}", group.comment, case.comment);
                ledger.note(set, case.id, &what, &case.asymmetric_only_expect, &outcome);
            }
        }
        ledger.close(expected);
    }
}

/// A Wycheproof file, where they lie beside the repository.
fn wycheproof<T: for<'de> Deserialize<'de>>(name: &str) -> Option<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/vectors")
        .join(name);
    let Ok(text) = std::fs::read(path) else {
        println!("left out: {name} is not here");
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

/// A case in which we differ from Wycheproof, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    set: String,
    file: String,
    id: u64,
    reason: String,
}

#[derive(Deserialize)]
struct Exceptions {
    exceptions: Vec<Exception>,
}

/// Counts what ran, and holds it against the list of exceptions: what differs must be on it, what is on it must differ.
struct Ledger {
    set: String,
    way: Way,
    open: BTreeSet<(String, u64)>,
    ran: usize,
    excepted: usize,
    wrong: Vec<String>,
}

impl Ledger {
    fn of(set: &str, way: Way) -> Self {
        let file: Exceptions =
            serde_json::from_str(include_str!("../data/wycheproof_exceptions.json")).unwrap();
        assert!(
            file.exceptions
                .iter()
                .all(|exception| exception.reason.len() > 20),
            "an exception without a reason"
        );
        let own = file
            .exceptions
            .into_iter()
            .filter(|exception| exception.set == set);
        let open = own.map(|exception| (exception.file, exception.id)).collect();
        Self {
            set: set.to_owned(),
            way,
            open,
            ran: 0,
            excepted: 0,
            wrong: Vec::new(),
        }
    }

    fn note(&mut self, file: &str, id: u64, comment: &str, expect: &str, outcome: &Result<(), String>) {
        self.ran += 1;
        let right = match expect {
            "accept" => outcome.is_ok(),
            "reject" => outcome.is_err(),
            "either" => true,
            other => panic!("{other} is not known"),
        };
        let excepted = self.open.remove(&(file.to_owned(), id));
        self.excepted += usize::from(excepted);
        if right == excepted {
            let unexpectedly = if excepted {
                "an exception that is none"
            } else {
                "wrong"
            };
            self.wrong.push(format!(
                "{file} {id} ({comment}): {unexpectedly}, expected {expect}, got {outcome:?}"
            ));
        }
    }

    fn close(self, expected: usize) {
        println!(
            "wycheproof {}, {:?}: {} cases, {} exceptions",
            self.set, self.way, self.ran, self.excepted
        );
        assert!(
            self.wrong.is_empty(),
            "{} by {:?}:\n{}",
            self.set,
            self.way,
            self.wrong.join("\n")
        );
        assert!(
            self.open.is_empty(),
            "exceptions for cases that are not there: {:?}",
            self.open
        );
        assert_eq!(self.ran, expected, "{}", self.set);
    }
}
