//! The deployment of a plugin in its document: whether it fails open, runs at all, and reaches its
//! providers safely.
//!
//! A finding is reported only if the document proves it. What a control plane may add is never an
//! error.

mod chain;
mod clusters;
mod failure;
mod routes;
mod rules;

use crate::document::{Platform, PluginConfig};
use crate::finding::Finding;
use m2m_auth::config::path_deserializer::Path;
use m2m_auth::policy::Policy;
use serde_json::Value;

/// The values along a path, outermost first.
type Through<'d> = [(Path, &'d Value)];

/// A plugin in its document.
pub(crate) struct DeployedPlugin<'d> {
    pub document: &'d Value,
    pub plugin: &'d PluginConfig,
    /// The filter's own configuration; `null` if it cannot be read.
    pub configuration: &'d Value,
    /// `None` if it has errors.
    pub policy: Option<&'d Policy>,
}

impl DeployedPlugin<'_> {
    /// All findings about this plugin, in the order of their names.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        failure::check(self, &mut found);
        chain::check(self, &mut found);
        clusters::check(self, &mut found);
        routes::check(self, &mut found);
        rules::check(self, &mut found);
        found
    }

    /// Whether it checks inbound requests. An unreadable configuration counts as one that does.
    fn is_inbound(&self) -> bool {
        self.configuration.is_null() || self.configuration.get("inbound").is_some()
    }

    fn is_outbound(&self) -> bool {
        self.configuration.get("outbound").is_some()
    }

    /// The path in the document of the filter's own configuration.
    fn root(&self) -> Path {
        match self.plugin.host {
            Platform::Envoy => self.plugin.at.name("value"),
            Platform::Istio | Platform::EnvoyGateway | Platform::Bare => self.plugin.at.clone(),
        }
    }
}
