//! What `check` finds around a plugin: each finding where it is, and none where there is nothing
//! wrong.

use super::{Folder, Ran, root, run};
use serde_json::{Value, json};

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const PLUGIN: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
const CONFIGURATION: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";
const PROVIDER: &str = "/static_resources/clusters/0";

fn inbound() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "inbound": { "rules": [{ "match": { "path_prefix": "/a" }, "require": { "issuer": "idp", "audiences": ["a"] } }] },
    })
}

pub(super) fn outbound() -> Value {
    json!({
        "issuers": { "idp": { "issuer": "https://idp.example.com", "cluster": "idp" } },
        "outbound": {
            "credentials": { "order": { "issuer": "idp", "client_id": "order", "client_secret": { "inline": "x" } } },
            "rules": [{ "credential": "order" }],
        },
    })
}

fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/envoy.extensions.x.v3.{kind}"));
    value
}

fn wasm(configuration: &Value) -> Value {
    json!({ "name": "envoy.filters.http.wasm", "typed_config": typed("Wasm", json!({ "config": {
        "name": "m2m_auth",
        "failure_policy": "FAIL_RELOAD",
        "configuration": { "@type": "type.googleapis.com/google.protobuf.Struct", "value": configuration },
        "vm_config": { "vm_id": "m2m_auth", "code": { "local": { "filename": "/m2m_auth.wasm" } } },
    } })) })
}

fn terminal(name: &str, kind: &str) -> Value {
    json!({ "name": name, "typed_config": typed(kind, json!({})) })
}

fn tls() -> Value {
    let context = json!({
        "sni": "idp.example.com",
        "auto_sni_san_validation": true,
        "common_tls_context": { "validation_context": { "trusted_ca": { "filename": "/ca.crt" } } },
    });
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": typed("UpstreamTlsContext", context) })
}

fn cluster(name: &str, address: &str) -> Value {
    let endpoint = json!({ "address": { "socket_address": { "address": address, "port_value": 80 } } });
    json!({ "name": name, "load_assignment": { "endpoints": [{ "lb_endpoints": [{ "endpoint": endpoint }] }] } })
}

/// A whole bootstrap with nothing wrong in it.
fn bootstrap(configuration: &Value) -> Value {
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "service" } }]);
    let manager = json!({
        "route_config": { "virtual_hosts": [{ "name": "any", "domains": ["*"], "routes": routes }] },
        "http_filters": [wasm(configuration), terminal("envoy.filters.http.router", "Router")],
    });
    let mut provider = cluster("idp", "idp.example.com");
    provider["transport_socket"] = tls();
    json!({ "static_resources": {
        "listeners": [{
            "name": "in",
            "per_connection_buffer_limit_bytes": 32768,
            "filter_chains": [{ "filters": [{ "typed_config": typed("HttpConnectionManager", manager) }] }],
        }],
        "clusters": [provider, cluster("service", "service")],
    } })
}

/// The plugin among the filters of the cluster `service`.
fn in_cluster(configuration: &Value) -> Value {
    let mut document = bootstrap(configuration);
    let filter = document.pointer_mut(MANAGER).unwrap()["http_filters"].as_array_mut().unwrap().remove(0);
    let service = &mut document["static_resources"]["clusters"][1];
    service["per_connection_buffer_limit_bytes"] = json!(32768);
    let filters = json!([filter, terminal("envoy.filters.http.upstream_codec", "UpstreamCodec")]);
    service["typed_extension_protocol_options"] =
        json!({ "HttpProtocolOptions": typed("HttpProtocolOptions", json!({ "http_filters": filters })) });
    document
}

/// The document with this at that JSON pointer; `null` removes it.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match (parent, value) {
        (Value::Object(members), Value::Null) => drop(members.remove(name)),
        (Value::Object(members), value) => drop(members.insert(name.to_owned(), value)),
        (Value::Array(elements), value) => elements[name.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer}"),
    }
    document
}

/// A JSON pointer as the tool writes paths.
fn dotted(pointer: &str) -> String {
    let steps = pointer.split('/').skip(1).map(|step| match step.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{step}"),
    });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

fn check(document: &Value, more: &[&str]) -> Ran {
    let folder = Folder::new();
    let file = folder.file("document.json", document.to_string());
    run(&[&["check", "--format", "json"], more, &[&file]].concat())
}

/// Severity, name and path of everything that is found.
pub(crate) fn found(document: &Value) -> Vec<[String; 3]> {
    let ran = check(document, &[]);
    let plugins = ran.json()["files"][0]["plugins"].clone();
    let plugins = plugins.as_array().unwrap_or_else(|| panic!("{ran:?}"));
    assert!(plugins.iter().all(|own| own["errors"] == json!([])), "{ran:?}");
    let findings = plugins.iter().flat_map(|own| own["findings"].as_array().unwrap());
    let texts = |own: &Value| ["severity", "name", "path"].map(|name| own[name].as_str().unwrap().to_owned());
    let findings: Vec<[String; 3]> = findings.map(texts).collect();
    let wrong = findings.iter().any(|own| own[0] == "error");
    assert_eq!(ran.code, i32::from(wrong), "{ran:?}");
    findings
}

/// Asserts that exactly this is found, at that JSON pointer.
#[track_caller]
fn finds(document: &Value, severity: &str, name: &str, pointer: &str) {
    assert_eq!(found(document), [[severity.to_owned(), name.to_owned(), dotted(pointer)]], "{document}");
}

#[track_caller]
fn finds_nothing(document: &Value) {
    assert_eq!(found(document), Vec::<[String; 3]>::new(), "{document}");
}

#[test]
fn a_sound_deployment_has_no_findings() {
    finds_nothing(&bootstrap(&inbound()));
    finds_nothing(&bootstrap(&outbound()));
    finds_nothing(&in_cluster(&outbound()));
    assert_eq!(check(&bootstrap(&inbound()), &["--strict"]).code, 0);
}

#[test]
fn an_inbound_plugin_that_fails_open_is_an_error_however_it_is_written() {
    let without = with(bootstrap(&inbound()), &format!("{PLUGIN}/failure_policy"), Value::Null);
    for (name, value) in [
        ("failure_policy", json!("FAIL_OPEN")),
        ("failure_policy", json!(3)),
        ("failurePolicy", json!("FAIL_OPEN")),
        ("failurePolicy", json!(3)),
        ("fail_open", json!(true)),
        ("failOpen", json!(true)),
    ] {
        let pointer = format!("{PLUGIN}/{name}");
        let document = with(without.clone(), &pointer, value);
        finds(&document, "error", "fail-open", &pointer);
        assert_eq!(check(&document, &["--allow", "fail-open"]).code, 0);
        assert_eq!(check(&document, &["--allow", "behind-router"]).code, 1);
        let document = with(document, CONFIGURATION, outbound());
        finds(&document, "warning", "fail-open-outbound", &pointer);
    }
    for closed in [json!("FAIL_RELOAD"), json!(1), json!("FAIL_CLOSED"), json!(2)] {
        finds_nothing(&with(bootstrap(&inbound()), &format!("{PLUGIN}/failure_policy"), closed));
    }
    let both = with(bootstrap(&inbound()), &format!("{PLUGIN}/fail_open"), json!(false));
    finds_nothing(&both);
}

#[test]
fn a_plugin_that_fails_open_is_an_error_though_its_configuration_is_wrong() {
    let wrong = with(bootstrap(&inbound()), &format!("{CONFIGURATION}/odd"), json!(1));
    let ran = check(&with(wrong, &format!("{PLUGIN}/failure_policy"), json!("FAIL_OPEN")), &[]);
    let plugin = ran.json()["files"][0]["plugins"][0].clone();
    assert_eq!(plugin["findings"][0]["name"], "fail-open", "{ran:?}");
    assert_eq!((ran.code, plugin["errors"].as_array().unwrap().len()), (1, 1));
    let unreadable = with(bootstrap(&inbound()), CONFIGURATION, json!("none"));
    let ran = check(&with(unreadable, &format!("{PLUGIN}/failure_policy"), json!("FAIL_OPEN")), &[]);
    assert!(ran.says.contains("fail-open\""), "it may be an inbound one: {ran:?}");
}

#[test]
fn a_plugin_without_a_failure_policy_is_a_warning() {
    let pointer = format!("{PLUGIN}/failure_policy");
    for none in [Value::Null, json!("UNSPECIFIED"), json!(0)] {
        for configuration in [inbound(), outbound()] {
            let document = with(bootstrap(&configuration), &pointer, none.clone());
            finds(&document, "warning", "no-failure-policy", PLUGIN);
            assert_eq!(check(&document, &["--strict"]).code, 1);
            assert_eq!(check(&document, &["--strict", "--allow", "no-failure-policy"]).code, 0);
        }
    }
}

fn manifest(kind: &str, strategy: &Value) -> Value {
    let wasm = json!({ "url": "oci://r/m2m-auth:1", "pluginConfig": inbound(), "failStrategy": strategy });
    let spec = if kind == "WasmPlugin" { wasm } else { json!({ "wasm": wasm }) };
    json!({ "apiVersion": "extensions.istio.io/v1alpha1", "kind": kind, "metadata": { "name": "a" }, "spec": spec })
}

#[test]
fn the_fail_strategy_of_istio_is_read_in_both_kinds() {
    for (kind, pointer) in [("WasmPlugin", "/spec"), ("TrafficExtension", "/spec/wasm")] {
        let strategy = format!("{pointer}/failStrategy");
        for open in [json!("FAIL_OPEN"), json!(1)] {
            finds(&manifest(kind, &open), "error", "fail-open", &strategy);
        }
        for closed in [json!("FAIL_CLOSE"), json!(0), json!("FAIL_RELOAD"), json!(2)] {
            finds_nothing(&manifest(kind, &closed));
        }
        let none = with(manifest(kind, &Value::Null), &strategy, Value::Null);
        finds(&none, "warning", "no-failure-policy", pointer);
    }
}

#[test]
fn the_policy_of_envoy_gateway_is_read() {
    let policy = |fail_open: Value| {
        let code = json!({ "type": "Image", "image": { "url": "r/m2m-auth:1" } });
        let other = json!({ "name": "other", "code": {}, "config": { "limit": 5 } });
        let ours = json!({ "name": "auth", "rootID": "m2m_auth", "code": code, "config": inbound(), "failOpen": fail_open });
        json!({ "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyExtensionPolicy", "spec": { "wasm": [other, ours] } })
    };
    finds(&policy(json!(true)), "error", "fail-open", "/spec/wasm/1/failOpen");
    finds_nothing(&policy(json!(false)));
    let absent = with(policy(Value::Null), "/spec/wasm/1/failOpen", Value::Null);
    finds_nothing(&absent);
    let secret = with(
        absent,
        "/spec/wasm/1/config",
        with(outbound(), "/outbound/credentials/order/client_secret", json!({ "env": "SECRET" })),
    );
    let ran = check(&secret, &[]);
    assert!(ran.says.contains("environment variable SECRET is not set"), "{ran:?}");
    finds_nothing(&with(secret, "/spec/wasm/1/env", json!({ "hostKeys": ["SECRET"] })));
}

#[test]
fn a_patch_of_istios_is_read_as_envoys_filter() {
    let patch = |operation: &str, filter: Value, value: Value| {
        let matches =
            json!({ "context": "SIDECAR_INBOUND", "listener": { "filterChain": { "filter": filter } } });
        let patch = json!({ "operation": operation, "value": value });
        json!({ "kind": "EnvoyFilter", "apiVersion": "networking.istio.io/v1alpha3", "spec": { "configPatches": [
            { "applyTo": "HTTP_FILTER", "match": matches, "patch": patch },
        ] } })
    };
    let router = json!({ "name": "hcm", "subFilter": { "name": "envoy.filters.http.router" } });
    let other = json!({ "name": "hcm", "subFilter": { "name": "envoy.filters.http.cors" } });
    let any = json!({ "name": "hcm" });
    for (operation, filter) in [("INSERT_AFTER", &router), ("INSERT_AFTER", &any), ("ADD", &any)] {
        let document = patch(operation, filter.clone(), wasm(&inbound()));
        finds(&document, "error", "behind-router", "/spec/configPatches/0/patch");
    }
    for (operation, filter) in [
        ("INSERT_BEFORE", &router),
        ("INSERT_BEFORE", &any),
        ("INSERT_AFTER", &other),
        ("INSERT_FIRST", &any),
    ] {
        finds_nothing(&patch(operation, filter.clone(), wasm(&inbound())));
    }
    let pointer = "/typed_config/config/failure_policy";
    let open = with(wasm(&inbound()), pointer, json!("FAIL_OPEN"));
    let at = format!("/spec/configPatches/0/patch/value{pointer}");
    finds(&patch("INSERT_FIRST", any, open), "error", "fail-open", &at);
}

#[test]
fn a_plugin_behind_the_router_is_an_error() {
    let swapped = |mut document: Value, pointer: &str| {
        document.pointer_mut(pointer).unwrap().as_array_mut().unwrap().reverse();
        document
    };
    let filters = format!("{MANAGER}/http_filters");
    let document = swapped(bootstrap(&inbound()), &filters);
    finds(&document, "error", "behind-router", &format!("{filters}/1"));
    let unnamed = with(document, &format!("{filters}/0/name"), json!("last"));
    finds(&unnamed, "error", "behind-router", &format!("{filters}/1"));
    let upstream =
        "/static_resources/clusters/1/typed_extension_protocol_options/HttpProtocolOptions/http_filters";
    let document = swapped(in_cluster(&outbound()), upstream);
    finds(&document, "error", "behind-router", &format!("{upstream}/1"));
}

#[test]
fn an_inbound_filter_that_its_chain_disables_is_a_warning() {
    let pointer = format!("{MANAGER}/http_filters/0/disabled");
    finds(&with(bootstrap(&inbound()), &pointer, json!(true)), "warning", "disabled-filter", &pointer);
    finds_nothing(&with(bootstrap(&inbound()), &pointer, json!(false)));
    finds_nothing(&with(bootstrap(&outbound()), &pointer, json!(true)));
}

#[test]
fn a_route_to_the_files_that_the_plugin_reads_is_a_warning() {
    let served = |body: &Value| {
        let mut document = with(bootstrap(&inbound()), &format!("{PROVIDER}/transport_socket"), Value::Null);
        let address = json!({ "envoy_internal_address": { "server_listener_name": "files" } });
        document.pointer_mut(PROVIDER).unwrap()["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
            ["address"] = address;
        let routes = json!([{ "match": { "prefix": "/" }, "direct_response": body }]);
        let manager =
            json!({ "route_config": { "virtual_hosts": [{ "domains": ["*"], "routes": routes }] } });
        document["static_resources"]["listeners"].as_array_mut().unwrap().push(json!({
            "name": "files",
            "internal_listener": {},
            "filter_chains": [{ "filters": [{ "typed_config": typed("HttpConnectionManager", manager) }] }],
        }));
        document
    };
    let at = format!("{MANAGER}/route_config/virtual_hosts/0/routes/0/route");
    let pointer = format!("{at}/cluster");
    for body in [
        json!({ "status": 200, "body": { "filename": "/var/run/secrets/token" } }),
        json!({ "status": 200, "body_format": { "text_format_source": { "inline_string": "%SECRET(a)%" } } }),
        json!({ "status": 200, "body_format": { "text_format_source": { "inline_string": "%FILE_CONTENT(/a)%" } } }),
    ] {
        finds_nothing(&served(&body));
        finds(&with(served(&body), &pointer, json!("idp")), "warning", "published-file", &at);
        let weighted =
            json!({ "weighted_clusters": { "clusters": [{ "name": "service" }, { "name": "idp" }] } });
        finds(&with(served(&body), &at, weighted), "warning", "published-file", &at);
    }
    let harmless = served(&json!({ "status": 200, "body": { "inline_string": "{}" } }));
    finds_nothing(&with(harmless, &pointer, json!("idp")));
}

#[test]
fn an_https_provider_behind_a_cluster_without_tls_is_an_error() {
    let socket = format!("{PROVIDER}/transport_socket");
    let plain = with(bootstrap(&inbound()), &socket, Value::Null);
    finds(&plain, "error", "provider-without-tls", PROVIDER);
    finds(&with(plain.clone(), CONFIGURATION, outbound()), "error", "provider-without-tls", PROVIDER);
    let raw = json!({ "name": "envoy.transport_sockets.raw_buffer", "typed_config": typed("RawBuffer", json!({})) });
    finds(&with(plain.clone(), &socket, raw.clone()), "error", "provider-without-tls", PROVIDER);
    let by_match = |socket: Value| json!([{ "name": "a", "match": {}, "transport_socket": socket }]);
    let matches = format!("{PROVIDER}/transport_socket_matches");
    finds(&with(plain.clone(), &matches, by_match(raw)), "error", "provider-without-tls", PROVIDER);
    finds_nothing(&with(plain.clone(), &matches, by_match(tls())));
    // Endpoints that are not written here say nothing of a proxy in between.
    finds(
        &with(plain.clone(), &format!("{PROVIDER}/load_assignment"), Value::Null),
        "error",
        "provider-without-tls",
        PROVIDER,
    );
    for local in ["127.0.0.1", "::1", "localhost"] {
        let address = format!(
            "{PROVIDER}/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address"
        );
        finds_nothing(&with(plain.clone(), &address, json!(local)));
    }
    for (name, url) in [("issuer", "http://idp:8080"), ("jwks_uri", "http://idp:8080/keys")] {
        finds_nothing(&with(plain.clone(), &format!("{CONFIGURATION}/issuers/idp/{name}"), json!(url)));
    }
    let keys =
        with(plain, &format!("{CONFIGURATION}/issuers/idp/jwks_uri"), json!("https://idp.example.com/k"));
    finds(&keys, "error", "provider-without-tls", PROVIDER);
}

#[test]
fn tls_that_verifies_nobody_is_a_warning() {
    let context = format!("{PROVIDER}/transport_socket/typed_config");
    let any_name = with(bootstrap(&inbound()), &format!("{context}/auto_sni_san_validation"), Value::Null);
    finds(&any_name, "warning", "tls-unverified", PROVIDER);
    let nobody = with(bootstrap(&inbound()), &format!("{context}/common_tls_context"), json!({}));
    finds(&nobody, "warning", "tls-unverified", PROVIDER);
    let sds = json!({ "validation_context_sds_secret_config": { "name": "ca" } });
    finds_nothing(&with(any_name.clone(), &format!("{context}/common_tls_context"), sds));
    let names = json!([{ "san_type": "DNS", "matcher": { "exact": "idp.example.com" } }]);
    let pointer = format!("{context}/common_tls_context/validation_context/match_typed_subject_alt_names");
    finds_nothing(&with(any_name, &pointer, names));
}

#[test]
fn a_cluster_that_nothing_defines_is_an_error_where_the_document_is_all_there_is() {
    let misspelt = with(bootstrap(&inbound()), &format!("{PROVIDER}/name"), json!("ipd"));
    let at = format!("{CONFIGURATION}/issuers/idp/cluster");
    finds(&misspelt, "error", "unknown-cluster", &at);
    let mut by_cds = misspelt.clone();
    by_cds["dynamic_resources"] = json!({ "cds_config": { "ads": {} } });
    finds_nothing(&by_cds);
    let mut listeners_alone = misspelt.clone();
    listeners_alone["static_resources"].as_object_mut().unwrap().remove("clusters");
    finds_nothing(&listeners_alone);
    finds_nothing(&misspelt["static_resources"]["listeners"][0]);
    let mut by_cluster = bootstrap(&outbound());
    by_cluster.pointer_mut(CONFIGURATION).unwrap()["outbound"]["rules"][0]["match"] =
        json!({ "cluster": "service" });
    finds_nothing(&by_cluster);
    let pointer = format!("{CONFIGURATION}/outbound/rules/0/match/cluster");
    finds(&with(by_cluster, &pointer, json!("odd")), "warning", "unknown-match-cluster", &pointer);
}

#[test]
fn the_cluster_of_each_endpoint_is_looked_for() {
    for member in ["jwks_cluster", "token_cluster", "introspection_cluster"] {
        let pointer = format!("{CONFIGURATION}/issuers/idp/{member}");
        let misspelt = with(inbound(), &format!("/issuers/idp/{member}"), json!("odd"));
        finds(&bootstrap(&misspelt), "error", "unknown-cluster", &pointer);
    }
}

#[test]
fn a_string_of_json_is_read_as_an_object_is() {
    let misspelt = with(inbound(), "/issuers/idp/cluster", json!("odd"));
    let any =
        json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": misspelt.to_string() });
    let document = with(bootstrap(&inbound()), &format!("{PLUGIN}/configuration"), any);
    finds(&document, "error", "unknown-cluster", &format!("{CONFIGURATION}/issuers/idp/cluster"));
}

/// What Envoy's admin interface answers.
fn dump(bootstrap: &Value, dynamic: &[Value]) -> Value {
    let typed = |kind: &str, mut value: Value| {
        value["@type"] = json!(format!("type.googleapis.com/envoy.admin.v3.{kind}"));
        value
    };
    let resources = &bootstrap["static_resources"];
    let clusters = resources["clusters"].as_array().unwrap();
    let wrapped = |own: &[Value]| own.iter().map(|own| json!({ "cluster": own })).collect::<Vec<_>>();
    let listener = json!({ "active_state": { "listener": resources["listeners"][0] } });
    json!({ "configs": [
        typed("BootstrapConfigDump", json!({ "bootstrap": bootstrap })),
        typed("ClustersConfigDump", json!({
            "static_clusters": wrapped(clusters), "dynamic_active_clusters": wrapped(dynamic),
        })),
        typed("ListenersConfigDump", json!({ "dynamic_listeners": [listener] })),
    ] })
}

#[test]
fn a_config_dump_is_complete_and_each_plugin_in_it_is_reported_once() {
    finds_nothing(&dump(&bootstrap(&inbound()), &[]));
    let mut without = bootstrap(&inbound());
    let provider = without["static_resources"]["clusters"].as_array_mut().unwrap().remove(0);
    let listener = "/configs/2/dynamic_listeners/0/active_state/listener";
    let at = CONFIGURATION.replace("/static_resources/listeners/0", listener) + "/issuers/idp/cluster";
    finds(&dump(&without, &[]), "error", "unknown-cluster", &at);
    finds_nothing(&dump(&without, std::slice::from_ref(&provider)));
    let plain = with(provider, "/transport_socket", Value::Null);
    let at = "/configs/1/dynamic_active_clusters/0/cluster";
    finds(&dump(&without, &[plain]), "error", "provider-without-tls", at);
}

#[test]
fn resources_of_a_file_that_envoy_watches_are_read() {
    let plugin = in_cluster(&outbound());
    let mut resource = plugin["static_resources"]["clusters"][1].clone();
    resource["@type"] = json!("type.googleapis.com/envoy.config.cluster.v3.Cluster");
    finds_nothing(&json!({ "resources": [resource] }));
    finds_nothing(&plugin["static_resources"]["clusters"][1]);
    resource["per_connection_buffer_limit_bytes"] = Value::Null;
    finds(&json!({ "resources": [resource] }), "warning", "no-buffer-limit", "/resources/0");
}

#[test]
fn envoys_default_buffer_limit_is_a_warning() {
    let pointer = "/static_resources/listeners/0/per_connection_buffer_limit_bytes";
    let listener = "/static_resources/listeners/0";
    for none in [Value::Null, json!(0)] {
        let document = with(bootstrap(&inbound()), pointer, none);
        finds(&document, "warning", "no-buffer-limit", listener);
    }
    finds_nothing(&with(bootstrap(&outbound()), pointer, Value::Null));
    let cluster = "/static_resources/clusters/1";
    let pointer = format!("{cluster}/per_connection_buffer_limit_bytes");
    let document = with(in_cluster(&outbound()), &pointer, Value::Null);
    finds(&document, "warning", "no-buffer-limit", cluster);
    let alone = wasm(&inbound())["typed_config"]["config"].clone();
    finds_nothing(&alone);
}

#[test]
fn a_redirect_that_envoy_follows_with_a_token_is_a_warning() {
    let pointer = format!("{MANAGER}/route_config/virtual_hosts/0/routes/0/route/internal_redirect_policy");
    let followed = |document: Value| with(document, &pointer, json!({}));
    finds(&followed(bootstrap(&outbound())), "warning", "internal-redirect", &pointer);
    finds_nothing(&followed(bootstrap(&inbound())));
    finds(&followed(in_cluster(&outbound())), "warning", "internal-redirect", &pointer);
    let elsewhere = with(
        followed(in_cluster(&outbound())),
        &pointer.replace("internal_redirect_policy", "cluster"),
        json!("idp"),
    );
    finds_nothing(&elsewhere);
    let route = pointer.replace("/internal_redirect_policy", "");
    for (name, warns) in [("service", true), ("idp", false)] {
        let clusters = json!({ "clusters": [{ "name": "other" }, { "name": name }] });
        let action = json!({ "internal_redirect_policy": {}, "weighted_clusters": clusters });
        let document = with(in_cluster(&outbound()), &route, action);
        assert_eq!(!found(&document).is_empty(), warns, "{name}");
    }
    // Routes that come by RDS: those of that name in a dump.
    let mut by_rds = bootstrap(&outbound());
    let manager = by_rds.pointer_mut(MANAGER).unwrap().as_object_mut().unwrap();
    let mut routes = manager.remove("route_config").unwrap();
    manager.insert("rds".to_owned(), json!({ "route_config_name": "own" }));
    routes["virtual_hosts"][0]["routes"][0]["route"]["internal_redirect_policy"] = json!({});
    for (name, warns) in [("own", true), ("other", false)] {
        routes["name"] = json!(name);
        let mut document = dump(&by_rds, &[]);
        let routes = json!({ "dynamic_route_configs": [{ "route_config": routes }] });
        document["configs"].as_array_mut().unwrap().push(routes);
        if warns {
            let at = "/configs/3/dynamic_route_configs/0/route_config/virtual_hosts/0/routes/0/route/internal_redirect_policy";
            finds(&document, "warning", "internal-redirect", at);
        } else {
            finds_nothing(&document);
        }
    }
}

#[test]
fn workers_that_share_nothing_are_a_warning_unless_it_is_meant() {
    let pointer = format!("{PLUGIN}/vm_config/vm_id");
    let at = format!("{PLUGIN}/vm_config");
    for none in [Value::Null, json!("")] {
        finds(&with(bootstrap(&inbound()), &pointer, none), "warning", "no-vm-id", &at);
    }
    let off = with(bootstrap(&inbound()), &format!("{CONFIGURATION}/sharing"), json!("off"));
    finds_nothing(&with(off, &pointer, Value::Null));
}

#[test]
fn a_plugin_in_the_cluster_of_its_own_provider_is_a_warning() {
    let document = with(in_cluster(&outbound()), "/static_resources/clusters/1/transport_socket", tls());
    let at = "/static_resources/clusters/1/typed_extension_protocol_options/HttpProtocolOptions/http_filters/0/typed_config/config/configuration/value/issuers/idp/cluster";
    finds(&with(document, at, json!("service")), "warning", "plugin-before-provider", at);
}

#[test]
fn a_finding_is_printed_with_file_plugin_path_and_name() {
    let folder = Folder::new();
    let document = with(bootstrap(&inbound()), &format!("{PLUGIN}/failure_policy"), json!("FAIL_OPEN"));
    let document =
        with(document, "/static_resources/listeners/0/per_connection_buffer_limit_bytes", Value::Null);
    let file = folder.file("envoy.json", document.to_string());
    let policy = dotted(&format!("{PLUGIN}/failure_policy"));
    let lines = |ran: &Ran| ran.says.replace(&file, "FILE").lines().map(str::to_owned).collect::<Vec<_>>();
    let ran = run(&["check", &file]);
    let reported = lines(&ran);
    assert_eq!((ran.code, reported.len()), (1, 2), "{ran:?}");
    assert!(
        reported[0].starts_with(&format!("FILE: m2m_auth: error: {policy}: the plugin fails open: ")),
        "{reported:?}"
    );
    assert!(reported[0].ends_with(" [fail-open]"), "{reported:?}");
    assert!(
        reported[1].starts_with("FILE: m2m_auth: warning: static_resources.listeners[0]: no per_"),
        "{reported:?}"
    );
    let ran = run(&["check", "--allow", "fail-open", &file]);
    assert_eq!((ran.code, lines(&ran)[0].as_str()), (0, "FILE: m2m_auth: OK"));
    let ran = run(&["check", "--strict", "--allow", "fail-open", &file]);
    assert_eq!((ran.code, lines(&ran).len()), (1, 1), "{ran:?}");
    assert!(lines(&ran)[0].contains(": error: "), "{ran:?}");
    let ran = run(&["check", "--allow", "fail-open", "--allow", "no-buffer-limit", "--strict", &file]);
    assert_eq!((ran.code, lines(&ran)), (0, vec!["FILE: m2m_auth: OK".to_owned()]));
    assert_eq!(run(&["check", "--allow", "no-such-finding", &file]).code, 2);
}

/// The names that `--allow` takes.
fn names() -> Vec<String> {
    let help = run(&["check", "--help"]).says;
    let (_, names) = help.split_once("Possible values:").unwrap_or_else(|| panic!("{help}"));
    let names = names.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
    names.into_iter().filter(|name| !["text", "json"].contains(&name.as_str())).collect()
}

#[test]
fn every_finding_is_documented_and_no_other() {
    let document = std::fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.filter(|(name, _)| !name.starts_with('-'));
    let mut documented: Vec<(String, String)> =
        rows.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap().to_owned())).collect();
    let mut names = names();
    assert!(names.len() > 10, "{names:?}");
    let help = run(&["check", "--help"]).says;
    for (name, severity) in &documented {
        let severity = severity[..1].to_uppercase() + &severity[1..];
        assert!(help.contains(&format!("- {name}:")) && help.contains(&severity), "{name}");
        let (_, rest) = help.split_once(&format!("- {name}:")).unwrap();
        assert!(rest.trim_start().starts_with(&severity), "{name}: {severity}");
    }
    documented.sort();
    names.sort();
    assert_eq!(documented.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
}
