//! `docs/how-to/monitor.md`.

use super::harness::{ISSUER, Page, Setup, parsed};
use crate::envoy::scene::HAS_KEYS;
use m2m_auth_kit::idp::Idp;
use m2m_auth_kit::repository;
use m2m_auth_kit::tools::promtool;
use m2m_auth_kit::upstream::Upstream;

#[tokio::test]
async fn the_page_about_monitoring_gives_prometheus_counters_with_labels() {
    let page = Page::read("docs/how-to/monitor.md");
    let (idp, service) = (Idp::start().await, Upstream::start().await);
    idp.set_issuer(ISSUER);
    let stats = parsed(page.yaml("stats_tags:"));
    let mut run = Setup::example("inbound-only.yaml")
        .edit(|bootstrap| bootstrap["stats_config"] = stats["stats_config"].clone())
        .behind("keycloak", idp.address())
        .behind("own-service", service.address())
        .start()
        .await;
    run.envoy.wait_for_log(HAS_KEYS).await;
    std::fs::write(run.folder().join("prometheus.yml"), page.yaml("scrape_configs:")).unwrap();
    std::fs::copy(repository().join("envoy/prometheus/alerts.yml"), run.folder().join("alerts.yml")).unwrap();
    let tools = promtool();
    run.run(&format!("PATH={}:$PATH", tools.parent().unwrap().display())).await;
    run.verify(&page).await;
    let alerts = std::fs::read_to_string(repository().join("envoy/prometheus/alerts.yml")).unwrap();
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let text = std::fs::read_to_string(repository().join("docs/how-to/monitor.md")).unwrap();
    assert_eq!(names.len(), text.matches("\n| `M2mAuth").count());
    for name in names {
        assert!(text.contains(&format!("\n| `{name}` |")), "the page does not explain {name}");
    }
}
