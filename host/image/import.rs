//! Finds out what a file of this machine is, and takes the blobs of the image in it into the
//! store.

use std::path::Path;

use crate::error::{Error, Result};
use crate::image::folders::Folders;
use crate::image::kind::Kind;
use crate::image::name::Name;
use crate::image::plan::Plan;
use crate::image::source::Source;
use crate::image::{CodeForm, artifact, docker, layout};

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
    match open(file, folders)? {
        Form::Wasm(form) => artifact::take(file, form, folders),
        Form::Layout(source) => layout::take(&source, name, folders),
        Form::Docker(source, manifest) => docker::take(&source, &manifest, name, folders),
    }
}

/// Every full name that a file gives to an image in it. Blocks.
pub fn names(file: &Path, folders: &Folders) -> Result<Vec<String>> {
    let mut names = match open(file, folders)? {
        Form::Wasm(_) => Vec::new(),
        Form::Layout(source) => layout::names(&source)?,
        Form::Docker(source, manifest) => docker::names(&source, &manifest)?,
    };
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// What a file is.
enum Form {
    Wasm(CodeForm),
    Layout(Source),
    /// With its manifest.json.
    Docker(Source, Vec<u8>),
}

fn open(file: &Path, folders: &Folders) -> Result<Form> {
    let shown = file.display();
    let found = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Invalid(format!("{shown} does not exist")),
        _ => Error::io(format!("reading {shown}"))(error),
    })?;
    if found.is_dir() {
        return Ok(Form::Layout(Source::folder(file)?));
    }
    if !found.is_file() {
        return Err(Error::Invalid(format!("{shown} is neither a file nor a folder")));
    }
    let kind = Kind::of_file(file)?;
    if !matches!(kind, Kind::Tar | Kind::Gzip | Kind::Zstd) {
        return Ok(Form::Wasm(kind.wasm(&shown.to_string())?));
    }
    let source = Source::archive(file, &kind, folders)?;
    if source.read("index.json")?.is_some() {
        return Ok(Form::Layout(source));
    }
    match source.read("manifest.json")? {
        Some(manifest) => Ok(Form::Docker(source, manifest)),
        None => Err(Error::Invalid(format!(
            "{shown} is an archive, but no image: it has neither index.json nor manifest.json"
        ))),
    }
}
