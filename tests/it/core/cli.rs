//! The command-line tool, as an operator runs it: what it says of configurations and of requests,
//! and with which exit code.

mod check;
mod examples;
mod explain;
pub(crate) mod findings;
mod headers;
mod key_set;
pub(crate) mod metrics;
mod rules;
mod schema;

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the tool in the repository, with nothing in its environment.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_m2m-auth"));
    command.args(arguments).current_dir(root()).env_clear().envs(environment.iter().copied());
    Ran::of(&command.output().unwrap())
}

/// The same, with this standard input.
pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_m2m-auth"));
    command.args(arguments).current_dir(root()).env_clear();
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = pipes.spawn().unwrap();
    // The tool may end before it has read everything.
    let _ = tool.stdin.take().unwrap().write_all(input);
    Ran::of(&tool.wait_with_output().unwrap())
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) says: String,
    pub(crate) complains: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            code: output.status.code().unwrap(),
            says: text(&output.stdout),
            complains: text(&output.stderr),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.says).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A file in a folder that goes with it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_wrong_use_is_neither_good_nor_bad() {
    for wrong in [
        &["check"][..],
        &["check", "/no/such/file"],
        &["chekc"],
        &["explain"],
        &["explain", "--config", "/no/such/file"],
        &["explain", "--config", "envoy/envoy.yaml"],
        &["explain", "--config", "envoy/envoy.yaml", "--plugin", "odd"],
        &["explain", "--config", "tests/data/cli/config.yaml", "--header", "odd"],
        &["explain", "--config", "tests/data/cli/config.yaml", "--jwks", "odd"],
        &["explain", "--config", "tests/data/cli/config.yaml", "--jwks", "odd=tests/data/cli/keys.json"],
        &["explain", "--config", "README.md"],
    ] {
        assert_eq!(run(wrong).code, 2, "{wrong:?}");
    }
}
