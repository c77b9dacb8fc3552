//! No secret and no token is ever printed: not by `Debug` or `Display`, not in a log, an answer or
//! a metric.

use crate::core::sim::provider::{ISSUER, Key, MARK, Mode, made_up};
use crate::core::sim::world::{World, both, get, inbound, items, pay, secs, without_discovery};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use m2m_auth::config::errors;
use m2m_auth::config::{self, Config, SecretSources};
use m2m_auth::dpop::Nonce;
use m2m_auth::dpop::verify::DpopPolicy;
use m2m_auth::filter::header_edits::HeaderEdits;
use m2m_auth::filter::{DecisionRecord, Interrupt};
use m2m_auth::http::message::{HttpCall, HttpReply, MessageHead, RequestId, Service};
use m2m_auth::inbound::jwt::{self, Caller};
use m2m_auth::inbound::refusal::Refusal;
use m2m_auth::jose::private_key::PrivateKey;
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::oauth::fetch::{FetchError, Fetched};
use m2m_auth::oauth::secret_file::{FileContent, KeyRef, NoFiles, SecretRef};
use m2m_auth::oauth::{
    AssertionGrant, AssertionSource, AssertionTarget, ClientAuth, GrantType, TokenRequest,
};
use m2m_auth::plugin::{Effect, RequestOutcome};
use m2m_auth::policy::{Policy, Sharing, SharingScope};
use m2m_auth::rng::{OsRandom, Rng};
use m2m_auth::secret::SharingKey;
use m2m_auth::secret::{AccessToken, NonceKey, Secret};
use m2m_auth::store::cache::{Cache, Capacity};
use m2m_auth::store::lease::Lease;
use m2m_auth::store::{IssuedToken, Store};
use m2m_auth::time::{Instant, Now};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::rc::Rc;

/// Whether a string holds the mark or a token, plain or in any encoding that printing could
/// produce.
fn leaks(text: &str) -> bool {
    let listed = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    // "Basic " of `order-service:<mark>`, and the beginning of every JWT: `{"` in base64.
    let disguises = ["b3JkZXItc2VydmljZTpodXNoaHVza", "eyJ"].map(str::to_owned);
    let marks = [MARK.to_owned(), listed(MARK.as_bytes()), listed(b"eyJhbGci")];
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    marks.iter().chain(&disguises).any(|mark| flat.contains(mark))
}

fn now() -> Now {
    Now { instant: Instant::default(), unix: 1_800_000_000 }
}

fn token() -> String {
    Key::number(1)
        .sign(&json!({ "iss": ISSUER, "aud": "svc", "exp": 1_800_000_300, "sub": "someone", "mark": MARK }))
}

fn caller() -> Caller {
    let keys = m2m_auth::jose::jwk::parse(key_set().as_bytes()).unwrap().keys;
    let policy = policy();
    let token = token();
    let caller = jwt::read(token.as_bytes()).unwrap().verify(
        &keys,
        &SoftwareCrypto,
        &policy.issuers[0].profile,
        now().unix,
    );
    caller.unwrap()
}

fn key_set() -> String {
    json!({ "keys": [Key::number(1).jwk()], "x": MARK }).to_string()
}

fn policy() -> Policy {
    let mut configuration = without_discovery(both());
    configuration["outbound"]["credentials"]["order"]["client_secret"] = json!({ "inline": MARK });
    let issuer = &mut configuration["issuers"]["idp"];
    issuer["introspection_endpoint"] = json!("https://idp.example/introspect");
    issuer["introspection"] =
        json!({ "client_id": "inventory-service", "client_secret": { "inline": MARK } });
    Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap()
}

fn reply(body: &str) -> HttpReply {
    let head = [("set-cookie", MARK), ("x", &token())].into_iter().collect();
    HttpReply { status: Some(200), head, body: Some(body.as_bytes().to_vec()), ..HttpReply::default() }
}

fn answer() -> String {
    json!({ "access_token": MARK, "token_type": "Bearer", "expires_in": 300, "refresh_token": MARK })
        .to_string()
}

fn head() -> MessageHead {
    let bearer = format!("Bearer {}", token());
    let path = format!("/inventory?access_token={MARK}");
    [(":path", path.as_str()), ("authorization", &bearer), ("cookie", MARK)].into_iter().collect()
}

fn signer() -> Signer {
    Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom))
}

/// A key that holds the mark, as far as a key can.
fn private_key() -> PrivateKey {
    let seed = URL_SAFE_NO_PAD.encode(MARK.repeat(4));
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "mine", "d": seed });
    PrivateKey::read(&jwk.to_string(), None).unwrap()
}

fn fixed() -> SecretRef {
    SecretRef::Fixed(Secret::new(MARK.to_owned()))
}

fn target() -> AssertionTarget {
    AssertionTarget { audience: "idp".to_owned(), header_type: "JWT".to_owned() }
}

fn assertion() -> AssertionGrant {
    let [subject, more] = [(); 2].map(|()| String::new());
    AssertionGrant {
        key: KeyRef::Fixed(Box::new(private_key())),
        subject,
        target: target(),
        extra_claims: more,
        wants_id_token: false,
    }
}

fn call() -> HttpCall {
    let policy = policy();
    let issuer = &policy.issuers[0];
    let grant = &policy.credentials[0].grant;
    let (endpoint, timeout) = (issuer.token_endpoint.clone().unwrap(), issuer.timeout);
    let asking = TokenRequest {
        endpoint,
        timeout,
        auth_index: 0,
        subject: Some(MARK),
        actor: Some(MARK),
        files: &NoFiles,
        now: now().unix,
    };
    grant.call(asking, &mut signer()).unwrap()
}

fn received() -> Fetched<AccessToken> {
    policy().credentials[0].grant.read(&reply(&answer()), None, None, &NoFiles, &mut Rng::new(1)).unwrap()
}

fn edits() -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    edits.set(&Rc::from("authorization"), format!("Bearer {MARK}").into_bytes());
    edits
}

/// A store that has keys, a token, and a remembered caller.
fn store() -> Store {
    let mut store = Store::new(Rc::new(policy()));
    while let Some((ticket, call)) = store.begin(now(), &mut signer()) {
        let body = if call.unwrap().method == "POST" { answer() } else { key_set() };
        store.finish(ticket, &reply(&body), now(), &mut Rng::new(1)).unwrap().result.unwrap();
    }
    let (token, caller, issuer) = (token(), caller(), policy().issuer_ids().next().unwrap());
    store.remember(issuer, token.as_bytes(), &caller, now());
    assert!(store.verified(issuer, token.as_bytes(), now()).is_some());
    store
}

fn held() -> IssuedToken {
    let service = Service::of(&MessageHead::default());
    let credential = policy().credential_ids().next().unwrap();
    store().token(credential, now().instant, std::time::Duration::ZERO, service).unwrap()
}

fn cache() -> Cache<Caller> {
    let mut cache = Cache::new(Capacity { entries: 8, key_bytes: 8000 });
    cache.insert(token().as_bytes(), caller(), u64::MAX, 0);
    cache
}

fn seen() -> DecisionRecord {
    DecisionRecord { caller: Some(caller()), ..DecisionRecord::default() }
}

/// What holds secrets, each filled with them, as `Debug` prints it.
fn printed() -> Vec<(&'static str, String)> {
    fn both(value: &impl Debug) -> String {
        format!("{value:?} {value:#?}")
    }
    let settled = Effect::Resume(RequestId(1), RequestOutcome::Forward(edits()));
    let credential = json!({ "client_id": "c", "client_secret": { "inline": MARK } });
    let configuration = json!({ "outbound": { "credentials": { "c": credential } } }).to_string();
    let read = errors::read::<Config>(configuration.as_bytes()).unwrap();
    let outbound = read.value.outbound.as_ref().unwrap();
    let (_, written) = &outbound.credentials.0[0];
    let keys = m2m_auth::jose::jwk::parse(key_set().as_bytes()).unwrap();
    let later = Now { instant: Instant(secs(400)), ..now() };
    let attempt = store().begin(later, &mut signer());
    let outcome = Interrupt::Refuse(Refusal::NoToken);
    vec![
        ("SecretSource", both(&written.client_secret)),
        ("Secret", both(&Secret::new(MARK.to_owned()))),
        ("SecretSources", both(&SecretSources::AnyOf(vec![config::SecretSource::Inline(MARK.to_owned())]))),
        ("Config", both(&read.value)),
        ("ReadConfig", both(&read)),
        ("Outbound", both(outbound)),
        ("Credential", both(written)),
        ("Entries", both(&outbound.credentials)),
        ("Policy", both(&policy())),
        ("Credential", both(&policy().credentials[0])),
        ("Grant", both(&policy().credentials[0].grant)),
        ("ClientAuth", both(&ClientAuth::Basic(fixed()))),
        ("ClientAuth", both(&ClientAuth::Post(fixed()))),
        ("ClientAuth", both(&ClientAuth::SecretJwt(fixed(), target()))),
        ("ClientAuth", both(&ClientAuth::PrivateKey(KeyRef::Fixed(Box::new(private_key())), target()))),
        ("PrivateKey", both(&private_key())),
        ("ValueSource", both(&fixed())),
        ("ValueSource", both(&KeyRef::Fixed(Box::new(private_key())))),
        ("FileContent", both(&FileContent::Secret(Secret::new(MARK.to_owned())))),
        ("FileContent", both(&FileContent::Assertion(Secret::new(MARK.to_owned()), None))),
        ("AssertionSource", both(&AssertionSource::Signed(Box::new(assertion())))),
        ("Signer", both(&signer())),
        ("Nonce", both(&Nonce::from_head(&[("dpop-nonce", MARK)].into_iter().collect()))),
        ("SharingKey", both(&SharingKey::new(MARK.to_owned()))),
        ("Sharing", both(&Sharing::Sealed(SharingKey::new(MARK.to_owned())))),
        ("SharingScope", both(&SharingScope::Sealed(SharingKey::new(MARK.to_owned())))),
        ("AccessToken", both(&received().value)),
        ("Fetched", both(&received())),
        ("IssuedToken", both(&held())),
        ("Store", both(&store())),
        ("Lease", both(&Lease::fixed(held()))),
        ("Cache", both(&cache())),
        ("HttpCall", both(&call())),
        ("HttpReply", both(&reply(&answer()))),
        ("MessageHead", both(&head())),
        ("HeaderEdits", both(&edits())),
        ("Edit", both(&edits().headers)),
        ("RequestOutcome", both(&RequestOutcome::Forward(edits()))),
        ("Effect", both(&settled)),
        ("Effect", both(&attempt.map(|(ticket, call)| Effect::Call(ticket, call.unwrap())))),
        ("Caller", both(&caller())),
        ("DecisionRecord", both(&seen())),
        ("Interrupt", both(&outcome)),
        ("KeySet", both(&keys.keys)),
        ("ParsedKeySet", both(&keys)),
        ("GrantType", both(&GrantType::JwtBearer(AssertionSource::Signed(Box::new(assertion()))))),
        ("AssertionGrant", both(&assertion())),
        ("IntrospectionClient", both(&policy().issuers[0].introspection)),
        ("NonceKey", both(&NonceKey::new(MARK.to_owned()))),
        (
            "DpopPolicy",
            both(&DpopPolicy {
                origins: Vec::new(),
                window: 0,
                nonce_key: Some(NonceKey::new(MARK.to_owned())),
            }),
        ),
        (
            "Dpop",
            both(&config::Dpop {
                nonce_key: Some(config::SecretSource::Inline(MARK.to_owned())),
                ..config::Dpop::default()
            }),
        ),
    ]
}

/// Types that can be printed too, but hold nothing of a secret or a token: names, paths, numbers,
/// enums, public keys, and our own strings.
const HARMLESS: &str = "
    AccessDenied AnswerClass Challenge DeniedKind ReasonRow Algorithm AmbiguousPath AssertionAlgorithm AssertionClaims AssertionTarget AttachedToken Attempt AudienceRequirement Audiences AuditEvent AuditField AuditLog
    AuthMethod Availability Backoff BindingRequirement Budget BudgetedVerifier CacheEntryId Capacity Case CertificateSource ClaimLayout
    ClaimPath ClientAssertionType Clock ConditionFields Conditions ConfigError Counter CredentialId DecisionStep DeclaredNames DeserializeError Discovery FileForm FileRead FileRef FileState FileStates NoFiles SecretFile SecretFileId TokenInput
    DpopTarget DurationValue Endpoint EndpointClusters ErrorFormat ExchangeSubject Existing ExtractError FetchError FetchErrorKind FetchId
    ExchangedToken FetchKey FetchLock FetchOutcome GrantType HeaderField HeaderMatch HeaderValue HostMatch Inbound InboundRule Instant Introspect Issuer
    IssuerId IssuerKeys IssuerMetadata IssuerProfile Jwk JwsError KeySetError LimitNames LocalReply LookupError Match MatchResult Metadata MetadataLocation Metric
    MetricRow     Metrics Mode MtlsEndpoints NameCheck NameConditions NoSharing Now OutboundRule OwnToken Path PathMatch PathSegment PendingRequests Preset
    PrivateKeyMaterial ProofClaims ProofError ProofKey ProtoField PublicKeyMaterial Quantifier Refusal RefusalFormat RequestAttributes
    RequestId RequestMatcher RequestOutcome Require Requirement Resource ResourceMetadata RetryPolicy Rng Route Schedule Schemes Service
    SignatureAlgorithm SoftwareCrypto Source StringOrList SubjectToken Tally Template TemplateSegment TokenBinding TokenError TokenIntrospection TokenLocation
    TokenSource TokenTypes Transform Unavailable UnknownCredential Url HttpReply Introspection Answers TokenPlace Bound Names Span Texts Waiting
    ClaimCondition Scalar Operand Setting InspectedAttributes Ambiguity PathReading PathReadings Unreadable ClaimTest RequestAttribute
    RuleRequirements AuthenticationRequirement IssuerName AcceptedTypes AccessTokenClaim KindClaim Confirmation ReplayCacheFull ReplayKey Interrupt Subject
    SignError RandomError OsRandom
";

#[test]
fn nothing_that_holds_a_secret_prints_it() {
    let wrong: Vec<&str> = printed().iter().filter(|(_, text)| leaks(text)).map(|(name, _)| *name).collect();
    assert!(wrong.is_empty(), "printed by {wrong:?}");
}

#[test]
fn the_search_for_leaks_finds_them() {
    for leak in [
        format!("x {MARK} y"),
        token(),
        format!("{:?}", token().as_bytes()),
        format!("{:#?}", token().as_bytes()),
        format!("{:?}", MARK.as_bytes()),
        call().headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.clone(),
    ] {
        assert!(leaks(&leak), "{leak}");
    }
    assert!(!leaks("hush"));
}

#[test]
fn every_type_that_can_be_printed_is_known_to_be_silent_or_harmless() {
    let silent: BTreeSet<&str> = printed().into_iter().map(|(name, _)| name).collect();
    let harmless: BTreeSet<&str> = HARMLESS.split_whitespace().collect();
    let mut unknown = Vec::new();
    let files = crate::project::tree::files(&crate::project::tree::root().join("src"));
    assert!(files.len() > 100, "where is the source?");
    for path in files {
        let source = std::fs::read_to_string(&path).unwrap();
        for name in printable(&source) {
            if !silent.contains(name.as_str()) && !harmless.contains(name.as_str()) {
                unknown.push(format!("{name} of {}", path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "may these hold a secret? {unknown:?}");
}

/// The public types of a source file that have a `Debug`, derived or written.
fn printable(source: &str) -> Vec<String> {
    let (mut names, mut derived) = (Vec::new(), false);
    for line in source.lines() {
        if line.starts_with("#[derive(") {
            derived = line.contains("Debug");
        } else if let Some(item) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))
        {
            let name: String = item.chars().take_while(|c| c.is_alphanumeric()).collect();
            let written = source.contains(&format!("Debug for {name} "))
                || source.contains(&format!("Debug for {name}<"));
            if derived || written {
                names.push(name);
            }
            derived = false;
        } else if !line.starts_with("#[") && !line.starts_with("///") {
            derived = false;
        }
    }
    names
}

#[test]
fn what_is_displayed_holds_nothing_of_a_token() {
    let spoilt = [
        token().replace('.', "?"),
        format!("{}x", token()),
        made_up("nobody's"),
        MARK.to_owned(),
        "a.b.c".into(),
    ];
    let keys = m2m_auth::jose::jwk::parse(key_set().as_bytes()).unwrap().keys;
    for text in spoilt {
        let rejected = match jwt::read(text.as_bytes()) {
            Err(reject) => reject,
            Ok(read) => {
                read.verify(&keys, &SoftwareCrypto, &policy().issuers[0].profile, now().unix).unwrap_err()
            }
        };
        let refusal = Refusal::Token(rejected);
        let texts = [
            format!("{rejected:?}"),
            refusal.message().to_owned(),
            format!("{:?}", refusal.reason().row()),
            format!("{refusal:?}"),
        ];
        assert!(!texts.iter().any(|text| leaks(text)), "{texts:?}");
        assert!(!leaks(&format!("{:?}", refusal.plain())));
    }
}

#[test]
fn a_failure_holds_nothing_of_the_body_but_what_the_provider_says_is_its_error() {
    let policy = policy();
    let grant = &policy.credentials[0].grant;
    let error_text = |status: u16, body: &str| -> String {
        let reply = HttpReply { status: Some(status), ..reply(body) };
        let failure: FetchError = grant.read(&reply, None, None, &NoFiles, &mut Rng::new(1)).unwrap_err();
        format!("{failure} {failure:?}")
    };
    for status in [200, 302, 400, 401, 404, 429, 500, 503] {
        for body in [
            MARK.to_owned(),
            format!("<html>{MARK}</html>"),
            json!([MARK]).to_string(),
            json!({ "error": { "x": MARK }, "refresh_token": MARK }).to_string(),
            json!({ "error": "invalid_client", "x": MARK, "access_token": MARK, "error_uri": MARK })
                .to_string(),
            json!({ "access_token": format!("{MARK}\r\n"), "token_type": "Bearer" }).to_string(),
            json!({ "access_token": [MARK], "token_type": "Bearer" }).to_string(),
            json!({ "access_token": MARK, "token_type": "Bearer", "expires_in": MARK }).to_string(),
        ] {
            let error_text = error_text(status, &body);
            assert!(!leaks(&error_text), "{status} {body}: {error_text}");
        }
    }
    let long = json!({ "error": "e".repeat(1000), "error_description": "d".repeat(1000) }).to_string();
    assert!(error_text(400, &long).len() < 600, "what is printed is cut");
    for parsed in [
        "",
        MARK,
        &json!({ "keys": MARK }).to_string(),
        &json!({ "keys": [MARK, { "kty": MARK }] }).to_string(),
    ] {
        let error = m2m_auth::jose::jwk::parse(parsed.as_bytes()).unwrap_err();
        assert!(!leaks(&format!("{error} {error:?}")));
    }
}

#[test]
fn a_provider_that_repeats_our_secret_does_not_get_it_into_the_log() {
    let mut world = World::new(&without_discovery(both()));
    let says = format!("client order-service sent the wrong secret {MARK}");
    world.provider.tokens = Mode::json(401, &json!({ "error": "invalid_client", "error_description": says }));
    // The driver itself fails when an effect prints the secret.
    world.pass(secs(10));
    assert!(world.logs.iter().any(|line| line.contains("invalid_client")), "{:?}", world.logs);
}

#[test]
fn of_metadata_that_is_refused_nothing_is_quoted_but_its_issuer_and_hosts() {
    let mut world = World::new(&inbound());
    for document in [
        json!({ "issuer": MARK }),
        json!({ "issuer": format!("https://idp.example/?{MARK}") }),
        json!({ "issuer": format!("https://{MARK}@idp.example") }),
        json!({ "issuer": ISSUER, "jwks_uri": format!("https://other.example/{MARK}") }),
        json!({ "issuer": ISSUER, "jwks_uri": MARK }),
        json!([MARK]),
    ] {
        world.provider.metadata = Mode::json(200, &document);
        world.pass(secs(301));
    }
    assert!(world.logs.len() >= 4, "{:?}", world.logs);
    assert!(!world.logs.iter().any(|line| leaks(line)), "{:?}", world.logs);
}

#[test]
fn a_day_of_everything_leaves_no_trace_of_a_secret_in_logs_answers_and_metrics() {
    let mut world = World::new(&both());
    let mut answers = Vec::new();
    let marked_path = format!("/inventory/items?access_token={MARK}&x=eyJ");
    for mode in [
        Mode::Works,
        Mode::status(500),
        Mode::status(200),
        Mode::status(401),
        Mode::json(
            200,
            &json!({ "access_token": "", "token_type": MARK.repeat(0), "keys": [{ "kid": MARK }], "x": MARK }),
        ),
        Mode::Resets,
        Mode::Silent,
        Mode::Works,
    ] {
        world.provider.all(&mode);
        for _ in 0..20 {
            let good = world.token();
            let another = world.mint(&Key::number(1), 300, "another-service");
            let expired = world.mint(&Key::number(1), -300, "inventory-service");
            let twice = get(&marked_path).bearer(&good).header("Authorization", MARK);
            let requests = [
                get(&marked_path).bearer(&good),
                get(&marked_path).bearer(&another),
                get(&marked_path).bearer(&expired),
                get(&marked_path).bearer(&format!("{good}x")),
                get(&marked_path).bearer(MARK),
                get(&marked_path).header("authorization", &format!("Basic {MARK}")),
                get(&marked_path).header("cookie", MARK).header("x-api-key", MARK),
                get(&format!("/nowhere?{MARK}")).bearer(&good),
                get(&format!("/x/..%2finventory?{MARK}#{MARK}")),
                items(&made_up("nobody's")),
                pay().bearer(&good),
                twice,
            ];
            for request in requests {
                answers.push(format!("{:?}", world.ask(&request)));
            }
            world.pass(secs(180));
        }
    }
    let counters = world.counters();
    assert!(
        world.logs.len() > 100 && answers.len() > 1000 && counters.len() > 10,
        "something was said at all"
    );
    for line in world.logs.iter().chain(&answers).chain(counters.keys()) {
        assert!(!leaks(line), "{line}");
    }
    // What was looked at is what it was meant to be.
    let audited =
        |reason: &str| world.logs.iter().any(|line| line.contains(&format!("\"reason\":\"{reason}\"")));
    let reasons = "audience expired malformed no_token no_rule ambiguous_path unknown_key jwks_unavailable";
    let silent: Vec<&str> = reasons.split(' ').filter(|reason| !audited(reason)).collect();
    assert!(silent.is_empty(), "not in the log: {silent:?}");
    assert!(
        world.logs.iter().any(|line| line.contains("\"path\":\"/inventory/items\"")),
        "paths are there, queries are not"
    );
}
