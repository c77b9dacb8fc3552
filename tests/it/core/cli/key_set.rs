//! `explain` without the key that it needs: the commands that fetch the key set.

use super::{Folder, Ran, run};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::token::Mint;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const NOW: u64 = 1_800_000_000;

/// Files, and a key that signs the tokens.
struct Setup {
    folder: Folder,
    key: Key,
}

impl Setup {
    fn new() -> Self {
        Self { folder: Folder::new(), key: Key::new(Alg::EdDsa).with_kid("k") }
    }

    /// Explains a request with a token of this issuer; `issuers` are the configuration's, all
    /// accepted.
    fn explain(&self, issuers: &Value, iss: &str, more: &[&str]) -> Ran {
        let names: Vec<&String> = issuers.as_object().unwrap().keys().collect();
        let configuration = json!({
            "issuers": issuers,
            "inbound": { "rules": [{ "require": { "issuers": names, "audiences": ["svc"] } }] },
        });
        let config = self.folder.file("config.json", configuration.to_string());
        let claims = json!({ "iss": iss, "aud": "svc", "exp": NOW + 300 });
        let line = format!("authorization: Bearer {}", Mint::of(claims).sign(&self.key));
        let header = format!("@{}", self.folder.file("headers.txt", line));
        let now = NOW.to_string();
        run(&[&["explain", "--config", &config, "--now", &now, "--header", &header][..], more].concat())
    }

    fn key_set(&self, name: &str, key: &Key) -> String {
        self.folder.file(name, json!({ "keys": [key.jwk()] }).to_string())
    }
}

const DISCOVERED: &str = "  # the metadata; providers without OpenID have it at https://idp.example.com/.well-known/oauth-authorization-server/realms/r
  curl -fsS https://idp.example.com/realms/r/.well-known/openid-configuration
  # the key set, at the `jwks_uri` of the metadata
  curl -fsS --proto =http,https --url \"$(curl -fsS https://idp.example.com/realms/r/.well-known/openid-configuration | jq -er .jwks_uri)\" > keycloak.jwks.json
  # then add to this command
  --jwks keycloak=keycloak.jwks.json
";

const ISSUER: &str = "https://idp.example.com/realms/r";

fn discovered() -> Value {
    json!({ "keycloak": { "issuer": ISSUER, "cluster": "idp" } })
}

#[test]
fn a_missing_key_set_comes_with_the_commands_that_fetch_it() {
    let setup = Setup::new();
    let ran = setup.explain(&discovered(), ISSUER, &[]);
    let missing = "m2m-auth: missing key set of keycloak, expected --jwks keycloak=FILE\nfetch it:\n";
    assert_eq!((ran.code, ran.says.as_str(), ran.complains), (2, "", format!("{missing}{DISCOVERED}")));
    let mut configured = discovered();
    configured["keycloak"]["jwks_uri"] = json!("https://keys.example.com/keys?p=B2C_1&x=$(id)");
    let ran = setup.explain(&configured, ISSUER, &[]);
    let commands = "  curl -fsS 'https://keys.example.com/keys?p=B2C_1&x=$(id)' > keycloak.jwks.json
  # then add to this command
  --jwks keycloak=keycloak.jwks.json
";
    assert_eq!(ran.complains, format!("{missing}{commands}"));
    let bad = setup.folder.file("bad.json", "{\"keys\": []}");
    let ran = setup.explain(&discovered(), ISSUER, &["--jwks", &format!("keycloak={bad}")]);
    assert_eq!(ran.code, 2);
    assert!(ran.complains.contains("the key set is empty"), "{ran:?}");
    assert!(ran.complains.ends_with(&format!("fetch it:\n{DISCOVERED}")), "{ran:?}");
}

#[test]
fn of_several_issuers_the_commands_are_for_the_one_of_the_token() {
    let setup = Setup::new();
    let issuers = json!({
        "a": { "issuer": "https://a.example.com", "cluster": "idp" },
        "the other": { "issuer": "https://b.example.com", "cluster": "idp", "jwks_uri": "https://b.example.com/keys" },
    });
    let ran = setup.explain(&issuers, "https://b.example.com", &[]);
    let expected = "m2m-auth: missing key set of the other, expected --jwks the other=FILE
fetch it:
  curl -fsS https://b.example.com/keys > the_other.jwks.json
  # then add to this command
  --jwks 'the other=the_other.jwks.json'
";
    assert_eq!(ran.complains, expected);
    // With the key set of the token's issuer, the other one is not missed.
    let file = format!("the other={}", setup.key_set("b.json", &setup.key));
    assert_eq!(setup.explain(&issuers, "https://b.example.com", &["--jwks", &file]).code, 0);
    let ran = setup.explain(&issuers, "https://a.example.com", &["--jwks", &file]);
    assert!(ran.complains.starts_with("m2m-auth: missing key set of a, expected --jwks a=FILE\n"), "{ran:?}");
}

#[test]
fn a_key_that_is_not_in_the_key_set_comes_with_the_commands_that_fetch_the_current_one() {
    let setup = Setup::new();
    let old = Key::new(Alg::EdDsa).with_kid("old");
    let file = format!("keycloak={}", setup.key_set("old.json", &old));
    let mut issuers = discovered();
    issuers["second"] = json!({ "issuer": "https://b.example.com", "cluster": "idp" });
    let second = format!("second={}", setup.key_set("second.json", &setup.key));
    let files = ["--jwks", file.as_str(), "--jwks", &second];
    let ran = setup.explain(&issuers, ISSUER, &files);
    assert_eq!((ran.code, ran.complains.as_str()), (1, ""));
    assert!(ran.says.contains("key           no kid k, 1 usable keys\n"), "{ran:?}");
    let advice = format!("the key set does not contain the key\nfetch the current one:\n{DISCOVERED}");
    assert!(ran.says.ends_with(&advice), "{ran:?}");
    let report = setup.explain(&issuers, ISSUER, &[&files[..], &["--format", "json"]].concat()).json();
    let lines: Vec<&str> = DISCOVERED.lines().map(str::trim_start).collect();
    assert_eq!((&report["reason"], &report["fetch_keys"]), (&json!("unknown_key"), &json!(lines)));
    // A key set in the configuration cannot be fetched.
    let inline = json!({ "keycloak": { "issuer": ISSUER, "jwks": { "keys": [old.jwk()] } } });
    let ran = setup.explain(&inline, ISSUER, &[]);
    assert!(ran.says.contains("(unknown_key)") && !ran.says.contains("curl"), "{ran:?}");
    // No other decision needs the commands.
    let good = format!("keycloak={}", setup.key_set("good.json", &setup.key));
    let ran = setup.explain(&discovered(), ISSUER, &["--jwks", &good, "--format", "json"]);
    assert_eq!(ran.json()["fetch_keys"], json!([]));
}

#[test]
fn the_printed_commands_lead_to_a_decision() {
    let setup = Setup::new();
    let first = setup.explain(&discovered(), ISSUER, &[]);
    let lines: Vec<&str> = first.complains.lines().skip(2).map(str::trim_start).collect();
    let (option, script) = lines.split_last().unwrap();
    let (folder, keys) = (setup.folder.0.path(), setup.key_set("served.json", &setup.key));
    let served = format!(
        "#!/bin/sh\nset -eu\ntest \"$2\" != --proto || test \"$3 $4\" = '=http,https --url'\n\
         for url; do :; done\ncase \"$url\" in\n\
         {ISSUER}/.well-known/openid-configuration) echo '{{\"jwks_uri\":\"https://idp.example.com/k?a=1&b=2\"}}' ;;\n\
         'https://idp.example.com/k?a=1&b=2') cat '{keys}' ;;\n*) exit 22 ;;\nesac\n"
    );
    let jq =
        "#!/bin/sh\nset -eu\ntest \"$*\" = '-er .jwks_uri'\nsed 's/.*\"jwks_uri\":\"\\([^\"]*\\)\".*/\\1/'\n";
    for (name, program) in [("curl", served.as_str()), ("jq", jq)] {
        let file = setup.folder.file(name, program);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script.join("\n")]).current_dir(folder).env("PATH", path);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (flag, value) = option.split_once(' ').unwrap();
    let (name, file) = value.split_once('=').unwrap();
    let value = format!("{name}={}", folder.join(file).display());
    let ran = setup.explain(&discovered(), ISSUER, &[flag, &value]);
    assert_eq!((ran.code, ran.complains.as_str()), (0, ""), "{ran:?}");
}
