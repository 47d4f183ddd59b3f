//! What an import does before its image is one: finds out what the file is, takes its blobs in,
//! builds its root and looks for the program that it starts. Everything here can be thrown away.

use std::path::Path;

use crate::error::{Error, Result};
use crate::image::assemble::{Assembled, assemble};
use crate::image::folders::Folders;
use crate::image::index::Record;
use crate::image::kind::Kind;
use crate::image::name::Name;
use crate::image::plan::Plan;
use crate::image::source::Source;
use crate::image::{ImageProgram, Search, artifact, docker, find_program, index, layout};

/// An image whose parts are in the store and which no index names yet.
pub struct Prepared {
    pub record: Record,
    /// What starts: its machine code must be there before the image is one.
    pub entry: ImageProgram,
}

/// Blocks. Errors about the file name it as the user did.
pub fn prepare(file: &Path, name: &Name, folders: &Folders) -> Result<Prepared> {
    let plan = take(file, name, folders)?;
    let named = |error: Error| match error {
        Error::Invalid(fault) => Error::Invalid(format!("{}: {fault}", file.display())),
        other => other,
    };
    let Assembled { root, programs } = assemble(&plan, folders).map_err(named)?;
    let programs_found: Vec<_> =
        programs.iter().map(|program| index::found(program, &folders.layer(&root))).collect();
    let entry = entry(&plan, &programs_found, &folders.layer(&root)).map_err(named)?;
    let mut config = plan.config.clone();
    if config.entrypoint.is_empty() && config.cmd.is_empty() {
        config.entrypoint = vec![entry.path.clone()];
    }
    let mut blobs: std::collections::BTreeSet<String> =
        plan.layers.iter().map(|layer| layer.blob.digest.clone()).collect();
    blobs.insert(plan.manifest.digest.clone());
    blobs.insert(plan.config_blob.digest.clone());
    let record = Record {
        id: plan.config_blob.digest.clone(),
        tags: [name.tagged()].into(),
        digests: [format!("{}@{}", name.repository, plan.manifest.digest)].into(),
        blobs,
        root,
        size: plan.size(),
        config,
        programs,
    };
    Ok(Prepared { record, entry })
}

/// An error about a file of the store's, told of the user's file.
pub fn about(error: Error, stored: &Path, file: &Path) -> Error {
    let (stored, shown) = (stored.display().to_string(), file.display().to_string());
    match error {
        Error::Invalid(fault) => Error::Invalid(fault.replace(&stored, &shown)),
        Error::Internal(fault) => Error::Internal(fault.replace(&stored, &shown)),
        other => other,
    }
}

fn take(file: &Path, name: &Name, folders: &Folders) -> Result<Plan> {
    let shown = file.display();
    let found = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Invalid(format!("{shown} does not exist")),
        _ => Error::io(format!("reading {shown}"))(error),
    })?;
    if found.is_dir() {
        return layout::take(&Source::folder(file)?, name, folders);
    }
    if !found.is_file() {
        return Err(Error::Invalid(format!("{shown} is neither a file nor a folder")));
    }
    let kind = Kind::of_file(file)?;
    if !matches!(kind, Kind::Tar | Kind::Gzip | Kind::Zstd) {
        return artifact::take(file, kind.wasm(&shown.to_string())?, folders);
    }
    let source = Source::archive(file, &kind, folders)?;
    if source.read("index.json")?.is_some() {
        return layout::take(&source, name, folders);
    }
    match source.read("manifest.json")? {
        Some(manifest) => docker::take(&source, &manifest, name, folders),
        None => Err(Error::Invalid(format!(
            "{shown} is an archive, but no image: it has neither index.json nor manifest.json"
        ))),
    }
}

fn entry(plan: &Plan, programs: &[ImageProgram], root: &Path) -> Result<ImageProgram> {
    let entry = plan.entry().map_err(Error::Invalid)?;
    let path = plan.config.env.iter().find_map(|pair| pair.strip_prefix("PATH="));
    let search = Search { working_dir: &plan.config.working_dir, path: path.unwrap_or_default() };
    if let Some(program) = find_program(programs, root, &entry, search) {
        return Ok(program.clone());
    }
    let file = root.join(entry.trim_start_matches('/'));
    match Kind::of_file(&file) {
        Ok(kind) => {
            kind.wasm(&format!("its entrypoint {entry}"))?;
            Err(Error::Invalid(format!("its entrypoint {entry} cannot be reached in the image")))
        }
        Err(_) => Err(Error::Invalid(format!("its entrypoint {entry} is not in the image"))),
    }
}
