//! Requests that are held on real Envoy: their bodies, gRPC, clients that go away, the bound on
//! their number, and the end of the VM that holds them. The filter runs in a listener, and among
//! the filters of the service's cluster.

mod bodies;
mod bounds;
mod crash;
mod grpc;

use crate::envoy::scene::{Scene, gated, inbound, outbound, wasm};
use m2m_auth_kit::client::{Request, Response};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::idp::{Endpoint, Gate, Idp};
use m2m_auth_kit::upstream::Upstream;
use serde_json::Value;

/// Where the filter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Listener,
    Cluster,
}

const POSITIONS: [Position; 2] = [Position::Listener, Position::Cluster];

/// One worker, so that every held request is in one VM, and a service that speaks HTTP/2, as gRPC
/// needs.
async fn at(
    position: Position,
    idp: Idp,
    upstream: Upstream,
    filter: &Wasm,
    change: impl FnOnce(&mut Value),
) -> Scene {
    let service = envoy::http2(envoy::cluster("service", upstream.address()));
    let (filters, service) = match position {
        Position::Listener => (vec![filter.filter()], service),
        Position::Cluster => (vec![], envoy::upstream_filters(service, vec![filter.filter()])),
    };
    let mut listener = envoy::listener("main", filters, envoy::route_to("service"));
    change(&mut listener);
    let builder = Envoy::builder()
        .concurrency(1)
        .env("ORDER_SERVICE_SECRET", "order-secret")
        .cluster(envoy::cluster("keycloak", idp.address()))
        .cluster(service)
        .listener(listener);
    Scene::of(idp, upstream, builder).await
}

/// Requests that need a token are held until the gate is open.
async fn without_token(position: Position, change: impl FnOnce(&mut Value)) -> (Scene, Gate) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Token]);
    let mut configuration = outbound(&idp);
    change(&mut configuration);
    (at(position, idp, upstream, &wasm(&configuration), |_| ()).await, gate)
}

/// Requests with a token are held until the gate is open.
async fn without_keys() -> (Scene, Gate) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Keys]);
    let filter = wasm(&inbound(&idp));
    (at(Position::Listener, idp, upstream, &filter, |_| ()).await, gate)
}

/// Waits until this many requests have begun to wait.
async fn held(scene: &Scene, count: u64) {
    scene.held(count).await;
}

/// In HTTP/1.1 and in HTTP/2.
fn both_versions(request: &Request) -> [Request; 2] {
    [request.clone(), request.clone().http2()]
}

/// One gRPC message: not compressed, and its length.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat()
}

fn grpc(scene: &Scene, method: &str) -> Request {
    let request = scene.request("POST", &format!("/inventory/{method}")).http2();
    request.header("content-type", "application/grpc").header("te", "trailers")
}

/// The status and message that a gRPC client gets.
fn grpc_status(answer: &Response) -> (u16, Option<String>) {
    (answer.status, answer.header("grpc-status"))
}
