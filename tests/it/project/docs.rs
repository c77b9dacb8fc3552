//! Documents that name code are right about it: files exist, make targets exist, configurations
//! parse.

use super::tree::{code, tests};
use m2m_auth::policy::Policy;
use m2m_auth_kit::key::{Alg, Key};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"];
    let mut found = names.map(|name| root().join(name)).to_vec();
    let mut folders = ["docs", "envoy", "examples"].map(|folder| root().join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The strings between two marks, pair by pair.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let pieces = text.split(open).skip(1);
    pieces.filter_map(|piece| piece.split_once(close)).map(|(inside, _)| inside).collect()
}

/// A document without its code blocks.
fn outside_blocks(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchors of a page's headings, as GitHub and mdbook make them.
fn anchors(text: &str) -> Vec<String> {
    let prose = outside_blocks(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_page_is_in_the_book() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> = between(&summary, "](", ")")
        .into_iter()
        .map(|link| {
            root().join("docs").join(link).canonicalize().unwrap_or_else(|error| panic!("{link}: {error}"))
        })
        .collect();
    for (document, _) in documents() {
        let listed = listed.contains(&document.canonicalize().unwrap());
        assert!(listed || document.ends_with("SUMMARY.md"), "docs/SUMMARY.md lacks {}", document.display());
    }
}

#[test]
fn every_file_that_a_document_names_exists() {
    for (document, text) in documents() {
        let folder = document.parent().unwrap();
        for link in between(&text, "](", ")")
            .into_iter()
            .filter(|link| !link.contains("://") && !link.starts_with('#'))
        {
            let file = link.split('#').next().unwrap();
            assert!(folder.join(file).exists(), "{}: {link}", document.display());
        }
        for link in between(&outside_blocks(&text), "](", ")") {
            let Some((file, anchor)) = link.split_once('#').filter(|_| !link.contains("://")) else {
                continue;
            };
            let target = if file.is_empty() { document.clone() } else { folder.join(file) };
            let anchors = anchors(&fs::read_to_string(target).unwrap());
            assert!(anchors.iter().any(|known| known == anchor), "{}: {link}", document.display());
        }
        for name in code(&outside_blocks(&text)) {
            let folders = ["src/", "tests/", "docs/", "envoy/"];
            if folders.iter().any(|folder| name.starts_with(folder)) && !name.contains([' ', '*', '<', ':']) {
                assert!(root().join(name).exists(), "{}: {name}", document.display());
            }
        }
    }
}

#[test]
fn every_make_target_that_a_document_names_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: Vec<&str> =
        makefile.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    for (document, text) in documents() {
        for command in between(&text, "`make ", "`") {
            let target = command.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
            assert!(targets.contains(&target), "{}: make {command}", document.display());
        }
    }
}

#[test]
fn every_test_that_a_document_for_contributors_names_exists() {
    let (tests, rings) = (tests(), ["core::", "envoy::", "keycloak::", "project::", "shell::"]);
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let prose = outside_blocks(&text);
        let named: Vec<&str> =
            code(&prose).into_iter().filter(|name| rings.iter().any(|ring| name.starts_with(ring))).collect();
        assert!(named.len() > 10, "{document}: {named:?}");
        for name in named {
            assert!(tests.contains(name), "{document}: there is no test {name}");
        }
    }
}

#[test]
fn every_configuration_in_a_document_parses() {
    let key = Key::new(Alg::Es256).private_pem();
    let secrets = |name: &str| Some(if name.ends_with("_KEY") { key.clone() } else { "secret".to_owned() });
    let mut seen = 0;
    for (document, text) in documents() {
        for block in between(&text, "```yaml\n", "```") {
            let shown: Value =
                serde_norway::from_str(block).unwrap_or_else(|error| panic!("{error}\n{block}"));
            if shown.get("issuers").is_some() {
                let read = Policy::read(shown.to_string().as_bytes(), &secrets);
                assert!(read.is_ok(), "{}: {:?}\n{block}", document.display(), read.err());
                seen += 1;
            }
        }
    }
    assert!(seen >= 2, "the README has both directions");
}

/// Keycloak takes a placeholder without a value for the secret itself.
#[test]
fn every_placeholder_of_the_realm_has_a_value_wherever_it_is_imported() {
    let realm = fs::read_to_string(root().join("envoy/keycloak/realm.json")).unwrap();
    let capital = |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let names: Vec<&str> = between(&realm, "${", "}").into_iter().filter(capital).collect();
    assert!(names.len() > 5, "{names:?}");
    for importer in ["envoy/keycloak/run.sh", "examples/compose/docker-compose.yaml"] {
        // Only where there is one.
        let Ok(text) = fs::read_to_string(root().join(importer)) else { continue };
        for name in &names {
            assert!(text.contains(name), "{importer} sets no {name}");
        }
    }
}

#[test]
fn the_demos_configuration_parses() {
    let yaml = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let bootstrap: Value = serde_norway::from_str(&yaml).unwrap();
    let found = configurations(&bootstrap);
    assert_eq!(found.len(), 2);
    for configuration in found {
        Policy::read(configuration.to_string().as_bytes(), &|_| Some("secret".to_owned())).unwrap();
    }
}

#[test]
fn a_request_that_the_demos_plugin_holds_as_it_crashes_does_not_hang_for_minutes() {
    let yaml = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let managers = yaml.matches("v3.HttpConnectionManager").count();
    assert_eq!((managers, yaml.matches("stream_idle_timeout: 30s").count()), (2, 2));
}

#[test]
fn every_cause_of_a_failed_fetch_is_explained() {
    let operations = fs::read_to_string(root().join("docs/operations/troubleshooting.md")).unwrap();
    let source = fs::read_to_string(root().join("src/oauth/fetch.rs")).unwrap();
    let labels = source.split_once("fn label").unwrap().1.split_once("\n    }").unwrap().0;
    let labels = between(labels, "=> \"", "\"");
    assert!(labels.len() > 7, "{labels:?}");
    for label in labels {
        assert!(
            operations.contains(&format!("| `{label}` |")),
            "docs/operations/troubleshooting.md does not explain {label}"
        );
    }
}

#[test]
fn the_command_line_tool_prints_what_the_documents_quote() {
    let tool = Path::new(env!("CARGO_BIN_EXE_m2m-auth"));
    let path = format!("{}:{}", tool.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for (document, commands) in [("README.md", 2), ("docs/operations/production-checklist.md", 1)] {
        let (text, mut shown) = (fs::read_to_string(root().join(document)).unwrap(), 0);
        for block in between(&text, "```console\n", "```") {
            let Some((command, says)) = block.strip_prefix("$ ").and_then(|block| block.split_once('\n'))
            else {
                continue;
            };
            if command.starts_with("m2m-auth ") {
                let output =
                    Command::new("sh").args(["-c", command]).current_dir(root()).env("PATH", &path).output();
                assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), says, "{command}");
                shown += 1;
            }
        }
        assert_eq!(shown, commands, "{document}");
    }
}

/// Every plugin configuration within Envoy's own.
fn configurations(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) => {
            let own =
                members.get("configuration").and_then(|configuration| configuration.get("value")).cloned();
            own.into_iter().chain(members.values().flat_map(configurations)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(configurations).collect(),
        _ => Vec::new(),
    }
}

/// Without what an indentation and a wrapped line change.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn what_the_readme_puts_into_envoy_is_the_complete_example() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let example = fs::read_to_string(root().join("examples/envoy/inbound-only.yaml")).unwrap();
    let blocks = between(&readme, "```yaml\n", "```");
    let parts: Vec<_> = blocks.into_iter().filter(|block| block.starts_with("- name:")).collect();
    assert_eq!(parts.len(), 2, "the filter and the provider's cluster");
    for part in parts {
        let (part, example) = (lines(part), lines(&example));
        assert!(example.windows(part.len()).any(|window| window == part), "{part:#?}");
    }
}

#[test]
fn the_first_configuration_of_the_readme_has_nine_lines() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let first = between(&readme, "```yaml\n", "```")[0];
    assert_eq!(first.lines().count(), 9);
}
