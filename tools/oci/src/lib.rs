//! The module as an OCI image. In: the module. Out: a folder in OCI's own layout, and the digest of
//! its manifest. The same module makes the same bytes, whenever and wherever: there is no time in
//! it, and no name of a machine or a user.
//!
//! It is the *compat* variant of the [Wasm image
//! specification](https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md): an ordinary
//! image of one layer, a `tar.gz` with `plugin.wasm` at its root. Istio's agent and Envoy Gateway
//! take that, and so does every registry, scanner, mirror and container tool. The *oci* variant,
//! with media types of its own, would only be taken by the first two.
//!
//! It talks to no registry; `crane push` does.

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// What the specification wants the module to be called.
const FILE: &str = "plugin.wasm";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The placeholders in the manifests of `examples/istio` and `examples/envoy-gateway` for the image
/// and its digest.
pub const IMAGE: &str = "registry.example.com/m2m-auth:0.1.0";
/// No image has this digest: manifests that were not filled in are refused by Istio's agent and
/// Envoy Gateway, and with them all traffic.
pub const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Writes the image of a module into a folder, which must be new, empty, or hold an image already.
/// Gives back the digest of its manifest, in hexadecimal digits.
pub fn write(module: &[u8], folder: &Path) -> io::Result<String> {
    if !module.starts_with(b"\0asm") || module.len() < 8 {
        return Err(io::Error::other("this is no Wasm module"));
    }
    clear(folder)?;
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let tar = tar(module)?;
    let layer = blob(folder, LAYER, &gzip(&tar)?)?;
    let config = blob(folder, CONFIG, text(&config(&tar)).as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": labels(),
    });
    let manifest = text(&manifest);
    let descriptor = blob(folder, MANIFEST, manifest.as_bytes())?;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
    fs::write(folder.join("index.json"), text(&index))?;
    fs::write(folder.join("oci-layout"), text(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    Ok(digest(manifest.as_bytes()))
}

/// The manifests of a folder, with this image and its digest, written into another folder. One that
/// has neither placeholder is copied; one that has only one of them is an error.
pub fn fill(manifests: &Path, image: &str, digest: &str, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(manifests)? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|own| own == "yaml"))
        else {
            continue;
        };
        let text = fs::read_to_string(&path)?;
        if text.contains(IMAGE) != text.contains(DIGEST) {
            return Err(io::Error::other(format!("{}: no {IMAGE}, or no {DIGEST}", path.display())));
        }
        fs::write(into.join(name), text.replace(IMAGE, image).replace(DIGEST, digest))?;
    }
    Ok(())
}

fn clear(folder: &Path) -> io::Result<()> {
    if folder.join("oci-layout").is_file() {
        return fs::remove_dir_all(folder);
    }
    let there = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        entries => entries?.count(),
    };
    if there > 0 {
        return Err(io::Error::other(format!("{} holds something else than an image", folder.display())));
    }
    Ok(())
}

fn tar(module: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(module.len()).map_err(io::Error::other)?);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, FILE, module)?;
    archive.into_inner()
}

/// Neither a time nor an operating system, which are the two things that gzip would remember.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// `linux/amd64` is what `docker build` would call it, and what container runtimes ask for before
/// they unpack an image. Nothing in it is of that platform.
fn config(tar: &[u8]) -> Value {
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": { "Labels": labels() },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(tar))] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "m2m-auth-oci" }],
    })
}

fn labels() -> Value {
    json!({
        "org.opencontainers.image.title": "m2m-auth",
        "org.opencontainers.image.description": "Machine-to-machine authentication for Envoy and Istio, a proxy-wasm module",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    })
}

/// Stores the bytes under their digest and returns the descriptor for an index or a manifest.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
    let digest = digest(bytes);
    fs::write(folder.join("blobs/sha256").join(&digest), bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Members of objects in the order of their names, whatever other crates of the build ask of
/// `serde_json`.
fn text(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect()
        }
        Value::Array(elements) => elements.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
