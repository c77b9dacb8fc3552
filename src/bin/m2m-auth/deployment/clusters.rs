//! The clusters that a plugin's configuration names: whether they exist, and whether they use TLS
//! to a provider.

use super::DeployedPlugin;
use crate::finding::{Finding, FindingName};
use crate::proto::{along, any, field, fields, list, located, mentions, string, type_of};
use m2m_auth::config::path_deserializer::Path;
use serde_json::Value;
use std::collections::BTreeMap;

/// The clusters of a document.
struct KnownClusters<'d> {
    /// By name.
    known: BTreeMap<&'d str, (Path, &'d Value)>,
    /// Whether the document has all clusters.
    complete: bool,
}

pub(super) fn check(deployed: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    let clusters = KnownClusters::of(deployed.document);
    let issuers = deployed.configuration.get("issuers").and_then(Value::as_object);
    for (name, issuer) in issuers.into_iter().flatten() {
        for member in ["cluster", "jwks_cluster", "token_cluster", "introspection_cluster"] {
            let Some(cluster) = issuer.get(member).and_then(Value::as_str) else { continue };
            let at = deployed.root().name("issuers").name(name).name(member);
            match clusters.known.get(cluster) {
                None if clusters.complete => {
                    found.push(unknown(FindingName::UnknownCluster, at.clone(), cluster));
                }
                Some((path, cluster)) if is_called_by_https(deployed, name, issuer) => {
                    found.extend(tls(name, path, cluster));
                }
                _ => {}
            }
            found.extend(plugin_before(deployed, at, cluster));
        }
    }
    let rules =
        deployed.configuration.get("outbound").map(|outbound| list(outbound, "rules")).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate().filter(|_| clusters.complete) {
        let cluster = fields(rule, "match.cluster").and_then(Value::as_str);
        if let Some(cluster) = cluster.filter(|cluster| !clusters.known.contains_key(cluster)) {
            let path =
                deployed.root().name("outbound").name("rules").index(index).name("match").name("cluster");
            found.push(unknown(FindingName::UnknownMatchCluster, path, cluster));
        }
    }
}

fn unknown(name: FindingName, path: Path, cluster: &str) -> Finding {
    let meaning = if name == FindingName::UnknownCluster {
        "nothing can be fetched from this issuer, and its requests get 503"
    } else {
        "no request matches this rule"
    };
    let message =
        format!("no cluster {cluster:?} in this document: {meaning}. Define it, or correct the name.");
    Finding::new(name, path, message)
}

/// Whether the filter calls this issuer by an `https` URL. A URL in an environment variable is
/// unknown.
fn is_called_by_https(deployed: &DeployedPlugin<'_>, name: &str, issuer: &Value) -> bool {
    let endpoints = ["jwks_uri", "token_endpoint", "introspection_endpoint"].map(|name| issuer.get(name));
    let discovers = match deployed.policy {
        Some(policy) => policy.issuers.iter().any(|issuer| issuer.name == name && issuer.discovery.is_some()),
        None => endpoints.iter().all(Option::is_none) && issuer.get("jwks").is_none(),
    };
    // Discovery starts at the first of several names.
    let names = issuer.get("issuer").filter(|_| discovers);
    let first = names.and_then(|names| names.get(0).or(Some(names)));
    let mut urls = endpoints.into_iter().chain([first]).flatten().filter_map(Value::as_str);
    urls.any(|url| url.starts_with("https://"))
}

/// A finding about TLS between this cluster and the provider.
fn tls(issuer: &str, path: &Path, cluster: &Value) -> Option<Finding> {
    let socket = field(cluster, "transport_socket").into_iter();
    let matches = list(cluster, "transport_socket_matches").iter();
    let sockets: Vec<&Value> =
        socket.chain(matches.filter_map(|entry| field(entry, "transport_socket"))).collect();
    if let Some(socket) = sockets.iter().find(|socket| any(socket, &encrypts)) {
        let doubt = unverified(socket, cluster)?;
        let message = format!(
            "issuer {issuer} has an https URL, but {doubt}: another server can take the client's secret, and answer with keys of \
             its own. Set trusted_ca, sni and auto_sni_san_validation."
        );
        return Some(Finding::new(FindingName::TlsUnverified, path.clone(), message));
    }
    let plain = |socket: &Value| {
        any(socket, &|object| {
            type_of(object) == "RawBuffer" || string(object, "name").ends_with(".raw_buffer")
        })
    };
    if field(cluster, "cluster_type").is_some()
        || is_local(cluster)
        || !sockets.iter().all(|socket| plain(socket))
    {
        return None;
    }
    let message = format!(
        "issuer {issuer} has an https URL, but this cluster has no TLS transport socket: Envoy sends the client's secret in plain \
         text, and accepts keys from any server. Add envoy.transport_sockets.tls with sni and trusted_ca."
    );
    Some(Finding::new(FindingName::ProviderWithoutTls, path.clone(), message))
}

fn encrypts(socket: &Value) -> bool {
    let kinds = ["UpstreamTlsContext", "QuicUpstreamTransport", "Alts"];
    let names =
        ["envoy.transport_sockets.tls", "envoy.transport_sockets.quic", "envoy.transport_sockets.alts"];
    kinds.contains(&type_of(socket)) || names.contains(&string(socket, "name"))
}

/// Why the server's certificate is not verified, if the document proves that it is not.
fn unverified(socket: &Value, cluster: &Value) -> Option<&'static str> {
    let elsewhere = [
        "validation_context_sds_secret_config",
        "validation_context_certificate_provider",
        "validation_context_certificate_provider_instance",
        "ca_certificate_provider_instance",
        "custom_validator_config",
        "verify_certificate_spki",
        "verify_certificate_hash",
    ];
    if !any(socket, &|object| type_of(object) == "UpstreamTlsContext") || mentions(socket, &elsewhere) {
        return None;
    }
    if !mentions(socket, &["trusted_ca", "system_root_certs"]) {
        return Some("this cluster's TLS verifies no certificate");
    }
    let names = ["match_typed_subject_alt_names", "match_subject_alt_names"];
    let is_on = |options: &Value| {
        let on = |name| field(options, name) == Some(&Value::Bool(true));
        on("auto_sni_san_validation") || on("auto_san_validation")
    };
    let named = mentions(socket, &names) || any(cluster, &is_on);
    (!named).then_some("this cluster's TLS accepts a certificate for any name")
}

/// Whether its endpoints are all on this host, where a sidecar or an internal listener may use TLS.
fn is_local(cluster: &Value) -> bool {
    let localities = fields(cluster, "load_assignment.endpoints").and_then(Value::as_array);
    let endpoints = localities.into_iter().flatten().flat_map(|locality| list(locality, "lb_endpoints"));
    let mut addresses = endpoints.map(|endpoint| fields(endpoint, "endpoint.address")).peekable();
    let local = |address: Option<&Value>| {
        address.is_some_and(|address| match field(address, "socket_address") {
            Some(socket) => {
                let host = string(socket, "address");
                let ip = host.parse::<std::net::IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            }
            None => field(address, "pipe").or(field(address, "envoy_internal_address")).is_some(),
        })
    };
    addresses.peek().is_some() && addresses.all(local)
}

/// Finds a plugin that is a filter of the cluster that reaches its issuer.
fn plugin_before(deployed: &DeployedPlugin<'_>, at: Path, cluster: &str) -> Option<Finding> {
    let enclosing = along(deployed.document, &deployed.plugin.settings);
    let holds = |value: &Value| {
        field(value, "typed_extension_protocol_options").is_some() && string(value, "name") == cluster
    };
    let message = format!(
        "the plugin is a filter of cluster {cluster:?}, which reaches its own issuer: requests to the issuer would wait for \
         what they fetch. Give the issuer a cluster without the plugin."
    );
    let inside = enclosing.iter().any(|(_, value)| holds(value));
    inside.then(|| Finding::new(FindingName::PluginBeforeProvider, at, message))
}

impl<'d> KnownClusters<'d> {
    fn of(document: &'d Value) -> Self {
        let root = Path::default();
        let mut clusters = Self { known: BTreeMap::new(), complete: false };
        clusters.bootstrap(document, &root);
        for (path, dump) in located(document, &root, "configs") {
            if let Some(bootstrap) = field(dump, "bootstrap") {
                clusters.bootstrap(bootstrap, &path.name("bootstrap"));
            }
            for kind in ["static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters"] {
                for (path, entry) in located(dump, &path, kind) {
                    clusters.complete = true;
                    clusters.add(path.name("cluster"), field(entry, "cluster"));
                }
            }
        }
        for (path, resource) in located(document, &root, "resources") {
            clusters.add(path, Some(resource).filter(|resource| type_of(resource) == "Cluster"));
        }
        for (path, patch) in fields(document, "spec")
            .into_iter()
            .flat_map(|spec| located(spec, &root.name("spec"), "config_patches"))
        {
            let value = fields(patch, "patch.value").filter(|_| string(patch, "apply_to") == "CLUSTER");
            clusters.add(path.name("patch").name("value"), value);
        }
        let of_clusters =
            ["load_assignment", "transport_socket", "typed_extension_protocol_options", "lb_policy"];
        let is_cluster = of_clusters.iter().any(|name| field(document, name).is_some());
        clusters.add(root, Some(document).filter(|_| is_cluster));
        clusters
    }

    fn bootstrap(&mut self, bootstrap: &'d Value, path: &Path) {
        let Some(resources) = field(bootstrap, "static_resources") else { return };
        let path = path.name(&crate::proto::spelled(bootstrap, "static_resources"));
        for (path, cluster) in located(resources, &path, "clusters") {
            self.add(path, Some(cluster));
        }
        // Clusters may also come from CDS, all at once or on demand.
        let more = ["cds_config", "odcds", "odcds_config", "cds_resources_locator"];
        self.complete |= field(resources, "clusters").is_some() && !mentions(bootstrap, &more);
    }

    fn add(&mut self, path: Path, cluster: Option<&'d Value>) {
        let Some(cluster) = cluster else { return };
        let name = string(cluster, "name");
        if !name.is_empty() {
            self.known.entry(name).or_insert((path, cluster));
        }
    }
}
