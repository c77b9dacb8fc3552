//! `docs/how-to/install.md`.

use super::harness::{Page, Setup};
use m2m_auth_kit::envoy;
use std::process::Command;

#[tokio::test]
async fn the_page_about_installing_loads_the_module_and_decides_about_a_request() {
    let page = Page::read("docs/how-to/install.md");
    let configuration = page.yaml("static_resources:");
    let mut run = Setup::of(configuration).start().await;
    run.verify(&page).await;

    let validate = "envoy --mode validate -c envoy.yaml";
    assert!(page.blocks("sh").iter().any(|block| block.trim() == validate));
    let module = envoy::module();
    let own = configuration.replace("/etc/envoy/m2m_auth.wasm", module.to_str().unwrap());
    for (yaml, says) in [
        (own.clone(), "configuration 'envoy.yaml' OK"),
        (own.replace("allow: true", "allowed: true"), "Unable to create Wasm plugin m2m_auth"),
        (
            configuration.replace("/etc/envoy/m2m_auth.wasm", "/nowhere/m2m_auth.wasm"),
            "Invalid path: /nowhere/",
        ),
    ] {
        std::fs::write(run.folder().join("envoy.yaml"), yaml).unwrap();
        let mut command = Command::new(envoy::binary());
        command.args(validate.split(' ').skip(1)).args(["--admin-address-path", "admin"]);
        let output = command.current_dir(run.folder()).output().unwrap();
        let printed =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(printed.contains(says), "{says}:\n{printed}");
    }
}
