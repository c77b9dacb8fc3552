//! Configuration errors: all are reported at once, each with its path, the value found and what was
//! expected.

mod nothing;

use m2m_auth::config::{Existing, Mode, Unavailable};
use m2m_auth::http::message::RequestAttributes;
use m2m_auth::inbound::token_location::{TokenLocation as TokenPlace, TokenSource};
use m2m_auth::jose::verifier::SoftwareCrypto;
use m2m_auth::oauth::client_assertion::Signer;
use m2m_auth::oauth::discovery::MetadataLocation;
use m2m_auth::oauth::secret_file::NoFiles;
use m2m_auth::oauth::{ClientAuth, TokenRequest};
use m2m_auth::policy::{Policy, SharingScope};
use m2m_auth::rng::{OsRandom, Rng};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// A mark for a secret that an operator wrote into any field.
const MARK: &str = "hushhush";

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" | "ORDER_SERVICE_SECRET" => Some(MARK.to_owned()),
        "EMPTY" => Some("\n".to_owned()),
        _ => None,
    }
}

fn policy(configuration: &Value) -> Policy {
    read(configuration.to_string().as_bytes()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn read(document: &[u8]) -> Result<Policy, Vec<String>> {
    let lines = |errors: Vec<_>| errors.iter().map(ToString::to_string).collect();
    Policy::read(document, &environment).map_err(lines)
}

fn errors(configuration: &Value) -> Vec<String> {
    read(configuration.to_string().as_bytes()).err().unwrap_or_default()
}

/// A sound configuration of both directions.
pub(crate) fn sound() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com/realms/r", "cluster": "idp" } },
        "inbound": { "rules": [
            { "match": { "path_prefix": "/inventory" }, "require": { "issuer": "idp", "audiences": ["svc"] } },
            { "match": { "path": "/health" }, "allow": true },
        ] },
        "outbound": {
            "credentials": { "order": {
                "issuer": "idp", "client_id": "order-service", "client_secret": { "env": "SECRET" },
            } },
            "rules": [{ "match": { "host": "payment" }, "credential": "order" }],
        },
    })
}

/// Sets the value at a JSON pointer; null removes it.
fn put(configuration: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    if configuration.pointer(parent).is_none() {
        put(configuration, parent, json!({}));
    }
    match configuration.pointer_mut(parent).unwrap() {
        Value::Object(members) if value.is_null() => drop(members.remove(last)),
        Value::Object(members) => drop(members.insert(last.to_owned(), value)),
        Value::Array(elements) => match elements.get_mut(last.parse::<usize>().unwrap()) {
            Some(element) => *element = value,
            None => elements.push(value),
        },
        other => panic!("{pointer} leads into {other}"),
    }
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut configuration = sound();
    for (pointer, value) in changes {
        put(&mut configuration, pointer, value.clone());
    }
    configuration
}

/// The elements of an array, written as JSON.
fn values(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

/// One thing that is wrong, and the line that says so.
pub(crate) struct Case {
    pub(crate) configuration: Value,
    at: String,
    pub(crate) says: String,
}

pub(crate) fn cases() -> Vec<Case> {
    let table: Value = serde_json::from_str(include_str!("../../data/config/errors.json")).unwrap();
    let entries = table.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let mut configuration = sound();
            for (pointer, value) in entry["also"].as_object().into_iter().flatten() {
                put(&mut configuration, pointer, value.clone());
            }
            let at = entry["at"].as_str().unwrap().to_owned();
            put(&mut configuration, &at, entry["is"].clone());
            Case { configuration, at, says: entry["says"].as_str().unwrap().to_owned() }
        })
        .collect()
}

#[test]
fn the_configuration_of_the_readme_is_sound() {
    let policy = policy(&json!({
        "issuers": { "keycloak": { "issuer": "https://keycloak.example.com/realms/my-realm", "cluster": "keycloak" } },
        "inbound": { "rules": [{
            "match": { "path_prefix": "/inventory" },
            "require": {
                "issuer": "keycloak",
                "audiences": ["inventory-service"],
                "client_roles": { "inventory-service": ["inventory:read"] },
            },
        }] },
        "outbound": {
            "credentials": { "order-service": {
                "issuer": "keycloak",
                "client_id": "order-service",
                "client_secret": { "env": "ORDER_SERVICE_SECRET" },
                "scopes": ["inventory-api"],
            } },
            "rules": [{ "match": { "host": "inventory-service" }, "credential": "order-service" }],
        },
    }));
    assert_eq!((policy.issuers.len(), policy.credentials.len(), policy.outbound.len()), (1, 1, 1));
    let discovery = policy.issuers[0].discovery.as_ref().unwrap();
    assert_eq!(
        discovery.call(MetadataLocation::OpenId).endpoint.path,
        "/realms/my-realm/.well-known/openid-configuration"
    );
    assert_eq!(policy.credentials[0].grant.parameters, [("scope".to_owned(), "inventory-api".to_owned())]);
}

#[test]
fn either_direction_may_be_absent() {
    assert!(policy(&with(&[("/inbound", Value::Null)])).inbound.is_none());
    assert!(policy(&with(&[("/outbound", Value::Null)])).outbound.is_empty());
}

#[test]
fn a_credential_that_no_rule_uses_is_for_routes_to_name() {
    let errors_of = |rule: Value| {
        let spare = json!({ "issuer": "idp", "client_id": "spare", "client_secret": { "env": "SECRET" } });
        errors(&with(&[("/outbound/credentials/spare", spare), ("/outbound/rules/1", rule)]))
    };
    assert_eq!(errors_of(json!({ "route_metadata": true })), [""; 0]);
    assert_eq!(
        errors_of(json!({ "route_metadata": true, "match": { "host": "a" }, "header": "x-token" })),
        [""; 0]
    );
    assert_eq!(errors_of(json!({ "credential": "order" })).len(), 1);
    assert_eq!(errors(&with(&[("/outbound/rules/0", json!({ "route_metadata": true }))])), [""; 0]);
}

#[test]
fn the_host_is_asked_about_routes_and_certificates_only_where_it_matters() {
    let asks = |changes: &[(&str, Value)]| policy(&with(changes)).request_attributes();
    let all = [
        ("/outbound/rules/1", json!({ "route_metadata": true })),
        ("/outbound/rules/0/match/cluster", json!("a")),
    ];
    assert_eq!(asks(&[]), RequestAttributes::default());
    assert_eq!(asks(&all), RequestAttributes { cluster: true, credential: true, certificate: false });
    assert_eq!(asks(&all[1..]), RequestAttributes { cluster: true, ..RequestAttributes::default() });
    assert_eq!(asks(&all[..1]), RequestAttributes { credential: true, ..RequestAttributes::default() });
    let bound = |bound: Value| asks(&[("/inbound/rules/0/require/token_binding", bound)]).certificate;
    assert!(bound(json!("mtls")) && bound(json!({ "mtls": true, "optional": true })));
    assert!(!bound(json!({ "danger_xfcc": true })) && !bound(json!("dpop")));
    assert_eq!(asks(&[("/outbound", Value::Null)]), RequestAttributes::default());
}

#[test]
fn five_errors_are_five_lines() {
    let document = include_bytes!("../../data/config/five-errors.json");
    let mut reported: Vec<String> = read(document).unwrap_err();
    let mut expected: Vec<&str> = include_str!("../../data/config/five-errors.txt").lines().collect();
    reported.sort();
    expected.sort_unstable();
    assert_eq!(reported, expected);
}

#[test]
fn every_error_is_reported_in_one_line_with_its_path() {
    assert_eq!(errors(&sound()), Vec::<String>::new());
    let mut wrong = String::new();
    for Case { configuration, at, says } in cases() {
        let reported = errors(&configuration);
        if reported != [says.as_str()] {
            writeln!(wrong, "{at}\n  expected {says:?}\n  reported {reported:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_line_says_what_was_expected() {
    for Case { configuration, at, .. } in cases() {
        for line in errors(&configuration) {
            let (_place, fault) = line.split_once(": ").unwrap();
            let (stands, expected) = fault.split_once("expected ").unwrap_or((fault, ""));
            assert!(stands.ends_with(", ") && !expected.is_empty(), "{at}: {line}");
        }
    }
}

#[test]
fn every_message_of_the_compiler_has_a_case() {
    let neither = "configuration: neither inbound nor outbound, expected at least one of them".to_owned();
    let says: Vec<String> = cases()
        .into_iter()
        .map(|case| case.says)
        .chain([neither, sharing_with_everybody()])
        .map(|line| without_braces(&line))
        .collect();
    let mut messages = 0;
    for literal in sources_of_messages()
        .iter()
        .flat_map(|source| literals(source))
        .map(|literal| without_braces(&literal))
    {
        if !literal.contains("expected ") && !literal.contains("no rule ") {
            continue;
        }
        messages += 1;
        let parts: Vec<&str> = literal.split(['{', '}']).step_by(2).filter(|part| !part.is_empty()).collect();
        let covered = says.iter().any(|line| in_order(line, &parts));
        assert!(covered, "no case expects: {literal}");
    }
    assert!(
        messages > 40,
        "only {messages} messages were found: are they still literals of policy and config?"
    );
}

/// The warning about `sharing: on` where every plugin shares.
fn sharing_with_everybody() -> String {
    let mut configuration = sound();
    put(&mut configuration, "/sharing", json!("on"));
    let policy = policy(&configuration);
    assert!(matches!(policy.sharing_scope(Some(b"m2m")), Ok(SharingScope::Process)));
    // A host that withholds the property on one worker only must not make that worker reject the
    // configuration: its requests would go unchecked.
    assert!(matches!(policy.sharing_scope(None), Ok(SharingScope::Vm)));
    policy.sharing_scope(Some(b"")).unwrap_err().to_string()
}

#[test]
fn workers_share_by_themselves_only_where_nobody_else_can_write() {
    let mut configuration = sound();
    let mut reach = |sharing: Value, vm_id: &[u8]| {
        put(&mut configuration, "/sharing", sharing.clone());
        if sharing == "sealed" {
            put(&mut configuration, "/sharing_key", json!({ "inline": "0123456789abcdef0123456789abcdef" }));
        }
        policy(&configuration).sharing_scope(Some(vm_id)).unwrap()
    };
    assert!(matches!(reach(Value::Null, b"m2m"), SharingScope::Process));
    assert!(matches!(reach(Value::Null, b""), SharingScope::Vm));
    assert!(matches!(reach(json!("off"), b"m2m"), SharingScope::Vm));
    assert!(matches!(reach(json!(false), b"m2m"), SharingScope::Vm), "what Envoy makes of off");
    assert!(matches!(reach(json!(true), b"m2m"), SharingScope::Process), "what Envoy makes of on");
    assert!(matches!(reach(json!("sealed"), b""), SharingScope::Sealed(_)));
    assert_eq!(
        sharing_with_everybody(),
        "sharing: on, expected a vm_id in the plugin's vm_config (plugins without one share the empty one), or sealed"
    );
}

/// The parts occur in the string, in this order.
fn in_order(text: &str, parts: &[&str]) -> bool {
    let rest = parts.iter().try_fold(text, |rest, part| rest.split_once(part).map(|(_, rest)| rest));
    rest.is_some()
}

/// The source of what compiles a configuration, without tests and comments: three files, or folders
/// that they became.
fn sources_of_messages() -> Vec<String> {
    let source = crate::project::tree::root().join("src");
    let mut files = vec![source.join("policy.rs"), source.join("config.rs")];
    files
        .extend(["policy", "config"].iter().flat_map(|room| crate::project::tree::files(&source.join(room))));
    // What it says of null and of empty values is the subject of `nothing`.
    files.retain(|file| !file.ends_with("path_deserializer.rs"));
    let read = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let code = |text: String| {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    read.map(code).collect()
}

/// A message without the braces of JSON in it, so that the remaining ones enclose arguments.
fn without_braces(message: &str) -> String {
    message.replace("{\"", "\"").replace("\"}", "\"").replace("{{", "").replace("}}", "")
}

/// The string literals of a piece of Rust, their escapes resolved.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source.chars();
    while let Some(next) = rest.next() {
        match next {
            // A character literal may hold a quote.
            '\'' => {
                let ahead: String = rest.clone().take(3).collect();
                if ahead.starts_with("\"'") || ahead.starts_with("\\\"'") {
                    rest.by_ref().take(ahead.find('\'').unwrap_or(0)).for_each(drop);
                }
            }
            '"' => {
                let mut text = String::new();
                while let Some(next) = rest.next() {
                    match next {
                        '"' => break,
                        '\\' => text.extend(rest.next()),
                        other => text.push(other),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

#[test]
fn what_is_no_json_is_one_error_with_its_line_and_column() {
    for (document, says) in [
        ("", "configuration: not JSON: EOF while parsing a value at line 1 column 0"),
        ("   \n", "configuration: not JSON: EOF while parsing a value at line 2 column 0"),
        ("issuers: {}", "configuration: not JSON: expected value at line 1 column 1"),
        ("{\"inbound\": {}", "configuration: not JSON: EOF while parsing an object at line 1 column 14"),
        ("{} {}", "configuration: not JSON: trailing characters at line 1 column 4"),
        (
            "{\"inbound\": {}, \"inbound\": {}}",
            "configuration: not JSON: duplicate member \"inbound\" at line 1 column 30",
        ),
        (
            "{\"pending_requests\":\n{\"timeout\": 1, \"tim\\u0065out\": 2}}",
            "configuration: not JSON: duplicate member \"timeout\" at line 2 column 33",
        ),
    ] {
        assert_eq!(read(document.as_bytes()).unwrap_err(), [says], "{document:?}");
    }
    for document in [&b"\xff\xfe{}"[..], b"{\"a\": \"\xc3\"}", b"\xef\xbb\xbf{}", b"\0"] {
        let reported = read(document).unwrap_err();
        assert!(reported.len() == 1 && reported[0].starts_with("configuration: not JSON: "), "{reported:?}");
    }
}

#[test]
fn nesting_without_end_is_refused_and_costs_nothing() {
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let reported = read(open.repeat(200_000).as_bytes()).unwrap_err();
        assert!(
            reported.len() == 1 && reported[0].starts_with("configuration: not JSON: nested too deep"),
            "{reported:?}"
        );
    }
}

#[test]
fn what_is_no_object_is_no_configuration() {
    for (document, says) in [
        ("null", "configuration: null, expected an object"),
        ("[]", "configuration: an array, expected an object"),
        ("5", "configuration: 5, expected an object"),
        ("{}", "configuration: neither inbound nor outbound, expected at least one of them"),
        ("{\"inbound\": null}", "inbound: null, expected an object; remove the field if nothing is meant"),
    ] {
        assert_eq!(read(document.as_bytes()).unwrap_err(), [says], "{document}");
    }
}

#[test]
fn a_list_is_never_taken_for_an_object() {
    // serde would take the elements for the members in their order; an empty `match` would be every
    // request.
    let objects = "/issuers/idp /inbound /inbound/rules/0 /inbound/rules/0/match /inbound/rules/0/require /outbound \
                   /outbound/credentials/order /outbound/rules/0 /outbound/rules/0/match /pending_requests";
    for pointer in objects.split(' ') {
        for list in [json!([]), json!(["svc"])] {
            let configuration = with(&[(pointer, list)]);
            let reported = errors(&configuration);
            assert!(
                reported.iter().any(|line| line.contains(": an array, expected an object")),
                "{reported:?}"
            );
        }
    }
}

#[test]
fn the_locations_are_those_of_the_document_though_errors_before_them_were_taken_out() {
    let rule = |prefix: &str| json!({ "match": { "path_prefix": prefix }, "allow": true });
    let configuration = with(&[(
        "/inbound/rules",
        json!([5, rule("/a"), true, rule("no-slash"), { "allow": 7 }, rule("/b"), rule("//c")]),
    )]);
    let reported = errors(&configuration);
    for line in [
        "inbound.rules[0]: 5, expected an object",
        "inbound.rules[2]: true, expected an object",
        "inbound.rules[3].match.path_prefix: \"no-slash\", expected a path that starts with / and needs no encoding",
        "inbound.rules[4].allow: 7, expected a boolean",
        "inbound.rules[6].match.path_prefix: \"//c\", expected its normal form \"/c\"",
    ] {
        assert!(reported.iter().any(|own| own == line), "{line}\nis not among\n{reported:#?}");
    }
    assert_eq!(reported.len(), 5, "{reported:#?}");
}

#[test]
fn a_duplicate_name_is_reported_at_its_location_though_a_rule_before_it_is_wrong() {
    let rule = json!({ "name": "same", "require": { "issuer": "idp", "audiences": ["svc"] } });
    let dangling = json!({ "require": { "issuer": "odd", "audiences": ["svc"] } });
    let reported = errors(&with(&[("/inbound/rules", json!([dangling, rule, rule]))]));
    assert_eq!(
        reported,
        [
            "inbound.rules[0].require.issuer: \"odd\" is not an issuer, expected one of: idp",
            "inbound.rules[2].name: duplicate name \"same\", expected distinct names",
        ]
    );
}

#[test]
fn rules_do_not_get_the_same_name_because_one_before_them_was_taken_out() {
    let reported = errors(&with(&[(
        "/inbound/rules",
        json!([5, { "match": { "path": "/a" }, "allow": true }, { "name": "rule-0", "allow": true }]),
    )]));
    assert_eq!(reported, ["inbound.rules[0]: 5, expected an object"]);
}

#[test]
fn every_error_of_a_rule_is_reported_though_its_issuer_is_unknown() {
    let reported = errors(&with(&[
        ("/inbound/rules/0/require/issuer", json!("odd")),
        ("/inbound/rules/0/claims_to_headers", json!({ "x a": "sub" })),
    ]));
    assert_eq!(
        reported,
        [
            "inbound.rules[0].require.issuer: \"odd\" is not an issuer, expected one of: idp",
            "inbound.rules[0].claims_to_headers[\"x a\"]: \"x a\", expected the name of a header that may be set",
        ]
    );
}

#[test]
fn what_only_follows_from_an_error_is_not_reported() {
    for (place, kind) in [
        ("issuers.idp.issuer", "a string, or an array of strings"),
        ("issuers.idp", "an object"),
        ("issuers", "an object"),
        (
            "inbound.rules[0].require.audiences",
            "an array of audiences (any of them), or an object with any_of, all_of",
        ),
        ("inbound.rules[0].require.issuer", "a string"),
        ("inbound.rules[0].require", "an object"),
        ("inbound.rules[0]", "an object"),
        ("inbound.rules", "an array"),
        ("inbound", "an object"),
        ("outbound.credentials.order", "an object"),
        ("outbound.credentials", "an object"),
        ("outbound.rules[0].credential", "a string"),
        ("outbound.rules[0]", "an object"),
        ("outbound.rules", "an array"),
        ("outbound", "an object"),
    ] {
        let pointer = format!("/{}", place.replace('.', "/").replace("[0]", "/0"));
        let reported = errors(&with(&[(&pointer, json!(5))]));
        assert_eq!(reported, [format!("{place}: 5, expected {kind}")]);
    }
}

#[test]
fn what_does_not_follow_from_an_error_is_reported_beside_it() {
    for (changes, says) in [
        (
            [
                ("/pending_requests/queue", json!(1)),
                ("/inbound", Value::Null),
                ("/outbound", Value::Null),
                ("/issuers", Value::Null),
            ],
            "configuration: neither inbound nor outbound, expected at least one of them",
        ),
        (
            [
                (
                    "/issuers/spare",
                    json!({ "issuer": "https://spare.example.com", "cluster": "idp", "timeout": "soon" }),
                ),
                ("/pending_requests/max", json!(1)),
                ("/pending_requests/timeout", json!(1)),
                ("/inbound/realm", json!("r")),
            ],
            "issuers.spare: not used by any rule or credential",
        ),
        (
            [
                ("/inbound/rules/1", json!({ "name": "a", "match": { "hots": "a" } })),
                ("/pending_requests/max", json!(1)),
                ("/pending_requests/timeout", json!(1)),
                ("/inbound/realm", json!("r")),
            ],
            "inbound.rules[1]: neither require nor allow, expected exactly one of them",
        ),
    ] {
        let reported = errors(&with(&changes));
        assert_eq!(reported.len(), 2, "{reported:#?}");
        assert!(reported.iter().any(|line| line.starts_with(says)), "{says}\nis not among\n{reported:#?}");
    }
}

#[test]
fn many_errors_are_all_reported_up_to_a_bound_and_none_is_lost_at_it() {
    for count in [10, 49, 50, 51, 200] {
        let mut configuration = sound();
        for number in 0..count {
            put(&mut configuration, &format!("/pending_requests/unknown-{number:03}"), json!(1));
        }
        let reported = errors(&configuration).len();
        assert!(reported >= count.min(50), "of {count} errors {reported} were reported");
    }
}

#[test]
fn a_secret_in_the_wrong_field_or_shape_is_never_repeated() {
    let order = "/outbound/credentials/order";
    let shapes = [
        json!(MARK),
        json!([MARK]),
        json!({ "value": MARK }),
        json!({ "Inline": MARK }),
        json!({ "inline": [MARK] }),
        json!({ "inline": { "secret": MARK } }),
        json!({ "inline": MARK, "env": MARK }),
        json!({ "inline": MARK, "note": "x" }),
        // Not a name that a variable could have.
        json!({ "env": format!("{MARK}!") }),
    ];
    let mut places: Vec<(String, Value)> =
        shapes.into_iter().map(|shape| (format!("{order}/client_secret"), shape)).collect();
    for member in ["secret", "clientSecret", "client_secrets", "password", "inline"] {
        let parents = "/issuers/idp /inbound /outbound /outbound/rules/0 /outbound/rules/0/match";
        for parent in parents.split(' ').chain(["", order]) {
            places.push((format!("{parent}/{member}"), json!(MARK)));
            places.push((format!("{parent}/{member}"), json!({ "inline": MARK })));
        }
    }
    places.push((format!("{order}/client_id"), json!({ "inline": MARK })));
    places.push((format!("{order}/parameters"), json!({ "client_secret": MARK })));
    places.push((format!("{order}/parameters"), json!({ "password": { "inline": MARK } })));
    // Where an object is expected, a string is often the secret itself.
    places.push((order.to_owned(), json!(MARK)));
    places.push((format!("{order}/parameters"), json!(MARK)));
    places.push(("/outbound/credentials".to_owned(), json!(MARK)));
    let mut wrong = String::new();
    for (pointer, value) in places {
        let reported = errors(&with(&[(&pointer, value.clone())]));
        assert!(!reported.is_empty(), "{pointer} {value}");
        for line in reported.iter().filter(|line| line.contains(MARK)) {
            writeln!(wrong, "{pointer}: {line}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn nobody_prints_the_secret_of_a_sound_configuration() {
    let inline = with(&[("/outbound/credentials/order/client_secret", json!({ "inline": MARK }))]);
    for configuration in [sound(), inline] {
        assert!(!format!("{:?}", policy(&configuration)).contains(MARK));
    }
}

#[test]
fn the_newline_at_the_end_of_a_secrets_file_is_no_part_of_the_secret() {
    let environment = |_: &str| Some("s3cret\r\n".to_owned());
    let policy = Policy::read(sound().to_string().as_bytes(), &environment).unwrap();
    let endpoint =
        policy.issuers[0].discovery.as_ref().unwrap().call(MetadataLocation::OpenId).endpoint.clone();
    let mut signer = Signer::new(Box::new(SoftwareCrypto), Box::new(OsRandom));
    let timeout = Duration::from_secs(5);
    let (subject, actor, files) = (None, None, &NoFiles);
    let asking = TokenRequest { endpoint, timeout, auth_index: 0, subject, actor, files, now: 0 };
    let call = policy.credentials[0].grant.call(asking, &mut signer).unwrap();
    let (_, basic) = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    assert_eq!(basic, "Basic b3JkZXItc2VydmljZTpzM2NyZXQ=", "order-service:s3cret");
}

#[test]
fn a_client_authenticates_as_configured() {
    let key = m2m_auth_kit::key::Key::new(m2m_auth_kit::key::Alg::EdDsa);
    let grant = |changes: Value| {
        let mut configuration = sound();
        let credential = &mut configuration["outbound"]["credentials"]["order"];
        credential.as_object_mut().unwrap().remove("client_secret");
        for (name, value) in changes.as_object().unwrap() {
            credential[name] = value.clone();
        }
        policy(&configuration).credentials[0].grant.clone()
    };
    let (issuer, secret) = ("https://idp.example.com/realms/r", json!({ "env": "SECRET" }));
    let two = grant(json!({ "client_secret": [secret, { "inline": "old" }] }));
    assert!(matches!(two.auth[..], [ClientAuth::Basic(_), ClientAuth::Basic(_)]));
    let jwt = grant(json!({ "auth_method": "client_secret_jwt", "client_secret": secret }));
    assert!(matches!(&jwt.auth[..], [ClientAuth::SecretJwt(_, target)] if target.audience == issuer));
    let key_jwt = |more: Value| {
        let mut changes =
            json!({ "auth_method": "private_key_jwt", "private_key": { "inline": key.private_pem() } });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut grant = grant(changes);
        let Some(ClientAuth::PrivateKey(key, target)) = grant.auth.pop() else { panic!("{grant:?}") };
        let key = key.get(&NoFiles).unwrap();
        (key.algorithm().name(), key.kid().map(str::to_owned), target.audience)
    };
    assert_eq!(key_jwt(json!({})), ("EdDSA", None, issuer.to_owned()));
    let all = json!({ "kid": "k", "assertion_audience": "aud", "assertion_algorithm": "EdDSA" });
    assert_eq!(key_jwt(all), ("EdDSA", Some("k".to_owned()), "aud".to_owned()));
    let tls = grant(json!({ "auth_method": "tls_client_auth" }));
    assert!(matches!(tls.auth[..], [ClientAuth::Tls]));
    for auth in [
        json!({ "auth_method": "external", "client_id": "order-service" }),
        json!({ "auth_method": "external" }),
    ] {
        let cluster = grant(auth);
        assert!(matches!(cluster.auth[..], [ClientAuth::Cluster]));
    }
}

#[test]
fn a_rule_without_a_name_is_named_by_its_match_whatever_its_position() {
    let rules = json!([
        { "match": { "methods": ["GET", "POST"], "path_prefix": "/orders/" }, "allow": true },
        { "match": { "path_template": "/a/{id}", "headers": { "x-tenant": "blue" } }, "allow": true },
        { "match": { "path_template": "/a/{id}", "headers": { "x-tenant": "red" } }, "allow": true },
        { "match": { "host": "api.example.com", "path": "/a" }, "allow": true },
        { "name": "any", "match": { "path": "/b" }, "allow": true },
        { "match": { "path_prefix": "/" }, "allow": true },
        { "require": { "issuer": "idp", "audiences": ["a"] } },
    ]);
    let names = |rules: &Value| {
        let policy = policy(&with(&[("/inbound/rules", rules.clone())]));
        let inbound = policy.inbound.as_ref().unwrap();
        inbound.rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>()
    };
    let expected = [
        "GET,POST /orders/**",
        "/a/{id} header:x-tenant",
        "/a/{id} header:x-tenant #2",
        "api.example.com/a",
        "any",
        "/**",
        "any #2",
    ];
    assert_eq!(names(&rules), expected);
    let mut more = rules;
    more.as_array_mut().unwrap().insert(0, json!({ "match": { "path": "/new" }, "allow": true }));
    assert_eq!(names(&more)[1..], expected);
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let policy = policy(&sound());
    let issuer = &policy.issuers[0];
    assert_eq!(issuer.profile.clock_skew, 60);
    assert_eq!(issuer.profile.algorithms.len(), 10);
    assert_eq!(issuer.renew_after(None), Duration::from_mins(5));
    assert_eq!(issuer.jwks_max_stale, Duration::from_hours(24));
    assert_eq!(issuer.timeout, Duration::from_secs(5));
    assert_eq!(policy.pending_requests.timeout, Duration::from_secs(5));
    assert_eq!(policy.pending_requests.max, 1000);
    let inbound = policy.inbound.as_ref().unwrap();
    assert_eq!(inbound.refusal_format.realm, "m2m");
    assert_eq!((&*inbound.rules[0].name, &*inbound.rules[1].name), ("/inventory/**", "/health"));
    let bearer = TokenSource::Scheme("authorization".into(), "Bearer".to_owned());
    assert_eq!(inbound.rules[0].token_locations, [TokenPlace { source: bearer, forward: true }]);
    assert_eq!((inbound.rules[0].mode, inbound.rules[0].cors_preflight), (Mode::Enforce, false));
    assert!(inbound.reserved_headers.is_empty());
    let attach = &policy.outbound[0];
    assert_eq!(
        (&*attach.name, &*attach.header, attach.prefix.as_str()),
        ("payment", "authorization", "Bearer ")
    );
    assert_eq!((attach.existing, attach.unavailable), (Existing::Overwrite, Unavailable::Hold));
    let grant = &policy.credentials[0].grant;
    assert!(matches!(grant.auth[..], [ClientAuth::Basic(_)]));
    assert_eq!(grant.default_lifetime, Duration::from_mins(5));
    assert!(grant.parameters.is_empty());
}

#[test]
fn a_rule_has_its_token_locations_or_those_of_all_rules_and_only_authorization_is_forwarded() {
    let api = json!([{ "header": "X-Api-Token", "prefix": "tok:" }, { "header": "Authorization", "scheme": "Token" }]);
    let own = json!([{ "cookie": "session" }, { "danger_query": "access_token" }, { "header": "x-token" }]);
    let rule = |more: Value| {
        let mut rule = json!({ "require": { "issuer": "idp", "audiences": ["svc"] } });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let rules = json!([
        rule(json!({})),
        rule(json!({ "token_locations": own })),
        rule(json!({ "forward_token": true, "token_locations": own })),
        rule(json!({ "forward_token": false })),
    ]);
    let inbound =
        policy(&with(&[("/inbound/token_locations", api), ("/inbound/rules", rules)])).inbound.unwrap();
    let tokens = |index: usize| -> Vec<(TokenSource, bool)> {
        inbound.rules[index]
            .token_locations
            .iter()
            .map(|place| (place.source.clone(), place.forward))
            .collect()
    };
    let (prefixed, scheme) = (
        TokenSource::Header("x-api-token".into(), "tok:".into()),
        TokenSource::Scheme("authorization".into(), "Token".into()),
    );
    let (cookie, query, bare) = (
        TokenSource::Cookie("session".into()),
        TokenSource::Query("access_token".into()),
        TokenSource::Header("x-token".into(), String::new()),
    );
    assert_eq!(tokens(0), [(prefixed.clone(), false), (scheme.clone(), true)]);
    assert_eq!(tokens(1), [(cookie.clone(), false), (query.clone(), false), (bare.clone(), false)]);
    assert_eq!(tokens(2), [(cookie, true), (query, true), (bare, true)]);
    assert_eq!(tokens(3), [(prefixed, false), (scheme, false)]);
}

#[test]
fn the_decision_header_is_ours_where_a_rule_sets_it() {
    let own = |mode: &str| {
        let inbound = policy(&with(&[("/inbound/rules/0/mode", json!(mode))])).inbound.unwrap();
        inbound.reserved_headers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(own("danger_permissive"), ["m2m-auth-decision"]);
    assert_eq!(own("danger_dry_run"), [""; 0]);
}

#[test]
fn a_clock_skew_of_zero_is_zero() {
    for zero in [json!(0), json!("0s"), json!("0ms"), json!(0.0)] {
        assert_eq!(policy(&with(&[("/issuers/idp/clock_skew", zero)])).issuers[0].profile.clock_skew, 0);
    }
}

#[test]
fn a_header_other_than_authorization_gets_the_bare_token() {
    let prefix = |changes: &[(&str, Value)]| policy(&with(changes)).outbound[0].prefix.clone();
    let (header, scheme) = ("/outbound/rules/0/header", "/outbound/rules/0/scheme");
    assert_eq!(prefix(&[(header, json!("X-Token"))]), "");
    assert_eq!(prefix(&[(header, json!("Authorization"))]), "Bearer ");
    assert_eq!(prefix(&[(scheme, json!("DPoP"))]), "DPoP ");
    assert_eq!(prefix(&[(scheme, json!(""))]), "");
}

#[test]
fn keys_are_kept_at_least_as_long_as_they_are_not_refreshed() {
    let policy = policy(&with(&[("/issuers/idp/jwks_refresh_interval", json!("48h"))]));
    assert_eq!(policy.issuers[0].jwks_max_stale, Duration::from_hours(48));
}

#[test]
fn headers_that_are_ours_are_named_once_and_in_lower_case() {
    let policy = policy(&with(&[(
        "/inbound/rules",
        json!([
            { "require": { "issuer": "idp", "audiences": ["a"] }, "claims_to_headers": { "X-Sub": "sub" } },
            { "require": { "issuer": "idp", "audiences": ["b"] }, "claims_to_headers": { "x-sub": "azp", "x-b": ["a.b"] } },
        ]),
    )]));
    let inbound = policy.inbound.unwrap();
    assert_eq!(inbound.reserved_headers.iter().map(|name| &**name).collect::<Vec<_>>(), ["x-sub", "x-b"]);
    assert_eq!(inbound.rules[1].claims_to_headers[0].1, ["a.b"], "a list holds names with dots");
}

#[test]
fn a_span_of_time_is_a_number_with_its_unit_or_a_number_of_seconds() {
    let refresh = |value: Value| {
        policy(&with(&[("/issuers/idp/jwks_refresh_interval", value)])).issuers[0]
            .jwks_refresh_interval
            .unwrap()
    };
    for (written, millis) in [
        (json!("5000ms"), 5000),
        (json!("60s"), 60_000),
        (json!("5m"), 300_000),
        (json!("24h"), 86_400_000),
        (json!(300), 300_000),
        (json!(300.0), 300_000),
        (json!(7.5), 7500),
        (json!("007s"), 7000),
    ] {
        assert_eq!(refresh(written.clone()), Duration::from_millis(millis), "{written}");
    }
    let odd = r#"["", "5", "s", "5d", "-5s", "5 s", " 5s", "5m30s", "1.5h", "5S", "५s", -5, -5.5, 1e300, [5], {"s": 5}, true,
                  18446744073709551615, "99999999999999999999s", "307445734561825861m", "9000h"]"#;
    for odd in values(odd) {
        let reported = errors(&with(&[("/issuers/idp/jwks_refresh_interval", odd.clone())]));
        assert_eq!(reported.len(), 1, "{odd}: {reported:?}");
        let expected =
            "expected a duration such as \"500ms\", \"60s\", \"5m\", \"24h\", or a number of seconds";
        assert!(
            reported[0].starts_with("issuers.idp.jwks_refresh_interval: ") && reported[0].contains(expected),
            "{odd}: {reported:?}"
        );
    }
}

#[test]
fn the_same_input_has_the_same_answer() {
    let outcome = |configuration: &Value| read(configuration.to_string().as_bytes());
    let first = format!("{:?}", outcome(&sound()).unwrap());
    assert!((0..5).all(|_| format!("{:?}", outcome(&sound()).unwrap()) == first));
    for Case { configuration, .. } in cases() {
        assert_eq!(outcome(&configuration).unwrap_err(), outcome(&configuration).unwrap_err());
    }
}

/// A `google.protobuf.Struct`, the form in which Envoy hands over what was written as YAML in its
/// own configuration.
fn structure(members: &serde_json::Map<String, Value>) -> Vec<u8> {
    let entries = members.iter().map(|(name, value)| {
        let entry = [field(1, name.as_bytes()), field(2, &encoded(value))].concat();
        field(1, &entry)
    });
    entries.flatten().collect()
}

fn encoded(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x08, 0],
        Value::Number(number) => [&[0x11][..], &number.as_f64().unwrap().to_le_bytes()].concat(),
        Value::String(text) => field(3, text.as_bytes()),
        Value::Bool(flag) => vec![0x20, u8::from(*flag)],
        Value::Object(members) => field(5, &structure(members)),
        Value::Array(elements) => {
            let elements = elements.iter().flat_map(|element| field(1, &encoded(element)));
            field(6, &elements.collect::<Vec<u8>>())
        }
    }
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut header = vec![number << 3 | 2];
    let mut rest = bytes.len();
    while rest >= 0x80 {
        header.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    header.push(u8::try_from(rest).unwrap());
    [&header, bytes].concat()
}

#[test]
fn a_struct_means_what_the_same_json_means_and_has_the_same_errors() {
    let both = |configuration: &Value| {
        let text = read(configuration.to_string().as_bytes());
        let structure = read(&structure(configuration.as_object().unwrap()));
        [text, structure].map(|read| format!("{read:?}"))
    };
    for configuration in cases().into_iter().map(|case| case.configuration).chain([sound()]) {
        let [text, structure] = both(&configuration);
        assert_eq!(text, structure);
    }
    assert!(both(&sound())[1].starts_with("Ok("));
}

/// A configuration with any one of its values replaced by another.
fn spoil(value: &mut Value, dice: &mut Rng) {
    let children = match value {
        Value::Array(elements) => elements.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    };
    let choice = |dice: &mut Rng, sides: usize| {
        usize::try_from(dice.next_u64() % u64::try_from(sides).unwrap()).unwrap()
    };
    if children > 0 && choice(dice, 5) > 0 {
        let which = choice(dice, children);
        let child = match value {
            Value::Array(elements) => elements.get_mut(which),
            Value::Object(members) => members.values_mut().nth(which),
            _ => None,
        };
        return spoil(child.unwrap(), dice);
    }
    let odd = r#"[null, true, 0, -1, 1e300, 18446744073709551615, "", "x", "é\r\n\u007f", [], [null], {}, {"x": 1},
                  {"é\r\n": {}}, ["x", 5, {}]]"#;
    let odd: Vec<Value> = values(odd).into_iter().chain([json!("x".repeat(5000))]).collect();
    *value = odd[choice(dice, odd.len())].clone();
}

#[test]
fn no_configuration_panics_and_every_error_is_one_line() {
    for seed in 0..3000 {
        let mut dice = Rng::new(seed);
        let mut configuration = sound();
        for _ in 0..=dice.next_u64() % 6 {
            spoil(&mut configuration, &mut dice);
        }
        if let Err(reported) = read(configuration.to_string().as_bytes()) {
            assert!(!reported.is_empty(), "refused without a reason: {configuration}");
            for line in reported {
                assert!(!line.chars().any(char::is_control), "seed {seed}: {line:?}");
            }
        }
    }
}

#[test]
fn credentials_that_need_each_other_are_a_configuration_error_and_no_crash() {
    let file = json!({ "cluster": "files", "path": "/t" });
    let exchange = |subject: &Value, actor: &Value| {
        let mut credential = sound()["outbound"]["credentials"]["order"].clone();
        credential["grant_type"] = json!("token_exchange");
        credential["subject_token"] = subject.clone();
        if !actor.is_null() {
            credential["actor_token"] = actor.clone();
        }
        credential
    };
    let named = |name: &str| json!({ "credential": name });
    let reported = |credentials: Vec<(&str, Value)>| {
        let mut configuration = sound();
        for (name, credential) in credentials {
            configuration["outbound"]["credentials"][name] = credential;
        }
        errors(&configuration)
    };
    let nothing = &Value::Null;
    for circle in [
        vec![("order", exchange(&named("b"), nothing)), ("b", exchange(&named("order"), nothing))],
        vec![("order", exchange(&file, &named("b"))), ("b", exchange(&file, &named("order")))],
        vec![("order", exchange(&named("b"), nothing)), ("b", exchange(&file, &named("order")))],
        vec![("order", exchange(&named("b"), nothing)), ("b", exchange(&named("b"), nothing))],
    ] {
        let reported = reported(circle);
        assert_eq!(reported.len(), 2, "{reported:#?}");
        assert!(reported.iter().all(|line| line.contains("needs its own token")), "{reported:#?}");
    }
    let chain = |length: usize| {
        let names: Vec<String> = (1..length).map(|n| format!("c{n}")).collect();
        let mut all = vec![("order", exchange(&named("c1"), nothing))];
        for (index, name) in names.iter().enumerate() {
            let next = names.get(index + 1).map_or_else(|| file.clone(), |next| named(next));
            all.push((name, exchange(&next, nothing)));
        }
        reported(all)
    };
    assert_eq!(chain(4), Vec::<String>::new());
    assert_eq!(chain(5).len(), 1);
    assert!(!chain(3000).is_empty());
}
