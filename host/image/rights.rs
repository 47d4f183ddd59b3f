//! Rights, owners and times of what is unpacked. Folders get theirs at the end, when nothing more
//! is put into them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use rustix::fs::{Gid, Timespec, Timestamps, Uid};

use crate::error::{Error, Result};
use crate::image::layer::Item;

/// Of a folder.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the Unix epoch.
    pub mtime: i64,
}

impl Default for Metadata {
    /// Of a folder that no layer describes.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: 0 }
    }
}

impl From<&Item> for Metadata {
    fn from(item: &Item) -> Self {
        Self { mode: item.mode, uid: item.uid, gid: item.gid, mtime: item.mtime }
    }
}

/// Gives those of `paths` that are folders their rights and times, deep ones before what holds
/// them. Who is not root keeps all rights on his own folders: he could not read them otherwise.
pub fn set_folders<'a>(
    dir: &Dir,
    paths: impl Iterator<Item = &'a PathBuf>,
    folders: &HashMap<PathBuf, Metadata>,
) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let mut paths: Vec<&PathBuf> = paths.collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in paths {
        let is_top = path.as_os_str().is_empty();
        let shown = if is_top { Path::new(".") } else { path.as_path() };
        // Gone or replaced by a later entry.
        if !dir.symlink_metadata(shown).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let metadata = folders.get(path).copied().unwrap_or_default();
        let doing = || format!("setting the rights of folder {}", path.display());
        // As a file: a folder's own handle is only a place to start paths from.
        let folder = dir.open(shown).map_err(Error::io(doing()))?;
        if is_root {
            rustix::fs::fchown(&folder, owner(metadata.uid), group(metadata.gid))
                .map_err(Error::sys(doing()))?;
        }
        // The top has to be renamed by its owner.
        let own = if is_root && !is_top { 0 } else { 0o700 };
        rustix::fs::fchmod(&folder, (metadata.mode | own).into()).map_err(Error::sys(doing()))?;
        rustix::fs::futimens(&folder, &times(metadata.mtime)).map_err(Error::sys(doing()))?;
    }
    Ok(())
}

pub fn owner(uid: u32) -> Option<Uid> {
    Some(Uid::from_raw(uid))
}

pub fn group(gid: u32) -> Option<Gid> {
    Some(Gid::from_raw(gid))
}

pub fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
