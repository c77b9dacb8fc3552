//! Placeholders for the secrets that a configuration names and that the command-line tool does not
//! have.
//!
//! A variable that is not set here gets a placeholder: a string, or if the filter rejects it, a
//! URL, or a key published in an RFC. So a configuration can be checked on a machine that must not
//! have its secrets.

use crate::document::PluginConfig;
use m2m_auth::config::errors::ConfigError;
use m2m_auth::jose::jwk::Algorithm;
use m2m_auth::policy::Policy;
use serde_json::Value;
use std::collections::BTreeMap;

/// Placeholders in the order in which they are tried: a long string, a URL, and a private key of
/// each type.
const PLACEHOLDERS: [&str; 5] = [
    "a-stand-in-for-a-secret-that-is-not-here",
    "https://stand-in.invalid/token",
    // RFC 8037 appendix A.1.
    r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    // RFC 7515 appendix A.3.
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#,
    // RFC 7515 appendix A.2.
    r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB","d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ","p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc","q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc","dp":"BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0","dq":"h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU","qi":"IYd7DHOhrWvxkwPQsRM2tOgrjbcrfRtQJipd-DlcxyuuumYjj_wTcnFi4m3OlVmL4wJU-qZT2-WzqBlzoeMgyW_LhbZLPlm8wdFvDnMbuE8b7YE8RzA_wxyLXtPJ4O0RHJDk3hQnY8iGH7V4VIPKsGSIWLRjd9LzPWrYZ_Qvljs"}"#,
];

/// A loaded configuration.
pub(crate) struct LoadedConfig {
    /// The compiled policy, or the errors.
    pub policy: Result<Policy, Vec<ConfigError>>,
    /// The environment variables that it names.
    pub needs: Vec<String>,
}

/// Reads a plugin's configuration as the filter would. `strict`: only with the variables that are
/// set here.
pub(crate) fn read(plugin: &PluginConfig, configuration: &[u8], strict: bool) -> LoadedConfig {
    let json = serde_json::from_slice(configuration).unwrap_or_default();
    let mut named = Vec::new();
    variables(&json, &mut named);
    named.sort();
    named.dedup();
    let mut choice: BTreeMap<&str, usize> = named.iter().map(|name| (name.as_str(), 0)).collect();
    loop {
        let value = |name: &str| {
            let passed =
                plugin.passes.as_ref().map(|passes| passes.iter().find(|(variable, _)| variable == name));
            match passed {
                Some(None) => return None,
                Some(Some((_, Some(value)))) => return Some(value.clone()),
                Some(Some((_, None))) | None => {}
            }
            let stand_in = || PLACEHOLDERS.get(*choice.get(name)?).map(|text| (*text).to_owned());
            std::env::var(name).ok().or_else(|| if strict { None } else { stand_in() })
        };
        let policy = Policy::read(configuration, &value);
        let wrong =
            policy.as_ref().err().into_iter().flatten().find_map(|error| rejected_variable(&json, error));
        // The secret may have to be a key, or a key of another type.
        match wrong.and_then(|name| choice.get_mut(name.as_str())) {
            Some(choice) if *choice + 1 < PLACEHOLDERS.len() => *choice += 1,
            _ => return LoadedConfig { policy, needs: named },
        }
    }
}

/// The variable at the path of an error.
fn rejected_variable(json: &Value, error: &ConfigError) -> Option<String> {
    let object = error.path.steps().iter().try_fold(json, |value, step| match step {
        m2m_auth::config::path_deserializer::PathSegment::Name(name) => value.get(name),
        m2m_auth::config::path_deserializer::PathSegment::Index(index) => value.get(index),
    })?;
    object.get("env")?.as_str().map(str::to_owned)
}

fn variables(json: &Value, named: &mut Vec<String>) {
    match json {
        Value::Object(members) => match members.get("env") {
            Some(Value::String(name)) if members.len() == 1 => named.push(name.clone()),
            _ => members.values().for_each(|value| variables(value, named)),
        },
        Value::Array(elements) => elements.iter().for_each(|value| variables(value, named)),
        _ => {}
    }
}

/// A key of an RFC that signs with this algorithm.
pub(crate) fn private_key(algorithm: Option<Algorithm>) -> &'static str {
    let [_, _, ed25519, p256, rsa] = PLACEHOLDERS;
    match algorithm {
        Some(Algorithm::Es256) => p256,
        Some(Algorithm::Rs256) => rsa,
        _ => ed25519,
    }
}
