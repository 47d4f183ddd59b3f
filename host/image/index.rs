//! Which images there are: one small JSON file, replaced as a whole by a rename. A database
//! would bring a format to recover; here are at most some hundred records, written when a
//! person or a kubelet asks and read once per daemon. Also answers what a name means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::folders::{Folders, replace_file_for_sure};
use crate::image::name::{Name, is_digest, is_hex};
use crate::image::programs::Program;
use crate::image::{Image, ImageConfig, ImageProgram, skeleton};

/// 2: layers, each a folder of its own. Of 1, which had one folder for an image, and of an
/// image that lacks layers, the layers are unpacked anew.
const VERSION: u32 = 2;
const OLDEST: u32 = 1;

/// One image as it is written down; paths are relative, so that the store can be moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the configuration blob.
    pub id: String,
    /// Full names, sorted.
    pub tags: BTreeSet<String>,
    /// repository@digest, sorted.
    pub digests: BTreeSet<String>,
    /// Digest of the manifest that it was made of; a name's digest may be an index's.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Digests of every blob it needs: manifest, configuration, layers.
    pub blobs: BTreeSet<String>,
    /// Its folders' names under `layers`, the lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
    #[serde(default)]
    pub origin: Origin,
    /// Those of the tags that a person gave, by import or `tag`: no registry may have them, so
    /// they pin the image. Absent in records of older stores, where it is all or none.
    #[serde(default)]
    pub by_hand: Option<BTreeSet<String>>,
    pub size: u64,
    pub config: ImageConfig,
    pub programs: Vec<Program>,
}

/// Who brought an image here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A person, from files: no registry may have it.
    #[default]
    Imported,
    /// A registry, which has it still.
    Pulled,
}

impl Record {
    /// Its tags that a person gave.
    fn by_hand(&self) -> BTreeSet<String> {
        match (&self.by_hand, self.origin) {
            (Some(tags), _) => tags.intersection(&self.tags).cloned().collect(),
            (None, Origin::Imported) => self.tags.clone(),
            (None, Origin::Pulled) => BTreeSet::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    images: Vec<Record>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Every image at one moment.
#[derive(Clone, Default)]
pub struct Index {
    records: BTreeMap<String, Record>,
    images: BTreeMap<String, Arc<Image>>,
}

/// What a reference leads to.
pub enum Found {
    One(Arc<Image>),
    None,
    /// That many images have this id prefix.
    Many(usize),
}

impl Index {
    /// Reads the index; gives besides the records of images whose layers are not there. A blob
    /// that is missing is no reason to forget what can still run: `check` tells of it.
    pub fn load(folders: &Folders) -> Result<(Self, Vec<Record>)> {
        let path = path(folders);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Self::default(), Vec::new()));
            }
            other => other.map_err(Error::io(format!("reading {}", path.display())))?,
        };
        let damaged = |error| {
            Error::Internal(format!(
                "image index {} is damaged: {error}; move it away to begin with an empty store",
                path.display()
            ))
        };
        let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(Error::Internal(format!(
                "image index {} has format {version}, this wasmpod reads {OLDEST} to {VERSION}",
                path.display(),
            )));
        }
        let document: Document = serde_json::from_slice(&text).map_err(damaged)?;
        let (mut index, mut broken) = (Self::default(), Vec::new());
        for record in document.images {
            let whole = !record.layers.is_empty()
                && record.layers.iter().all(|layer| folders.layer(layer).is_dir());
            if whole {
                index.insert(record, folders);
            } else {
                broken.push(record);
            }
        }
        Ok((index, broken))
    }

    /// Makes this the index that the next opening finds.
    pub fn save(&self, folders: &Folders) -> Result<()> {
        let images = self.records.values().cloned().collect();
        let text = serde_json::to_vec_pretty(&Document { version: VERSION, images })
            .map_err(|error| Error::Internal(format!("writing the image index: {error}")))?;
        replace_file_for_sure(folders, &path(folders), &text)
    }

    /// Adds an image, or names to the one that has its id. A tag leaves the image that had it;
    /// that one stays, without the tag and no longer pinned, until somebody removes it.
    pub fn add(&mut self, mut record: Record, folders: &Folders) -> Arc<Image> {
        let moved: Vec<Record> = self
            .records
            .values()
            .filter(|other| other.id != record.id && !other.tags.is_disjoint(&record.tags))
            .cloned()
            .collect();
        for mut other in moved {
            other.tags = other.tags.difference(&record.tags).cloned().collect();
            self.insert(other, folders);
        }
        if let Some(old) = self.records.get(&record.id) {
            // A tag is by hand or not as it was given last.
            let kept: BTreeSet<String> = old.by_hand().difference(&record.tags).cloned().collect();
            record.by_hand = Some(&record.by_hand() | &kept);
            record.tags.extend(old.tags.iter().cloned());
            record.digests.extend(old.digests.iter().cloned());
            record.blobs.extend(old.blobs.iter().cloned());
            if old.origin == Origin::Imported {
                record.origin = Origin::Imported;
            }
        }
        self.insert(record, folders)
    }

    /// Whether a person gave this tag to an image.
    pub fn is_by_hand(&self, tag: &str) -> bool {
        let mut records = self.records.values();
        records.any(|record| record.tags.contains(tag) && record.by_hand().contains(tag))
    }

    /// Notes that a registry has this very image under a tag that a person gave.
    pub fn give_back(&mut self, tag: &str, folders: &Folders) {
        let has = |record: &&Record| record.by_hand().contains(tag);
        if let Some(mut record) = self.records.values().find(has).cloned() {
            let mut left = record.by_hand();
            left.remove(tag);
            record.by_hand = Some(left);
            self.insert(record, folders);
        }
    }

    /// Takes one name from an image; `None` when no image has it.
    pub fn untag(&mut self, tag: &str, folders: &Folders) -> Option<Arc<Image>> {
        let mut record = self.records.values().find(|record| record.tags.contains(tag))?.clone();
        record.tags.remove(tag);
        Some(self.insert(record, folders))
    }

    pub fn record(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    pub fn remove(&mut self, id: &str) -> Option<Record> {
        self.images.remove(id);
        self.records.remove(id)
    }

    /// Sorted by id.
    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// By id, digest, name, name with digest, or unique id prefix, in this order.
    pub fn find(&self, reference: &str) -> Found {
        let one = |image: Option<&Arc<Image>>| image.cloned().map_or(Found::None, Found::One);
        if is_digest(reference) {
            let by_digest =
                || self.by(|image| image.digests.iter().any(|d| d.ends_with(reference)));
            return one(self.images.get(reference).or_else(by_digest));
        }
        if reference.len() == 64 && is_hex(reference) {
            return one(self.images.get(&format!("sha256:{reference}")));
        }
        if let Some(image) = Name::parse(reference).ok().and_then(|name| self.by_name(&name)) {
            return Found::One(image.clone());
        }
        let prefix = reference.strip_prefix("sha256:").unwrap_or(reference);
        if !is_hex(prefix) {
            return Found::None;
        }
        let prefix = format!("sha256:{prefix}");
        let mut matching = self.images.range(prefix.clone()..).map(|(_, image)| image);
        let mut matching = matching.by_ref().take_while(|image| image.id.starts_with(&prefix));
        match (matching.next(), matching.count()) {
            (None, _) => Found::None,
            (Some(image), 0) => Found::One(image.clone()),
            (Some(_), more) => Found::Many(more + 1),
        }
    }

    fn by_name(&self, name: &Name) -> Option<&Arc<Image>> {
        match &name.digest {
            Some(digest) => {
                let full = format!("{}@{digest}", name.repository);
                self.by(|image| image.digests.contains(&full))
            }
            None => {
                let tagged = name.tagged();
                self.by(|image| image.tags.contains(&tagged))
            }
        }
    }

    fn by(&self, wanted: impl Fn(&Image) -> bool) -> Option<&Arc<Image>> {
        self.images.values().find(|image| wanted(image))
    }

    fn insert(&mut self, record: Record, folders: &Folders) -> Arc<Image> {
        let layers = record.layers.iter().rev().map(String::as_str).chain([skeleton::NAME]);
        let image = Arc::new(Image {
            id: record.id.clone(),
            tags: record.tags.iter().cloned().collect(),
            digests: record.digests.iter().cloned().collect(),
            size: record.size,
            pinned: !record.by_hand().is_empty(),
            config: record.config.clone(),
            programs: record.programs.iter().map(|p| found(p, &folders.layers)).collect(),
            layers: layers.map(|layer| folders.layer(layer)).collect(),
        });
        self.images.insert(record.id.clone(), image.clone());
        self.records.insert(record.id.clone(), record);
        image
    }
}

/// A program with its place on this host, in `folder` of all layers.
pub fn found(program: &Program, folder: &std::path::Path) -> ImageProgram {
    ImageProgram {
        path: program.path.clone(),
        digest: program.digest.clone(),
        form: program.form,
        file: folder.join(&program.file),
    }
}

fn path(folders: &Folders) -> PathBuf {
    folders.images.join("index.json")
}
