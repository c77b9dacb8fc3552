//! `check`: Envoy's configuration, Istio's manifests and bare documents; every error with its
//! location.

use super::{Folder, Ran, root, run, run_with};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Sound, with a secret from the environment.
fn outbound() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "outbound": {
            "credentials": { "order": { "issuer": "idp", "client_id": "order", "client_secret": { "env": "SECRET" } } },
            "rules": [{ "credential": "order" }],
        },
    })
}

fn dangling() -> Value {
    let mut configuration = outbound();
    configuration["outbound"]["rules"][0]["credential"] = json!("odd");
    configuration["sharign"] = json!("off");
    configuration
}

/// A filter of Envoy with this plugin.
fn filter(name: &str, configuration: &Value, passes: &[&str]) -> Value {
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {
            "name": name,
            "failure_policy": "FAIL_RELOAD",
            "configuration": configuration,
            "vm_config": {
                "vm_id": "m2m_auth",
                "code": { "local": { "filename": "/etc/envoy/x.wasm" } },
                "environment_variables": { "host_env_keys": passes },
            },
        } },
    })
}

fn any(kind: &str, value: &Value) -> Value {
    json!({ "@type": format!("type.googleapis.com/google.protobuf.{kind}"), "value": value })
}

/// A bootstrap with these filters in a listener, and these in a cluster, with nothing else to
/// report.
fn bootstrap(listener: &[Value], cluster: &[Value]) -> String {
    let manager = |filters: &[Value]| json!({ "typed_config": { "http_filters": filters } });
    let verified = json!({ "validation_context_sds_secret_config": { "name": "ca" } });
    json!({ "static_resources": {
        "listeners": [{ "filter_chains": [{ "filters": [manager(listener)] }] }],
        "clusters": [
            {
                "name": "up",
                "per_connection_buffer_limit_bytes": 32768,
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": { "http_filters": cluster },
                },
            },
            {
                "name": "idp",
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": { "@type": "x.v3.UpstreamTlsContext", "common_tls_context": verified },
                },
            },
        ],
    } })
    .to_string()
}

fn says(ran: &Ran, file: &str) -> String {
    ran.says.replace(file, "FILE")
}

#[test]
fn the_demo_and_every_example_is_good() {
    let mut files = vec!["envoy/envoy.yaml".to_owned()];
    for entry in std::fs::read_dir(root().join("examples/envoy")).unwrap() {
        files.push(format!("examples/envoy/{}", entry.unwrap().file_name().to_str().unwrap()));
    }
    let arguments: Vec<&str> =
        ["check", "--format", "json"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let ran = run(&arguments);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["files"].as_array().unwrap().len(), files.len());
    for file in report["files"].as_array().unwrap() {
        assert!(!file["plugins"].as_array().unwrap().is_empty(), "{file}");
    }
}

#[test]
fn what_it_says_of_the_demo() {
    let ran = run(&["check", "envoy/envoy.yaml"]);
    let expected = "envoy/envoy.yaml: m2m_auth_egress: OK (needs ORDER_SERVICE_SECRET)\n\
                    envoy/envoy.yaml: m2m_auth_ingress: OK\n";
    assert_eq!((ran.code, ran.says.as_str(), ran.complains.as_str()), (0, expected, ""));
}

#[test]
fn every_error_is_reported_with_its_file_its_plugin_and_its_location_in_every_form_of_envoys() {
    let folder = Folder::new();
    let text = dangling().to_string();
    let file = folder.file(
        "bootstrap.json",
        bootstrap(
            &[
                filter("m2m_auth_struct", &any("Struct", &dangling()), &["SECRET"]),
                filter("text", &any("StringValue", &json!(text)), &["SECRET"]),
            ],
            &[filter("bytes", &any("BytesValue", &json!(STANDARD.encode(&text))), &["SECRET"])],
        ),
    );
    let ran = run(&["check", &file]);
    let lines: Vec<String> = ["bytes", "m2m_auth_struct", "text"]
        .iter()
        .flat_map(|plugin| {
            [
                "sharign: unknown",
                "outbound.credentials.order: not used by any rule, expected at least one",
                "outbound.rules[0].credential: \"odd\" is not a credential, expected one of: order",
            ]
            .map(|line| format!("FILE: {plugin}: {line}"))
        })
        .collect();
    let report = says(&ran, &file);
    let report: Vec<&str> =
        report.lines().map(|line| line.split(", expected one of: issuers").next().unwrap()).collect();
    assert_eq!(report, lines);
    assert_eq!(ran.code, 1);
    let report = run(&["check", "--format", "json", &file]).json();
    let first = &report["files"][0]["plugins"][0];
    assert_eq!(
        (&report["ok"], &first["plugin"], &first["ok"]),
        (&json!(false), &json!("bytes"), &json!(false))
    );
    let at = first["at"].as_str().unwrap();
    assert!(at.starts_with("static_resources.clusters[0].typed_extension_protocol_options"), "{at}");
    assert_eq!(first["errors"][2]["path"], "outbound.rules[0].credential");
    assert_eq!(first["environment"], json!(["SECRET"]));
}

#[test]
fn manifests_of_istio_are_read_several_in_a_file() {
    let folder = Folder::new();
    let plugin =
        |configuration: &Value| serde_norway::to_string(configuration).unwrap().replace('\n', "\n      ");
    let env = "vmConfig: { env: [{ name: SECRET, valueFrom: HOST }] }";
    let manifests = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: other }}\n---\n\
         apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{ name: good }}\nspec:\n  url: oci://r/m2m-auth:1\n  failStrategy: FAIL_RELOAD\n  {env}\n  pluginConfig:\n      {}\n---\n\
         apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {{ name: bad }}\nspec:\n  wasm:\n    url: oci://r/m2m-auth:1\n    failStrategy: FAIL_RELOAD\n    {env}\n    pluginConfig:\n      {}\n",
        plugin(&outbound()),
        plugin(&dangling()),
    );
    let file = folder.file("istio.yaml", manifests);
    let ran = run(&["check", &file]);
    let report = says(&ran, &file);
    assert!(report.starts_with("FILE: good: OK (needs SECRET)\nFILE: bad: sharign: unknown"), "{report}");
    assert_eq!((ran.code, report.lines().count()), (1, 4));
    let mut shared = outbound();
    shared["sharing"] = json!("on");
    let manifest = json!({ "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin", "metadata": { "name": "a" }, "spec": {
        "vmConfig": { "env": [{ "name": "SECRET", "value": "x" }] }, "pluginConfig": shared,
    } });
    let file = folder.file("shared.json", manifest.to_string());
    let ran = run(&["check", &file]);
    assert!(
        ran.says.contains("a: sharing: on, expected a vm_id"),
        "Istio gives every plugin the same one: {ran:?}"
    );
}

#[test]
fn a_secret_that_envoy_does_not_pass_on_is_a_error() {
    let folder = Folder::new();
    let with = |passes: &[&str]| {
        folder.file("b.json", bootstrap(&[filter("m2m_auth", &any("Struct", &outbound()), passes)], &[]))
    };
    assert_eq!(run(&["check", &with(&["SECRET"])]).code, 0);
    let ran = run(&["check", &with(&["OTHER"])]);
    assert!(ran.says.contains("client_secret.env: environment variable SECRET is not set"), "{ran:?}");
    assert_eq!(ran.code, 1);
}

#[test]
fn secrets_are_taken_as_set_unless_strict() {
    let folder = Folder::new();
    let file = folder.file("bare.json", outbound().to_string());
    assert_eq!(run(&["check", &file]).code, 0);
    assert_eq!(run(&["check", "--env-strict", &file]).code, 1);
    assert_eq!(run_with(&["check", "--env-strict", &file], &[("SECRET", "x")]).code, 0);
    let mut asserting = outbound();
    for (algorithm, member) in [("RS256", "private_key"), ("ES256", "private_key"), ("EdDSA", "private_key")]
    {
        let credential = &mut asserting["outbound"]["credentials"]["order"];
        *credential = json!({ "issuer": "idp", "client_id": "order", "auth_method": "private_key_jwt", "assertion_algorithm": algorithm });
        credential[member] = json!({ "env": "KEY" });
        let file = folder.file("key.json", asserting.to_string());
        let ran = run(&["check", &file]);
        assert_eq!(ran.code, 0, "a stand-in of the right kind is found: {ran:?}");
        let ran = run_with(&["check", &file], &[("KEY", "no key")]);
        assert_eq!(ran.code, 1, "what is set counts: {ran:?}");
    }
}

#[test]
fn bare_documents_are_yaml_or_json_and_a_misspelt_one_is_not_passed_over() {
    let folder = Folder::new();
    let yaml = folder.file("bare.yaml", serde_norway::to_string(&outbound()).unwrap());
    assert_eq!(run(&["check", &yaml]).code, 0);
    assert_eq!(run(&["check", "tests/data/cli/config.yaml"]).code, 0);
    let misspelt = folder.file("misspelt.yaml", "isuers: {}\n");
    assert_eq!(run(&["check", &misspelt]).code, 1);
    let twice = folder.file("twice.yaml", "issuers: {}\nissuers: {}\n");
    assert_eq!(run(&["check", &twice]).code, 2, "a duplicate member");
}

#[test]
fn what_is_not_ours_is_passed_over_and_a_file_without_ours_is_reported() {
    let folder = Folder::new();
    let other = || filter("rate_limit", &any("StringValue", &json!("{\"limit\": 5}")), &[]);
    let ours = filter("m2m_auth", &any("Struct", &outbound()), &["SECRET"]);
    let both = folder.file("both.json", bootstrap(&[other(), ours], &[]));
    let ran = run(&["check", &both]);
    assert_eq!(
        says(&ran, &both),
        "FILE: m2m_auth: OK (needs SECRET)\nFILE: rate_limit: skipped, configuration of another filter\n"
    );
    assert_eq!(ran.code, 0);
    let alone = folder.file("alone.json", bootstrap(&[other()], &[]));
    let ran = run(&["check", &alone]);
    assert_eq!(ran.code, 2);
    assert!(ran.says.contains("no configuration of this filter"), "{ran:?}");
}

#[test]
fn no_secret_is_printed() {
    let folder = Folder::new();
    let mut configuration = outbound();
    configuration["outbound"]["credentials"]["order"]["client_secret"] = json!({ "inline": ["hushhush"] });
    configuration["outbound"]["credentials"]["order"]["scopes"] = json!([5]);
    let file = folder.file("bare.json", configuration.to_string());
    let ran = run(&["check", &file]);
    assert_eq!(ran.code, 1);
    assert!(!format!("{ran:?}").contains("hushhush"), "{ran:?}");
}

#[test]
fn a_requirement_with_nothing_behind_its_name_is_an_error() {
    let folder = Folder::new();
    let yaml = "issuers:\n  idp: { issuer: https://idp.example.com, cluster: idp }\n\
                inbound:\n  rules:\n  - require:\n      issuer: idp\n      audiences: [svc]\n      scopes:\n";
    let file = folder.file("commented-out.yaml", format!("{yaml}      # - orders:read\n"));
    let ran = run(&["check", &file]);
    let expected = "FILE: inbound.rules[0].require.scopes: null, expected an array of names (all of them), or an object with \
                    all_of, any_of, none_of; remove the field if nothing is meant\n";
    assert_eq!((ran.code, says(&ran, &file).as_str()), (1, expected), "{ran:?}");
    let file = folder.file("listed.yaml", format!("{yaml}      - orders:read\n"));
    assert_eq!(run(&["check", &file]).code, 0);
    // As Envoy and Istio have it: plain YAML that becomes a `Struct`.
    let mut configuration = outbound();
    configuration["outbound"]["credentials"]["order"]["scopes"] = Value::Null;
    let file = folder
        .file("b.json", bootstrap(&[filter("m2m_auth", &any("Struct", &configuration), &["SECRET"])], &[]));
    let ran = run(&["check", &file]);
    let expected = "FILE: m2m_auth: outbound.credentials.order.scopes: null, expected an array; remove the field if nothing is meant\n";
    assert_eq!((ran.code, says(&ran, &file).as_str()), (1, expected), "{ran:?}");
}
