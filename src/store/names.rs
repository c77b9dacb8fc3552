//! What fetches are called in logs and metrics.

use super::{FetchKey, Store};
use crate::metrics::Subject;
use crate::policy::IssuerId;

impl Store {
    /// What a fetch is counted as: its kind, and its issuer or credential.
    pub fn metric_subject(&self, key: FetchKey) -> Subject<'_> {
        let issuer = |id: IssuerId| self.policy.issuers.get(id.0).map_or("?", |issuer| issuer.name.as_str());
        match key {
            FetchKey::Metadata(id) => Subject { kind: "metadata", name: issuer(id) },
            FetchKey::Keys(id) => Subject { kind: "jwks", name: issuer(id) },
            FetchKey::Token(id) => Subject { kind: "token", name: self.credential_name(id) },
            FetchKey::Exchanged(id, _) => Subject { kind: "exchanged_token", name: self.credential_name(id) },
            FetchKey::Introspection(id, _) => Subject { kind: "introspection", name: issuer(id) },
        }
    }

    /// A name for logs: `keys of issuer keycloak`.
    pub fn describe(&self, key: FetchKey) -> String {
        let what = match key {
            FetchKey::Metadata(_) => "metadata of issuer",
            FetchKey::Keys(_) => "keys of issuer",
            FetchKey::Token(_) => "token of credential",
            FetchKey::Exchanged(..) => "exchanged token of credential",
            FetchKey::Introspection(..) => "introspection by issuer",
        };
        format!("{what} {}", self.metric_subject(key).name)
    }
}
