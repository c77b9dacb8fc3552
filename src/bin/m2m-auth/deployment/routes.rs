//! The routes of a document: whether they redirect requests with a token, or publish files that
//! only the plugin should read.

use super::{DeployedPlugin, Through};
use crate::finding::{Finding, FindingName};
use crate::proto::{along, any, field, fields, holders, list, located, mentions, string};
use m2m_auth::config::path_deserializer::Path;
use serde_json::Value;

pub(super) fn check(deployed: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    if deployed.is_outbound() {
        redirects(deployed, &along(deployed.document, &deployed.plugin.settings), found);
    }
    published(deployed, found);
}

/// Finds routes whose requests may have a token, and whose redirects Envoy follows itself.
fn redirects(deployed: &DeployedPlugin<'_>, through: &Through<'_>, found: &mut Vec<Finding>) {
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
            for (path, routes) in route_configurations(deployed.document) {
                if [string(routes, "name"), ""].contains(&name) || string(routes, "name").is_empty() {
                    holders(routes, &path, "internal_redirect_policy", &mut policies);
                }
            }
        }
        // In a cluster: every route to it.
        None => {
            let cluster = through.iter().rev().find(|(_, value)| {
                field(value, "typed_extension_protocol_options").is_some() && field(value, "name").is_some()
            });
            let Some((_, cluster)) = cluster else { return };
            let mut all = Vec::new();
            holders(deployed.document, &Path::default(), "internal_redirect_policy", &mut all);
            let may_lead_there = |action: &Value| {
                let clusters = clusters_of(action);
                clusters.is_empty() || clusters.contains(&string(cluster, "name"))
            };
            policies.extend(all.into_iter().filter(|(_, action)| may_lead_there(action)));
        }
    }
    for (path, _) in policies {
        let message = "Envoy follows redirects on this route with the headers of the first request: a service that answers \
                       302 sends the token to another host. Remove internal_redirect_policy, or keep this route from the \
                       plugin's rules.";
        found.push(Finding::new(FindingName::InternalRedirect, path, message));
    }
}

/// Route configurations outside of a connection manager: in `/config_dump`, in RDS, or alone.
fn route_configurations(document: &Value) -> Vec<(Path, &Value)> {
    let root = Path::default();
    let mut found = Vec::new();
    if field(document, "virtual_hosts").is_some() {
        found.push((root.clone(), document));
    }
    found.extend(
        located(document, &root, "resources")
            .filter(|(_, resource)| !list(resource, "virtual_hosts").is_empty()),
    );
    for (path, dump) in located(document, &root, "configs") {
        for kind in ["static_route_configs", "dynamic_route_configs"] {
            for (path, routes) in located(dump, &path, kind) {
                if let Some(config) =
                    field(routes, "route_config").filter(|config| mentions(config, &["virtual_hosts"]))
                {
                    found.push((path.name("route_config"), config));
                }
            }
        }
    }
    found
}

/// Finds routes to a cluster from which the plugin reads files or secrets, through an internal
/// listener.
fn published(deployed: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    let issuers = deployed.configuration.get("issuers").and_then(Value::as_object).into_iter().flatten();
    let mut names: Vec<&str> = issuers.filter_map(|(_, issuer)| issuer.get("cluster")?.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let (root, mut listeners, mut routes) = (Path::default(), Vec::new(), Vec::new());
    holders(deployed.document, &root, "internal_listener", &mut listeners);
    holders(deployed.document, &root, "route", &mut routes);
    let answers = |value: &Value| {
        let body = fields(value, "direct_response.body").or_else(|| field(value, "body_format"));
        body.is_some_and(|body| mentions(body, &["filename"]) || reads(body))
    };
    let serves = |name: &str| {
        listeners.iter().any(|(_, listener)| string(listener, "name") == name && any(listener, &answers))
    };
    for name in names {
        let inside = |value: &Value| {
            let address = fields(value, "address.envoy_internal_address");
            address.is_some_and(|address| serves(string(address, "server_listener_name")))
        };
        let is_it =
            |value: &Value| string(value, "name") == name && field(value, "load_assignment").is_some();
        if !any(deployed.document, &|value| is_it(value) && any(value, &inside)) {
            continue;
        }
        let leads_there =
            |route: &Value| field(route, "route").is_some_and(|action| clusters_of(action).contains(&name));
        for (path, _) in routes.iter().filter(|(_, route)| leads_there(route)) {
            let message = format!(
                "this route leads to cluster {name:?}, from which the plugin reads a file or a secret of this host: any \
                 client can read it too. Remove the route."
            );
            found.push(Finding::new(FindingName::PublishedFile, path.clone(), message));
        }
    }
}

/// Whether a format includes a file or a secret.
fn reads(format: &Value) -> bool {
    let text = format.to_string();
    text.contains("%FILE_CONTENT(") || text.contains("%SECRET(")
}

/// The clusters of a route; empty if a header or a plugin selects them.
fn clusters_of(action: &Value) -> Vec<&str> {
    let weighted = fields(action, "weighted_clusters.clusters").and_then(Value::as_array);
    let weighted = weighted.into_iter().flatten().map(|cluster| string(cluster, "name"));
    let one = field(action, "cluster").and_then(Value::as_str);
    weighted.chain(one).collect()
}
