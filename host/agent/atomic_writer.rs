//! Files of a ConfigMap or Secret volume, laid out as the kubelet's atomic writer does: a
//! timestamped folder, `..data` pointing at it, and one visible link per top-level name through
//! `..data`. A reader sees either all of the old files or all of the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// A file to be: its bytes and permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Makes `folder` hold exactly `files`, by relative paths without "..". Does nothing when it
/// holds them already.
pub fn write(folder: &Path, files: &BTreeMap<String, Payload>) -> Result<()> {
    if let Some(path) = files.keys().find(|path| !is_inside(path)) {
        return Err(Error::Invalid(format!("path {path:?} does not stay inside its volume")));
    }
    let doing = format!("writing volume {}", folder.display());
    let old = fs::read_link(folder.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&folder.join(old), files)
    {
        return links(folder, files);
    }
    let name = new_name(folder)?;
    let fresh = folder.join(&name);
    fs::DirBuilder::new().mode(0o755).create(&fresh).map_err(Error::io(doing.clone()))?;
    // The umask must not take what the volume's reader needs.
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
        .map_err(Error::io(doing.clone()))?;
    for (path, payload) in files {
        put(&fresh, path, payload)?;
    }
    let swap = folder.join(NEW_DATA);
    match fs::remove_file(&swap) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(doing)(error));
        }
        _ => {}
    }
    symlink(&name, &swap).map_err(Error::io(doing.clone()))?;
    fs::rename(&swap, folder.join(DATA)).map_err(Error::io(doing))?;
    links(folder, files)?;
    sweep(folder, &name, files)
}

fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.starts_with("..")
}

/// "..2026_01_31_10_20_30.123456789", a name that is free.
fn new_name(folder: &Path) -> Result<String> {
    for attempt in 0..100 {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_nanos(attempt);
        let name = now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
        if !folder.join(&name).exists() {
            return Ok(name);
        }
    }
    Err(Error::Internal(format!("no free folder name in {}", folder.display())))
}

fn put(folder: &Path, path: &str, payload: &Payload) -> Result<()> {
    let file = folder.join(path);
    let doing = || format!("writing volume file {}", file.display());
    if let Some(parent) = file.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(Error::io(doing()))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut open = options.open(&file).map_err(Error::io(doing()))?;
    open.write_all(&payload.data).map_err(Error::io(doing()))?;
    open.set_permissions(fs::Permissions::from_mode(payload.mode)).map_err(Error::io(doing()))
}

fn holds(folder: &Path, files: &BTreeMap<String, Payload>) -> bool {
    let same = files.iter().all(|(path, payload)| {
        let file = folder.join(path);
        let mode = fs::symlink_metadata(&file).map(|m| m.permissions().mode() & 0o7777).ok();
        mode == Some(payload.mode) && fs::read(&file).is_ok_and(|data| data == payload.data)
    });
    same && count(folder).is_some_and(|count| count == files.len())
}

fn count(folder: &Path) -> Option<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        sum += if entry.file_type().ok()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Some(sum)
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn links(folder: &Path, files: &BTreeMap<String, Payload>) -> Result<()> {
    for name in files.keys().map(|path| top(path)).collect::<BTreeSet<_>>() {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from(DATA).join(name), &link)
                .map_err(Error::io(format!("linking volume file {}", link.display())))?;
        }
    }
    Ok(())
}

/// Removes links to what is no more, and every data folder but `keep`.
fn sweep(folder: &Path, keep: &str, files: &BTreeMap<String, Payload>) -> Result<()> {
    let doing = || format!("sweeping volume {}", folder.display());
    let visible: BTreeSet<&str> = files.keys().map(|path| top(path)).collect();
    for entry in fs::read_dir(folder).map_err(Error::io(doing()))? {
        let entry = entry.map_err(Error::io(doing()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().map_err(Error::io(doing()))?.is_dir();
        let outcome = if is_folder && name.starts_with("..") && name != keep {
            fs::remove_dir_all(entry.path())
        } else if !is_folder && name != DATA && !visible.contains(name.as_str()) {
            fs::remove_file(entry.path())
        } else {
            Ok(())
        };
        outcome.map_err(Error::io(doing()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str, u32)]) -> BTreeMap<String, Payload> {
        list.iter()
            .map(|(path, data, mode)| {
                ((*path).to_owned(), Payload { data: data.as_bytes().to_vec(), mode: *mode })
            })
            .collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("..2"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_layout_is_the_kubelets_and_an_update_swaps_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &files(&[("a", "1", 0o644), ("d/b", "2", 0o400)])).unwrap();
        assert_eq!(names(folder), ["..data", "a", "d"]);
        assert_eq!(fs::read_link(folder.join("a")).unwrap(), PathBuf::from("..data/a"));
        assert_eq!(fs::read(folder.join("d/b")).unwrap(), b"2");
        let mode = fs::metadata(folder.join("d/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        let first = fs::read_link(folder.join(DATA)).unwrap();
        assert!(first.to_str().unwrap().starts_with("..20"), "{first:?}");

        write(folder, &files(&[("a", "1", 0o644), ("d/b", "2", 0o400)])).unwrap();
        assert_eq!(fs::read_link(folder.join(DATA)).unwrap(), first);

        write(folder, &files(&[("a", "new", 0o644), ("c", "3", 0o644)])).unwrap();
        assert_eq!(names(folder), ["..data", "a", "c"]);
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"new");
        assert_ne!(fs::read_link(folder.join(DATA)).unwrap(), first);
        assert!(!folder.join(first).exists());
    }

    #[test]
    fn a_path_that_leaves_the_volume_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../a", "/a", "a/../../b", "", "a//b", "..data"] {
            let error = write(folder.path(), &files(&[(path, "", 0o644)])).unwrap_err();
            assert!(error.to_string().contains("inside its volume"), "{path}: {error}");
        }
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn a_write_that_was_cut_short_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        symlink("..gone", folder.path().join(NEW_DATA)).unwrap();
        fs::create_dir(folder.path().join("..2020_01_01_00_00_00.000000000")).unwrap();
        write(folder.path(), &files(&[("a", "1", 0o644)])).unwrap();
        assert_eq!(names(folder.path()), ["..data", "a"]);
        assert!(!folder.path().join("..2020_01_01_00_00_00.000000000").exists());
    }
}
