//! Builds the folders of an image's layers from their blobs. Each layer is stored once, named
//! by OCI's chain id: what it and all below it consist of, since what an archive's entries mean
//! depends on what they are unpacked above. Images that begin with the same layers share them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::image::diff;
use crate::image::folders::{Folders, Temporary};
use crate::image::layer::{Counted, Limits, Proportionate};
use crate::image::plan::{Layer, LayerForm, Plan};
use crate::image::programs::{self, Digests, Program};
use crate::image::progress::{Progress, Step};
use crate::image::rights::Metadata;
use crate::image::skeleton::make_folder;
use crate::image::unpack::{self, Below, Root};

/// An image's layers, complete and durable.
pub struct Assembled {
    /// Their folders' names under `layers`, the lowest first.
    pub layers: Vec<String>,
    pub programs: Vec<Program>,
    /// All of them together; perhaps a folder that goes with this.
    pub whole: Whole,
}

/// The whole root of an image, to look into.
pub enum Whole {
    /// The only layer's own folder.
    Stored(PathBuf),
    Scratch(Temporary),
}

impl Whole {
    pub fn path(&self) -> &Path {
        match self {
            Self::Stored(path) => path,
            Self::Scratch(temporary) => &temporary.path,
        }
    }
}

/// Unpacks a plan's layers, those that are there already left alone. Errors name the layer; the
/// caller names the file.
pub fn assemble(plan: &Plan, folders: &Folders, progress: &Progress) -> Result<Assembled> {
    let names = chain(plan);
    let places: Vec<PathBuf> = names.iter().map(|name| folders.layer(name)).collect();
    let mut state = State { limits: Limits::default(), below: None };
    for (number, (layer, place)) in plan.layers.iter().zip(&places).enumerate() {
        if place.is_dir() {
            state.below = None;
            continue;
        }
        progress(Step::Unpacking { layer: number + 1, of: plan.layers.len() });
        let work = Work { folders, layer, diff_id: plan.diff_ids.get(number) };
        let lower = places.get(..number).unwrap_or_default();
        work.store(place, lower, &mut state).map_err(|error| match error {
            Error::Invalid(fault) => {
                Error::Invalid(format!("layer {}: {fault}", layer.blob.digest))
            }
            other => other,
        })?;
    }
    let whole = match (state.below, places.as_slice()) {
        (Some((whole, _)), _) => Whole::Scratch(whole),
        (None, [only]) => Whole::Stored(only.clone()),
        (None, several) => Whole::Scratch(merged(several, folders)?.0),
    };
    let mut programs = programs::find(whole.path(), checked(plan, folders))?;
    programs.iter_mut().for_each(|program| locate(program, &names, folders));
    Ok(Assembled { layers: names, programs, whole })
}

/// Wasm layers are in the root by a link to their blob, which was hashed when it came.
fn checked(plan: &Plan, folders: &Folders) -> Digests {
    let wasm = plan.layers.iter().filter(|layer| matches!(layer.form, LayerForm::Wasm(_)));
    let digest = |layer: &Layer| {
        let digest = layer.blob.digest.clone();
        let inode = std::fs::metadata(folders.blob(&digest)).ok()?;
        Some((programs::key(&inode), digest))
    };
    wasm.filter_map(digest).collect()
}

/// OCI's chain ids in hex. A wasm layer, which has no diff id, counts with its blob and name.
pub fn chain(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (number, layer) in plan.layers.iter().enumerate() {
        let own = match (&layer.form, plan.diff_ids.get(number)) {
            (LayerForm::Wasm(name), _) => format!("wasm {} {name}", layer.blob.digest),
            (_, Some(diff_id)) => diff_id.clone(),
            (form, None) => format!("{form:?} {}", layer.blob.digest),
        };
        let name = match (names.last(), own.strip_prefix("sha256:")) {
            (None, Some(hex)) => hex.to_owned(),
            (None, None) => hex::encode(Sha256::digest(own)),
            (Some(below), _) => hex::encode(Sha256::digest(format!("sha256:{below} {own}"))),
        };
        names.push(name);
    }
    names
}

/// Says in which layer a program that the whole root shows lies: the topmost that has it.
fn locate(program: &mut Program, names: &[String], folders: &Folders) {
    let is_there = |name: &&String| {
        std::fs::symlink_metadata(folders.layer(name).join(&program.file))
            .is_ok_and(|found| found.is_file())
    };
    if let Some(name) = names.iter().rev().find(is_there) {
        program.file = Path::new(name).join(&program.file);
    }
}

/// What layers show together, and the rights that its folders should have.
type Merged = (Temporary, HashMap<PathBuf, Metadata>);

fn merged(layers: &[PathBuf], folders: &Folders) -> Result<Merged> {
    let temporary = folders.temporary()?;
    make_folder(&temporary.path, 0o700)?;
    let rights = diff::merge(layers, &temporary.path)?;
    Ok((temporary, rights))
}

/// What one layer leaves for the next.
struct State {
    limits: Limits,
    /// What the layers below show together, if it is at hand.
    below: Option<Merged>,
}

/// One layer on its way into the store.
struct Work<'a> {
    folders: &'a Folders,
    layer: &'a Layer,
    diff_id: Option<&'a String>,
}

impl Work<'_> {
    fn store(&self, place: &Path, lower: &[PathBuf], state: &mut State) -> Result<()> {
        let own = self.folders.temporary()?;
        make_folder(&own.path, 0o755)?;
        if lower.is_empty() {
            let mut root = Root::new(&own.path, Below::Nothing)?;
            self.add(&mut root, &mut state.limits)?;
            root.finish()?;
        } else {
            let (whole, rights) = match state.below.take() {
                Some(merged) => merged,
                None => merged(lower, self.folders)?,
            };
            let mut root = Root::new(&whole.path, Below::Layers)?;
            root.folders = rights;
            self.add(&mut root, &mut state.limits)?;
            diff::cut(&root, &whole.path, lower, &own.path)?;
            state.below = Some((whole, root.folders));
        }
        unpack::sync(&own.path)?;
        own.publish(place)
    }

    fn add(&self, root: &mut Root, limits: &mut Limits) -> Result<()> {
        let blob = self.folders.blob(&self.layer.blob.digest);
        if let LayerForm::Wasm(name) = &self.layer.form {
            return root.place(Path::new(name), &blob);
        }
        let doing = || format!("opening blob {}", self.layer.blob.digest);
        let file = File::open(&blob).map_err(Error::io(doing()))?;
        let (file, compressed) = Counted::new(file);
        match self.layer.form {
            LayerForm::TarGzip => {
                let reader = flate2::read::MultiGzDecoder::new(file);
                self.apply(root, Proportionate { reader, compressed, plain: 0 }, limits)
            }
            LayerForm::TarZstd => {
                let mut reader = zstd::Decoder::new(file).map_err(Error::io(doing()))?;
                reader.window_log_max(MAX_WINDOW).map_err(Error::io(doing()))?;
                self.apply(root, Proportionate { reader, compressed, plain: 0 }, limits)
            }
            LayerForm::Tar | LayerForm::Wasm(_) => {
                self.apply(root, std::io::BufReader::with_capacity(256 << 10, file), limits)
            }
        }
    }

    fn apply(&self, root: &mut Root, reader: impl Read, limits: &mut Limits) -> Result<()> {
        let mut reader = Hashed { reader, hash: Sha256::new() };
        root.apply(&mut reader, limits)?;
        // What follows the archive's end counts for the digest.
        std::io::copy(&mut (&mut reader).take(MAX_TAIL), &mut std::io::sink())
            .map_err(|error| Error::Invalid(format!("it cannot be read to its end: {error}")))?;
        let found = format!("sha256:{}", hex::encode(reader.hash.finalize()));
        match self.diff_id {
            Some(wanted) if *wanted != found => Err(Error::Invalid(format!(
                "its content has the digest {found}, the configuration says {wanted}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Memory that a zstd layer may ask for, as a power of two: 32 MiB, which is four times what
/// every decoder has to have (RFC 8878).
const MAX_WINDOW: u32 = 25;

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
