//! Requests that are held on real Envoy: their bodies, gRPC, clients that go away, the bound on their number, and the end
//! of the VM that holds them. The filter stands in a listener, and among the filters of the service's cluster.

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

/// Where the filter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Listener,
    Cluster,
}

const PLACES: [Place; 2] = [Place::Listener, Place::Cluster];

/// One worker, so that whoever is held is held in one VM, and a service that speaks HTTP/2, as gRPC needs.
async fn at(
    place: Place,
    idp: Idp,
    upstream: Upstream,
    filter: &Wasm,
    change: impl FnOnce(&mut Value),
) -> Scene {
    let service = envoy::http2(envoy::cluster("service", upstream.address()));
    let (filters, service) = match place {
        Place::Listener => (vec![filter.filter()], service),
        Place::Cluster => (vec![], envoy::upstream_filters(service, vec![filter.filter()])),
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

/// Whoever needs a token is held until the gate is open.
async fn without_token(place: Place, change: impl FnOnce(&mut Value)) -> (Scene, Gate) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Token]);
    let mut configuration = outbound(&idp);
    change(&mut configuration);
    (at(place, idp, upstream, &wasm(&configuration), |_| ()).await, gate)
}

/// Whoever shows a token is held until the gate is open.
async fn without_keys() -> (Scene, Gate) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let gate = gated(&idp, &[Endpoint::Keys]);
    let filter = wasm(&inbound(&idp));
    (at(Place::Listener, idp, upstream, &filter, |_| ()).await, gate)
}

/// Comes back when so many requests have begun to wait.
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

/// What a gRPC client is told.
fn grpc_status(answer: &Response) -> (u16, Option<String>) {
    (answer.status, answer.header("grpc-status"))
}
