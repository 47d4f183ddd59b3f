//! Chooses an image in an OCI layout and takes its blobs into the store: wasi/wasm before
//! anything else, else the image whose entrypoint is a wasm file, else a sentence about what is
//! there.

use oci_spec::image::{Descriptor, ImageIndex};

use crate::error::{Error, Result};
use crate::image::blobs::{self, Blob, Expected, MAX_JSON};
use crate::image::choice::{self, MAX_MANIFESTS, Passed, Use};
use crate::image::folders::{Folders, bare};
use crate::image::name::Name;
use crate::image::plan::{self, Plan};
use crate::image::source::Source;

pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
const MAX_INDEX_DEPTH: usize = 4;

/// Takes in the layout's best image for a name. Errors name the layout.
pub fn take(source: &Source, name: &Name, folders: &Folders) -> Result<Plan> {
    let named = |error: Error| match error {
        Error::Invalid(fault) => Error::Invalid(format!("{}: {fault}", source.shown)),
        other => other,
    };
    let candidates = candidates(source, name).map_err(named)?;
    let plan = choose(source, &candidates).map_err(named)?;
    let take = |blob: &Blob| take_blob(source, blob, folders).map_err(named);
    take(&plan.manifest)?;
    take(&plan.config_blob)?;
    plan.layers.iter().try_for_each(|layer| take(&layer.blob))?;
    Ok(plan)
}

/// Every full name that the layout's index gives to an image.
pub fn names(source: &Source) -> Result<Vec<String>> {
    let Some(bytes) = source.read("index.json")? else { return Ok(Vec::new()) };
    let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|error| {
        Error::Invalid(format!("{}: {}", source.shown, plan::not_json("index.json", &error)))
    })?;
    let name = |entry: &Descriptor| {
        let all = entry.annotations().as_ref()?;
        // A bare tag names nothing, although it would pass for docker's own repository.
        let text = all.get(CONTAINERD_NAME).or(all.get(REF_NAME).filter(|t| t.contains(':')))?;
        Name::parse_tag(text).ok().map(|name| name.tagged())
    };
    Ok(index.manifests().iter().filter_map(name).collect())
}

/// A manifest of the layout, and how much it promises.
struct Candidate {
    manifest: Descriptor,
    /// Lower is better.
    rank: u8,
}

fn candidates(source: &Source, name: &Name) -> Result<Vec<Candidate>> {
    let Some(index) = source.read("index.json")? else {
        return Err(Error::Invalid("it is not an OCI layout: index.json is missing".to_owned()));
    };
    let index: ImageIndex =
        serde_json::from_slice(&index).map_err(|error| plan::not_json("index.json", &error))?;
    let mut pending: Vec<(Descriptor, usize)> =
        of_that_name(&index, name).into_iter().rev().map(|entry| (entry, 0)).collect();
    let mut found = Vec::new();
    while let Some((entry, depth)) = pending.pop() {
        if found.len() >= MAX_MANIFESTS || depth > MAX_INDEX_DEPTH {
            return Err(Error::Invalid("its indexes hold too many manifests".to_owned()));
        }
        if choice::is_index(&entry) {
            let bytes = read_blob(source, &plan::blob(&entry)?)?;
            let below: ImageIndex = serde_json::from_slice(&bytes)
                .map_err(|error| plan::not_json("an index", &error))?;
            pending.extend(below.manifests().iter().rev().map(|e| (e.clone(), depth + 1)));
            continue;
        }
        let Some(rank) = choice::rank(&entry) else { continue };
        found.push(Candidate { manifest: entry, rank });
    }
    if found.is_empty() {
        return Err(Error::Invalid("it holds no image".to_owned()));
    }
    found.sort_by_key(|candidate| candidate.rank);
    Ok(found)
}

/// A layout may hold several images under names: those of the wanted one, else all.
fn of_that_name(index: &ImageIndex, name: &Name) -> Vec<Descriptor> {
    let same = |entry: &&Descriptor| {
        let Some(all) = entry.annotations() else { return false };
        let full = |text: &String| Name::parse(text).is_ok_and(|n| n.tagged() == name.tagged());
        all.get(CONTAINERD_NAME).is_some_and(full)
            || all.get(REF_NAME).is_some_and(|text| full(text) || Some(text) == name.tag.as_ref())
    };
    let matching: Vec<_> = index.manifests().iter().filter(same).cloned().collect();
    if matching.is_empty() { index.manifests().clone() } else { matching }
}

fn choose(source: &Source, candidates: &[Candidate]) -> Result<Plan> {
    let (mut passed, mut data) = (Passed::default(), None);
    for candidate in candidates {
        match passed.look(read_plan(source, &candidate.manifest)) {
            Some((plan, Use::Run)) => return Ok(plan),
            Some((plan, Use::Data)) => data = data.or(Some(plan)),
            None => {}
        }
    }
    data.ok_or_else(|| passed.refusal())
}

fn read_plan(source: &Source, manifest: &Descriptor) -> Result<Plan> {
    let manifest = plan::blob(manifest)?;
    let bytes = read_blob(source, &manifest)?;
    let config = plan::blob(plan::parse_manifest(&bytes)?.config())?;
    plan::read(manifest, &bytes, &read_blob(source, &config)?)
}

/// A small blob, checked.
fn read_blob(source: &Source, blob: &Blob) -> Result<Vec<u8>> {
    if blob.size > MAX_JSON {
        return Err(Error::Invalid(format!(
            "blob {} has {} bytes, too many for a manifest or a configuration",
            blob.digest, blob.size
        )));
    }
    let bytes = source.read(&path(&blob.digest))?.ok_or_else(|| missing(&blob.digest))?;
    if bytes.len() as u64 != blob.size {
        return Err(Error::Invalid(format!(
            "blob {} has {} bytes instead of {}",
            blob.digest,
            bytes.len(),
            blob.size
        )));
    }
    let found = blobs::digest_of(&bytes);
    if found != blob.digest {
        return Err(Error::Invalid(format!(
            "blob {} is damaged: its content has the digest {found}",
            blob.digest
        )));
    }
    Ok(bytes)
}

fn take_blob(source: &Source, blob: &Blob, folders: &Folders) -> Result<()> {
    // What is in the store was checked when it came.
    if folders.blob(&blob.digest).exists() {
        return Ok(());
    }
    let path = path(&blob.digest);
    let (reader, _) = source.open(&path)?.ok_or_else(|| missing(&blob.digest))?;
    let expected = Expected { digest: Some(&blob.digest), size: Some(blob.size) };
    blobs::take(folders, reader, &expected).map(drop)
}

fn path(digest: &str) -> String {
    format!("blobs/sha256/{}", bare(digest))
}

fn missing(digest: &str) -> Error {
    Error::Invalid(format!("blob {digest} is missing"))
}
