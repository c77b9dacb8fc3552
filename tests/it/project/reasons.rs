//! Each reason for which a request is refused is produced by a test that runs the whole plugin, the
//! shell or a real Envoy.

use crate::project::tree::{read, rows, tests};
use m2m_auth::inbound::refusal::reason::Reason;

/// For each reason a test that expects it, by name.
const TESTS: &[(Reason, &str)] = &[
    (
        Reason::AmbiguousPath,
        "envoy::inbound::readings::a_path_that_leads_to_different_rules_is_refused_and_never_reaches_the_service",
    ),
    (
        Reason::AmbiguousMethod,
        "envoy::inbound::readings::a_method_that_a_server_takes_for_another_is_refused",
    ),
    (Reason::AmbiguousHost, "envoy::inbound::readings::a_host_that_a_server_takes_for_another_is_refused"),
    (
        Reason::AmbiguousHeader,
        "envoy::inbound::readings::an_upgrade_changes_neither_the_rule_nor_the_headers_of_the_filter",
    ),
    (
        Reason::MultipleCredentials,
        "envoy::inbound::token_locations::two_credentials_in_different_locations_are_one_too_many_and_no_answer_holds_one",
    ),
    (Reason::NoToken, "envoy::inbound::modes::each_mode_does_what_it_says_with_good_bad_and_no_tokens"),
    (Reason::Malformed, "envoy::inbound::modes::each_mode_does_what_it_says_with_good_bad_and_no_tokens"),
    (
        Reason::TooLarge,
        "envoy::inbound::requests::a_header_section_as_large_as_envoy_takes_is_judged_as_any_other",
    ),
    (
        Reason::TooDeep,
        "core::sim::limits::a_token_that_is_nested_too_deep_or_has_too_long_a_kid_is_refused_for_that",
    ),
    (
        Reason::UnsupportedCrit,
        "core::attacks::tokens::an_extension_that_must_be_understood_refuses_the_token",
    ),
    (
        Reason::InvalidTyp,
        "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask",
    ),
    (Reason::Algorithm, "core::attacks::keys::the_header_chooses_among_allowed_algorithms_that_fit_its_key"),
    (Reason::Issuer, "core::sim::introspection::a_jwt_is_no_question_unless_the_rule_asks_always"),
    (Reason::Tenant, "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask"),
    (Reason::UnknownKey, "envoy::burst::tokens_with_made_up_keys_are_refused_and_few_of_them_wait"),
    (Reason::TooManyKeys, "core::sim::limits::more_keys_than_are_tried_are_named_as_the_cause"),
    (
        Reason::Signature,
        "envoy::rotation::the_token_of_a_withdrawn_key_is_refused_though_it_was_verified_before",
    ),
    (
        Reason::NotAccessToken,
        "core::sim::introspection::what_the_answer_says_of_the_caller_is_checked_like_a_jwt",
    ),
    (
        Reason::InvalidClaim,
        "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask",
    ),
    (Reason::Expired, "shell::time::a_callers_token_ends_when_the_wall_clock_says_so"),
    (Reason::NotYetValid, "shell::time::a_step_of_the_wall_clock_is_noticed_within_a_second"),
    (
        Reason::Lifetime,
        "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask",
    ),
    (
        Reason::Inactive,
        "core::sim::introspection::a_token_that_is_not_active_is_asked_about_once_in_ten_seconds",
    ),
    (
        Reason::Audience,
        "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask",
    ),
    (
        Reason::BindingMismatch,
        "envoy::inbound::dpop::where_it_is_optional_other_tokens_are_taken_and_bound_ones_still_proven",
    ),
    (Reason::SubjectToken, "envoy::outbound::exchange::whose_fault_a_refused_exchange_is_says_the_status"),
    (Reason::Acr, "envoy::inbound::issuers::a_caller_that_must_authenticate_again_is_answered_how_and_when"),
    (
        Reason::AuthTime,
        "envoy::inbound::issuers::a_caller_that_must_authenticate_again_is_answered_how_and_when",
    ),
    (
        Reason::TooOld,
        "envoy::inbound::issuers::a_caller_that_must_authenticate_again_is_answered_how_and_when",
    ),
    (Reason::ProofMissing, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofMultiple, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofMalformed, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofMethod, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofUrl, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofToken, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofTime, EACH_FAULT_OF_A_PROOF),
    (
        Reason::ProofNonce,
        "envoy::inbound::dpop::a_service_that_wants_nonces_gives_one_and_takes_it_whatever_the_callers_clock_says",
    ),
    (Reason::ProofSignature, EACH_FAULT_OF_A_PROOF),
    (Reason::ProofReplayed, "envoy::inbound::dpop::a_proof_is_good_for_one_request_of_all_workers"),
    (
        Reason::NoRule,
        "envoy::inbound::requests::a_request_that_matches_no_rule_is_denied_even_with_a_good_token",
    ),
    (
        Reason::ClientNotAllowed,
        "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask",
    ),
    (
        Reason::SubjectNotAllowed,
        "envoy::inbound::issuers::whose_keys_count_what_tokens_must_be_like_and_what_rules_ask",
    ),
    (Reason::ClientRole, "envoy::inbound::modes::each_mode_does_what_it_says_with_good_bad_and_no_tokens"),
    (Reason::Role, "core::access::presets::what_a_provider_does_not_write_is_looked_for_nowhere_else"),
    (Reason::Scope, "core::access::presets::what_a_provider_does_not_write_is_looked_for_nowhere_else"),
    (
        Reason::RequiredClaim,
        "envoy::inbound::access::claims_are_compared_with_the_request_and_one_alternative_is_enough",
    ),
    (
        Reason::NoConditionMet,
        "envoy::inbound::access::claims_are_compared_with_the_request_and_one_alternative_is_enough",
    ),
    (Reason::ExchangeDenied, "envoy::outbound::exchange::whose_fault_a_refused_exchange_is_says_the_status"),
    (Reason::JwksUnavailable, "envoy::burst::when_the_keys_are_unavailable_each_request_is_answered_503"),
    (
        Reason::IntrospectionUnavailable,
        "envoy::inbound::introspection::an_endpoint_that_is_down_is_503_and_no_callers_fault",
    ),
    (
        Reason::OutboundTokenUnavailable,
        "envoy::burst::requests_that_wait_for_a_token_in_vain_are_answered_503",
    ),
    (
        Reason::UnknownCredential,
        "envoy::outbound::routes::a_route_that_names_an_unknown_credential_is_answered_503_counted_and_logged",
    ),
    (Reason::TooManyProofs, "core::sim::bound::a_proof_that_cannot_be_remembered_is_not_taken"),
    (
        Reason::TooManySignatures,
        "shell::signatures::forged_proofs_that_the_module_verifies_are_bounded_apart_from_tokens",
    ),
    (Reason::TooManyPending, "shell::waiting::a_request_over_the_bound_is_answered_at_once"),
    (
        Reason::DpopSigningFailed,
        "shell::dpop::where_nobody_signs_any_more_a_request_is_503_and_goes_nowhere_without_a_proof",
    ),
    (Reason::NotReady, "shell::configure::before_a_configuration_is_accepted_every_request_gets_503"),
];

const EACH_FAULT_OF_A_PROOF: &str = "envoy::inbound::dpop::\
    a_bound_token_is_good_with_a_new_proof_for_each_request_and_with_nothing_less";

/// The source of a test.
fn source(test: &str) -> String {
    let (module, name) = test.rsplit_once("::").unwrap();
    let file = read(&format!("tests/it/{}.rs", module.replace("::", "/")));
    let (_, from) = file.split_once(&format!("fn {name}(")).unwrap();
    from.split("\n}\n").next().unwrap().to_owned()
}

#[test]
fn each_reason_is_produced_by_a_test() {
    let tests = tests();
    let cited: Vec<Reason> = TESTS.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(cited, Reason::ALL);
    for (reason, test) in TESTS {
        assert!(tests.contains(*test), "{}: there is no test {test}", reason.name());
        let source = source(test);
        let expects = ["\"", "401 ", "503 "].map(|before| format!("{before}{}\"", reason.name()));
        assert!(expects.iter().any(|own| source.contains(own)), "{test} does not expect {}", reason.name());
    }
}

#[test]
fn the_page_has_a_row_for_each_reason() {
    let named: Vec<String> =
        rows(&read("docs/reference/reasons.md"), "reason").into_iter().map(|row| row[0].clone()).collect();
    let reasons: Vec<String> = Reason::ALL.iter().map(|reason| format!("`{}`", reason.name())).collect();
    assert_eq!(named, reasons);
}

#[test]
fn each_decision_that_an_alert_or_the_dashboard_asks_for_is_a_reason() {
    let mut found = 0;
    for file in [
        "envoy/prometheus/alerts.yml",
        "envoy/prometheus/alerts.test.yml",
        "envoy/grafana/dashboards/m2m-auth.json",
    ] {
        let text = read(file).replace('\\', "");
        for rest in text.split("decision=").skip(1) {
            let rest = rest.strip_prefix('~').unwrap_or(rest);
            let decisions =
                rest.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or_default();
            for decision in decisions.split('|').filter(|decision| *decision != "allowed") {
                assert!(Reason::from_name(decision).is_some(), "{file}: {decision:?} is no reason");
                found += 1;
            }
        }
    }
    assert!(found > 15, "{found}");
}
