//! What happens when the VM of a plugin has crashed, and whether its workers share what they fetch.

use super::Deployed;
use crate::document::Host;
use crate::finding::{Finding, Name};
use crate::proto::{field, fields, spelled};
use serde_json::Value;

const RECOMMENDED: &str =
    "Set FAIL_RELOAD: requests get 503 while the VM is down, and the next one starts it again.";

pub(super) fn look(own: &Deployed<'_>, found: &mut Vec<Finding>) {
    let settings = &own.plugin.settings;
    let Some((path, value)) = crate::proto::along(own.document, settings).pop() else { return };
    if own.plugin.host == Host::Bare || path != *settings {
        return;
    }
    let name = if own.plugin.host == Host::Istio { "fail_strategy" } else { "failure_policy" };
    let policy = field(value, name);
    let fail_open = field(value, "fail_open").filter(|_| own.plugin.host == Host::Envoy);
    let open = if policy.is_some_and(|policy| is_open(policy, own.plugin.host)) {
        Some(name)
    } else {
        fail_open.filter(|open| **open == Value::Bool(true)).map(|_| "fail_open")
    };
    if let Some(name) = open {
        let path = path.name(&spelled(value, name));
        found.push(if own.is_inbound() {
            let meaning = "the plugin fails open: once its VM has crashed, every request reaches the service unchecked";
            Finding::new(Name::FailOpen, path, format!("{meaning}. {RECOMMENDED}"))
        } else {
            let meaning = "the plugin fails open: once its VM has crashed, requests are forwarded without a token, and with \
                           the client's own headers";
            Finding::new(Name::FailOpenOutbound, path, format!("{meaning}. {RECOMMENDED}"))
        });
    } else if policy.is_none_or(|policy| is_unspecified(policy, own.plugin.host)) {
        let member = if own.plugin.host == Host::Istio { "failStrategy" } else { "failure_policy" };
        let meaning =
            format!("no {member}: a worker whose VM has crashed answers 503 until its configuration changes");
        found.push(Finding::new(Name::NoFailurePolicy, path.clone(), format!("{meaning}. {RECOMMENDED}")));
    }
    let shares_by_vm_id = own.configuration.get("sharing").is_none_or(|sharing| sharing == "on");
    let vm_id = fields(value, "vm_config.vm_id").and_then(Value::as_str).unwrap_or_default();
    if own.plugin.host == Host::Envoy && vm_id.is_empty() && shares_by_vm_id && !own.configuration.is_null() {
        let path = path.name(&spelled(value, "vm_config"));
        let message = "no vm_id: each worker fetches keys and tokens for itself. Set a vm_id that no other plugin has; where a \
                       control plane sets it, use `sharing: sealed`, or `sharing: off` to accept this.";
        found.push(Finding::new(Name::NoVmId, path, message));
    }
}

/// `envoy.extensions.wasm.v3.FailurePolicy`, and `istio.extensions.v1alpha1.FailStrategy`.
fn is_open(policy: &Value, host: Host) -> bool {
    let number = if host == Host::Istio { 1 } else { 3 };
    *policy == "FAIL_OPEN" || policy.as_u64() == Some(number)
}

/// Istio's 0 is `FAIL_CLOSE`, which somebody wrote.
fn is_unspecified(policy: &Value, host: Host) -> bool {
    host == Host::Envoy && (*policy == "UNSPECIFIED" || policy.as_u64() == Some(0))
}
