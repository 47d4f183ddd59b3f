//! Builds an image's root folder from its layers' blobs. A root is named by what goes into it,
//! so that images with the same layers share one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::image::folders::Folders;
use crate::image::layer::Limits;
use crate::image::plan::{Layer, LayerForm, Plan};
use crate::image::programs::{self, Program};
use crate::image::skeleton::make_folder;
use crate::image::unpack::{self, Root};

/// A complete, durable root.
pub struct Assembled {
    /// Its folder's name under `layers`.
    pub root: String,
    pub programs: Vec<Program>,
}

/// Unpacks a plan's layers, unless that was done before. Errors name the layer; the caller
/// names the file.
pub fn assemble(plan: &Plan, folders: &Folders) -> Result<Assembled> {
    let root = key(&plan.layers);
    let place = folders.layer(&root);
    if !place.is_dir() {
        let temporary = folders.temporary()?;
        make_folder(&temporary.path, 0o755)?;
        let mut unpacked = Root::new(&temporary.path, Limits::default())?;
        for (number, layer) in plan.layers.iter().enumerate() {
            add(&mut unpacked, layer, plan.diff_ids.get(number), folders).map_err(|error| {
                match error {
                    Error::Invalid(fault) => {
                        Error::Invalid(format!("layer {}: {fault}", layer.blob.digest))
                    }
                    other => other,
                }
            })?;
        }
        unpacked.finish()?;
        unpack::sync(&temporary.path)?;
        temporary.publish(&place)?;
    }
    let programs = programs::find(&place)?;
    Ok(Assembled { root, programs })
}

fn key(layers: &[Layer]) -> String {
    let mut hash = Sha256::new();
    for layer in layers {
        hash.update(format!("{:?} {}\n", layer.form, layer.blob.digest));
    }
    hex::encode(hash.finalize())
}

fn add(root: &mut Root, layer: &Layer, diff_id: Option<&String>, folders: &Folders) -> Result<()> {
    let blob = folders.blob(&layer.blob.digest);
    if let LayerForm::Wasm(name) = &layer.form {
        return root.place(Path::new(name), &blob);
    }
    let doing = || format!("opening blob {}", layer.blob.digest);
    let file = File::open(&blob).map_err(Error::io(doing()))?;
    match layer.form {
        LayerForm::TarGzip => apply(root, flate2::read::MultiGzDecoder::new(file), diff_id),
        LayerForm::TarZstd => {
            let decoder = zstd::Decoder::new(file).map_err(Error::io(doing()))?;
            apply(root, decoder, diff_id)
        }
        LayerForm::Tar | LayerForm::Wasm(_) => {
            apply(root, std::io::BufReader::with_capacity(256 << 10, file), diff_id)
        }
    }
}

fn apply(root: &mut Root, reader: impl Read, diff_id: Option<&String>) -> Result<()> {
    let mut reader = Hashed { reader, hash: Sha256::new() };
    root.apply(&mut reader)?;
    // What follows the archive's end counts for the digest.
    std::io::copy(&mut (&mut reader).take(MAX_TAIL), &mut std::io::sink())
        .map_err(|error| Error::Invalid(format!("it cannot be read to its end: {error}")))?;
    let found = format!("sha256:{}", hex::encode(reader.hash.finalize()));
    match diff_id {
        Some(wanted) if *wanted != found => Err(Error::Invalid(format!(
            "its content has the digest {found}, the configuration says {wanted}"
        ))),
        _ => Ok(()),
    }
}

/// Padding after an archive's end, in bytes.
const MAX_TAIL: u64 = 64 << 20;

struct Hashed<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
