//! What happens after the VM of a plugin has crashed, and whether its workers share what they
//! fetch.

use super::DeployedPlugin;
use crate::document::Platform;
use crate::finding::{Finding, FindingName};
use crate::proto::{along, field, fields, spelled};
use m2m_auth::config::path_deserializer::Path;
use serde_json::Value;

pub(super) fn check(deployed: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    let settings = &deployed.plugin.settings;
    let Some((path, value)) = along(deployed.document, settings).pop().filter(|(path, _)| path == settings)
    else {
        return;
    };
    found.extend(failure(deployed, &path, value));
    let shares_by_vm_id = deployed.configuration.get("sharing").is_none_or(|sharing| sharing == "on");
    let vm_id = fields(value, "vm_config.vm_id").and_then(Value::as_str).unwrap_or_default();
    if deployed.plugin.host == Platform::Envoy
        && vm_id.is_empty()
        && shares_by_vm_id
        && !deployed.configuration.is_null()
    {
        let path = path.name(&spelled(value, "vm_config"));
        let message = "no vm_id: each worker fetches keys and tokens for itself. Set a vm_id that no other plugin has; where a \
                       control plane sets it, use `sharing: sealed`, or `sharing: off` to accept this.";
        found.push(Finding::new(FindingName::NoVmId, path, message));
    }
}

fn failure(deployed: &DeployedPlugin<'_>, path: &Path, value: &Value) -> Option<Finding> {
    let host = deployed.plugin.host;
    // Envoy Gateway can only fail open or closed.
    let (policy, fail_open) = match host {
        Platform::Envoy => (Some("failure_policy"), true),
        Platform::Istio => (Some("fail_strategy"), false),
        Platform::EnvoyGateway => (None, true),
        Platform::Bare => return None,
    };
    let written = policy.and_then(|name| field(value, name));
    let by_policy = policy.filter(|_| written.is_some_and(|written| is_open(written, host)));
    let by_flag = fail_open.then_some("fail_open");
    let by_flag = by_flag.filter(|name| field(value, name) == Some(&Value::Bool(true)));
    let repair = if host == Platform::EnvoyGateway {
        "Leave it out: requests get 503 then."
    } else {
        "Set FAIL_RELOAD: requests get 503 while the VM is down, and the next one starts it again."
    };
    if let Some(name) = by_policy.or(by_flag) {
        let (kind, meaning) = if deployed.is_inbound() {
            (FindingName::FailOpen, "every request reaches the service unchecked")
        } else {
            (
                FindingName::FailOpenOutbound,
                "requests are forwarded without a token, and with the client's own headers",
            )
        };
        let message = format!("the plugin fails open: once its VM has crashed, {meaning}. {repair}");
        return Some(Finding::new(kind, path.name(&spelled(value, name)), message));
    }
    let absent = written.is_none_or(|written| is_unspecified(written, host));
    let name = spelled(value, policy.filter(|_| absent)?);
    let name = if host == Platform::Istio { "failStrategy".to_owned() } else { name };
    let meaning = "a worker whose VM has crashed answers 503 until its configuration changes";
    Some(Finding::new(FindingName::NoFailurePolicy, path.clone(), format!("no {name}: {meaning}. {repair}")))
}

/// `envoy.extensions.wasm.v3.FailurePolicy`, and `istio.extensions.v1alpha1.FailStrategy`.
fn is_open(policy: &Value, host: Platform) -> bool {
    let number = if host == Platform::Istio { 1 } else { 3 };
    *policy == "FAIL_OPEN" || policy.as_u64() == Some(number)
}

/// Istio's 0 is `FAIL_CLOSE`, which is explicit.
fn is_unspecified(policy: &Value, host: Platform) -> bool {
    host == Platform::Envoy && (*policy == "UNSPECIFIED" || policy.as_u64() == Some(0))
}
