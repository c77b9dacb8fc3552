//! What the shell asks the host about a request's route: what the policy needs, before any header
//! is changed, and once.

use super::host::NOT_FOUND;
use super::scene::{CLIENT_SECRET, issued, issuers, outbound, plain, provider};
use super::vm::{Request, Vm};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CLUSTER: &str = "xds.cluster_name";
const CREDENTIAL: &str = "xds.route_metadata.filter_metadata.m2m_auth.credential";

/// One token for each of two clusters.
pub(super) fn by_cluster() -> Value {
    json!({ "issuers": issuers(), "outbound": { "credentials": credentials(), "rules": [
        { "match": { "cluster": "outbound|443||api" }, "credential": "order-service" },
        { "match": { "cluster": "payments" }, "credential": "payment-service" },
    ] } })
}

/// A token that the route names, else that of `order-service`.
pub(super) fn by_route() -> Value {
    json!({ "issuers": issuers(), "outbound": {
        "credentials": credentials(),
        "rules": [{ "route_metadata": true }, { "credential": "order-service" }],
    } })
}

fn credentials() -> Value {
    let client = |id: &str| {
        json!({ "issuer": "keycloak", "client_id": id, "client_secret": { "inline": CLIENT_SECRET },
                "auth_method": "client_secret_post" })
    };
    json!({ "order-service": client("order-service"), "payment-service": client("payment-service") })
}

/// Sets a property of every further request.
fn set_property(vm: &Vm, property: &str, value: &str) {
    vm.host(|host| host.properties.insert(property.to_owned(), value.as_bytes().to_vec()));
}

/// The provider answers every call; returns each client's token as a header value.
fn serve(vm: &Vm) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut tokens = BTreeMap::new();
    vm.wake();
    for call in vm.calls() {
        let body = String::from_utf8(call.body.clone()).unwrap();
        let clients = ["order-service", "payment-service"];
        let client = clients.into_iter().find(|id| body.contains(&format!("client_id={id}"))).unwrap();
        tokens.insert(client, vec![format!("Bearer {}", issued(&call)).into_bytes()]);
        vm.deliver(&call, provider(&call));
    }
    assert_eq!(tokens.len(), 2);
    tokens
}

fn token(request: Request<'_>) -> Vec<Vec<u8>> {
    assert!(request.is_forwarded(), "{:?}", request.outcome());
    request.header("authorization")
}

#[test]
fn a_rule_is_chosen_by_the_cluster_that_the_host_names() {
    let vm = Vm::with(&by_cluster());
    let tokens = serve(&vm);
    set_property(&vm, CLUSTER, "outbound|443||api");
    assert_eq!(token(vm.request(plain())), tokens["order-service"]);
    set_property(&vm, CLUSTER, "payments");
    assert_eq!(token(vm.request(plain())), tokens["payment-service"]);
    for other in ["", "payment", "payments2", "\u{0}"] {
        set_property(&vm, CLUSTER, other);
        assert_eq!(token(vm.request(plain())), [[0_u8; 0]; 0], "{other:?}");
    }
    vm.host(|host| host.properties.clear());
    assert_eq!(token(vm.request(plain())), [[0_u8; 0]; 0], "a cluster that is not known");
}

#[test]
fn a_token_is_chosen_by_what_the_route_says() {
    let vm = Vm::with(&by_route());
    let tokens = serve(&vm);
    assert_eq!(token(vm.request(plain())), tokens["order-service"], "it set_property nothing");
    set_property(&vm, CREDENTIAL, "payment-service");
    assert_eq!(token(vm.request(plain())), tokens["payment-service"]);
    set_property(&vm, CREDENTIAL, "none");
    assert_eq!(token(vm.request(plain())), [[0_u8; 0]; 0]);
    // Strings that are not one of the names, and what the host hands over for a number or a
    // boolean.
    for other in ["payment", "", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{f0}?", "\u{1}"] {
        set_property(&vm, CREDENTIAL, other);
        assert_eq!(vm.request(plain()).outcome(), (503, "unknown_credential".to_owned()), "{other:?}");
    }
}

#[test]
fn a_failed_read_of_the_route_refuses_every_request() {
    for (configuration, reason) in [(by_cluster(), "not_ready"), (by_route(), "unknown_credential")] {
        let vm = Vm::with(&configuration);
        serve(&vm);
        for status in [2, 3, 4, 7, 8, 10, 99] {
            vm.break_calls(status, |_, name| name == "proxy_get_property");
            assert_eq!(vm.request(plain()).outcome(), (503, reason.to_owned()), "{status}");
        }
        vm.break_calls(NOT_FOUND, |_, name| name == "proxy_get_property");
        assert!(vm.request(plain()).is_forwarded());
    }
}

#[test]
fn a_request_that_waits_is_not_asked_about_twice_and_keeps_what_was_said() {
    let vm = Vm::with(&by_route());
    set_property(&vm, CREDENTIAL, "payment-service");
    let request = vm.request(plain());
    assert!(request.waits());
    set_property(&vm, CREDENTIAL, "order-service");
    let tokens = serve(&vm);
    assert_eq!(token(request), tokens["payment-service"]);
    let asked = vm.record().iter().filter(|line| line.contains(CREDENTIAL)).count();
    assert_eq!(asked, 1);
}

#[test]
fn a_configuration_that_is_pushed_asks_for_what_it_needs() {
    let vm = Vm::with(&outbound());
    vm.request(plain());
    assert!(vm.record().iter().all(|line| !line.contains("xds.")));
    let root = vm.another_root();
    assert!(vm.configure_root(root, by_cluster().to_string().as_bytes()));
    vm.record();
    vm.request_of(root, plain(), None);
    assert_eq!(vm.record().iter().filter(|line| line.contains("xds.")).count(), 1);
}
