//! Images and the file system that holds them.

use super::stats::count;
use crate::image::{Image, Usage};
use crate::proto::cri;

pub fn item(image: &Image) -> cri::Image {
    let (uid, username) = user(&image.config.user);
    cri::Image {
        id: image.id.clone(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        uid,
        username,
        spec: None,
        pinned: image.pinned,
    }
}

/// The image's user without its group: a number or a name, never both.
fn user(text: &str) -> (Option<cri::Int64Value>, String) {
    let user = text.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(uid) => (Some(cri::Int64Value { value: uid.into() }), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

/// `now` is nanoseconds since the Unix epoch.
pub fn filesystem(usage: &Usage, now: i64) -> cri::FilesystemUsage {
    cri::FilesystemUsage {
        timestamp: now,
        fs_id: Some(cri::FilesystemIdentifier {
            mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: count(usage.bytes),
        inodes_used: count(usage.inodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_number_or_a_name_as_user() {
        let uid = |value| Some(cri::Int64Value { value });
        for (text, expected) in [
            ("", (None, "")),
            ("0", (uid(0), "")),
            ("1000:1000", (uid(1000), "")),
            ("app:staff", (None, "app")),
        ] {
            assert_eq!(user(text), (expected.0, expected.1.to_owned()), "{text}");
        }
    }
}
