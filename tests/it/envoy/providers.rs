//! Each provider's page, as it is written: its configuration in Envoy, against a simulated provider
//! with that provider's hosts, metadata, key set and tokens.
//!
//! The page brings the configuration, the clusters and the token. `tests/data/providers` brings the
//! rest of the provider. Only addresses and the CA are replaced; the list is asserted.

use crate::core::cli::{Folder, run as tool, run_with_input as tool_with_input};
use crate::envoy::scene::{arrived, listener_named};
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::envoy::{self, Envoy, Wasm};
use m2m_auth_kit::idp::{Endpoint, Fault, Idp};
use m2m_auth_kit::key::{Alg, Key};
use m2m_auth_kit::repository;
use m2m_auth_kit::token::{Mint, decode, now, verifies};
use m2m_auth_kit::upstream::Upstream;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

mod kubernetes;

/// What is beside the pages in their folder.
const OTHERS: [&str; 3] = ["README.md", "keycloak-notes.md", "presets.md"];

/// Where an operator's CA certificates are, on the pages.
const AUTHORITIES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"];

#[tokio::test]
async fn keycloak_works_as_its_page_says() {
    run("keycloak").await;
}

#[tokio::test]
async fn auth0_works_as_its_page_says() {
    run("auth0").await;
}

#[tokio::test]
async fn entra_works_as_its_page_says() {
    run("entra").await;
}

#[tokio::test]
async fn okta_works_as_its_page_says() {
    run("okta").await;
}

#[tokio::test]
async fn cognito_works_as_its_page_says() {
    run("cognito").await;
}

#[tokio::test]
async fn google_works_as_its_page_says() {
    run("google").await;
}

#[tokio::test]
async fn kubernetes_works_as_its_page_says() {
    run("kubernetes").await;
}

#[tokio::test]
async fn generic_oidc_works_as_its_page_says() {
    run("generic-oidc").await;
}

#[test]
fn every_preset_has_a_page_and_every_page_a_run() {
    let folder = repository().join("docs/providers");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages: BTreeSet<String> = names
        .filter(|name| !OTHERS.contains(&name.as_str()))
        .map(|name| name.trim_end_matches(".md").to_owned())
        .collect();
    let manual = fs::read_to_string(repository().join("docs/reference/configuration.md")).unwrap();
    let presets = manual.split_once("\n## Preset\n").unwrap().1.split_once("\n## ").unwrap().0;
    let presets: Vec<&str> = presets.split('`').skip(1).step_by(2).collect();
    assert!(presets.len() > 6, "{presets:?}");
    for preset in presets {
        let has_page = [preset.to_owned(), format!("{preset}-oidc")].iter().any(|name| pages.contains(name));
        assert!(has_page, "no page of {preset}");
    }
    let readme = fs::read_to_string(repository().join("docs/providers/README.md")).unwrap();
    for page in pages {
        assert!(readme.contains(&format!("]({page}.md)")), "docs/providers/README.md does not list {page}");
        assert!(
            include_str!("providers.rs").contains(&format!("    run(\"{page}\").await;")),
            "no run of {page}"
        );
    }
}

/// Everything that a page promises.
async fn run(name: &str) {
    let scene = Scene::start(name).await;
    scene.page.passes_the_check();
    scene.page.is_explained(&scene.key);
    let envoy = scene.envoy().await;
    scene.validates(&envoy).await;
    scene.attaches(&envoy).await;
    let mut replaced = scene.page.replaced.clone();
    replaced.extend(kubernetes::replaced(&scene.page));
    assert_eq!(json!(replaced), scene.page.data["replaced"], "{name}");
}

/// A page, and the data of its provider.
struct Page {
    name: String,
    text: String,
    data: Value,
    /// What was replaced in its clusters.
    replaced: BTreeSet<String>,
}

impl Page {
    fn read(name: &str) -> Self {
        let read = |path: String| fs::read_to_string(repository().join(path)).unwrap();
        let data = serde_json::from_str(&read(format!("tests/data/providers/{name}.json"))).unwrap();
        let text = read(format!("docs/providers/{name}.md"));
        Self { name: name.to_owned(), text, data, replaced: BTreeSet::new() }
    }

    /// The blocks in that language.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let open = format!("```{language}\n");
        self.text.split(&open).skip(1).map(|block| block.split_once("```").unwrap().0).collect()
    }

    /// The first YAML block with that member.
    fn block(&self, member: &str) -> Option<(&str, Value)> {
        let parsed =
            self.blocks("yaml").into_iter().map(|block| (block, serde_norway::from_str(block).unwrap()));
        parsed.into_iter().find(|(_, value): &(&str, Value)| value.get(member).is_some())
    }

    /// Every cluster of the page.
    fn clusters(&self) -> Vec<Value> {
        let parse = |block: &str| serde_norway::from_str::<Value>(block).unwrap();
        let blocks = self.blocks("yaml").into_iter().map(parse);
        blocks.flat_map(|block| block["clusters"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// The header and the payload of each token of the page.
    fn tokens(&self) -> Vec<(Value, Value)> {
        let parts: Vec<Value> =
            self.blocks("json").into_iter().map(|block| serde_json::from_str(block).unwrap()).collect();
        parts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    /// The token of the first inbound configuration.
    fn token(&self) -> (Value, Value) {
        self.tokens().into_iter().next().unwrap_or_else(|| panic!("{}: no token", self.name))
    }

    /// The same, with times that are valid now.
    fn fresh_token(&self) -> (Value, Value) {
        let (header, mut claims) = self.token();
        let later = now() - claims["iat"].as_u64().unwrap();
        for name in ["iat", "exp", "nbf"] {
            if let Some(time) = claims[name].as_u64() {
                claims[name] = json!(time + later);
            }
        }
        (header, claims)
    }

    /// The name and the configuration of the issuer that the inbound rule requires.
    fn issuer(&self) -> (String, Value) {
        let (_, configuration) = self.block("inbound").unwrap();
        let (name, issuer) = configuration["issuers"].as_object().unwrap().iter().next().unwrap();
        (name.clone(), issuer.clone())
    }

    /// The key set in the provider's shape: the key of the page's token, and others.
    fn key_set(&self, key: &Key) -> Value {
        let template = |jwk: &Value| {
            let is_signing = jwk["kid"] == key.kid();
            let mut jwk = jwk.clone();
            let bare = if is_signing { key.bare_jwk() } else { Key::new(Alg::Rs256).bare_jwk() };
            jwk.as_object_mut().unwrap().extend(bare.as_object().unwrap().clone());
            if jwk.get("x5c").is_some() {
                let pem = fs::read_to_string(tls("providers.pem")).unwrap();
                let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
                jwk["x5c"] = json!([lines.concat()]);
            }
            jwk
        };
        json!({ "keys": self.data["jwks"].as_array().unwrap().iter().map(template).collect::<Vec<_>>() })
    }

    /// The page's cluster, with the address and the CA of the test.
    fn replaced(&mut self, mut cluster: Value, front: u16) -> Value {
        let socket = cluster
            .pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
        let socket = socket.unwrap();
        let host = socket["address"].as_str().unwrap().to_owned();
        self.replaced.insert(format!("{host}:{}", socket["port_value"]));
        *socket = json!({ "address": "127.0.0.1", "port_value": front });
        let tls_context = &mut cluster["transport_socket"]["typed_config"];
        assert_eq!(
            (&tls_context["sni"], &tls_context["auto_sni_san_validation"]),
            (&json!(host), &json!(true))
        );
        let file = &mut tls_context["common_tls_context"]["validation_context"]["trusted_ca"]["filename"];
        assert!(AUTHORITIES.iter().any(|own| file == own), "{file}");
        self.replaced.insert(file.as_str().unwrap().to_owned());
        *file = json!(tls("providers.pem"));
        cluster
    }

    /// `check --strict` of the filter behind the page's clusters, with nothing replaced.
    fn passes_the_check(&self) {
        let folder = Folder::new();
        for direction in ["inbound", "outbound"] {
            let Some((_, configuration)) = self.block(direction) else { continue };
            let mut listener = listener_named(direction, &wasm(&configuration));
            listener["per_connection_buffer_limit_bytes"] = json!(1_048_576);
            let mut clusters = self.clusters();
            clusters.push(envoy::cluster("service", ([127, 0, 0, 1], 3000).into()));
            let bootstrap = json!({ "static_resources": { "listeners": [listener], "clusters": clusters } });
            let ran = tool(&["check", "--strict", &folder.file("envoy.json", bootstrap.to_string())]);
            assert_eq!(ran.code, 0, "{} {direction}: {}", self.name, ran.says);
        }
    }

    /// `explain` prints the lines of the page for each token of the page, which belongs to the
    /// inbound configuration at the same position.
    fn is_explained(&self, key: &Key) {
        let (tokens, expected) = (self.tokens(), self.blocks("text"));
        assert_eq!(tokens.len(), expected.len(), "{}", self.name);
        let parse = |block: &str| serde_norway::from_str::<Value>(block).unwrap();
        let mut inbound = self.blocks("yaml");
        inbound.retain(|block| parse(block).get("inbound").is_some());
        assert!(inbound.len() >= tokens.len(), "{}", self.name);
        for ((yaml, token), expected) in inbound.into_iter().zip(tokens).zip(expected) {
            self.explains(yaml, token, expected, key);
        }
        let (issuer, path) = (self.issuer().0, self.data["path"].as_str().unwrap());
        let command = format!("--path {path} --header @-");
        let is_piped = self.blocks("sh").into_iter().flat_map(str::lines).any(|line| {
            let pipe = r#"printf 'authorization: Bearer %s\n' "$TOKEN" | m2m-auth explain"#;
            line.starts_with(&format!("{pipe} --config filter.yaml --jwks {issuer}="))
                && line.ends_with(&command)
        });
        assert!(is_piped, "{}: the token is on the command line", self.name);
    }

    fn explains(&self, yaml: &str, (header, claims): (Value, Value), expected: &str, key: &Key) {
        let folder = Folder::new();
        let keys = format!("{}={}", self.issuer().0, folder.file("keys.json", self.key_set(key).to_string()));
        let (config, now) =
            (folder.file("filter.yaml", yaml), (claims["iat"].as_u64().unwrap() + 60).to_string());
        let token = format!("authorization: Bearer {}\n", mint(&header, claims, key));
        let path = self.data["path"].as_str().unwrap();
        let arguments = [
            "explain", "--config", &config, "--jwks", &keys, "--now", &now, "--path", path, "--header", "@-",
        ];
        let ran = tool_with_input(&arguments, token.as_bytes());
        assert_eq!((ran.code, ran.complains.as_str()), (0, ""), "{}: {ran:?}", self.name);
        let mut rest = ran.says.as_str();
        for line in expected.lines().filter(|line| *line != "…") {
            rest = rest.split_once(&format!("{line}\n")).unwrap_or_else(|| panic!("{line}\n{}", ran.says)).1;
        }
        assert_eq!(rest, "", "{}: the page has the end", self.name);
    }
}

/// A provider behind TLS, and a service.
struct Scene {
    page: Page,
    idp: Idp,
    key: Key,
    front: Envoy,
    service: Upstream,
    clusters: Vec<Value>,
    /// The token that the token endpoint issues.
    token: String,
}

impl Scene {
    async fn start(name: &str) -> Self {
        let mut page = Page::read(name);
        let (idp, service) = (Idp::start().await, Upstream::start().await);
        let key = Key::new(Alg::Rs256).with_kid(page.token().0["kid"].as_str().unwrap());
        let metadata = page.data["metadata"].clone();
        idp.set_issuer(metadata["issuer"].as_str().unwrap());
        let endpoints = [(Endpoint::Keys, "jwks_uri"), (Endpoint::Token, "token_endpoint")];
        for (endpoint, member) in endpoints {
            if let Some(url) = metadata[member].as_str() {
                idp.set_path(
                    endpoint,
                    url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap().as_str(),
                );
            }
        }
        let published = |body: &Value, kind: &str| {
            let headers =
                [("content-type", kind), ("cache-control", page.data["cache_control"].as_str().unwrap())];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Fault::Answer(200, headers.to_vec(), body.to_string())
        };
        idp.fault(Endpoint::Discovery, published(&metadata, "application/json"));
        let kind = page.data["jwks_type"].as_str().unwrap_or("application/json");
        idp.fault(Endpoint::Keys, published(&page.key_set(&key), kind));
        let (header, claims) = page.fresh_token();
        let token = mint(&header, claims, &key);
        let mut answer = page.data["token_request"]["response"].clone();
        for member in ["access_token", "id_token"] {
            if answer.get(member).is_some() {
                answer[member] = json!(token);
            }
        }
        idp.fault(Endpoint::Token, Fault::Body(answer.to_string()));
        let clusters: Vec<Value> =
            page.clusters().into_iter().filter(|cluster| cluster["name"] != "orders").collect();
        let front = front(&idp, &clusters).await;
        let port = front.port("provider");
        let clusters = clusters.into_iter().map(|cluster| page.replaced(cluster, port)).collect();
        Self { page, idp, key, front, service, clusters, token }
    }

    /// Envoy with the page's filters and clusters.
    async fn envoy(&self) -> Envoy {
        let mut builder = Envoy::builder().cluster(envoy::cluster("service", self.service.address()));
        for cluster in &self.clusters {
            builder = builder.cluster(kubernetes::with_local_files(cluster));
        }
        for (name, text) in kubernetes::files(&self.page) {
            builder = builder.file(&name, &text);
        }
        for direction in ["inbound", "outbound"] {
            let Some((_, configuration)) = self.page.block(direction) else { continue };
            for name in variables(&configuration) {
                let value =
                    if name.ends_with("_KEY") { self.key.private_pem() } else { "client-secret".to_owned() };
                builder = builder.env(&name, &value);
            }
            builder = builder.listener(listener_named(direction, &wasm(&configuration).vm_id(direction)));
        }
        builder.start().await.unwrap()
    }

    async fn validates(&self, envoy: &Envoy) {
        let (data, (header, claims)) = (&self.page.data, self.page.fresh_token());
        let usable = data["usable_keys"].as_u64().unwrap_or(1);
        envoy.wait_for_log(&format!("keys of issuer {}: {usable} usable", self.page.issuer().0)).await;
        let authorization = self.idp.last(Endpoint::Keys).header("authorization");
        assert_eq!(authorization.as_deref(), data["keys_authorization"].as_str());
        let request = || client::get(envoy.url("inbound", data["path"].as_str().unwrap()));
        let good =
            request().header("x-caller", "somebody-else").bearer(mint(&header, claims.clone(), &self.key));
        let good = good.send().await;
        for (name, value) in data["headers"].as_object().unwrap() {
            assert_eq!(json!(arrived(&good, name)), json!([value]), "{name}");
        }
        refused(&request().send().await, "no token", &json!(401), &json!("no_token"));
        for case in data["refused"].as_array().unwrap() {
            let (mut header, mut claims) = (header.clone(), claims.clone());
            change(&mut header, &case["header"], &json!([]));
            change(&mut claims, &case["claims"], &case["without"]);
            let foreign = Idp::foreign_key();
            let key = if case["foreign_key"] == true { &foreign } else { &self.key };
            let answer = request().bearer(mint(&header, claims, key)).send().await;
            refused(&answer, &case["name"].to_string(), &case["status"], &case["reason"]);
        }
        assert_eq!(self.service.count(), 1, "only the good one arrived");
    }

    async fn attaches(&self, envoy: &Envoy) {
        let Some((_, configuration)) = self.page.block("outbound") else {
            return kubernetes::attaches(&self.page, &self.service).await;
        };
        let (credential, _) =
            configuration["outbound"]["credentials"].as_object().unwrap().iter().next().unwrap();
        envoy.wait_for_log(&format!("token of credential {credential}: token acquired")).await;
        let request = |host: &str| client::get(envoy.url("outbound", "/")).header("host", host);
        let host = configuration["outbound"]["rules"][0]["match"]["host"].as_str().unwrap();
        let attached = arrived(&request(host).send().await, "authorization");
        assert_eq!(attached, [format!("Bearer {}", self.token)]);
        assert_eq!(arrived(&request("elsewhere").send().await, "authorization"), Vec::<String>::new());
        self.asked_as_the_provider_needs(&self.page.data["token_request"]);
    }

    /// The token request has the parameters that the data has, and no others.
    fn asked_as_the_provider_needs(&self, data: &Value) {
        let asked = self.idp.last(Endpoint::Token);
        let mut form: BTreeMap<String, Value> =
            asked.form().into_iter().map(|(name, value)| (name, json!(value))).collect();
        if let Some(assertion) = form.get_mut("assertion") {
            let text = assertion.as_str().unwrap().to_owned();
            assert!(verifies(&text, &self.key), "signed by the client's key");
            let (_, mut claims) = decode(&text);
            change(&mut claims, &json!({}), &json!(["iat", "exp", "jti"]));
            *assertion = claims;
        }
        assert_eq!(json!(form), data["form"], "{asked:?}");
        let expected = data["basic"].as_str().map(|pair| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            format!("Basic {}", STANDARD.encode(pair))
        });
        assert_eq!(asked.header("authorization"), expected, "{asked:?}");
        assert_eq!(asked.header("host").as_deref(), data["host"].as_str(), "{asked:?}");
        assert!(!self.front.address("provider").is_empty());
    }
}

/// The providers' hosts behind TLS, on the listener `provider`: each host has a filter chain for
/// its server name, which answers for no other host.
async fn front(idp: &Idp, clusters: &[Value]) -> Envoy {
    let mut listener = envoy::listener("provider", vec![], envoy::route_to("idp"));
    let (chain, file) = (listener["filter_chains"][0].clone(), |name| json!({ "filename": tls(name) }));
    let certificate =
        json!({ "certificate_chain": file("providers.pem"), "private_key": file("providers.key") });
    let chain_of = |cluster: &Value| {
        let host = &cluster["transport_socket"]["typed_config"]["sni"];
        let mut chain = chain.clone();
        chain["filter_chain_match"] = json!({ "server_names": [host] });
        chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["domains"] = json!([host]);
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": { "tls_certificates": [certificate] },
            },
        });
        chain
    };
    listener["filter_chains"] = clusters.iter().map(chain_of).collect();
    listener["listener_filters"] = json!([{
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        },
    }]);
    Envoy::builder().cluster(envoy::cluster("idp", idp.address())).listener(listener).start().await.unwrap()
}

/// The filter with this configuration, and the environment variables that it names.
fn wasm(configuration: &Value) -> Wasm {
    variables(configuration).iter().fold(Wasm::new(configuration), |wasm, name| wasm.host_env(name))
}

/// The environment variables that a configuration names.
fn variables(configuration: &Value) -> Vec<String> {
    match configuration {
        Value::Object(members) => {
            let own = members.get("env").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(variables)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(variables).collect(),
        _ => Vec::new(),
    }
}

/// A token with exactly this header, but for the key's own `kid`.
fn mint(header: &Value, claims: Value, key: &Key) -> String {
    let members = header.as_object().unwrap().iter().filter(|(name, _)| *name != "kid");
    let mint = members.fold(Mint::of(claims), |mint, (name, value)| mint.header(name, value.clone()));
    if header.get("typ").is_some() { mint.sign(key) } else { mint.without_header("typ").sign(key) }
}

fn change(object: &mut Value, more: &Value, without: &Value) {
    let members = object.as_object_mut().unwrap();
    members.extend(more.as_object().cloned().unwrap_or_default());
    for name in without.as_array().into_iter().flatten() {
        members.remove(name.as_str().unwrap());
    }
}

fn refused(answer: &Response, name: &str, status: &Value, reason: &Value) {
    assert_eq!((&json!(answer.status), &answer.json()["reason"]), (status, reason), "{name}: {answer:?}");
}

fn tls(file: &str) -> String {
    repository().join("tests/data/tls").join(file).to_str().unwrap().to_owned()
}
