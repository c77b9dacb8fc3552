//! The ten minutes of docs/tutorials/keycloak-end-to-end.md as a newcomer has them: its own
//! commands, word for word, in an empty folder, against a Keycloak that knows nothing of us. Only
//! the ports and the realm's name are this test's, as others use theirs.

use m2m_auth_kit::keycloak::Keycloak;
use m2m_auth_kit::{envoy, repository};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// The shell commands of the section, one after the other.
fn commands() -> String {
    let document =
        std::fs::read_to_string(repository().join("docs/tutorials/keycloak-end-to-end.md")).unwrap();
    let section = document.split_once("\n## Quick start\n").unwrap().1.split_once("\n## ").unwrap().0;
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    blocks.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_ten_minutes_lead_from_a_keycloak_of_ones_own_to_a_protected_service() {
    let keycloak = Keycloak::start().await;
    let folder = tempfile::tempdir().unwrap();
    // The commands run in the root of the repository.
    for name in ["envoy", "target"] {
        std::os::unix::fs::symlink(repository().join(name), folder.path().join(name)).unwrap();
    }
    let free: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<String> = free.iter().map(|port| port.local_addr().unwrap().port().to_string()).collect();
    drop(free);
    let mut commands = commands();
    assert!(commands.lines().count() > 30, "{commands}");
    commands = commands.replace("http://127.0.0.1:8080", &format!("http://{}", keycloak.address()));
    for (theirs, ours) in ["8081", "9901", "10000", "10001"].iter().zip(&ports) {
        commands = commands.replace(theirs, ours);
    }
    // The demo's configuration has three of these ports.
    let [_, admin, egress, ingress] = &ports[..] else { unreachable!() };
    let ports_too = format!(
        "-e 's#port_value: 9901#port_value: {admin}#' -e 's#port_value: 10000#port_value: {egress}#' \
         -e 's#port_value: 10001#port_value: {ingress}#' envoy/envoy.yaml"
    );
    commands = commands.replace("envoy/envoy.yaml", &ports_too);
    commands = commands.replace("target/m2m_auth.wasm", envoy::module().to_str().unwrap());
    let script = format!("set -eu\ntrap 'kill $(jobs -p)' EXIT\n{commands}");
    let bin = keycloak.home().join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(folder.path()).env("PATH", path).env("ENVOY", envoy::binary());
    bash.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(2), bash.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    let refused = said.find("HTTP/1.1 401").unwrap_or_else(|| panic!("{said}\n{complained}"));
    let served = said.find("HTTP/1.1 200").unwrap_or_else(|| panic!("{said}\n{complained}"));
    assert!(refused < served, "{said}");
    for words in ["\"azp\": \"order-service\"", "Missing token", "[{\"sku\":\"A-1\",\"stock\":12}]"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What the document says of the log.
    assert!(
        complained.contains("token acquired") && complained.contains("\"reason\":\"no_token\""),
        "{complained}"
    );
}
