//! Folders that vanish: containers' writable roots, which hostile guests filled. Never follows a
//! link, needs few descriptors however deep the tree is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Removes a folder and all it holds; succeeds when it is not there. Blocks.
pub fn remove(folder: &Path) -> Result<()> {
    let doing = || Error::sys(format!("removing {}", folder.display()));
    let top = match open_folder(CWD, folder) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(doing()(error)),
    };
    empty(&top).map_err(doing())?;
    match rustix::fs::unlinkat(CWD, folder, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(doing()(error)),
    }
}

/// Empties a folder with one descriptor at a time: what a subfolder holds is removed or, when
/// it is a folder itself, moved up into the top one.
fn empty(top: &OwnedFd) -> rustix::io::Result<()> {
    let mut moved = 0u64;
    loop {
        let folders = unlink_files(top)?;
        if folders.is_empty() {
            return Ok(());
        }
        for name in folders {
            let folder = open_folder(top, &name)?;
            for inner in unlink_files(&folder)? {
                if unlinkat(&folder, &inner, AtFlags::REMOVEDIR).is_ok() {
                    continue;
                }
                // Moving a folder rewrites its "..", which takes the right to write to it.
                drop(open_folder(&folder, &inner)?);
                loop {
                    moved += 1;
                    let up = format!(".wasmpod-{moved}");
                    match renameat(&folder, &inner, top, up.as_str()) {
                        Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                        outcome => break outcome?,
                    }
                }
            }
            drop(folder);
            unlinkat(top, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Opens a folder, not a link to one, and gives its owner every right to it.
fn open_folder<P: rustix::path::Arg + Copy>(
    at: impl AsFd + Copy,
    name: P,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(at, name, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
            openat(at, name, flags | OFlags::RDONLY, Mode::empty())?
        }
        folder => folder?,
    };
    let mode = rustix::fs::fstat(&folder)?.st_mode;
    if mode & 0o700 != 0o700 {
        fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

/// Unlinks everything in a folder but folders, whose names it returns.
fn unlink_files(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        if is_folder(folder, &entry)? {
            folders.push(name.to_owned());
        } else {
            match unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(folders)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn is_folder(at: &OwnedFd, entry: &rustix::fs::DirEntry) -> rustix::io::Result<bool> {
    Ok(match entry.file_type() {
        FileType::Unknown => {
            let stat = statat(at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        }
        kind => kind == FileType::Directory,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_removed_and_what_its_links_name_is_not() {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let tree = base.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join(".wasmpod-1/d/e")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("/nowhere", tree.join("dangling")).unwrap();
        for odd in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(tree.join(odd), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        remove(&tree).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let kept = base.path().join("kept");
        fs::create_dir_all(kept.join("inner")).unwrap();
        let link = base.path().join("link");
        symlink(&kept, &link).unwrap();
        assert!(remove(&link).is_err());
        assert!(kept.join("inner").exists());
    }

    #[test]
    fn a_tree_deeper_than_paths_and_descriptors_reach_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let tree = base.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = open_folder(CWD, tree.as_path()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = open_folder(&at, "deep").unwrap();
        }
        drop(at);
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
