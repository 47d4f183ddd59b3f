//! Images and the file system that holds them.

use super::stats::count;
use crate::image::{Arrival, Auth, Image, Stage, Usage};
use crate::proto::cri;
use crate::proto::pod;

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

/// A caller's credentials.
pub fn auth(auth: cri::AuthConfig) -> Auth {
    Auth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}

/// As [`auth`], of the pod protocol.
pub fn login(login: pod::Login) -> Auth {
    Auth {
        username: login.username,
        password: login.password,
        identity_token: login.identity_token,
        registry_token: login.registry_token,
        ..Auth::default()
    }
}

pub fn progress(arrival: &Arrival) -> pod::PullProgress {
    use pod::pull_progress::Stage as Wire;
    let (stage, done, of) = match arrival.stage {
        Stage::Resolving => (Wire::Resolving, 0, 0),
        Stage::Downloading => (Wire::Downloading, 0, 0),
        Stage::Uploading => (Wire::Uploading, 0, 0),
        Stage::Unpacking { layer, of } => (Wire::Unpacking, layer, of),
        Stage::Compiling { done, of } => (Wire::Compiling, done, of),
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let layers = arrival.layers.iter().map(|layer| pod::PullLayer {
        digest: layer.digest.clone(),
        size: layer.size,
        done: layer.done,
    });
    let (done, of) = (number(done), number(of));
    pod::PullProgress { stage: stage.into(), done, of, layers: layers.collect() }
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
