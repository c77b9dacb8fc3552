//! The position of a plugin in its filter chain, whether it runs there, and what Envoy buffers for
//! it.

use super::{DeployedPlugin, Through};
use crate::finding::{Finding, FindingName};
use crate::proto::{along, field, fields, string, type_of};
use m2m_auth::config::path_deserializer::{Path, PathSegment};
use serde_json::Value;

pub(super) fn check(deployed: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    let enclosing = along(deployed.document, &deployed.plugin.settings);
    found.extend(behind_router(&enclosing).or_else(|| patched_behind_router(&enclosing)));
    found.extend(without_buffer_limit(deployed, &enclosing));
    found.extend(switched_off(deployed, &enclosing));
}

/// The innermost list of filters along a path, with its path, and the index of the filter in it.
fn list_of<'t>(enclosing: &'t Through<'_>) -> Option<(&'t Path, &'t [Value], usize)> {
    enclosing.iter().rev().find_map(|(path, value)| match path.steps() {
        [.., PathSegment::Name(name)] if name == "http_filters" || name == "httpFilters" => {
            let index = enclosing.iter().find_map(|(inner, _)| inner.element_of(path))?;
            Some((path, value.as_array()?.as_slice(), index))
        }
        _ => None,
    })
}

/// Finds a terminal filter in front of the plugin.
fn behind_router(enclosing: &Through<'_>) -> Option<Finding> {
    let (path, list, index) = list_of(enclosing)?;
    let terminal = list.iter().take(index).find_map(terminal)?;
    let message = format!(
        "behind {terminal}, which ends the chain: the plugin never runs there, and Envoy rejects such a list. Put the plugin \
         in front of it."
    );
    Some(Finding::new(FindingName::BehindRouter, path.index(index), message))
}

/// Finds an inbound plugin that is disabled in its chain.
fn switched_off(deployed: &DeployedPlugin<'_>, enclosing: &Through<'_>) -> Option<Finding> {
    let (path, list, index) = list_of(enclosing).filter(|_| deployed.is_inbound())?;
    let disabled =
        list.get(index).is_some_and(|filter| field(filter, "disabled") == Some(&Value::Bool(true)));
    let message = "the filter is disabled: only requests on routes that enable it are checked, and all others reach the \
                   service unchecked. Enable it here, and disable it on the routes that need no check.";
    disabled.then(|| Finding::new(FindingName::DisabledFilter, path.index(index).name("disabled"), message))
}

/// The name of a terminal filter.
fn terminal(filter: &Value) -> Option<&'static str> {
    let is = |name: &str, kind: &str| {
        string(filter, "name") == name
            || field(filter, "typed_config").is_some_and(|config| type_of(config) == kind)
    };
    let router = is("envoy.filters.http.router", "Router").then_some("the router");
    router.or_else(|| is("envoy.filters.http.upstream_codec", "UpstreamCodec").then_some("upstream_codec"))
}

/// Finds a patch of an `EnvoyFilter` that puts the plugin behind the router: `ADD` and
/// `INSERT_AFTER` without a filter append.
fn patched_behind_router(enclosing: &Through<'_>) -> Option<Finding> {
    let (path, patch) = enclosing.iter().find(|(_, value)| string(value, "apply_to") == "HTTP_FILTER")?;
    let operation = fields(patch, "patch.operation").and_then(Value::as_str).unwrap_or_default();
    let after = fields(patch, "match.listener.filter_chain.filter.sub_filter")
        .map_or("envoy.filters.http.router", |filter| string(filter, "name"));
    let behind = match operation {
        "ADD" => true,
        "INSERT_AFTER" => after == "envoy.filters.http.router",
        _ => false,
    };
    let message = format!(
        "{operation} puts the plugin behind the router, which ends the chain: the plugin never runs there. Use INSERT_BEFORE \
         with the router as subFilter, or INSERT_FIRST."
    );
    behind.then(|| Finding::new(FindingName::BehindRouter, path.name("patch"), message))
}

/// Finds a listener of an inbound plugin, or a cluster of any plugin, without a limit on buffered
/// bodies.
fn without_buffer_limit(deployed: &DeployedPlugin<'_>, enclosing: &Through<'_>) -> Option<Finding> {
    let has = |value: &Value, names: &[&str]| names.iter().any(|name| field(value, name).is_some());
    let cluster = enclosing.iter().rev().find(|(_, value)| has(value, &["typed_extension_protocol_options"]));
    let listener = || {
        let listeners = ["filter_chains", "default_filter_chain", "api_listener", "filter_chain_matcher"];
        enclosing.iter().find(|(_, value)| has(value, &listeners)).filter(|_| deployed.is_inbound())
    };
    let (kind, (path, holder)) = match cluster {
        Some(cluster) => ("cluster", cluster),
        None => ("listener", listener()?),
    };
    let limit = field(holder, "per_connection_buffer_limit_bytes");
    if limit.is_some_and(|limit| limit.as_u64() != Some(0)) {
        return None;
    }
    let message = format!(
        "no per_connection_buffer_limit_bytes on this {kind}: while a request waits for keys or a token, Envoy buffers up to \
         1 MiB of its body, for every waiting request. Set a limit that your memory allows, such as 32768."
    );
    Some(Finding::new(FindingName::NoBufferLimit, path.clone(), message))
}
