//! Finds out what a file of this machine is, and takes the blobs of the image in it into the
//! store.

use std::path::Path;

use crate::error::{Error, Result};
use crate::image::folders::Folders;
use crate::image::kind::Kind;
use crate::image::name::Name;
use crate::image::plan::Plan;
use crate::image::source::Source;
use crate::image::{artifact, docker, layout};

/// An error about a file of the store's, told of what the user named.
pub fn about(error: Error, stored: &Path, subject: &str) -> Error {
    let stored = stored.display().to_string();
    match error {
        Error::Invalid(fault) => Error::Invalid(fault.replace(&stored, subject)),
        Error::Internal(fault) => Error::Internal(fault.replace(&stored, subject)),
        other => other,
    }
}

/// Takes in the blobs of a file's image. Blocks. Errors name the file as the user did.
pub fn take(file: &Path, name: &Name, folders: &Folders) -> Result<Plan> {
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
