//! What `docs/internals/conformance.md` says: every module and every test that it names exists, the
//! tables of the pages for users have a test for each row, and no switch that weakens is left out;
//! and those clauses of the standards that no other suite is about.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot continue fails"
)]

use crate::core::sim::provider::ISSUER;
use crate::core::sim::world::{World, inbound, items, signer, without_discovery};
use crate::project::tree::{code, read, root, rows, tests};
use m2m_auth::http::message::Endpoint;
use m2m_auth::inbound::authorize::{AccessDenied, DeniedKind};
use m2m_auth::inbound::jwt::{AuthenticationRequirement, RuleRequirements, TokenError};
use m2m_auth::inbound::refusal::{Refusal, RefusalFormat, Schemes};
use m2m_auth::oauth::secret_file::NoFiles;
use m2m_auth::policy::Policy;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

const DOCUMENT: &str = "docs/internals/conformance.md";
const FAILURES: &str = "docs/explanation/failure-behaviour.md";
const THREATS: &str = "docs/explanation/threat-model.md";

#[test]
fn every_clause_has_a_module_that_does_it_and_a_test_that_proves_it() {
    let (rows, tests) = (rows(&read(DOCUMENT), "clause"), tests());
    assert!(rows.len() > 90, "{} rows", rows.len());
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let (modules, named) = (code(&row[2]), code(&row[3]));
        assert!(!modules.is_empty() && !named.is_empty(), "{row:?}");
        for module in &modules {
            assert!(module.starts_with("src/") && root().join(module).exists(), "{}: {module}", row[0]);
        }
        let cited: BTreeSet<_> = modules.iter().flat_map(|module| citations(&prose(&read(module)))).collect();
        for (rfc, section) in citations(&row[0]) {
            let is_cited = cited.contains(&(rfc.clone(), section.clone()));
            assert!(is_cited, "{modules:?}: no comment cites RFC {rfc} section {section}: {}", row[1]);
        }
        for test in named {
            assert!(tests.contains(test), "{}: there is no test {test}", row[0]);
        }
    }
}

/// A source without the line breaks of its comments.
fn prose(source: &str) -> String {
    let lines = source.lines().map(|line| line.trim_start().trim_start_matches(['/', '!']).trim());
    lines.collect::<Vec<_>>().join(" ")
}

/// The sections of RFCs that a string cites: `RFC 7517 sections 4.2 and 4.3`.
fn citations(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for cited in text.split("RFC ").skip(1) {
        let Some((rfc, sections)) = cited.split_once(" section") else { continue };
        let mut rest = sections.strip_prefix('s').unwrap_or(sections).trim_start();
        while rfc.bytes().all(|byte| byte.is_ascii_digit()) {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (section, after) = rest.split_at(end);
            if section.is_empty() {
                break;
            }
            found.insert((rfc.to_owned(), section.trim_end_matches('.').to_owned()));
            let separators = [", ", " and ", " to "];
            let Some(next) = separators.iter().find_map(|separator| after.strip_prefix(separator)) else {
                break;
            };
            rest = next;
        }
    }
    found
}

#[test]
fn a_citation_is_found_across_lines_and_in_lists() {
    let source = "/// As RFC 7515\n    /// sections 4.1.2, 4.1.5 to 4.1.8 (RFC 9449) say, and RFC 8725 section 3.1.\nlet x = 4;";
    let expected = [("7515", "4.1.2"), ("7515", "4.1.5"), ("7515", "4.1.8"), ("8725", "3.1")];
    let expected = expected.map(|(rfc, section)| (rfc.to_owned(), section.to_owned()));
    assert_eq!(citations(&prose(source)), expected.into());
    assert_eq!(citations("RFC 6750 section 2.3, RFC 9700 section 4.3.2").len(), 2);
    assert_eq!(citations("CVE-2026-31837 (Istio)"), BTreeSet::new());
}

#[test]
fn each_standard_has_its_rows() {
    let clauses: Vec<String> =
        rows(&read(DOCUMENT), "clause").into_iter().map(|row| row[0].clone()).collect();
    for (standard, least) in [
        ("RFC 6750", 9),
        ("RFC 7515", 9),
        ("RFC 7519", 10),
        ("RFC 8725", 12),
        ("RFC 9068", 7),
        ("RFC 9449", 10),
        ("RFC 8705", 2),
        ("RFC 7662", 5),
        ("RFC 9728", 3),
        ("RFC 9470", 3),
    ] {
        let count = clauses.iter().filter(|clause| clause.starts_with(standard)).count();
        assert!(count >= least, "{standard}: {count} rows");
    }
    let sections = (1..=12).map(|section| format!("RFC 8725 section 3.{section}"));
    let missing: Vec<String> = sections.filter(|section| !clauses.contains(section)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The tables of the pages for users, and those with their tests: they name the same things.
#[test]
fn every_failure_attacker_and_switch_of_the_pages_has_a_test() {
    let (internals, tests) = (read(DOCUMENT), tests());
    for (page, heading, names, least) in
        [(FAILURES, "failure", 1, 25), (THREATS, "attacker", 2, 15), (THREATS, "switch", 1, 4)]
    {
        let (documented, tested) = (rows(&read(page), heading), rows(&internals, heading));
        let named = |rows: &[Vec<String>]| -> Vec<String> {
            rows.iter().map(|row| row[..names].join(" | ")).collect()
        };
        assert!(documented.len() >= least, "{page}: {} rows", documented.len());
        assert_eq!(named(&documented), named(&tested), "{page} and {DOCUMENT}");
        for row in tested {
            let cited = code(&row[names]);
            assert!(row.len() == names + 1 && !cited.is_empty(), "{row:?}");
            assert!(cited.iter().all(|test| tests.contains(*test)), "{row:?}");
        }
        // The pages for users name no test.
        let text = read(page);
        let cited: Vec<&str> = code(&text).into_iter().filter(|own| own.contains("::")).collect();
        assert!(cited.is_empty(), "{page}: {cited:?}");
    }
    // And so does the prose between the tables.
    for name in code(&internals).into_iter().filter(|name| name.contains("::")) {
        assert!(tests.contains(name), "there is no test {name}");
    }
}

#[test]
fn no_switch_that_weakens_is_left_out() {
    let schema = read("envoy/config.schema.json");
    let words = schema.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let switches: BTreeSet<&str> =
        words.filter(|word| word.starts_with("danger_") && word.len() > "danger_".len()).collect();
    let documented: Vec<String> =
        rows(&read(THREATS), "switch").into_iter().map(|row| row[0].clone()).collect();
    let documented: BTreeSet<&str> = documented.iter().flat_map(|cell| code(cell)).collect();
    assert!(switches.len() >= 4);
    assert_eq!(documented, switches);
}

/// Every refusal that has a challenge, with whatever a configuration can put into one.
fn challenges() -> Vec<String> {
    let odd = "a\"b\\c\r\nü\u{7f}é,=".to_owned();
    let deny = |scope: Option<&str>| {
        Refusal::Access(Rc::new(AccessDenied {
            message: odd.clone(),
            kind: DeniedKind::Scope,
            scope: scope.map(str::to_owned),
        }))
    };
    let authentication =
        AuthenticationRequirement { max_age: Some(1), acr_values: vec!["urn:x".into(), odd.clone()] };
    let demand = RuleRequirements { authentication: Rc::new(authentication), ..RuleRequirements::default() };
    let refusals = [
        Refusal::NoToken,
        Refusal::MultipleCredentials,
        Refusal::Token(TokenError::Expired),
        Refusal::Token(TokenError::ClientNotAllowed),
        Refusal::for_requirement(TokenError::Acr, &demand),
        Refusal::SubjectToken,
        Refusal::ExchangeDenied,
        deny(None),
        deny(Some(&odd)),
    ];
    let manner = RefusalFormat {
        realm: odd.clone(),
        problem: false,
        resource_metadata: Some("https://a/\"x\"".to_owned()),
    };
    let challenge = |refusal: &Refusal| {
        let headers = refusal.response(&manner, Schemes::default(), false).headers;
        let mut found = headers.into_iter().filter(|(name, _)| *name == "www-authenticate");
        let (_, challenge) = found.next().unwrap_or_else(|| panic!("{refusal:?} has none"));
        assert!(found.next().is_none());
        challenge
    };
    refusals.iter().map(challenge).collect()
}

/// RFC 6750 section 3.
#[test]
fn no_challenge_names_an_attribute_twice_or_holds_a_character_that_it_may_not() {
    for challenge in challenges() {
        let attributes = challenge.strip_prefix("Bearer ").unwrap();
        let (mut names, mut rest) = (BTreeSet::new(), attributes);
        loop {
            let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{challenge}"));
            let (value, behind) = value.split_once('"').unwrap();
            assert!(names.insert(name), "{name} twice: {challenge}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{challenge}");
            assert!(value.chars().all(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')), "{challenge}");
            match behind.strip_prefix(", ") {
                Some(next) => rest = next,
                None => break assert_eq!(behind, "", "{challenge}"),
            }
        }
        assert!(names.contains("realm") && names.contains("resource_metadata"), "{challenge}");
    }
}

fn config() -> Value {
    without_discovery(inbound())
}

/// What a caller with the right role and with these claims beside, or instead, comes to.
fn with(claims: &Value) -> String {
    let mut world = World::warm(&config());
    let (key, exp) = (world.provider.published[0].clone(), world.unix() + 300);
    let mut all = json!({
        "iss": ISSUER, "aud": "inventory-service", "exp": exp, "sub": "s",
        "resource_access": { "inventory-service": { "roles": ["inventory:read"] } },
    });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let token = key.sign(&all);
    world.admit(&token, &key, exp);
    let outcome = world.ask(&items(&token));
    if outcome.passed() { "passed".to_owned() } else { outcome.reason() }
}

/// RFC 7519 section 4.
#[test]
fn a_claim_that_nobody_knows_changes_nothing() {
    for value in
        [json!(null), json!(1.5), json!("x"), json!([1, {}]), json!({ "iss": "https://evil.example" })]
    {
        assert_eq!(with(&json!({ "https://example.com/unknown": value, "": value })), "passed", "{value}");
    }
}

/// RFC 8693 section 4.1: `act` names the actor, and the rights of the subject count.
#[test]
fn an_actor_gives_a_token_no_rights() {
    let rights = json!({ "inventory-service": { "roles": ["inventory:read"] } });
    let none = json!({ "inventory-service": { "roles": [] } });
    let actor = json!({ "sub": "admin", "iss": ISSUER, "resource_access": rights });
    assert_eq!(with(&json!({ "act": actor, "may_act": actor })), "passed", "it takes none away either");
    assert_eq!(with(&json!({ "act": actor, "may_act": actor, "resource_access": none })), "client_role");
    assert_eq!(with(&json!({ "act": "admin", "resource_access": none })), "client_role");
}

/// RFC 7662 section 2.1.
#[test]
fn an_issuer_is_asked_about_a_token_by_a_form_and_a_client_that_proves_who_it_is() {
    let mut configuration = config();
    configuration["issuers"]["idp"]["introspection"] =
        json!({ "client_id": "svc", "client_secret": { "inline": "a secret+" } });
    let policy = Policy::read(configuration.to_string().as_bytes(), &|_| None).unwrap();
    let introspection = policy.issuers[0].introspection.as_ref().unwrap();
    let endpoint = Endpoint {
        cluster: "idp".into(),
        scheme: "https",
        authority: "idp.example".into(),
        path: "/introspect".into(),
    };
    let call = introspection
        .call(endpoint, Duration::from_secs(1), ("a/b+c=&d", 0), &NoFiles, 0, &mut signer())
        .unwrap();
    assert_eq!(call.method, "POST");
    let header = |name: &str| {
        call.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!(header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(header("accept"), "application/json");
    // `svc:a+secret%2B`, as RFC 6749 section 2.3.1 has it.
    assert_eq!(header("authorization"), "Basic c3ZjOmErc2VjcmV0JTJC");
    assert_eq!(
        String::from_utf8(call.body.to_vec()).unwrap(),
        "token=a%2Fb%2Bc%3D%26d&token_type_hint=access_token"
    );
}
