//! Where a plugin is in its filter chain, what Envoy buffers there, and where its requests may be redirected.

use super::Deployed;
use crate::finding::{Finding, Name};
use crate::proto::{along, field, fields, holders, list, located, mentions, string, type_of};
use m2m_auth::located::{Path, Step};
use serde_json::Value;

pub(super) fn look(own: &Deployed<'_>, found: &mut Vec<Finding>) {
    let through = along(own.document, &own.plugin.settings);
    found.extend(behind_router(&through).or_else(|| patched_behind_router(&through)));
    found.extend(without_buffer_limit(own, &through));
    if own.is_outbound() {
        redirects(own, &through, found);
    }
}

/// What a path leads through.
type Through<'d> = [(Path, &'d Value)];

/// A terminal filter in front of the plugin.
fn behind_router(through: &Through<'_>) -> Option<Finding> {
    let (at, list, index) = through.iter().rev().find_map(|(path, value)| match path.steps() {
        [.., Step::Name(name)] if name == "http_filters" || name == "httpFilters" => {
            let inner = through.iter().find(|(inner, _)| inner.element_of(path).is_some())?;
            Some((inner.0.clone(), value.as_array()?, inner.0.element_of(path)?))
        }
        _ => None,
    })?;
    let terminal = list.iter().take(index).find_map(terminal)?;
    let message = format!(
        "behind {terminal}, which ends the chain: the plugin never runs there, and Envoy refuses such a list. Put the plugin \
         in front of it."
    );
    Some(Finding::new(Name::BehindRouter, at, message))
}

/// What a filter is called, if nothing runs behind it.
fn terminal(filter: &Value) -> Option<&'static str> {
    let is = |name: &str, kind: &str| {
        string(filter, "name") == name
            || field(filter, "typed_config").is_some_and(|own| type_of(own) == kind)
    };
    let router = is("envoy.filters.http.router", "Router").then_some("the router");
    router.or_else(|| is("envoy.filters.http.upstream_codec", "UpstreamCodec").then_some("upstream_codec"))
}

/// A patch of an `EnvoyFilter` that puts the plugin behind the router: `ADD` and `INSERT_AFTER` without a filter append.
fn patched_behind_router(through: &Through<'_>) -> Option<Finding> {
    let (path, patch) = through.iter().find(|(_, value)| string(value, "apply_to") == "HTTP_FILTER")?;
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
    behind.then(|| Finding::new(Name::BehindRouter, path.name("patch"), message))
}

/// The listener of an inbound plugin, or the cluster of any, that leaves the size of buffered bodies to Envoy.
fn without_buffer_limit(own: &Deployed<'_>, through: &Through<'_>) -> Option<Finding> {
    let has = |value: &Value, names: &[&str]| names.iter().any(|name| field(value, name).is_some());
    let cluster = through.iter().rev().find(|(_, value)| has(value, &["typed_extension_protocol_options"]));
    let listener = || {
        let listeners = ["filter_chains", "default_filter_chain", "api_listener", "filter_chain_matcher"];
        through.iter().find(|(_, value)| has(value, &listeners)).filter(|_| own.is_inbound())
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
    Some(Finding::new(Name::NoBufferLimit, path.clone(), message))
}

/// Routes whose requests may have a token, and whose redirects Envoy follows itself.
fn redirects(own: &Deployed<'_>, through: &Through<'_>, found: &mut Vec<Finding>) {
    let has_routes = |value: &Value| {
        ["route_config", "rds", "scoped_routes"].iter().any(|name| field(value, name).is_some())
    };
    let manager =
        through.iter().rev().find(|(_, value)| has_routes(value) && field(value, "http_filters").is_some());
    let mut policies = Vec::new();
    match manager {
        Some((path, manager)) if field(manager, "route_config").is_some() => {
            holders(manager, path, "internal_redirect_policy", &mut policies);
        }
        Some((_, manager)) => {
            let name = fields(manager, "rds.route_config_name").and_then(Value::as_str).unwrap_or_default();
            for (path, routes) in route_configurations(own.document) {
                if [string(routes, "name"), ""].contains(&name) || string(routes, "name").is_empty() {
                    holders(routes, &path, "internal_redirect_policy", &mut policies);
                }
            }
        }
        // In a cluster: whatever leads there.
        None => {
            let cluster = through.iter().rev().find(|(_, value)| {
                field(value, "typed_extension_protocol_options").is_some() && field(value, "name").is_some()
            });
            let Some((_, cluster)) = cluster else { return };
            let mut all = Vec::new();
            holders(own.document, &Path::default(), "internal_redirect_policy", &mut all);
            let elsewhere =
                |action: &Value| field(action, "cluster").is_some_and(|own| own != string(cluster, "name"));
            policies.extend(all.into_iter().filter(|(_, action)| !elsewhere(action)));
        }
    }
    for (path, _) in policies {
        let message = "Envoy follows redirects on this route with the headers of the first request: a service that answers \
                       302 sends the token to another host. Remove internal_redirect_policy, or keep this route from the \
                       plugin's rules.";
        found.push(Finding::new(Name::InternalRedirect, path, message));
    }
}

/// Route configurations that are not written in a connection manager: in `/config_dump`, RDS, or on their own.
fn route_configurations(document: &Value) -> Vec<(Path, &Value)> {
    let root = Path::default();
    let mut found = Vec::new();
    if field(document, "virtual_hosts").is_some() {
        found.push((root.clone(), document));
    }
    found.extend(
        located(document, &root, "resources").filter(|(_, own)| !list(own, "virtual_hosts").is_empty()),
    );
    for (path, dump) in located(document, &root, "configs") {
        for kind in ["static_route_configs", "dynamic_route_configs"] {
            for (path, routes) in located(dump, &path, kind) {
                if let Some(own) =
                    field(routes, "route_config").filter(|own| mentions(own, &["virtual_hosts"]))
                {
                    found.push((path.name("route_config"), own));
                }
            }
        }
    }
    found
}
