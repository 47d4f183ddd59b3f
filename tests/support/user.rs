//! An ordinary user of this machine: tests run as root take another uid for their daemon and its
//! commands, tests run by an ordinary user are one already.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A uid and gid that no account of a machine has.
const UID: u32 = 54321;

/// Who runs a daemon, and which file is its program.
#[derive(Clone, Debug)]
pub struct User {
    uid: Option<u32>,
    program: PathBuf,
}

impl User {
    /// The tests' own user.
    pub fn own() -> Self {
        Self { uid: None, program: env!("CARGO_BIN_EXE_wasmpod").into() }
    }

    /// An ordinary user, to whom these folders are given; the first gets a copy of the program,
    /// for a target folder may be one that others cannot look into.
    pub fn ordinary(folders: &[&Path]) -> Self {
        let own = Self::own();
        if !rustix::process::geteuid().is_root() {
            return own;
        }
        for folder in folders {
            chown(folder, Some(UID), Some(UID)).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let program = folders[0].join("wasmpod");
        fs::hard_link(&own.program, &program)
            .or_else(|_| fs::copy(&own.program, &program).map(drop))
            .unwrap();
        Self { uid: Some(UID), program }
    }

    /// Gives it a folder that the tests made.
    pub fn own_folder(&self, folder: &Path) {
        if let Some(uid) = self.uid {
            chown(folder, Some(uid), Some(uid)).unwrap();
        }
    }

    /// The uid that its processes have.
    pub fn uid(&self) -> u32 {
        self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    /// `wasmpod` run by it, without supplemental groups when that is another user.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid).current_dir("/");
        }
        command
    }
}
