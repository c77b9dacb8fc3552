//! The source tree as the documents cite it: its tests, and the tables of a document.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every test of the crate, as `cargo test` names it: `jwt::tests::…` of the library,
/// `core::sim::keys::…` of the integration suites, `keycloak::…` of those that need a real one.
pub(crate) fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["src", "tests/it"] {
        for file in files(&root().join(folder)) {
            let path = file.strip_prefix(root().join(folder)).unwrap();
            let names = path.with_extension("");
            let mut module: Vec<&str> = names.iter().map(|name| name.to_str().unwrap()).collect();
            if matches!(module.last(), Some(&"mod" | &"main" | &"lib")) {
                module.pop();
            }
            found.extend(tests_of(&fs::read_to_string(&file).unwrap(), &module.join("::")));
        }
    }
    found
}

/// The tests of one file. A test is a function below an attribute that says so; a module within the
/// file is `tests`.
fn tests_of(text: &str, module: &str) -> Vec<String> {
    let (mut found, mut is_test, mut inner) = (Vec::new(), false, "");
    for line in text.lines() {
        let code = line.trim_start();
        if code == "mod tests {" {
            inner = "tests::";
        } else if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(signature) = code.strip_prefix("fn ").or_else(|| code.strip_prefix("async fn ")) {
            if std::mem::take(&mut is_test) {
                let name = signature.split('(').next().unwrap();
                found.push(format!("{module}::{inner}{name}"));
            }
        } else if !code.starts_with('#') && !code.starts_with("//") {
            is_test = false;
        }
    }
    found
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The rows of the tables with this heading in their first column. A bar within code does not
/// separate cells.
pub(crate) fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let (mut rows, mut within) = (Vec::new(), false);
    for line in document.lines() {
        let Some(line) = line.strip_prefix('|') else {
            within = false;
            continue;
        };
        let cells: Vec<String> =
            line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if cells[0] == heading {
            within = true;
        } else if within && !cells[0].starts_with("--") {
            rows.push(cells);
        }
    }
    rows
}

/// The code spans of a string.
pub(crate) fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn a_test_is_found_by_its_attribute_and_named_by_its_path() {
    let text = "#[test]\nfn one() {}\nfn none() {}\n#[tokio::test(flavor = \"x\")]\n#[ignore]\nasync fn two() {}\nmod tests {\n    #[test]\n    // why\n    fn three() {}\n";
    assert_eq!(tests_of(text, "a::b"), ["a::b::one", "a::b::two", "a::b::tests::three"]);
    let own = tests();
    assert!(own.contains("project::tree::a_test_is_found_by_its_attribute_and_named_by_its_path"));
    assert!(own.contains("metrics::tests::sums_are_reported_once") && own.len() > 500, "{}", own.len());
}
