//! Who a container is: containerd's rules for what the request and the image say, names looked up
//! in the image's own /etc/passwd and /etc/group. Pure but for reading those two.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::model::user::{GroupsPolicy, User, UserConfig};

/// Whom the daemon's own privilege lets containers be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Possible {
    Anybody,
    /// A user namespace without subordinate ids has uid 0 alone.
    Root,
}

impl Possible {
    pub fn here() -> Self {
        if rustix::process::geteuid().is_root() { Self::Anybody } else { Self::Root }
    }
}

/// Bytes of /etc/passwd and /etc/group that are read.
const MOST: usize = 1 << 20;

/// What an image says of its users.
struct Files {
    passwd: String,
    group: String,
}

/// The error is one sentence that names the field or the name in question.
pub fn resolve(asked: &UserConfig, image: &Image, possible: Possible) -> Result<User> {
    let read = |path| {
        let bytes = image.read(path, MOST).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let files = Files { passwd: read("/etc/passwd"), group: read("/etc/group") };
    let user = find(asked, &image.config.user, &files)?;
    let is_root = user.uid == 0 && user.groups.iter().all(|&group| group == 0);
    if possible == Possible::Root && !is_root {
        return Err(Error::Refused(format!(
            "uid {} with groups {:?} is not available: this wasmpod does not run as root, so its \
             containers can be uid 0 alone, which is its own user to everybody else",
            user.uid, user.groups
        )));
    }
    Ok(user)
}

fn find(asked: &UserConfig, of_image: &str, files: &Files) -> Result<User> {
    let own = asked.uid.map(|uid| uid.to_string());
    let own = own.or_else(|| Some(asked.name.clone()).filter(|name| !name.is_empty()));
    let (name, group) = match (own, asked.gid) {
        (Some(own), gid) => (own, gid.map(|gid| gid.to_string())),
        (None, Some(gid)) => {
            return Err(Error::Invalid(format!(
                "run_as_group = {gid} is given without run_as_user or run_as_username"
            )));
        }
        (None, None) => {
            let (name, group) = of_image.split_once(':').unwrap_or((of_image, ""));
            (name.to_owned(), Some(group.to_owned()).filter(|group| !group.is_empty()))
        }
    };
    let entry = files.user(&name)?;
    let gid = match group {
        Some(group) => files.group(&group)?,
        None => entry.gid,
    };
    let mut groups: BTreeSet<u32> = asked.groups.iter().copied().collect();
    groups.insert(gid);
    if asked.policy == GroupsPolicy::Merge && !entry.name.is_empty() {
        groups.extend(files.groups_of(&entry.name));
    }
    Ok(User { uid: entry.uid, gid, groups: groups.into_iter().collect(), name: entry.name })
}

struct Entry {
    uid: u32,
    gid: u32,
    name: String,
}

impl Files {
    /// A name, or a number, which needs no entry; nothing is root.
    fn user(&self, text: &str) -> Result<Entry> {
        let text = if text.is_empty() { "0" } else { text };
        let uid: Option<u32> = text.parse().ok();
        let entries = self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(Entry { uid: uid.parse().ok()?, gid: gid.parse().ok()?, name: name.to_owned() })
        });
        let is_meant = |entry: &Entry| match uid {
            Some(uid) => entry.uid == uid,
            None => entry.name == text,
        };
        match (entries.into_iter().find(is_meant), uid) {
            (Some(entry), _) => Ok(entry),
            (None, Some(0)) => Ok(Entry { uid: 0, gid: 0, name: "root".to_owned() }),
            (None, Some(uid)) => Ok(Entry { uid, gid: 0, name: String::new() }),
            // In an image without users too.
            (None, None) if text == "root" => Ok(Entry { uid: 0, gid: 0, name: text.to_owned() }),
            (None, None) => {
                Err(Error::Invalid(format!("the image's /etc/passwd has no user {text:?}")))
            }
        }
    }

    /// Names, numbers and members.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
        })
    }

    fn group(&self, text: &str) -> Result<u32> {
        if let Ok(gid) = text.parse() {
            return Ok(gid);
        }
        let found = self.groups().find(|(name, ..)| *name == text).map(|(_, gid, _)| gid);
        found
            .or((text == "root").then_some(0))
            .ok_or_else(|| Error::Invalid(format!("the image's /etc/group has no group {text:?}")))
    }

    fn groups_of(&self, name: &str) -> impl Iterator<Item = u32> {
        let has = move |members: &str| members.split(',').any(|member| member.trim() == name);
        self.groups().filter(move |(.., members)| has(members)).map(|(_, gid, _)| gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/:\n".to_owned(),
            group: "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:app\n".to_owned(),
        }
    }

    fn asks(uid: Option<u32>, name: &str, gid: Option<u32>) -> UserConfig {
        UserConfig { uid, name: name.to_owned(), gid, ..UserConfig::default() }
    }

    /// uid, gid, groups, name.
    fn shown(asked: &UserConfig, of_image: &str, files: &Files) -> String {
        match find(asked, of_image, files) {
            Ok(User { uid, gid, groups, name }) => format!("{uid} {gid} {groups:?} {name}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_request_comes_before_the_image_and_names_are_the_image_s() {
        let nobody = asks(None, "", None);
        for (asked, of_image, expected) in [
            (nobody.clone(), "", "0 0 [0, 10] root"),
            (nobody.clone(), "app", "1000 1001 [10, 50, 1001] app"),
            (nobody.clone(), "1000", "1000 1001 [10, 50, 1001] app"),
            (nobody.clone(), "app:staff", "1000 50 [10, 50] app"),
            (nobody.clone(), "7:8", "7 8 [8] "),
            (nobody.clone(), "x", "the image's /etc/passwd has no user \"x\""),
            (nobody, "app:x", "the image's /etc/group has no group \"x\""),
            (asks(Some(7), "", None), "app", "7 0 [0] "),
            (asks(Some(7), "", Some(9)), "app:app", "7 9 [9] "),
            (asks(None, "app", Some(9)), "", "1000 9 [9, 10, 50] app"),
            (
                asks(None, "", Some(9)),
                "app",
                "run_as_group = 9 is given without run_as_user or run_as_username",
            ),
        ] {
            assert_eq!(shown(&asked, of_image, &files()), expected, "{asked:?} {of_image}");
        }
    }

    #[test]
    fn an_image_without_users_has_root_and_numbers() {
        let none = Files { passwd: String::new(), group: String::new() };
        for (of_image, expected) in
            [("", "0 0 [0] root"), ("root:root", "0 0 [0] root"), ("5", "5 0 [0] ")]
        {
            assert_eq!(shown(&asks(None, "", None), of_image, &none), expected);
        }
    }

    #[test]
    fn strict_takes_no_groups_from_the_image() {
        let policy = GroupsPolicy::Strict;
        let strict = UserConfig { groups: vec![3, 2], policy, ..asks(Some(1000), "", None) };
        assert_eq!(shown(&strict, "", &files()), "1000 1001 [2, 3, 1001] app");
        let merged = UserConfig { policy: GroupsPolicy::Merge, ..strict };
        assert_eq!(shown(&merged, "", &files()), "1000 1001 [2, 3, 10, 50, 1001] app");
    }
}
