//! Programs and files that a test needs and `make` knows how to get: each from an environment
//! variable, else from `build/`, where `make` puts it when it is not there yet.

use crate::repository;
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Google's `crane`: pushes and pulls images, and is a registry (`CRANE`).
pub fn crane() -> PathBuf {
    found("CRANE", "build/tools/crane")
}

/// The Compose Specification's own reader of compose files, with its schema (`COMPOSE_SPEC`).
pub fn compose_spec() -> PathBuf {
    found("COMPOSE_SPEC", "build/tools/compose-spec")
}

/// Istio's custom resource definitions (`ISTIO_CRDS`).
pub fn istio_crds() -> PathBuf {
    found("ISTIO_CRDS", "build/tools/istio-crds.yaml")
}

/// oauth2-proxy (`OAUTH2_PROXY`).
pub fn oauth2_proxy() -> PathBuf {
    found("OAUTH2_PROXY", "build/tools/oauth2-proxy")
}

/// The custom resource definitions of Envoy Gateway and of the Gateway API (`ENVOY_GATEWAY_CRDS`).
pub fn envoy_gateway_crds() -> PathBuf {
    found("ENVOY_GATEWAY_CRDS", "build/tools/envoy-gateway-crds.yaml")
}

/// Prometheus' own checker of rules and configurations (`PROMTOOL`).
pub fn promtool() -> PathBuf {
    found("PROMTOOL", "build/prometheus/usr/bin/promtool")
}

/// Prometheus (`PROMETHEUS`).
pub fn prometheus() -> PathBuf {
    found("PROMETHEUS", "build/prometheus/usr/bin/prometheus")
}

fn found(variable: &str, target: &str) -> PathBuf {
    // One at a time, so that two tests do not make the same thing.
    static MAKING: Mutex<()> = Mutex::new(());
    named(variable).unwrap_or_else(|| {
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let file = repository().join(target);
        run(Command::new("make").args(["-s", target]).current_dir(repository()));
        assert!(file.is_file(), "`make {target}` has left no {}", file.display());
        file
    })
}

/// The file that an environment variable names.
pub(crate) fn named(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable).filter(|value| !value.is_empty())?);
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    Some(path.canonicalize().unwrap_or(path))
}

/// The standard output of a command that must succeed. Its standard error is ours.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command that dies with us, however we die, where util-linux can arrange it.
pub fn tied_to_us(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
