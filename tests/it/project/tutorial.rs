//! The pages docs/tutorials about Kubernetes: their manifests are the shipped ones, and the step
//! that puts a reader's names into them, run word for word, does so.

use crate::core::cli::root;
use serde::Deserialize as _;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) struct Tutorial(String);

impl Tutorial {
    pub(crate) fn read(name: &str) -> Self {
        Self(fs::read_to_string(root().join(format!("docs/tutorials/{name}.md"))).unwrap())
    }

    pub(crate) fn blocks(&self, kind: &str) -> Vec<&str> {
        let blocks = self.0.split("```").skip(1).step_by(2);
        blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n')).collect()
    }

    /// The resources on the page, in order.
    pub(crate) fn manifests(&self) -> Vec<Value> {
        self.blocks("yaml").into_iter().map(|block| serde_norway::from_str(block).unwrap()).collect()
    }

    /// Runs the step that contains `export ISSUER` on a copy of the shipped manifests in `target`,
    /// as `make oci` makes it. In: replacements in the step. Out: what it printed, and the files.
    pub(crate) fn configure(&self, example: &str, values: &[(&str, &str)]) -> (String, Vec<Value>) {
        let steps = self.blocks("sh");
        let mut step = (*steps.iter().find(|step| step.starts_with("export ISSUER")).unwrap()).to_owned();
        for (old, new) in values {
            assert!(step.contains(old), "{old}: {step}");
            step = step.replacen(old, new, 1);
        }
        let folder = tempfile::tempdir().unwrap();
        let (from, into) =
            (root().join("examples").join(example), folder.path().join("target").join(example));
        m2m_auth_oci::fill(&from, "registry.example.org/filter:1", &"ab".repeat(32), &into).unwrap();
        let tool = Path::new(env!("CARGO_BIN_EXE_m2m-auth")).parent().unwrap();
        let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        let output =
            bash.args(["-euc", &step]).current_dir(folder.path()).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut files: Vec<_> = fs::read_dir(into).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let manifests = files.iter().flat_map(|file| resources(&fs::read_to_string(file).unwrap())).collect();
        (String::from_utf8(output.stdout).unwrap(), manifests)
    }
}

/// The resources of a manifest.
pub(crate) fn resources(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}
