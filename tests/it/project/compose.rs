//! `examples/compose/docker-compose.yaml` and what it mounts, as far as they can be judged
//! without running them; what runs of it is played in `tests/it/keycloak/compose.rs`.

use m2m_auth::metrics::Metric;
use m2m_auth_kit::repository;
use m2m_auth_kit::tools::{compose_spec, promtool};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_norway::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the Compose Specification's own reader makes of a compose file; an error is what it says.
fn model(file: &Path) -> Result<Value, String> {
    let mut command = Command::new(compose_spec());
    command.args(["--format", "json"]).arg(file).current_dir(repository().join("examples/compose"));
    // Nothing of this machine's environment goes into it.
    let output = command.env_clear().output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

fn services() -> Vec<(String, Value)> {
    let model = model(Path::new("docker-compose.yaml")).unwrap();
    model["services"].as_object().unwrap().clone().into_iter().collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn the_specifications_own_reader_takes_it() {
    let names: Vec<String> = services().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "grafana",
            "inventory-envoy",
            "inventory-service",
            "keycloak",
            "order-envoy",
            "order-service",
            "payment-envoy",
            "payment-service",
            "prometheus"
        ]
    );
    for (name, service) in services() {
        for other in service["depends_on"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            assert!(names.contains(other), "{name} depends on {other}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for (right, wrong) in
        [("ports:", "prots:"), ("service_healthy", "service_wealthy"), ("retries: 60", "retries: many")]
    {
        let file = folder.path().join("wrong.yaml");
        fs::write(&file, text("examples/compose/docker-compose.yaml").replace(right, wrong)).unwrap();
        assert!(model(&file).is_err(), "{wrong}");
    }
}

#[test]
fn every_port_is_published_on_loopback_alone_and_once() {
    let mut published = BTreeSet::new();
    for (name, service) in services() {
        for port in list(&service["ports"]) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}");
            assert!(published.insert(port["published"].as_str().unwrap().to_owned()), "{name}: {port}");
        }
    }
    let script = text("examples/compose/verify.sh");
    for port in published {
        assert!(script.contains(&format!("http://127.0.0.1:{port}}}")), "verify.sh does not know {port}");
    }
}

#[test]
fn every_file_that_it_mounts_is_there() {
    let mut mounted = 0;
    for (name, service) in services() {
        for volume in list(&service["volumes"]) {
            assert_eq!((&volume["type"], &volume["read_only"]), (&json!("bind"), &json!(true)), "{name}");
            let source = Path::new(volume["source"].as_str().unwrap());
            // The module is built, and where it is not yet, Docker must not make a folder of that
            // name.
            if source.ends_with("target/m2m_auth.wasm") {
                assert_eq!(volume["bind"]["create_host_path"], false, "{name}");
                continue;
            }
            assert!(source.exists(), "{name}: {}", source.display());
            mounted += 1;
        }
    }
    assert!(mounted >= 10, "{mounted}");
}

#[test]
fn its_versions_are_those_that_the_tests_run() {
    let image = |name: &str| {
        services().into_iter().find(|(own, _)| own == name).unwrap().1["image"].as_str().unwrap().to_owned()
    };
    let of = |file: &str, before: &str, after: char| {
        let text = text(file);
        text.split_once(before).unwrap().1.split(after).next().unwrap().to_owned()
    };
    assert_eq!(
        image("order-envoy"),
        format!("envoyproxy/envoy:v{}", of("Makefile", "ENVOY_VERSION ?= ", '\n'))
    );
    let keycloak = of("envoy/keycloak/run.sh", "${KEYCLOAK_VERSION:-", '}');
    assert_eq!(image("keycloak"), format!("quay.io/keycloak/keycloak:{keycloak}"));
}

/// Keycloak takes a placeholder without a value for the secret itself.
#[test]
fn the_realms_every_placeholder_has_a_value() {
    let realm = text("envoy/keycloak/realm.json");
    let names = realm.split("${").skip(1).map(|rest| rest.split('}').next().unwrap());
    let names: BTreeSet<&str> = names.filter(|name| *name != "client_id").collect();
    assert!(names.len() >= 6, "{names:?}");
    let (_, keycloak) = services().into_iter().find(|(name, _)| name == "keycloak").unwrap();
    for name in names {
        assert!(
            keycloak["environment"][name].as_str().is_some_and(|value| !value.is_empty()),
            "docker-compose.yaml gives Keycloak no {name}"
        );
    }
}

/// Each address that a configuration names is a service of the file that listens there.
#[test]
fn every_host_is_a_service_that_listens_on_that_port() {
    let services = services();
    let mut listening = BTreeSet::from(["keycloak:8080".to_owned(), "prometheus:9090".to_owned()]);
    let mut asked = Vec::new();
    for (name, service) in &services {
        for volume in
            list(&service["volumes"]).iter().filter(|volume| volume["target"] == "/etc/envoy/envoy.yaml")
        {
            let file = volume["source"].as_str().unwrap();
            let envoy: Value = serde_norway::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            for listener in list(&envoy["static_resources"]["listeners"]) {
                let port = &listener["address"]["socket_address"]["port_value"];
                listening.insert(format!("{name}:{port}"));
                assert_eq!(listener["address"]["socket_address"]["address"], "0.0.0.0");
            }
            for cluster in list(&envoy["static_resources"]["clusters"]) {
                let pointer = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
                let address = cluster.pointer(pointer).unwrap();
                asked.push((
                    name.clone(),
                    format!("{}:{}", address["address"].as_str().unwrap(), address["port_value"]),
                ));
            }
            for port in list(&service["ports"]) {
                assert!(listening.contains(&format!("{name}:{}", port["target"])), "{name}: {port}");
            }
        }
    }
    for target in list(&yaml("envoy/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"]) {
        asked.push(("prometheus".to_owned(), target["targets"][0].as_str().unwrap().to_owned()));
    }
    let datasources = yaml("envoy/grafana/provisioning/datasources/prometheus.yaml");
    let url = datasources["datasources"][0]["url"].as_str().unwrap();
    asked.push(("grafana".to_owned(), url.strip_prefix("http://").unwrap().to_owned()));
    assert!(asked.len() >= 15, "{asked:?}");
    for (who, what) in asked.iter().filter(|(_, what)| what != "127.0.0.1:9901") {
        assert!(listening.contains(what), "{who} asks {what}, there is {listening:?}");
    }
}

fn check(arguments: &[&str], folder: &Path) {
    let output = Command::new(promtool()).args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn prometheus_takes_its_configuration_and_every_alert_fires_when_it_should() {
    let folder = repository().join("envoy/prometheus");
    check(&["check", "config", "prometheus.yml"], &folder);
    check(&["test", "rules", "alerts.test.yml"], &folder);
    let (rules, tests) = (yaml("envoy/prometheus/alerts.yml"), text("envoy/prometheus/alerts.test.yml"));
    for rule in list(&rules["groups"][0]["rules"]) {
        let fires = format!("alertname: {}\n        exp_alerts:", rule["alert"].as_str().unwrap());
        assert!(tests.contains(&fires), "no test in which it fires: {}", rule["alert"]);
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&text("envoy/grafana/dashboards/m2m-auth.json")).unwrap()
}

fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Prometheus reads each of these queries.
fn check_queries(queries: &[String]) {
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| json!({ "record": format!("query:query_{index}"), "expr": query }))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = json!({ "groups": [{ "name": "queries", "rules": rules }] });
    fs::write(folder.path().join("rules.yml"), file.to_string()).unwrap();
    check(&["check", "rules", "rules.yml"], folder.path());
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let filled = |query: String| {
        let query = query.replace("$__rate_interval", "1m").replace("$service", ".*");
        assert!(!query.contains('$'), "{query}");
        query
    };
    let queries: Vec<String> = queries().into_iter().map(filled).collect();
    assert!(queries.len() >= 12, "{}", queries.len());
    check_queries(&queries);
}

#[test]
fn every_query_of_the_runbook_is_one_and_names_only_counters() {
    let page = text("docs/operations/alerts-runbook.md");
    let blocks = page.split("```promql\n").skip(1).map(|block| block.split("```").next().unwrap());
    let queries: Vec<String> = blocks.map(|block| block.trim().to_owned()).collect();
    assert!(queries.len() >= 5, "{}", queries.len());
    check_queries(&queries);
    assert!(named(&queries.concat()).is_subset(&counters()));
}

/// The names of the metrics.
fn counters() -> BTreeSet<String> {
    Metric::ALL.iter().map(|metric| format!("m2m_auth_{}", metric.row().name)).collect()
}

fn named(text: &str) -> BTreeSet<String> {
    let ends = |c: char| !(c.is_ascii_lowercase() || c == '_');
    let names =
        text.split("m2m_auth_").skip(1).map(|rest| format!("m2m_auth_{}", rest.split(ends).next().unwrap()));
    names
        .filter(|name| !["m2m_auth_", "m2m_auth_ingress", "m2m_auth_egress"].contains(&name.as_str()))
        .collect()
}

#[test]
fn the_dashboard_has_every_counter_and_no_query_names_another() {
    let counters = counters();
    assert_eq!(named(&queries().concat()), counters);
    for file in
        ["envoy/prometheus/alerts.yml", "envoy/prometheus/alerts.test.yml", "examples/compose/verify.sh"]
    {
        let names = named(&text(file));
        assert!(!names.is_empty() && names.is_subset(&counters), "{file}: {names:?}");
    }
}

/// Without them a metric has no labels, and no query finds anything.
#[test]
fn every_envoy_takes_the_labels_out_of_the_names_as_the_manual_has_it() {
    let block = |page: &str| -> Value {
        let page = text(page);
        let block = page.split("```yaml\n").find(|block| block.starts_with("stats_config:")).unwrap();
        serde_norway::from_str(block.split("```").next().unwrap()).unwrap()
    };
    let manual = block("docs/reference/metrics.md");
    assert_eq!(block("docs/how-to/monitor.md"), manual, "the guide and the reference");
    for name in ["order", "inventory", "payment"] {
        assert_eq!(
            yaml(&format!("examples/compose/{name}.yaml"))["stats_config"],
            manual["stats_config"],
            "{name}"
        );
    }
}
