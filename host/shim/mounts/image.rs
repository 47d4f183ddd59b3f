//! Images as volumes: the layers of one, or a folder or file of it, read-only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{clone_tree, in_root, lower_dirs, open_path};
use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Folders, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Below its root; empty: the root itself.
    pub sub_path: String,
}

/// A copy of the image's tree, attached nowhere. `at` is an empty folder that nobody uses yet.
pub fn take(image: &ImageSource, at: &Path) -> Result<OwnedFd> {
    let doing = || "mounting an image".to_owned();
    let tree = match image.layers.as_slice() {
        [] => return Err(Error::Invalid("the image has no files to mount".to_owned())),
        // An overlay needs two.
        [only] => clone_tree(&open_path(only)?).map_err(Error::sys(doing()))?,
        layers => {
            let opened = layers.iter().map(|path| open_path(path)).collect::<Result<Vec<_>>>()?;
            let options = std::ffi::CString::new(lower_dirs(&opened))
                .map_err(|_| Error::Internal("an overlay option holds a NUL".to_owned()))?;
            let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
            rustix::mount::mount("wasmpod", at, "overlay", flags, options.as_c_str())
                .map_err(Error::sys(doing()))?;
            let taken = open_path(at).and_then(|top| clone_tree(&top).map_err(Error::sys(doing())));
            rustix::mount::unmount(at, UnmountFlags::DETACH).map_err(Error::sys(doing()))?;
            taken?
        }
    };
    let below = image.sub_path.trim_matches('/');
    if below.is_empty() {
        return Ok(tree);
    }
    let found = in_root(tree.as_fd(), Path::new(below)).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::Invalid(format!(
            "the image has no {:?}, which image_sub_path names: {}",
            image.sub_path,
            std::io::Error::from(errno)
        )),
        errno => Error::sys(doing())(errno),
    })?;
    clone_tree(&found).map_err(Error::sys(doing()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{in_namespace, is_read_only, mount};
    use super::super::{MountAccess, assemble};
    use super::*;

    #[test]
    fn an_image_or_a_part_of_it_is_mounted_read_only() {
        in_namespace(|dir, mut spec| {
            for (path, text) in [("one/a", "upper"), ("two/a", "lower"), ("two/sub/b", "b")] {
                let path = dir.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let image = |layers: &[&str], sub_path: &str| {
                let layers = layers.iter().map(|name| dir.join(name)).collect();
                Some(ImageSource { layers, sub_path: sub_path.to_owned() })
            };
            let at = |path: &str, image| super::super::MountSpec {
                image,
                ..mount(Path::new(""), path, MountAccess::ReadOnly)
            };
            spec.mounts = vec![
                at("/all", image(&["one", "two"], "")),
                at("/single", image(&["two"], "")),
                at("/part", image(&["one", "two"], "sub")),
                at("/file", image(&["one", "two"], "/sub/b")),
            ];
            let root = dir.join("root");
            let tree = assemble(&root, &spec).unwrap();
            let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
            assert_eq!((read("all/a"), read("all/sub/b")), ("upper".to_owned(), "b".to_owned()));
            assert_eq!((read("single/a"), read("part/b")), ("lower".to_owned(), "b".to_owned()));
            assert_eq!(read("file"), "b");
            for path in ["all/new", "single/new", "part/new", "file"] {
                assert!(is_read_only(fs::write(root.join(path), "x")), "{path}");
            }
            tree.take_down().unwrap();

            fs::create_dir(&root).unwrap();
            spec.mounts = vec![at("/part", image(&["one", "two"], "../sub/none"))];
            let error = assemble(&root, &spec).unwrap_err().to_string();
            assert!(error.contains("the image has no \"../sub/none\""), "{error}");
        });
    }
}
