//! Whose ids a thread has. libc's functions for this change every thread of the process; these
//! change the calling one, and the threads that it begins inherit them.

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::namespace::Privilege;
use crate::error::{Error, Result};
use crate::model::user::User;

/// The calling thread is a container's user until this is dropped, on the same thread. Without
/// uid 0 it has no capability in effect; the saved uid alone is the shim's, which no guest can
/// reach for: guests make no system calls of their own.
pub struct Acting {
    became: Became,
}

#[derive(PartialEq, Eq)]
enum Became {
    /// It was that user already.
    Nobody,
    Somebody,
}

impl Acting {
    /// Last before the guest's runtime is made. [`Error::Refused`] where the user namespace has
    /// no such ids.
    pub fn begin(user: &User, privilege: Privilege) -> Result<Self> {
        if is_shims(user) {
            return Ok(Self { became: Became::Nobody });
        }
        if privilege == Privilege::UserNamespace {
            return Err(Error::Refused(format!(
                "uid {} and its groups do not exist here: without root a container's user is 0",
                user.uid
            )));
        }
        // Whatever fails half-way is undone.
        let acting = Self { became: Became::Somebody };
        let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        set_thread_groups(&groups)
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, Uid::ROOT))
            .map_err(Error::sys(format!("becoming uid {}", user.uid)))?;
        Ok(acting)
    }

    /// Of a thread that one which acts has begun, and whose ids it has from birth: it is the
    /// shim's again.
    pub fn end_inherited(user: &User) {
        let became = if is_shims(user) { Became::Nobody } else { Became::Somebody };
        drop(Self { became });
    }
}

fn is_shims(user: &User) -> bool {
    (user.uid, user.gid, user.groups.iter().all(|&group| group == 0)) == (0, 0, true)
}

impl Drop for Acting {
    fn drop(&mut self) {
        if self.became == Became::Nobody {
            return;
        }
        let (root, group) = (Uid::ROOT, Gid::ROOT);
        let back = set_thread_res_uid(root, root, root)
            .and_then(|()| set_thread_res_gid(group, group, group))
            .and_then(|()| set_thread_groups(&[]));
        if let Err(error) = back {
            tracing::error!(%error, "a thread stays its container's user");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn user(uid: u32) -> User {
        User { uid, gid: 1001, groups: vec![7, 1001], ..User::default() }
    }

    #[test]
    fn one_thread_alone_and_those_it_begins_become_the_user_until_the_end() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: other users need root");
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let before = status("CapEff:");
                let acting = Acting::begin(&user(1000), Privilege::Root).unwrap();
                let born = std::thread::spawn(|| (status("Uid:"), status("Groups:")));
                assert_eq!(
                    born.join().unwrap(),
                    ("1000 1000 0 1000".to_owned(), "7 1001".to_owned())
                );
                assert_eq!(status("Gid:"), "1001 1001 1001 1001");
                assert_eq!(status("CapEff:"), "0000000000000000");
                assert!(std::fs::read("/proc/kcore").is_err());
                drop(acting);
                assert_eq!((status("Uid:"), status("CapEff:")), ("0 0 0 0".to_owned(), before));
                assert_eq!(status("Groups:"), "");
            });
        });
        assert_eq!(status("Uid:"), "0 0 0 0");
    }

    #[test]
    fn root_with_groups_keeps_what_root_may() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: other users need root");
            return;
        }
        let before = status("CapEff:");
        std::thread::spawn(move || {
            let _acting = Acting::begin(&user(0), Privilege::Root).unwrap();
            assert_eq!((status("CapEff:"), status("Groups:")), (before, "7 1001".to_owned()));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_user_namespace_has_uid_0_alone() {
        assert!(Acting::begin(&User::default(), Privilege::UserNamespace).is_ok());
        let refused = Acting::begin(&user(1000), Privilege::UserNamespace);
        assert!(matches!(refused, Err(Error::Refused(_))));
    }
}
