//! `docs/how-to/dry-run-rollout.md`.

use super::harness::{Inbound, Page};
use serde_json::json;

#[tokio::test]
async fn the_page_about_dry_run_leads_to_enforcement_without_a_refused_legitimate_request() {
    let page = Page::read("docs/how-to/dry-run-rollout.md");
    let dry_run = page.section("## 1. Start in dry-run mode").yaml("issuers:").to_owned();
    let enforce = page.section("## 4. Enforce").yaml("issuers:").to_owned();
    assert_eq!(enforce, dry_run.replace("      mode: danger_dry_run\n", ""), "only the mode differs");
    for (configuration, headings) in [
        (&dry_run, &["## 1. Start in dry-run mode", "## 2. Watch what would be refused"][..]),
        (&enforce, &["## 4. Enforce"]),
    ] {
        let mut scene = Inbound::start(configuration).await;
        scene.token("good.header", |_| ());
        // A legitimate caller whose client the administrator of the provider has forgotten.
        scene.token("reporting.header", |claims| {
            (claims["azp"], claims["client_id"]) = (json!("reporting"), json!("reporting"));
            if *configuration == dry_run {
                claims["aud"] = json!("account");
            }
        });
        for heading in headings {
            scene.run.verify(&page.section(heading)).await;
        }
    }
}
