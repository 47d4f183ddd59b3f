//! What an image consists of once its manifest and configuration are read: the same for a
//! wasm artifact, a classic image and a plain wasm file. Turns OCI's documents into it.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::image::ImageConfig;
use crate::image::blobs::Blob;
use crate::image::name::is_digest;

pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const WASM_LAYER: &str = "application/wasm";
/// The annotation that names a layer's file.
pub const TITLE: &str = "org.opencontainers.image.title";
const MAX_LAYERS: usize = 256;

/// An image's parts, named by digest.
#[derive(Clone, Debug)]
pub struct Plan {
    pub manifest: Blob,
    /// Its digest is the image's id.
    pub config_blob: Blob,
    pub layers: Vec<Layer>,
    pub config: ImageConfig,
    /// Of the uncompressed layers, as the configuration lists them; empty when it does not.
    pub diff_ids: Vec<String>,
    /// For messages: "a wasi/wasm image", "a wasm artifact".
    pub what: String,
}

#[derive(Clone, Debug)]
pub struct Layer {
    pub blob: Blob,
    pub form: LayerForm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerForm {
    Tar,
    TarGzip,
    TarZstd,
    /// One file, with its name in the root.
    Wasm(String),
}

/// Why a manifest's image is not taken: for a choice among several, and for people.
pub type Unfit = String;

/// The configuration of a wasm artifact. `config` is OCI's own section, which wasmpod writes
/// there so that the entry's name is part of the image's id.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WasmConfig {
    os: String,
    config: Option<oci_spec::image::Config>,
}

/// A manifest's parts. The error is a clause that follows the file's name.
pub fn read(manifest: Blob, bytes: &[u8], config: &[u8]) -> Result<Plan> {
    let document = parse_manifest(bytes)?;
    if document.layers().len() > MAX_LAYERS {
        return Err(Error::Invalid(format!("it has more than {MAX_LAYERS} layers")));
    }
    let layers = document.layers().iter().map(layer).collect::<Result<Vec<_>>>()?;
    let config_blob = blob(document.config())?;
    let wasm = |error| not_json("the wasm configuration", &error);
    if document.config().media_type().as_ref() == WASM_CONFIG {
        let artifact: WasmConfig = serde_json::from_slice(config).map_err(wasm)?;
        return Ok(Plan {
            manifest,
            config_blob,
            config: image_config(artifact.config.as_ref()),
            layers,
            diff_ids: Vec::new(),
            what: format!("a {} wasm artifact", or(&artifact.os, "nameless")),
        });
    }
    // Wasm layers with an empty or foreign configuration are artifacts as well (OCI 1.1).
    let Ok(image) = serde_json::from_slice::<ImageConfiguration>(config) else {
        if layers.iter().any(|layer| matches!(layer.form, LayerForm::Wasm(_))) {
            return Ok(Plan {
                manifest,
                config_blob,
                layers,
                config: ImageConfig::default(),
                diff_ids: Vec::new(),
                what: "a wasm artifact".to_owned(),
            });
        }
        let error = serde_json::from_slice::<ImageConfiguration>(config).err();
        let error = error.map_or_else(String::new, |error| error.to_string());
        return Err(Error::Invalid(format!("the image configuration is not valid: {error}")));
    };
    let diff_ids = image.rootfs().diff_ids().clone();
    let tars = layers.iter().filter(|layer| !matches!(layer.form, LayerForm::Wasm(_))).count();
    if tars == layers.len() && diff_ids.len() != tars {
        return Err(Error::Invalid(format!(
            "the configuration lists {} layers, the manifest {tars}",
            diff_ids.len()
        )));
    }
    Ok(Plan {
        manifest,
        config_blob,
        layers,
        config: image_config(image.config().as_ref()),
        diff_ids,
        what: format!("a {}/{} image", image.os(), image.architecture()),
    })
}

impl Plan {
    /// The file name of each wasm layer, in order.
    pub fn wasm_layers(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().filter_map(|layer| match &layer.form {
            LayerForm::Wasm(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// What starts: an entrypoint, else cmd, else an artifact's first wasm layer; `None` where
    /// nothing is said to start: the image is data for volumes. `Err` says why it is no wasm
    /// program.
    pub fn entry(&self) -> Result<Option<String>, Unfit> {
        let first = self.config.entrypoint.first().or(self.config.cmd.first());
        match (first, self.wasm_layers().next()) {
            (Some(entry), _) if entry.ends_with(".wasm") => Ok(Some(entry.clone())),
            (_, Some(layer)) => Ok(Some(format!("/{layer}"))),
            (Some(entry), None) => {
                Err(format!("{} whose entrypoint is {entry}: not a wasm program", self.what))
            }
            (None, None) => Ok(None),
        }
    }

    /// Bytes of configuration and layers as stored; never 0.
    pub fn size(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.blob.size).sum();
        (layers + self.config_blob.size).max(1)
    }
}

pub fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest> {
    serde_json::from_slice(bytes).map_err(|error| not_json("the manifest", &error))
}

pub fn not_json(what: &str, error: &serde_json::Error) -> Error {
    Error::Invalid(format!("{what} is not valid JSON of its kind: {error}"))
}

/// A descriptor's digest and size; only SHA-256 is spoken.
pub fn blob(descriptor: &Descriptor) -> Result<Blob> {
    let digest = descriptor.digest().to_string();
    if !is_digest(&digest) {
        return Err(Error::Invalid(format!("digest {digest:?} is not a sha256 one")));
    }
    Ok(Blob { digest, size: descriptor.size() })
}

fn layer(descriptor: &Descriptor) -> Result<Layer> {
    let form = match descriptor.media_type().as_ref() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => LayerForm::Tar,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => LayerForm::TarGzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => LayerForm::TarZstd,
        WASM_LAYER | "application/vnd.wasm.content.layer.v1+wasm" => {
            let title = descriptor.annotations().as_ref().and_then(|all| all.get(TITLE));
            LayerForm::Wasm(file_name(title.map_or("module.wasm", String::as_str)))
        }
        other => {
            return Err(Error::Invalid(format!("layer type {other:?} is not one of an image's")));
        }
    };
    Ok(Layer { blob: blob(descriptor)?, form })
}

/// A safe name that ends in .wasm, made of a title or a path.
pub fn file_name(title: &str) -> String {
    let last = title.rsplit('/').next().unwrap_or(title);
    let stem = last.strip_suffix(".wasm").unwrap_or(last);
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = stem.chars().map(safe).take(100).collect();
    format!("{}.wasm", or(stem.trim_start_matches(['.', '-']), "app"))
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn image_config(section: Option<&oci_spec::image::Config>) -> ImageConfig {
    let Some(section) = section else { return ImageConfig::default() };
    ImageConfig {
        entrypoint: section.entrypoint().clone().unwrap_or_default(),
        cmd: section.cmd().clone().unwrap_or_default(),
        env: section.env().clone().unwrap_or_default(),
        working_dir: section.working_dir().clone().unwrap_or_default(),
        user: section.user().clone().unwrap_or_default(),
        stop_signal: section.stop_signal().clone().unwrap_or_default(),
        labels: section.labels().clone().map(BTreeMap::from_iter).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_safe_file_names() {
        for (title, name) in [
            ("app.wasm", "app.wasm"),
            ("dir/My App.wasm", "My_App.wasm"),
            ("../../etc/passwd", "passwd.wasm"),
            ("..", "app.wasm"),
            ("", "app.wasm"),
            (".wasm", "app.wasm"),
        ] {
            assert_eq!(file_name(title), name);
        }
    }
}
