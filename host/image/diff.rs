//! Between a whole root and the layers that make it: builds the one of the others, and cuts a
//! layer's own folder out of a root that it was applied to. A layer's folder is what an overlay
//! wants of a lower one: a name that it hides is a character device 0/0. Opaque folders are
//! spelled out name by name, so that no xattr is needed, which differ with the overlay's rights.
//! File contents are never copied: the same inode is in both.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, CWD, FileType, Mode};

use crate::error::{Error, Result};
use crate::image::rights::{Metadata, set_folders};
use crate::image::unpack::Root;

/// Fills the empty folder `to` with what layers, the lowest first, show together. Its folders
/// have rights of the store's own; gives what they should have.
pub fn merge(layers: &[PathBuf], to: &Path) -> Result<HashMap<PathBuf, Metadata>> {
    let mut folders = HashMap::new();
    for layer in layers {
        let doing = || format!("reading layer {}", layer.display());
        let mut pending = vec![PathBuf::new()];
        while let Some(folder) = pending.pop() {
            let from = layer.join(&folder);
            let found = std::fs::symlink_metadata(&from).map_err(Error::io(doing()))?;
            folders.insert(folder.clone(), metadata(&found));
            for entry in std::fs::read_dir(&from).map_err(Error::io(doing()))? {
                let entry = entry.map_err(Error::io(doing()))?;
                let kind = entry.file_type().map_err(Error::io(doing()))?;
                let path = folder.join(entry.file_name());
                let place = to.join(&path);
                let there = std::fs::symlink_metadata(&place).ok();
                let is_folder = there.as_ref().is_some_and(|there| there.is_dir());
                if there.is_some() && !(is_folder && kind.is_dir()) {
                    crate::image::folders::remove_tree(&place)?;
                }
                if kind.is_dir() {
                    if !is_folder {
                        std::fs::create_dir(&place).map_err(Error::io(doing()))?;
                    }
                    pending.push(path);
                } else if !kind.is_char_device() {
                    link(&entry.path(), &place).map_err(Error::io(doing()))?;
                }
            }
        }
    }
    Ok(folders)
}

/// Fills the empty folder `to` with what the layer that was just applied to `root`, a folder at
/// `whole`, changed; `lower` are the folders of the layers below it.
pub fn cut(root: &Root, whole: &Path, lower: &[PathBuf], to: &Path) -> Result<()> {
    let doing = |path: &Path| format!("storing {} of a layer", path.display());
    let mut folders: BTreeSet<PathBuf> = [PathBuf::new()].into();
    // Parents come before what is in them.
    let made: BTreeSet<&PathBuf> = root.changes.made.iter().collect();
    for path in made {
        // Gone again: a later entry replaced a folder of it.
        let Ok(found) = std::fs::symlink_metadata(whole.join(path)) else { continue };
        let place = to.join(path);
        if found.is_dir() {
            make_folders(to, path, &mut folders)?;
        } else {
            link(&whole.join(path), &place).map_err(Error::io(doing(path)))?;
        }
    }
    for path in &root.changes.removed {
        let (Some(folder), None) =
            (path.parent(), std::fs::symlink_metadata(whole.join(path)).ok())
        else {
            continue;
        };
        let hidden = std::fs::symlink_metadata(whole.join(folder)).is_ok_and(|f| f.is_dir())
            && lower.iter().any(|layer| std::fs::symlink_metadata(layer.join(path)).is_ok());
        if hidden {
            make_folders(to, folder, &mut folders)?;
            rustix::fs::mknodat(CWD, to.join(path), FileType::CharacterDevice, Mode::empty(), 0)
                .map_err(Error::sys(doing(path)))?;
        }
    }
    let dir = Dir::open_ambient_dir(to, ambient_authority()).map_err(Error::io(doing(to)))?;
    set_folders(&dir, folders.iter(), &root.folders)
}

fn make_folders(to: &Path, path: &Path, made: &mut BTreeSet<PathBuf>) -> Result<()> {
    let mut all: Vec<&Path> = path.ancestors().collect();
    all.reverse();
    for folder in all {
        // The top is in `made` from the beginning.
        if made.insert(folder.to_path_buf()) {
            std::fs::create_dir(to.join(folder))
                .map_err(Error::io(format!("storing {} of a layer", folder.display())))?;
        }
    }
    Ok(())
}

/// One more name for a file or a symbolic link; a copy where it has too many.
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Err(rustix::io::Errno::MLINK) => {
            std::fs::copy(from, to)?;
            let found = std::fs::metadata(from)?;
            std::os::unix::fs::lchown(to, Some(found.uid()), Some(found.gid()))
        }
        other => Ok(other?),
    }
}

fn metadata(found: &std::fs::Metadata) -> Metadata {
    Metadata {
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        mtime: found.mtime(),
    }
}
