//! Images on a registry's shelf, and stores that pull them.

use serde_json::{Value, json};
use wasmpod::error::Error;
use wasmpod::image::{Image, ImageStore, Imported, Pull};

use super::fake::Fake;
use crate::images::kit::{Kit, digest, files, module};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A store whose pulls are patient for milliseconds.
pub fn quick() -> Kit {
    let mut kit = Kit::new();
    kit.config.registry.retry_ms = 1;
    kit.config.registry.stall_seconds = 10;
    kit
}

pub async fn pull(store: &ImageStore, name: &str) -> Result<std::sync::Arc<Image>, Error> {
    let wanted = Pull { name: name.to_owned(), auth: None, imported: Imported::Keep };
    store.pull(wanted)?.done().await
}

/// Why a name cannot be pulled, in one line; nothing of it is left in the store.
pub async fn refusal(kit: &Kit, store: &ImageStore, name: &str) -> String {
    let error = pull(store, name).await.unwrap_err().to_string();
    assert!(!error.contains('\n') && error.len() < 800, "{error}");
    crate::support::eventually("nothing is left of a pull that failed", || {
        let left: Vec<String> = ["images/blobs", "images/tmp"]
            .iter()
            .flat_map(|folder| files(&kit.config.root.join(folder)))
            .collect();
        left.is_empty().then_some(())
    })
    .await;
    assert!(store.list().is_empty());
    error
}

/// Content with its descriptor.
pub struct Part {
    pub descriptor: Value,
    pub digest: String,
    pub bytes: Vec<u8>,
}

impl Part {
    pub fn new(kind: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        Self { descriptor, digest, bytes }
    }

    pub fn blob_path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", self.digest)
    }
}

/// A manifest and what it names.
pub struct Made {
    pub manifest: Part,
    pub parts: Vec<Part>,
}

impl Made {
    /// The layer that an artifact has.
    pub fn layer(&self) -> &Part {
        &self.parts[1]
    }

    /// Onto the shelf under a tag, and under its digest.
    pub fn put(&self, fake: &Fake, repository: &str, tag: &str) {
        for part in &self.parts {
            fake.put(part.blob_path(repository), "application/octet-stream", part.bytes.clone());
        }
        for reference in [tag, &self.manifest.digest] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            let kind = self.manifest.descriptor["mediaType"].as_str().unwrap();
            fake.put(path, kind, self.manifest.bytes.clone());
        }
    }
}

/// A wasm artifact of one module.
pub fn artifact(wasm: Vec<u8>) -> Made {
    let layer = Part::new("application/wasm", wasm);
    let config = json!({
        "os": "wasip1", "architecture": "wasm", "layerDigests": [layer.digest],
    });
    let config = Part::new(WASM_CONFIG, config.to_string());
    manifest(config, vec![layer])
}

/// A module whose file has at least that many bytes.
pub fn large(mark: u32, bytes: usize) -> Vec<u8> {
    let mut wasm = module(mark);
    // A custom section that nobody reads: id 0, its length, a name, and noise.
    let mut dice = u64::from(mark) + 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    noise.extend_from_slice(b"\x01x");
    while noise.len() < bytes {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&dice.to_le_bytes());
    }
    wasm.push(0);
    let mut left = noise.len();
    while left >= 0x80 {
        wasm.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    wasm.push(left as u8);
    wasm.extend(noise);
    wasm
}

pub fn manifest(config: Part, layers: Vec<Part>) -> Made {
    let descriptors: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": config.descriptor, "layers": descriptors,
    });
    let mut parts = vec![config];
    parts.extend(layers);
    Made { manifest: Part::new(MANIFEST, manifest.to_string()), parts }
}

/// A classic image of layers (their types, their bytes, their tars).
pub fn classic(
    (os, architecture): (&str, &str),
    entrypoint: &[&str],
    layers: &[(&str, Vec<u8>, Vec<u8>)],
) -> Made {
    let diff_ids: Vec<String> = layers.iter().map(|(_, _, tar)| digest(tar)).collect();
    let config = json!({
        "os": os, "architecture": architecture,
        "config": { "Entrypoint": entrypoint },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let layers = layers.iter().map(|(kind, bytes, _)| {
        Part::new(&format!("application/vnd.oci.image.layer.v1.{kind}"), bytes.clone())
    });
    manifest(Part::new(CONFIG, config.to_string()), layers.collect())
}

/// An index of images with platforms, put beside them.
pub fn put_index(fake: &Fake, (repository, tag): (&str, &str), of: &[(&str, &Made)]) -> Part {
    let mut manifests = Vec::new();
    for (platform, made) in of {
        made.put(fake, repository, &made.manifest.digest);
        let mut descriptor = made.manifest.descriptor.clone();
        let (os, architecture) = platform.split_once('/').unwrap();
        descriptor["platform"] = json!({ "os": os, "architecture": architecture });
        manifests.push(descriptor);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let index = Part::new(INDEX, index.to_string());
    for reference in [tag, &index.digest] {
        fake.put(format!("/v2/{repository}/manifests/{reference}"), INDEX, index.bytes.clone());
    }
    index
}
