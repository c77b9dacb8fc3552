//! The image that `make oci` writes: the same bytes every time, what Istio's agent looks for, and
//! what a registry takes.

use flate2::read::GzDecoder;
use m2m_auth_kit::client::{self, Response};
use m2m_auth_kit::tools::{crane, tied_to_us};
use m2m_auth_kit::{module, repository};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

struct Image {
    folder: TempDir,
    digest: String,
}

impl Image {
    fn of(module: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let digest = m2m_auth_oci::write(module, folder.path()).unwrap();
        Self { folder, digest }
    }

    fn of_the_module() -> Self {
        Self::of(&fs::read(module()).unwrap())
    }

    fn blob(&self, digest: &Value) -> Vec<u8> {
        fs::read(self.folder.path().join("blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap()
    }

    fn manifest(&self) -> Value {
        let index: Value =
            serde_json::from_slice(&fs::read(self.folder.path().join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(index["manifests"][0]["digest"], format!("sha256:{}", self.digest));
        serde_json::from_slice(&self.blob(&index["manifests"][0]["digest"])).unwrap()
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

/// What Istio's agent does with an image of this manifest (`extractOCIStandardImage` and
/// `extractWasmPluginBinary` of its `pkg/wasm/imagefetcher.go`), and Envoy Gateway after it.
fn as_istio_reads_it(manifest: &Value, blob: impl FnOnce(&Value) -> Vec<u8>) -> Vec<u8> {
    assert_eq!(manifest["mediaType"], OCI_MANIFEST, "Docker's media type would lead elsewhere");
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "more than one is refused");
    assert_eq!(layers[0]["mediaType"], OCI_LAYER);
    let layer = blob(&layers[0]["digest"]);
    let mut archive = tar::Archive::new(GzDecoder::new(&layer[..]));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().file_name().unwrap() == "plugin.wasm" {
            let mut module = Vec::new();
            entry.read_to_end(&mut module).unwrap();
            return module;
        }
    }
    panic!("no plugin.wasm in the layer");
}

#[test]
fn one_module_makes_one_image_whenever_and_wherever_it_is_made() {
    let (one, other) = (Image::of_the_module(), Image::of_the_module());
    assert_eq!(one.digest, other.digest);
    assert_eq!(files(one.folder.path()), files(other.folder.path()));
    // Two images of the same second would be equal even if they held the time.
    let manifest = one.manifest();
    let layer = one.blob(&manifest["layers"][0]["digest"]);
    assert_eq!(layer[4..8], [0; 4], "gzip's time");
    assert_eq!(layer[9], 255, "gzip's operating system");
    let mut archive = tar::Archive::new(GzDecoder::new(&layer[..]));
    let entries: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().header().clone()).collect();
    assert_eq!(entries.len(), 1);
    let header = &entries[0];
    assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
    assert_eq!((header.mode().unwrap(), header.username().unwrap()), (0o644, Some("")));
    let config: Value = serde_json::from_slice(&one.blob(&manifest["config"]["digest"])).unwrap();
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let another = Image::of(b"\0asm\x01\0\0\0");
    assert_ne!(one.digest, another.digest);
}

#[test]
fn istios_agent_and_envoy_gateway_find_the_module_in_it() {
    let image = Image::of_the_module();
    let found = as_istio_reads_it(&image.manifest(), |digest| image.blob(digest));
    assert!(found == fs::read(module()).unwrap());
}

#[test]
fn an_image_replaces_an_older_one_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    m2m_auth_oci::write(b"\0asm\x01\0\0\0 older", folder.path()).unwrap();
    m2m_auth_oci::write(b"\0asm\x01\0\0\0 newer", folder.path()).unwrap();
    let fresh = Image::of(b"\0asm\x01\0\0\0 newer");
    assert_eq!(files(folder.path()), files(fresh.folder.path()), "nothing is left of the older one");
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("thesis"), "precious").unwrap();
    assert!(m2m_auth_oci::write(b"\0asm\x01\0\0\0", own.path()).is_err());
    assert_eq!(files(own.path()).len(), 1);
    assert!(m2m_auth_oci::write(b"<html>404</html>", &own.path().join("new")).is_err(), "no Wasm module");
}

#[test]
fn the_manifests_of_istio_get_the_image_and_its_digest() {
    let (manifests, into) = (repository().join("examples/istio"), tempfile::tempdir().unwrap());
    let digest = Image::of_the_module().digest;
    m2m_auth_oci::fill(&manifests, "ghcr.io/example/m2m-auth:1.2.3", &digest, into.path()).unwrap();
    let filled = files(into.path());
    assert_eq!(filled.keys().collect::<Vec<_>>(), ["trafficextension.yaml", "wasmplugin.yaml"]);
    for text in filled.values().map(|bytes| String::from_utf8_lossy(bytes)) {
        assert_eq!(text.matches("url: oci://ghcr.io/example/m2m-auth:1.2.3\n").count(), 2, "{text}");
        assert_eq!(text.matches(&format!("sha256: \"{digest}\"\n")).count(), 2, "{text}");
        assert!(!text.contains(m2m_auth_oci::DIGEST) && !text.contains(m2m_auth_oci::IMAGE), "{text}");
    }
    let version = format!("m2m-auth:{}", env!("CARGO_PKG_VERSION"));
    assert!(m2m_auth_oci::IMAGE.ends_with(&version));
}

/// A registry in memory.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start() -> Self {
        let mut process = tied_to_us(&crane())
            .args(["registry", "serve", "--address", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(port.parse::<u16>().is_ok(), "{line}");
        // Read to its end, so that the registry never blocks on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut says, &mut std::io::sink()));
        Self { process, address: format!("127.0.0.1:{port}") }
    }

    fn name(&self) -> String {
        format!("{}/shop/m2m-auth:0.1.0", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        client::get(format!("http://{}/v2/shop/m2m-auth/{path}", self.address)).send().await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(crane()).args(arguments).output().unwrap();
    assert!(output.status.success(), "crane {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn a_registry_takes_it_and_gives_back_the_same_bytes() {
    let (image, registry) = (Image::of_the_module(), Registry::start());
    let (folder, name) = (image.folder.path().to_str().unwrap(), registry.name());
    run(&["push", folder, &name]);
    assert_eq!(
        String::from_utf8(run(&["digest", &name])).unwrap().trim(),
        format!("sha256:{}", image.digest)
    );
    run(&["validate", "--remote", &name]);

    // As Istio pulls it: by tag, then by the digest that `sha256` of the manifest says.
    let by_tag = registry.get("manifests/0.1.0").await;
    assert_eq!(by_tag.header("content-type").as_deref(), Some(OCI_MANIFEST));
    let by_digest = registry.get(&format!("manifests/sha256:{}", image.digest)).await;
    assert_eq!(by_tag.body, by_digest.body);
    let manifest = by_tag.json();
    let layer = registry.get(&format!("blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap())).await;
    let shipped = fs::read(module()).unwrap();
    assert!(as_istio_reads_it(&manifest, |_| layer.body.to_vec()) == shipped);

    // As docs/how-to/install.md has it for Envoy alone.
    let exported = run(&["export", &name, "-"]);
    let mut archive = tar::Archive::new(&exported[..]);
    let mut file = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(file.path().unwrap().to_str(), Some("plugin.wasm"));
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert!(found == shipped);

    let pulled = tempfile::tempdir().unwrap();
    run(&["pull", "--format=oci", &name, pulled.path().to_str().unwrap()]);
    assert_eq!(files(&pulled.path().join("blobs")), files(&image.folder.path().join("blobs")));
}
