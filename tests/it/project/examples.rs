//! Every example is a whole Envoy configuration: the plugin's part of it compiles, and Envoy takes
//! the rest.

use m2m_auth::policy::Policy;
use m2m_auth_kit::envoy;
use m2m_auth_kit::key::{Alg, Key};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A test certificate authority.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/ca.pem");

/// The examples, and the configurations of the compose file, by their names.
fn examples() -> Vec<(String, Value)> {
    let files = ["examples/envoy", "examples/compose"].into_iter().flat_map(|folder| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    });
    // These are no Envoy configurations with the plugin.
    let others = ["service.yaml", "docker-compose.yaml", "README.md", "verify.sh"];
    let mut files: Vec<PathBuf> = files
        .filter(|path| !others.iter().any(|name| path.ends_with(Path::new("compose").join(name))))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "where are the examples?");
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(path.extension().and_then(std::ffi::OsStr::to_str), Some("yaml"), "{name} is no example");
        let bootstrap: Value = serde_norway::from_str(&fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, bootstrap)
    };
    files.iter().map(read).collect()
}

/// Each object below this one that has a member of this name.
fn holders<'v>(value: &'v Value, member: &str) -> Vec<&'v Value> {
    let below: Vec<&Value> = match value {
        Value::Object(members) => members.values().collect(),
        Value::Array(elements) => elements.iter().collect(),
        _ => Vec::new(),
    };
    let own = value.get(member).map(|_| value);
    own.into_iter().chain(below.into_iter().flat_map(|value| holders(value, member))).collect()
}

/// What the host passes on: a secret, or a key or a URL where the name says so.
fn environment(names: &BTreeSet<String>, name: &str) -> Option<String> {
    names.contains(name).then(|| match name {
        key if key.ends_with("_KEY") => Key::new(Alg::Es256).private_pem(),
        url if url.ends_with("_URL") => "https://keycloak.example.com/token".to_owned(),
        _ => "a-secret".to_owned(),
    })
}

#[test]
fn the_plugins_part_of_every_example_compiles() {
    for (name, bootstrap) in examples() {
        let plugins = holders(&bootstrap, "vm_config");
        assert!(!plugins.is_empty(), "{name} has no plugin");
        for plugin in plugins {
            let vm = &plugin["vm_config"];
            assert_eq!(plugin["failure_policy"], "FAIL_RELOAD", "{name}");
            assert!(
                vm["vm_id"].as_str().is_some_and(|id| !id.is_empty()),
                "{name}: any plugin shares the empty one"
            );
            let passed_on = vm["environment_variables"]["host_env_keys"].as_array().into_iter().flatten();
            let names = passed_on.map(|name| name.as_str().unwrap().to_owned()).collect();
            let configuration = plugin["configuration"]["value"].to_string();
            let read = Policy::read(configuration.as_bytes(), &|name| environment(&names, name));
            assert!(read.is_ok(), "{name}: {:#?}", read.err());
        }
    }
}

#[test]
fn every_cluster_that_an_example_names_is_there() {
    for (name, bootstrap) in examples() {
        let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
        let there: BTreeSet<&str> = clusters.iter().filter_map(|cluster| cluster["name"].as_str()).collect();
        for holder in holders(&bootstrap["static_resources"]["listeners"], "cluster") {
            let cluster = holder["cluster"].as_str().unwrap();
            assert!(there.contains(cluster), "{name}: {cluster}");
        }
    }
}

#[tokio::test]
async fn envoy_takes_every_example() {
    let (folder, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, mut bootstrap) in examples() {
        let mut environment = Vec::new();
        replace(&mut bootstrap, &mut |member, value| match member {
            "filename" if *value == "/etc/envoy/m2m_auth.wasm" => *value = json!(envoy::module()),
            // Files of the machine that the example runs on.
            "filename" if *value == "/etc/ssl/certs/ca-certificates.crt" => *value = json!(AUTHORITY),
            "filename" if value.as_str().is_some_and(|path| path.starts_with("/etc/envoy/tls/")) => {
                let file = value.as_str().unwrap().trim_start_matches("/etc/envoy/tls/").to_owned();
                *value = json!(format!("{}/tests/data/tls/{file}", env!("CARGO_MANIFEST_DIR")));
            }
            "path" if value.as_str().is_some_and(|path| path.starts_with("/etc/envoy/secrets")) => {
                let file = value.as_str().unwrap().trim_start_matches("/etc/envoy/secrets");
                let own = secrets.path().join(file.trim_start_matches('/'));
                if !file.is_empty() {
                    fs::write(&own, envoy::secret("keycloak", "b3JkZXItc2VydmljZTpvcmRlci1zZWNyZXQ="))
                        .unwrap();
                }
                *value = json!(own);
            }
            "host_env_keys" => {
                let names = value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
                environment.extend(names);
            }
            _ => {}
        });
        let path = folder.path().join(&name).with_extension("json");
        fs::write(&path, bootstrap.to_string()).unwrap();
        let names: BTreeSet<String> = environment.iter().cloned().collect();
        let variables = environment.iter().map(|name| (name, self::environment(&names, name).unwrap()));
        let output = Command::new(envoy::binary())
            .args(["--mode", "validate", "--log-level", "info", "--disable-hot-restart", "-c"])
            .arg(&path)
            .envs(variables)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
}

/// Visits each member of each object, to be changed.
fn replace(value: &mut Value, change: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                change(name, value);
                replace(value, change);
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| replace(element, change)),
        _ => {}
    }
}
