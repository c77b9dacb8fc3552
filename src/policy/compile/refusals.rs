//! Compiles the format of error responses, and the protected resource metadata.

use super::issuer::names_of;
use super::{Compiler, IssuerUses};
use crate::config::path_deserializer::Path;
use crate::config::{self, Config};
use crate::dpop::verify;
use crate::http::path;
use crate::http::url::Url;
use crate::inbound::refusal::RefusalFormat;
use crate::inbound::resource_metadata::{Resource, WELL_KNOWN};
use serde_json::{Map, Value, json};

impl Compiler<'_> {
    #[inline(never)]
    pub(super) fn refusal_format(
        &mut self,
        path: &Path,
        config: &Config,
        inbound: &config::Inbound,
    ) -> (RefusalFormat, Option<Resource>) {
        let default = RefusalFormat::default();
        let realm = inbound.realm.clone().unwrap_or(default.realm);
        if !realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte)) {
            let message = format!("{realm:?}, expected printable ASCII without \" and \\");
            self.error(&path.name("realm"), &message);
        }
        let problem = inbound.error_format == config::ErrorFormat::Problem;
        let metadata = inbound.resource_metadata.as_ref();
        let bound = binding_metadata(inbound);
        let resource = metadata
            .and_then(|metadata| self.resource(&path.name("resource_metadata"), config, metadata, bound));
        let (resource_metadata, resource) = resource.unzip();
        (RefusalFormat { realm, problem, resource_metadata }, resource)
    }

    /// The URL of the metadata document, and the document.
    #[inline(never)]
    fn resource(
        &mut self,
        path: &Path,
        config: &Config,
        metadata: &config::ResourceMetadata,
        bound: Vec<(&str, Value)>,
    ) -> Option<(String, Resource)> {
        let identifier = metadata.resource.as_deref().unwrap_or_default();
        // RFC 9728 section 1.2; a query could not be distinguished from that of the request for the
        // document.
        let url = Url::parse(identifier).filter(|url| url.scheme == "https" && !url.path.contains('?'));
        let normal = |url: &Url| matches!(path::normal(url.path.as_bytes()), Ok(normal) if *normal == *url.path.as_bytes());
        let url = url.filter(normal);
        if url.is_none() {
            let message = format!(
                "{identifier:?}, expected the resource's https URL without a query, with its path in normal form"
            );
            self.error_unless(vec![path.clone()], &path.name("resource"), &message);
        }
        let mut servers = metadata.authorization_servers.clone();
        for (index, server) in servers.iter().enumerate() {
            if Url::parse(server).is_none() {
                let message = format!("{server:?}, expected the http(s) URL of an issuer");
                self.error(&path.name("authorization_servers").index(index), &message);
            }
        }
        if servers.is_empty() {
            let uses = IssuerUses::of(config);
            let verifying = config.issuers.iter().filter(|(name, _)| uses.verifying.contains(name));
            servers.extend(verifying.flat_map(|(_, issuer)| names_of(issuer)).map(|name| name.iss));
        }
        let Url { authority, path, .. } = url?;
        let path = if path == "/" { String::new() } else { path };
        let mut document: Map<String, Value> = Map::new();
        document.insert("resource".to_owned(), json!(identifier));
        document.insert("authorization_servers".to_owned(), json!(servers));
        document.insert("bearer_methods_supported".to_owned(), json!(["header"]));
        if !metadata.scopes_supported.is_empty() {
            document.insert("scopes_supported".to_owned(), json!(metadata.scopes_supported));
        }
        for (name, text) in [
            ("resource_name", &metadata.resource_name),
            ("resource_documentation", &metadata.resource_documentation),
        ] {
            document.extend(text.as_ref().map(|text| (name.to_owned(), json!(text))));
        }
        document.extend(bound.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let document = Value::Object(document).to_string();
        Some((format!("https://{authority}{WELL_KNOWN}{path}"), Resource { path, document }))
    }
}

/// The metadata about sender-constrained tokens (RFC 9728 section 2).
#[inline(never)]
fn binding_metadata(inbound: &config::Inbound) -> Vec<(&'static str, Value)> {
    let requires = inbound.rules.iter().filter_map(|rule| rule.require.as_ref());
    let bound: Vec<_> = requires.map(|require| require.token_binding.unwrap_or_default()).collect();
    let mut members = Vec::new();
    if bound.iter().any(|bound| bound.dpop) {
        let algorithms: Vec<&str> = verify::ALGORITHMS.split(' ').collect();
        members.push(("dpop_signing_alg_values_supported", json!(algorithms)));
        let all = bound
            .iter()
            .all(|binding| binding.dpop && !binding.mtls && !binding.danger_xfcc && !binding.optional);
        members.push(("dpop_bound_access_tokens_required", json!(all)));
    }
    if bound.iter().any(|bound| bound.mtls || bound.danger_xfcc) {
        members.push(("tls_client_certificate_bound_access_tokens", json!(true)));
    }
    members
}
