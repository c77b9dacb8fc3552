//! Findings of `check` about the deployment, in addition to the errors of a configuration.

use m2m_auth::config::path_deserializer::Path;
use serde_json::{Value, json};

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Exit code 1.
    Error,
    /// Exit code 0, or 1 under `--strict`.
    Warning,
}

impl Severity {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The names of all findings. They are stable, since pipelines use them with `--allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FindingName {
    /// Error: after a crash of the VM an inbound plugin lets every request pass unchecked
    FailOpen,
    /// Error: the filter is behind the terminal filter of its chain and never runs
    BehindRouter,
    /// Error: a provider with an `https` URL is reached through a cluster without TLS
    ProviderWithoutTls,
    /// Error: an issuer names a cluster that the document does not define
    UnknownCluster,
    /// Error: `*` in `path` or `path_prefix`, where it is a literal
    StarInPath,
    /// Error: an earlier rule matches every request of this one
    ShadowedRule,
    /// Warning: the filter of an inbound plugin is disabled in its chain
    DisabledFilter,
    /// Warning: a route leads to a cluster from which the plugin reads a file or a secret
    PublishedFile,
    /// Warning: after a crash of the VM an outbound plugin forwards requests without a token
    FailOpenOutbound,
    /// Warning: without a failure policy a worker that crashed answers 503 until its configuration
    /// changes
    NoFailurePolicy,
    /// Warning: without `vm_id` workers do not share what they fetch
    NoVmId,
    /// Warning: a rule allows every request without a token
    AllowAll,
    /// Warning: the bodies of held requests are limited by Envoy's default only
    NoBufferLimit,
    /// Warning: Envoy follows redirects with the token that the filter attached
    InternalRedirect,
    /// Warning: TLS to a provider does not verify who answers
    TlsUnverified,
    /// Warning: a rule matches a cluster that the document does not define
    UnknownMatchCluster,
    /// Warning: the requests to a provider pass through the plugin that waits for them
    PluginBeforeProvider,
}

impl FindingName {
    fn severity(self) -> Severity {
        match self {
            Self::FailOpen
            | Self::BehindRouter
            | Self::ProviderWithoutTls
            | Self::UnknownCluster
            | Self::StarInPath
            | Self::ShadowedRule => Severity::Error,
            Self::DisabledFilter
            | Self::PublishedFile
            | Self::FailOpenOutbound
            | Self::NoFailurePolicy
            | Self::NoVmId
            | Self::AllowAll
            | Self::NoBufferLimit
            | Self::InternalRedirect
            | Self::TlsUnverified
            | Self::UnknownMatchCluster
            | Self::PluginBeforeProvider => Severity::Warning,
        }
    }

    /// The name on the command line.
    pub(crate) fn label(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// One finding.
#[derive(Debug)]
pub(crate) struct Finding {
    pub name: FindingName,
    pub severity: Severity,
    /// The path in the document.
    pub path: Path,
    /// What is wrong, what it means, what to do.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(name: FindingName, path: Path, message: impl Into<String>) -> Self {
        Self { name, severity: name.severity(), path, message: message.into() }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name.label(),
            "severity": self.severity.label(),
            "path": self.path.to_string(),
            "message": self.message,
        })
    }
}
