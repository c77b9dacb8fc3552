//! `docs/how-to/attach-tokens.md`.

use super::harness::{ISSUER, Page, Setup, parsed};
use crate::envoy::scene::{HAS_TOKEN, VMS};
use m2m_auth_kit::idp::{ClientSpec, Endpoint, Fault, Idp};
use m2m_auth_kit::repository;
use m2m_auth_kit::token::decode;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::{Value, json};

fn page() -> Page {
    Page::read("docs/how-to/attach-tokens.md")
}

async fn scene() -> (Idp, Upstream) {
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    (idp, service)
}

/// A file of `examples/envoy`.
fn example(name: &str) -> Value {
    parsed(&std::fs::read_to_string(repository().join("examples/envoy").join(name)).unwrap())
}

/// The client of the token in `Authorization`.
fn client(request: &m2m_auth_kit::record::Recorded) -> Option<String> {
    let value = request.header("authorization")?;
    Some(decode(value.strip_prefix("Bearer ").unwrap()).1["azp"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_page_about_attaching_tokens_attaches_one_and_prints_what_a_failing_provider_causes() {
    let (page, (idp, service)) = (page(), scene().await);
    let configuration = page.yaml("static_resources:");
    assert_eq!(parsed(configuration), example("outbound-only.yaml"), "the page's Envoy is the example");
    let setup = || {
        Setup::of(configuration)
            .behind("keycloak", idp.address())
            .behind("inventory-service", service.address())
            .env("ORDER_SERVICE_SECRET", "order-secret")
    };
    let mut run = setup().start().await;
    run.envoy.wait_for_log(HAS_TOKEN).await;
    for part in ["m2m-auth check", "token acquired", "--connect-to", "filter=m2m_auth_outbound"] {
        run.play(page.block("console", part)).await;
    }
    let other = run.get(10000, "/items").header("host", "another-service").send().await;
    assert_eq!(other.status, 200);
    let clients: Vec<_> = service.requests().iter().map(client).collect();
    let attached = || Some("order-service".to_owned());
    assert_eq!(clients, [attached(), attached(), attached(), None]);

    idp.fault(Endpoint::Token, Fault::Status(503, "{}".to_owned()));
    let mut run = setup().start().await;
    run.play(page.block("console", "outbound_token_unavailable")).await;
    assert_eq!(service.count(), 4, "it is not forwarded without a token");
    let call = run.get(10000, "/inventory.Items/List").header("host", "inventory-service");
    let call = call.header("content-type", "application/grpc").header("te", "trailers").send().await;
    assert_eq!((call.status, call.header("grpc-status").as_deref()), (200, Some("14")));
}

#[tokio::test]
async fn the_page_about_attaching_tokens_selects_a_credential_by_cluster_and_by_route() {
    let (page, (idp, service)) = (page(), scene().await);
    for id in ["payment-client", "reporting"] {
        idp.client(ClientSpec::new(id, id));
    }
    let routes = page.yaml("filter_metadata");
    let mut run = Setup::example("credential-by-route.yaml")
        .filter(page.yaml("route_metadata: true"))
        .manager(routes)
        .behind("keycloak", idp.address())
        .behind("partner-api", service.address())
        .behind("reporting", service.address())
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .env("PAYMENT_CLIENT_SECRET", "payment-client")
        .env("REPORTING_SECRET", "reporting")
        .start()
        .await;
    run.play(page.block("console", "/payments/1")).await;
    let seen: Vec<_> = service.requests().iter().map(|own| (own.path.clone(), client(own))).collect();
    let expected = [
        ("/payments/1", Some("payment-client")),
        ("/public/1", None),
        ("/reports/1", Some("reporting")),
        ("/orders/1", Some("order-service")),
    ];
    assert_eq!(seen, expected.map(|(path, client)| (path.to_owned(), client.map(str::to_owned))));
    for counter in ["by-route.decision.attached", "by-route.decision.passed"] {
        let name = format!("wasmcustom.m2m_auth_outbound.rule.{counter}");
        run.envoy.wait_for_stat(&name, |count| count == 1).await;
    }
    for rule in ["by-cluster", "all-others"] {
        let name = format!("wasmcustom.m2m_auth_outbound.rule.{rule}.decision.attached");
        run.envoy.wait_for_stat(&name, |count| count == 1).await;
    }
}

#[tokio::test]
async fn the_page_about_attaching_tokens_retries_a_rejected_request() {
    let (page, (idp, service)) = (page(), scene().await);
    idp.set_issuer("http://keycloak:8080/realms/my-realm");
    let whole = example("transparent-retry.yaml");
    let manager =
        &whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(parsed(page.yaml("retry_policy"))["route_config"], manager["route_config"]);
    let limits = parsed(page.yaml("max_retries"));
    assert_eq!(limits["circuit_breakers"], whole["static_resources"]["clusters"][0]["circuit_breakers"]);
    let run = Setup::example("transparent-retry.yaml")
        .behind("keycloak", idp.address())
        .behind("inventory-service", service.address())
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .start()
        .await;
    until("each VM has the token", async || {
        (run.envoy.logs().matches(HAS_TOKEN).count() >= VMS).then_some(())
    })
    .await;
    assert_eq!(run.get(15001, "/items").send().await.status, 200);
    let first = service.last().header("authorization").unwrap();
    service.answer_when("authorization", &first, 401);
    let answer = run.get(15001, "/items").send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(service.last().header("authorization"), Some(first));
    assert_eq!(json!(service.count()), json!(3), "the rejected attempt and its retry");
}
