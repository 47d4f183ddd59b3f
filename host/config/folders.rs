//! Whose folders a daemon trusts: its sockets, its records and the machine code it runs lie in
//! them, so nobody else may have made them or may put something else in their place. Knows
//! nothing of what is in them.

use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};

/// Others may reach root's sockets, whose own modes say who may connect, but not list the folder.
const OF_ROOT: u32 = 0o711;
const OF_A_USER: u32 = 0o700;

/// What lies deepest in the state folder with a socket's limit on its path: a shim's socket.
const DEEPEST_SOCKET: &str = "/shims/0123456789abcdef/shim.sock";
/// Bytes of the longest path that a socket can have (sockaddr_un, less its last 0).
const LONGEST_SOCKET: usize = 107;

/// Makes the state folder, or finds the one that is there safe; see [`check_state`]. One whose
/// path leaves no room for sockets is refused.
pub fn make_state(path: &Path) -> Result<()> {
    let (length, most) = (path.as_os_str().len(), LONGEST_SOCKET - DEEPEST_SOCKET.len());
    if length > most {
        return Err(Error::Invalid(format!(
            "the path of state folder {} has {length} bytes, the most is {most}: sockets lie in \
             it, whose paths have {LONGEST_SOCKET} at most",
            path.display()
        )));
    }
    make(path)?;
    check_state(path)
}

/// Whether sockets in the state folder are this user's: it is a folder and no link, belongs to
/// this user, nobody else can write to it and, unless it is root's, nobody else can look into it.
/// [`Error::Precondition`] says which does not hold. One that is not there is nobody's.
pub fn check_state(path: &Path) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(Error::io(format!("looking at state folder {}", path.display())))?,
    };
    let user = rustix::process::geteuid().as_raw();
    let closed_to = if user == 0 { 0o022 } else { 0o077 };
    refuse_unless_own("state", path, &found, closed_to)
}

/// Makes the root folder, or finds the one that is there safe: it belongs to this user and is
/// not open to everybody. It may be a link, to a larger disk.
pub fn make_root(path: &Path) -> Result<()> {
    make(path)?;
    let found = std::fs::metadata(path)
        .map_err(Error::io(format!("looking at root folder {}", path.display())))?;
    refuse_unless_own("root", path, &found, 0o002)
}

/// Makes a folder for a socket that was named by itself. One that is there stays as it is: the
/// socket's own mode says who may connect.
pub fn make(path: &Path) -> Result<()> {
    // A link to nowhere is there too: what is to be said of it, its check says.
    if std::fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let mode = if rustix::process::geteuid().is_root() { OF_ROOT } else { OF_A_USER };
    let doing = || format!("making folder {}", path.display());
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::io(doing()))?;
    // The umask may have taken bits away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(Error::io(doing()))
}

fn refuse_unless_own(what: &str, path: &Path, found: &Metadata, closed_to: u32) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    let fault = if found.is_symlink() {
        "is a link: name the folder itself".to_owned()
    } else if !found.is_dir() {
        "is no folder: remove it, or name another".to_owned()
    } else if found.uid() != user {
        let owner = found.uid();
        format!("belongs to user {owner}, not to user {user}: name one of your own with --{what}")
    } else if mode & closed_to != 0 {
        let closed = mode & !closed_to;
        format!("is open to others (mode {mode:04o}): `chmod {closed:04o}` it, or name another")
    } else {
        return Ok(());
    };
    Err(Error::Precondition(format!("{what} folder {} {fault}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    use super::*;

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn a_folder_that_is_made_is_open_to_nobody_else() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        make_state(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, if is_root() { OF_ROOT } else { OF_A_USER });
        make_state(&path).unwrap();
        make_root(&path).unwrap();
        check_state(&base.path().join("absent")).unwrap();
    }

    #[test]
    fn a_path_without_room_for_sockets_is_refused_with_the_most() {
        let base = tempfile::tempdir().unwrap();
        let error = make_state(&base.path().join("x".repeat(70))).unwrap_err().to_string();
        assert!(error.contains("the most is 74") && error.contains("107"), "{error}");
    }

    #[test]
    fn what_others_may_have_made_or_may_change_is_refused_in_a_sentence() {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("own");
        make_state(&own).unwrap();
        let at = |name: &str| base.path().join(name);
        symlink(&own, at("link")).unwrap();
        symlink("/nowhere", at("dangling")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (name, mode) in [("group", 0o770), ("all", 0o1777)] {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        }
        let mut faults = vec![
            ("link", "is a link"),
            ("dangling", "is a link"),
            ("file", "is no folder"),
            ("group", "(mode 0770)"),
            ("all", "(mode 1777)"),
        ];
        if is_root() {
            fs::create_dir(at("another's")).unwrap();
            std::os::unix::fs::chown(at("another's"), Some(1234), None).unwrap();
            faults.push(("another's", "belongs to user 1234"));
        }
        for (name, says) in faults {
            let error = make_state(&at(name)).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(name), "{name}: {error}");
        }
        make_root(&at("link")).unwrap();
        make_root(&at("group")).unwrap();
        assert!(make_root(&at("all")).unwrap_err().to_string().contains("(mode 1777)"));
        assert!(make_root(&at("file")).unwrap_err().to_string().contains("is no folder"));
    }
}
