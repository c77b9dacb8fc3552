//! From `jwt_authn` and `rbac`.

use super::page::Page;
use super::requests::{Target, ask};
use super::{counted, has_every_field, listener, provider};
use crate::envoy::scene::HAS_KEYS;
use m2m_auth_kit::envoy::{self, Envoy};
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::upstream::Upstream;
use m2m_auth_kit::wait::until;
use serde_json::Value;

fn page() -> Page {
    Page::read("jwt_authn-and-rbac")
}

#[test]
fn the_table_has_every_field_of_both_filters() {
    has_every_field(
        &page(),
        &[
            ("envoy.extensions.filters.http.jwt_authn.v3", "config.proto"),
            ("envoy.extensions.filters.http.rbac.v3", "rbac.proto"),
            ("envoy.config.rbac.v3", "rbac.proto"),
        ],
    );
}

/// One Envoy with these listeners; it has its keys.
pub(super) async fn start(idp: &Idp, upstream: &Upstream, listeners: Vec<Value>) -> Envoy {
    let start = Envoy::builder()
        .concurrency(1)
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(envoy::cluster("service", upstream.address()));
    let envoy = listeners.into_iter().fold(start, envoy::Builder::listener).start().await.unwrap();
    envoy.wait_for_log(HAS_KEYS).await;
    envoy
}

pub(super) fn target<'a>(envoy: &Envoy, idp: &'a Idp, listener: &str) -> Target<'a> {
    Target { idp, origin: format!("http://{}", envoy.address(listener)) }
}

#[tokio::test]
async fn both_answer_as_the_page_says() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    let listeners = [("native", "jwt_authn and rbac"), ("ours", "m2m-auth")]
        .map(|(name, block)| listener(name, page.block(block)));
    let envoy = start(&idp, &upstream, listeners.to_vec()).await;
    let seen = ask(&target(&envoy, &idp, "native"), &target(&envoy, &idp, "ours"), "x-caller").await;
    page.compare("`jwt_authn`, `rbac`", &seen);
}

/// The filters of the native block, with ours of that other block before them.
fn beside(page: &Page, ours: &str) -> Value {
    let mut both = listener("both", page.block("jwt_authn and rbac"));
    let mut trial = listener("trial", page.block(ours));
    let filter = envoy::manager_mut(&mut trial)["http_filters"][0].take();
    let filters = envoy::manager_mut(&mut both)["http_filters"].as_array_mut().unwrap();
    filters.insert(0, filter);
    both
}

/// Step 1 of the page: with one rule for every path no request is refused, so that each answer is
/// that of the native filters.
#[tokio::test]
async fn the_first_step_changes_no_answer() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    let native = listener("native", page.block("jwt_authn and rbac"));
    let listeners = vec![native, beside(&page, "step 1: m2m-auth, before jwt_authn")];
    let envoy = start(&idp, &upstream, listeners).await;
    let seen = ask(&target(&envoy, &idp, "native"), &target(&envoy, &idp, "both"), "x-caller").await;
    for row in &seen {
        assert_eq!(row.native, row.ours, "{}", row.request);
    }
    // Envoy itself refuses encoded slashes before any filter.
    let reached = seen.iter().filter(|row| row.native != "400").count();
    assert!(reached > 40, "{reached}");
    until("each request is counted", async || {
        let stats = envoy.stats("wasmcustom.m2m_auth_").await;
        assert_eq!(counted(&stats, "m2m_auth_inbound"), 0, "{stats:?}");
        (counted(&stats, "m2m_auth_dry_run") == u64::try_from(reached).unwrap()).then_some(())
    })
    .await;
}

/// Step 3: all rules. Only requests that servers interpret in different ways are refused.
#[tokio::test]
async fn the_third_step_refuses_ambiguous_requests_only() {
    let (idp, upstream, page) = (provider().await, Upstream::start().await, page());
    let native = listener("native", page.block("jwt_authn and rbac"));
    let listeners = vec![native, beside(&page, "step 3: m2m-auth, before jwt_authn")];
    let envoy = start(&idp, &upstream, listeners).await;
    let seen = ask(&target(&envoy, &idp, "native"), &target(&envoy, &idp, "both"), "x-caller").await;
    let (refused, others): (Vec<_>, Vec<_>) = seen.iter().partition(|row| row.ours == "400 ambiguous_path");
    let refused: Vec<&str> = refused.iter().map(|row| &*row.request).collect();
    // `normalize_path` has changed the others before the filter sees them.
    assert_eq!(refused, ["a reader at `/inventory/admin;x`", "a reader at `/inventory/ADMIN`"]);
    for row in others {
        assert_eq!(row.native, row.ours, "{}", row.request);
    }
}
