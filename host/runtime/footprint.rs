//! What a folder holds on disk: containers' writable roots, which hostile guests fill as deep and
//! as wide as they like. A walk holds two descriptors and a few bytes for each level, follows no
//! link, and stops and goes on when told. What a user cannot read is not counted.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

/// What a folder holds on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    pub inodes: u64,
}

/// Levels that are kept in memory: 32 MiB of them. Deeper ones are left out, and told of.
const LEVELS_MAX: usize = 1 << 20;

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Unfinished,
    Finished(Size),
    /// A folder was moved while the walk was below it, so the way back up was lost; what was
    /// counted until then.
    Astray(Size),
}

/// A walk through a folder, itself not counted.
pub struct Walk {
    here: Dir,
    id: Id,
    above: Vec<Level>,
    counted: Counted,
    left_out: u64,
}

/// Device and inode.
type Id = (u64, u64);

/// A folder that the walk will come back to.
struct Level {
    id: Id,
    /// The directory offset at which it goes on (d_off of the entry that was entered).
    next: i64,
}

#[derive(Default)]
struct Counted {
    bytes: u64,
    inodes: u64,
    /// Of files with several names, each name counts its part.
    shared_inodes: f64,
}

impl Walk {
    /// `None` where there is no such folder.
    pub fn new(folder: &Path) -> Option<Self> {
        let (here, id) = open(CWD, folder).ok()?;
        Some(Self { here, id, above: Vec::new(), counted: Counted::default(), left_out: 0 })
    }

    /// Looks at up to `entries` more.
    pub fn go(&mut self, entries: u64) -> Progress {
        let mut left = entries;
        while left > 0 {
            // What vanishes meanwhile is not counted: the guest goes on working.
            let Some(Ok(entry)) = self.here.read() else {
                match self.ascend() {
                    Progress::Unfinished => continue,
                    end => return end,
                }
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            left -= 1;
            let Ok(at) = self.here.fd() else { return self.astray() };
            let Ok(stat) = statat(at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if !self.counted.add(&stat) {
                continue;
            }
            if self.above.len() >= LEVELS_MAX {
                self.left_out += 1;
            } else if let Ok((inner, id)) = open(at, entry.file_name()) {
                self.above.push(Level { id: self.id, next: entry.offset() });
                (self.here, self.id) = (inner, id);
            }
        }
        Progress::Unfinished
    }

    fn ascend(&mut self) -> Progress {
        let Some(level) = self.above.pop() else {
            if self.left_out > 0 {
                let left_out = self.left_out;
                tracing::warn!(left_out, "folders too deep to be measured");
            }
            return Progress::Finished(self.counted.size());
        };
        let Ok((mut up, id)) = self.here.fd().and_then(|here| open(here, "..")) else {
            return self.astray();
        };
        if id != level.id || up.seek(level.next).is_err() {
            return self.astray();
        }
        (self.here, self.id) = (up, id);
        Progress::Unfinished
    }

    fn astray(&self) -> Progress {
        Progress::Astray(self.counted.size())
    }
}

impl Counted {
    /// Whether it is a folder.
    fn add(&mut self, stat: &Stat) -> bool {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // A folder's number is that of its subfolders. (32 bits wide on some machines.)
        #[allow(clippy::useless_conversion)]
        let names = if is_folder { 1 } else { u64::from(stat.st_nlink.max(1)) };
        // The kernel counts st_blocks in 512 bytes whatever the file system.
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        self.bytes = self.bytes.saturating_add(bytes / names);
        if names == 1 {
            self.inodes += 1;
        } else {
            self.shared_inodes += 1.0 / names as f64;
        }
        is_folder
    }

    fn size(&self) -> Size {
        Size { bytes: self.bytes, inodes: self.inodes + self.shared_inodes.round() as u64 }
    }
}

/// Opens a folder, not a link to one.
fn open<P: rustix::path::Arg>(at: impl AsFd, name: P) -> rustix::io::Result<(Dir, Id)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let folder: OwnedFd = openat(at, name, flags, Mode::empty())?;
    let stat = fstat(&folder)?;
    Ok((Dir::new(folder)?, (stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn measured(folder: &Path) -> Size {
        match Walk::new(folder).unwrap().go(u64::MAX) {
            Progress::Finished(size) => size,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_and_folders_are_measured_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("a")).unwrap();
        fs::write(base.path().join("a/file"), vec![1u8; 10_000]).unwrap();
        let size = measured(base.path());
        assert_eq!(size.inodes, 2);
        assert!(size.bytes >= 8192, "{size:?}");
        symlink("/", base.path().join("a/link")).unwrap();
        assert_eq!(measured(base.path()).inodes, 3);
        assert!(Walk::new(&base.path().join("absent")).is_none());
        assert!(Walk::new(&base.path().join("a/link")).is_none());
    }

    #[test]
    fn a_file_with_many_names_is_counted_once() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("0"), vec![1u8; 1 << 20]).unwrap();
        let alone = measured(base.path());
        for name in 1..7 {
            fs::hard_link(base.path().join("0"), base.path().join(name.to_string())).unwrap();
        }
        let size = measured(base.path());
        assert_eq!(size.inodes, 1);
        assert!(alone.bytes - size.bytes < 7, "{alone:?} {size:?}");
    }

    #[test]
    fn deep_and_wide_trees_are_counted_to_the_last_entry() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("deep");
        fs::create_dir(&deep).unwrap();
        let mut at = openat(CWD, &deep, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            for name in ["a", "deep", "z"] {
                rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            at = openat(&at, "deep", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        let wide = base.path().join("wide");
        fs::create_dir(&wide).unwrap();
        for name in 0..3000 {
            fs::write(wide.join(name.to_string()), "").unwrap();
        }
        assert_eq!(measured(base.path()).inodes, 2 + 9000 + 3000);
        // And in steps of any length.
        let mut walk = Walk::new(base.path()).unwrap();
        let end = loop {
            match walk.go(7) {
                Progress::Unfinished => {}
                end => break end,
            }
        };
        assert_eq!(end, Progress::Finished(measured(base.path())));
        super::super::sweep::remove(&deep).unwrap();
    }

    #[test]
    fn a_walk_whose_folder_is_moved_away_goes_nowhere_else() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("tree/inner/most")).unwrap();
        fs::create_dir_all(base.path().join("other/many")).unwrap();
        let mut walk = Walk::new(&base.path().join("tree")).unwrap();
        // It stands in "inner" now.
        assert_eq!(walk.go(1), Progress::Unfinished);
        fs::rename(base.path().join("tree/inner"), base.path().join("other/inner")).unwrap();
        assert!(matches!(walk.go(u64::MAX), Progress::Astray(Size { inodes: 2, .. })));
    }
}
