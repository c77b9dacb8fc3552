//! What is shipped to copy from passes `check --strict`.

use crate::core::cli::{Folder, Ran, root, run};
use std::path::{Path, PathBuf};

/// Files without a plugin.
const WITHOUT: [&str; 7] = [
    "examples/envoy-gateway/backend.yaml",
    "examples/envoy-gateway/envoypatchpolicy.yaml",
    "examples/envoy-gateway/envoyproxy.yaml",
    "examples/compose/service.yaml",
    "examples/compose/docker-compose.yaml",
    "envoy/native/envoy.yaml",
    "envoy/prometheus/alerts.yml",
];

fn files(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extensions, found);
        } else if path.extension().is_some_and(|own| extensions.iter().any(|known| own == *known)) {
            found.push(path);
        }
    }
}

fn strictly(file: &str) -> Ran {
    run(&["check", "--strict", file])
}

#[test]
fn every_configuration_that_is_shipped_passes_strictly() {
    let mut found = Vec::new();
    for folder in ["envoy", "examples"] {
        files(&root().join(folder), &["yaml"], &mut found);
    }
    let mut checked = 0;
    for path in found {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if name.starts_with("envoy/grafana/")
            || name.starts_with("envoy/prometheus/")
            || WITHOUT.contains(&name)
        {
            continue;
        }
        let ran = strictly(name);
        assert_eq!(ran.code, 0, "{name}: {}", ran.says);
        checked += 1;
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn every_configuration_in_a_document_passes_strictly() {
    let mut found = vec![root().join("README.md")];
    for folder in ["docs", "envoy", "examples"] {
        files(&root().join(folder), &["md"], &mut found);
    }
    let (folder, mut checked) = (Folder::new(), 0);
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml\n").skip(1).filter_map(|own| Some(own.split_once("```")?.0)) {
            if block.contains("issuers:") {
                let ran = strictly(&folder.file("block.yaml", block));
                assert_eq!(ran.code, 0, "{}: {}\n{block}", path.display(), ran.says);
                checked += 1;
            }
        }
    }
    assert!(checked > 5, "{checked}");
}
