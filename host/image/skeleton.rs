//! The folder below every image's root: what a program may expect to be there even when its
//! image holds nothing but a wasm file. Shared by all images, never written to.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::folders::{Folders, names, remove_tree};
use crate::image::unpack;

/// Its folder's name under `layers`: a changed content needs a new one.
pub const NAME: &str = "skeleton-1";

const FOLDERS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Makes it unless it is there, and removes those of other versions.
pub fn make(folders: &Folders) -> Result<PathBuf> {
    let place = folders.layer(NAME);
    if !place.is_dir() {
        let temporary = folders.temporary()?;
        make_folder(&temporary.path, 0o755)?;
        for (path, mode) in FOLDERS {
            make_folder(&temporary.path.join(path), *mode)?;
        }
        unpack::sync(&temporary.path)?;
        temporary.publish(&place)?;
    }
    for other in names(&folders.layers)? {
        if other.starts_with("skeleton-") && other != NAME {
            remove_tree(&folders.layer(&other))?;
        }
    }
    Ok(place)
}

/// Makes one folder with exactly these rights, whatever the umask.
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    std::fs::create_dir(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(Error::io(format!("creating {}", path.display())))
}
