//! Where the Envoy binary and the filter's module come from.

use crate::{
    repository,
    tools::{named, run},
};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The version that is fetched when the machine has no Envoy of its own.
const VERSION: &str = "1.40.0";

/// The user's Envoy (`ENVOY`), else the one on the `PATH`, else the fetched one (`ENVOY_VERSION`
/// names which).
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| named("ENVOY").or_else(on_path).unwrap_or_else(fetched)).clone()
}

/// The filter as Envoy loads it: the file that `M2M_AUTH_WASM` names, else what `make wasm` builds.
pub fn module() -> PathBuf {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        run(Command::new("make").args(["-s", "wasm"]).current_dir(repository()));
        let module = repository().join("target/m2m_auth.wasm");
        assert!(module.is_file(), "`make wasm` has left no {}", module.display());
        module
    };
    MODULE.get_or_init(|| named("M2M_AUTH_WASM").unwrap_or_else(build)).clone()
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())
}

fn fetched() -> PathBuf {
    let version = env::var("ENVOY_VERSION").unwrap_or_else(|_| VERSION.to_owned());
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let root = repository();
    let mut script = Command::new(root.join("envoy/fetch-envoy.sh"));
    let output = run(script.arg(version).arg(root.join("build")).arg(python));
    Path::new(output.trim()).to_owned()
}
