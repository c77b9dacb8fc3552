//! The clusters that a plugin's configuration names: whether they exist, and whether they speak TLS with a provider.

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
    /// Whether there are no others.
    complete: bool,
}

pub(super) fn check(own: &DeployedPlugin<'_>, found: &mut Vec<Finding>) {
    let clusters = KnownClusters::of(own.document);
    let issuers = own.configuration.get("issuers").and_then(Value::as_object);
    for (name, issuer) in issuers.into_iter().flatten() {
        for member in ["cluster", "jwks_cluster", "token_cluster", "introspection_cluster"] {
            let Some(cluster) = issuer.get(member).and_then(Value::as_str) else { continue };
            let at = own.root().name("issuers").name(name).name(member);
            match clusters.known.get(cluster) {
                None if clusters.complete => {
                    found.push(unknown(FindingName::UnknownCluster, at.clone(), cluster));
                }
                Some((path, cluster)) if is_called_by_https(own, name, issuer) => {
                    found.extend(tls(name, path, cluster));
                }
                _ => {}
            }
            found.extend(plugin_before(own, at, cluster));
        }
    }
    let rules = own.configuration.get("outbound").map(|outbound| list(outbound, "rules")).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate().filter(|_| clusters.complete) {
        let cluster = fields(rule, "match.cluster").and_then(Value::as_str);
        if let Some(cluster) = cluster.filter(|cluster| !clusters.known.contains_key(cluster)) {
            let path = own.root().name("outbound").name("rules").index(index).name("match").name("cluster");
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

/// Whether a URL at which the filter calls this issuer is `https`. One in an environment variable is not known.
fn is_called_by_https(own: &DeployedPlugin<'_>, name: &str, issuer: &Value) -> bool {
    let endpoints = ["jwks_uri", "token_endpoint", "introspection_endpoint"].map(|name| issuer.get(name));
    let discovers = match own.policy {
        Some(policy) => policy.issuers.iter().any(|own| own.name == name && own.discovery.is_some()),
        None => endpoints.iter().all(Option::is_none) && issuer.get("jwks").is_none(),
    };
    // Discovery starts at the first of several names.
    let names = issuer.get("issuer").filter(|_| discovers);
    let first = names.and_then(|names| names.get(0).or(Some(names)));
    let mut urls = endpoints.into_iter().chain([first]).flatten().filter_map(Value::as_str);
    urls.any(|url| url.starts_with("https://"))
}

/// What is wrong with TLS between this cluster and the provider.
fn tls(issuer: &str, path: &Path, cluster: &Value) -> Option<Finding> {
    let own = field(cluster, "transport_socket").into_iter();
    let matches = list(cluster, "transport_socket_matches").iter();
    let sockets: Vec<&Value> = own.chain(matches.filter_map(|own| field(own, "transport_socket"))).collect();
    if let Some(socket) = sockets.iter().find(|socket| any(socket, &encrypts)) {
        let doubt = unverified(socket, cluster)?;
        let message = format!(
            "issuer {issuer} has an https URL, but {doubt}: another server can take the client's secret, and answer with keys of \
             its own. Set trusted_ca, sni and auto_sni_san_validation."
        );
        return Some(Finding::new(FindingName::TlsUnverified, path.clone(), message));
    }
    let plain = |socket: &Value| {
        any(socket, &|own| type_of(own) == "RawBuffer" || string(own, "name").ends_with(".raw_buffer"))
    };
    if field(cluster, "cluster_type").is_some()
        || is_local(cluster)
        || !sockets.iter().all(|socket| plain(socket))
    {
        return None;
    }
    let message = format!(
        "issuer {issuer} has an https URL, but this cluster has no TLS transport socket: Envoy sends the client's secret in plain \
         text, and takes keys from any server that answers. Add envoy.transport_sockets.tls with sni and trusted_ca."
    );
    Some(Finding::new(FindingName::ProviderWithoutTls, path.clone(), message))
}

fn encrypts(socket: &Value) -> bool {
    let kinds = ["UpstreamTlsContext", "QuicUpstreamTransport", "Alts"];
    let names =
        ["envoy.transport_sockets.tls", "envoy.transport_sockets.quic", "envoy.transport_sockets.alts"];
    kinds.contains(&type_of(socket)) || names.contains(&string(socket, "name"))
}

/// Why the certificate of the server is not verified, if the document proves that it is not.
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
    if !any(socket, &|own| type_of(own) == "UpstreamTlsContext") || mentions(socket, &elsewhere) {
        return None;
    }
    if !mentions(socket, &["trusted_ca", "system_root_certs"]) {
        return Some("this cluster's TLS verifies no certificate");
    }
    let names = ["match_typed_subject_alt_names", "match_subject_alt_names"];
    let is_on = |own: &Value| {
        let on = |name| field(own, name) == Some(&Value::Bool(true));
        on("auto_sni_san_validation") || on("auto_san_validation")
    };
    let named = mentions(socket, &names) || any(cluster, &is_on);
    (!named).then_some("this cluster's TLS takes the certificate of any name")
}

/// Whether its endpoints are all in this host, where a sidecar or an internal listener may speak TLS.
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

/// The plugin is a filter of the very cluster that reaches its issuer.
fn plugin_before(own: &DeployedPlugin<'_>, at: Path, cluster: &str) -> Option<Finding> {
    let through = along(own.document, &own.plugin.settings);
    let holds = |value: &Value| {
        field(value, "typed_extension_protocol_options").is_some() && string(value, "name") == cluster
    };
    let message = format!(
        "the plugin is a filter of cluster {cluster:?}, which reaches its own issuer: requests to the issuer would wait for \
         what they fetch. Give the issuer a cluster without the plugin."
    );
    let inside = through.iter().any(|(_, value)| holds(value));
    inside.then(|| Finding::new(FindingName::PluginBeforeProvider, at, message))
}

impl<'d> KnownClusters<'d> {
    fn of(document: &'d Value) -> Self {
        let root = Path::default();
        let mut own = Self { known: BTreeMap::new(), complete: false };
        own.bootstrap(document, &root);
        for (path, dump) in located(document, &root, "configs") {
            if let Some(bootstrap) = field(dump, "bootstrap") {
                own.bootstrap(bootstrap, &path.name("bootstrap"));
            }
            for kind in ["static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters"] {
                for (path, entry) in located(dump, &path, kind) {
                    own.complete = true;
                    own.add(path.name("cluster"), field(entry, "cluster"));
                }
            }
        }
        for (path, resource) in located(document, &root, "resources") {
            own.add(path, Some(resource).filter(|own| type_of(own) == "Cluster"));
        }
        for (path, patch) in fields(document, "spec")
            .into_iter()
            .flat_map(|spec| located(spec, &root.name("spec"), "config_patches"))
        {
            let value = fields(patch, "patch.value").filter(|_| string(patch, "apply_to") == "CLUSTER");
            own.add(path.name("patch").name("value"), value);
        }
        let of_clusters =
            ["load_assignment", "transport_socket", "typed_extension_protocol_options", "lb_policy"];
        let is_cluster = of_clusters.iter().any(|name| field(document, name).is_some());
        own.add(root, Some(document).filter(|_| is_cluster));
        own
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
