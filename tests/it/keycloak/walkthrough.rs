//! The tutorial docs/tutorials/keycloak-end-to-end.md as a newcomer follows it: its own commands,
//! word for word, in an empty folder, against a Keycloak that knows nothing of us. Only the ports
//! are this test's, as others use theirs. What the page says is printed is printed.

use m2m_auth_kit::keycloak::{self, Keycloak};
use m2m_auth_kit::{envoy, repository};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

fn page() -> String {
    std::fs::read_to_string(repository().join("docs/tutorials/keycloak-end-to-end.md")).unwrap()
}

/// The blocks of one kind, in order.
fn blocks<'p>(page: &'p str, kind: &str) -> Vec<&'p str> {
    page.split(&format!("```{kind}\n")).skip(1).map(|block| block.split_once("```").unwrap().0).collect()
}

/// Runs commands of the page in a folder that has what the repository's root has after
/// `make wasm cli envoy keycloak`.
async fn run(commands: &str, folder: &Path) -> Output {
    std::fs::create_dir_all(folder.join("target")).unwrap();
    let links = [
        (repository().join("envoy"), "envoy"),
        (repository().join("build"), "build"),
        (envoy::module().clone(), "target/m2m_auth.wasm"),
    ];
    for (original, link) in links {
        std::os::unix::fs::symlink(original, folder.join(link)).unwrap();
    }
    let script = format!("set -eu\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{commands}");
    let tool = Path::new(env!("CARGO_BIN_EXE_m2m-auth")).parent().unwrap();
    let mut path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
    if let Ok(home) = std::env::var("KEYCLOAK_HOME") {
        path = format!("{home}/bin:{path}");
    }
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(folder).env("PATH", path).env("ENVOY", envoy::binary());
    bash.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_mins(3), bash.output()).await.unwrap().unwrap()
}

/// Replaces what must occur.
fn replaced(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old}");
    text.replace(old, new)
}

#[tokio::test]
async fn the_tutorial_leads_from_a_keycloak_of_ones_own_to_a_protected_service() {
    let keycloak = Keycloak::start().await;
    let free: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = free.iter().map(|port| port.local_addr().unwrap().port()).collect();
    drop(free);
    let address = keycloak.address();
    let mut page =
        replaced(&page(), "host 127.0.0.1, port 8080", &format!("host 127.0.0.1, port {}", address.port()));
    page = replaced(&page, "http://127.0.0.1:8080", &format!("http://{address}"));
    for (theirs, ours) in ["8081", "9901", "10000", "10001"].iter().zip(&ports) {
        page = page.replace(theirs, &ours.to_string());
    }
    let commands = blocks(&page, "sh").join("\n");
    assert!(commands.lines().count() > 30, "{commands}");

    let folder = tempfile::tempdir().unwrap();
    let output = run(&commands, folder.path()).await;
    let printed = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let refused = printed.find("HTTP/1.1 401").unwrap_or_else(|| panic!("{printed}\n{errors}"));
    let served = printed.find("HTTP/1.1 200").unwrap_or_else(|| panic!("{printed}\n{errors}"));
    assert!(refused < served, "{printed}");

    // The drawing is the first block of text.
    let mut promised = lines(&blocks(&page, "text")[1..]);
    promised.extend(page.split("It prints `").nth(1).and_then(|rest| rest.split('`').next()));
    assert!(promised.len() > 10, "{promised:?}");
    // Keycloak decides about the order of the audiences.
    let audiences = promised.iter().position(|line| line.starts_with("aud ")).unwrap();
    promised.remove(audiences);
    assert!(printed.lines().any(|own| own.starts_with("aud ") && own.contains("'inventory-service'")));
    for line in promised {
        assert!(printed.lines().any(|own| own == line), "{line}\nis not in\n{printed}");
    }
    // The last step leaves nothing behind.
    assert!(!folder.path().join("target/tutorial").exists());
    assert!(!folder.path().join("kcadm.config").exists());
}

/// Every line of the blocks, without the `…` of omitted lines.
fn lines<'p>(blocks: &[&'p str]) -> Vec<&'p str> {
    blocks.iter().flat_map(|block| block.lines()).filter(|line| *line != "…").collect()
}

/// The address and Envoy's configuration, from the URL alone.
#[tokio::test]
async fn the_tutorial_works_for_a_url_of_keycloak_without_a_port() {
    let page = page();
    let sh = blocks(&page, "sh");
    let derive = sh.iter().find(|block| block.contains("ISSUER=")).unwrap();
    let write = sh.iter().find(|block| block.contains("<<END")).unwrap();
    let ca = keycloak::certificates().join("ca.pem");
    let derive = replaced(derive, "/etc/ssl/certs/ca-certificates.crt", ca.to_str().unwrap());
    for (url, issuer, host, port) in [
        ("https://kc.example.com", "https://kc.example.com", "kc.example.com", 443),
        ("https://kc.example.com/", "https://kc.example.com", "kc.example.com", 443),
        ("https://kc.example.com/auth", "https://kc.example.com/auth", "kc.example.com", 443),
        ("https://kc.example.com:8443/auth", "https://kc.example.com:8443/auth", "kc.example.com", 8443),
        ("http://keycloak", "http://keycloak", "keycloak", 80),
        ("http://keycloak:8080", "http://keycloak:8080", "keycloak", 8080),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let commands = format!(
            "export KEYCLOAK={url} REALM=shop ORDER_SERVICE_SECRET=secret\nmkdir -p target/tutorial\n{derive}\n{write}\n\
             m2m-auth check --strict target/tutorial/envoy.yaml\n\
             $ENVOY --mode validate -c target/tutorial/envoy.yaml 2>&1"
        );
        let output = run(&commands, folder.path()).await;
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{url}: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
        let line = format!("issuer {issuer}/realms/shop, host {host}, port {port}");
        assert!(printed.lines().any(|own| own == line), "{line}: {printed}");
        let written = std::fs::read_to_string(folder.path().join("target/tutorial/envoy.yaml")).unwrap();
        assert_eq!(written.contains(&format!("sni: {host}\n")), url.starts_with("https"), "{written}");
        assert_eq!(written.matches(&format!("issuer: {issuer}/realms/shop,")).count(), 2, "{written}");
    }
}
