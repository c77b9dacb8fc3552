//! What `make faults` measures, in short: no fault costs a request that could have been served.

use crate::envoy::scene::{Scene, outbound};
use m2m_auth_kit::client;
use m2m_auth_kit::faults::{Filter, Order, Outcome, Scenario, fatal};
use std::time::Duration;

/// As patient as a filter may be: no scenario is about a slow machine.
const ORDER: Order = Order { span: Duration::from_secs(3), rate: 100.0, patience: Duration::from_secs(60) };

/// Every request of the load that failed had to.
async fn play(scenario: Scenario) -> Outcome {
    let outcome = scenario.play(Filter::Ours, &ORDER).await;
    assert_eq!((outcome.requests, outcome.avoidable), (300, 0), "{outcome:?}");
    assert_eq!(outcome.died, None, "{outcome:?}");
    outcome
}

#[tokio::test]
async fn tokens_that_live_for_seconds_are_renewed_before_anybody_notices() {
    let outcome = play(Scenario::ShortLife).await;
    assert!(outcome.fetches >= 1, "the load outlasts a token: {outcome:?}");
}

#[tokio::test]
async fn a_slow_provider_makes_the_first_requests_wait_and_refuses_none() {
    let outcome = play(Scenario::Slow).await;
    assert!(
        outcome.longest >= Duration::from_secs(1),
        "it began before the first token was there: {outcome:?}"
    );
}

#[tokio::test]
async fn a_provider_that_fails_in_the_middle_of_a_tokens_life_costs_nothing() {
    play(Scenario::Errors).await;
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_for_a_while_costs_nothing() {
    play(Scenario::Refused).await;
}

#[tokio::test]
async fn answers_that_are_cut_in_half_for_a_while_cost_nothing() {
    play(Scenario::CutInHalf).await;
}

#[tokio::test]
async fn answers_that_are_no_json_for_a_while_cost_nothing() {
    play(Scenario::Garbage).await;
}

#[tokio::test]
async fn a_pushed_configuration_costs_nothing() {
    play(Scenario::Pushes).await;
}

#[tokio::test]
async fn a_configuration_pushed_while_the_provider_is_gone_costs_nothing() {
    play(Scenario::PushInOutage).await;
}

#[tokio::test]
async fn a_vm_that_ends_takes_no_request_with_it_that_is_not_in_it() {
    play(Scenario::Crash).await;
}

#[tokio::test]
async fn a_provider_whose_clock_is_two_minutes_off_costs_nothing() {
    play(Scenario::Clock).await;
}

#[tokio::test]
async fn a_service_that_refuses_every_token_costs_no_other_service_a_request() {
    let outcome = play(Scenario::ServiceRefuses).await;
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.fetches <= 2, "a token is not renewed for each refusal: {outcome:?}");
}

#[tokio::test]
async fn a_secret_that_is_changed_at_once_costs_nothing_where_both_are_known() {
    let outcome = play(Scenario::SecretRotated).await;
    assert_eq!(outcome.by_status.keys().copied().collect::<Vec<_>>(), [200], "{outcome:?}");
    assert!(outcome.fetches >= 2, "the old secret was tried, then the next one: {outcome:?}");
}

#[tokio::test]
async fn the_filter_runs_in_a_cluster_as_well_as_in_a_listener() {
    play(Scenario::ClusterFilter).await;
}

#[tokio::test]
async fn what_ends_the_test_builds_vm_is_a_request_like_any_other_to_the_shipped_module() {
    let scene = Scene::start(outbound).await;
    let answer = fatal(client::get(scene.envoy.url("main", "/orders"))).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}
