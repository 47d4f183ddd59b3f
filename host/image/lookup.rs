//! What a program's name means in an image: one rule for the entrypoint of an import and for a
//! container's command. Knows nothing of either.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::{Image, ImageProgram, skeleton};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Where a program's name is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search<'a> {
    /// Absolute in the root; "" is "/".
    pub working_dir: &'a str,
    /// PATH's value: folders between colons.
    pub path: &'a str,
}

impl Image {
    /// The program that `name` means: a path, absolute or from the working directory, links
    /// followed; or a bare name in one of PATH's folders, in the working directory, in "/", or
    /// else of the one file anywhere that is called so. ".wasm" may be left out.
    pub fn program(&self, name: &str, search: Search<'_>) -> Option<&ImageProgram> {
        find(&self.programs, &self.layers, name, search)
    }

    /// The layers that came with the image, the topmost first: what it is as a volume.
    pub fn own_layers(&self) -> impl Iterator<Item = &Path> {
        let is_own = |layer: &&PathBuf| !layer.ends_with(skeleton::NAME);
        self.layers.iter().filter(is_own).map(PathBuf::as_path)
    }

    /// The beginning of a regular file of the image, links followed; `None` when there is none.
    pub fn read(&self, path: &str, most: usize) -> Option<Vec<u8>> {
        read(&self.layers, path, most)
    }
}

/// As [`Image::program`], for an image that is not one yet. `layers`: the topmost first.
pub fn find<'a>(
    programs: &'a [ImageProgram],
    layers: &[PathBuf],
    name: &str,
    search: Search<'_>,
) -> Option<&'a ImageProgram> {
    if name.is_empty() {
        return None;
    }
    let is_bare = !name.contains('/');
    let path = search.path.split(':').filter(|folder| is_bare && folder.starts_with('/'));
    let plain = [search.working_dir].into_iter().chain(is_bare.then_some("/"));
    let folders: Vec<&str> = path.chain(plain).collect();
    let at = |path: &Path| programs.iter().find(|program| Path::new(&program.path) == path);
    let found = folders.into_iter().find_map(|folder| {
        let path = Path::new("/").join(folder).join(name);
        let mut with_ending = path.clone().into_os_string();
        with_ending.push(".wasm");
        let ways = [path, PathBuf::from(with_ending)];
        // A program is known by every path but those through a link to a folder.
        ways.iter().find_map(|path| at(&normal(path)).or_else(|| at(&own_path(layers, path)?)))
    });
    found.or_else(|| if is_bare { only_one_called(programs, name) } else { None })
}

fn only_one_called<'a>(programs: &'a [ImageProgram], name: &str) -> Option<&'a ImageProgram> {
    let is_called = |program: &&ImageProgram| {
        let base = program.path.rsplit('/').next().unwrap_or_default();
        base == name || base.strip_suffix(".wasm") == Some(name)
    };
    let mut called = programs.iter().filter(is_called);
    called.next().filter(|first| called.all(|other| other.digest == first.digest))
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

fn read(layers: &[PathBuf], path: &str, most: usize) -> Option<Vec<u8>> {
    let own = own_path(layers, Path::new(path))?;
    let below = own.strip_prefix("/").ok()?;
    let layer = layers.iter().find_map(|layer| in_layer(layer, below).map(|found| (layer, found)));
    let (layer, _) = layer.filter(|(_, found)| matches!(found, Some(None)))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(layer.join(below), flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The path with every link followed, as it is in the root that the layers make; `None` when it
/// leads nowhere.
fn own_path(layers: &[PathBuf], path: &Path) -> Option<PathBuf> {
    let mut own = PathBuf::from("/");
    let mut left: Vec<OsString> = Vec::new();
    let add = |left: &mut Vec<OsString>, path: &Path| {
        left.extend(path.components().rev().filter_map(|component| match component {
            Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        }));
    };
    add(&mut left, path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            own.pop();
            continue;
        }
        own.push(name);
        let Some(target) = link_at(layers, &own)? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        own.pop();
        if target.is_absolute() {
            own = PathBuf::from("/");
        }
        add(&mut left, &target);
    }
    Some(own)
}

/// What is at a path without links before its last name: `None` nothing, `Some(None)` no link.
fn link_at(layers: &[PathBuf], own: &Path) -> Option<Option<PathBuf>> {
    let below = own.strip_prefix("/").ok()?;
    layers.iter().find_map(|layer| in_layer(layer, below)).flatten()
}

/// As [`link_at`] for one layer; the outer `None` leaves it to the layers below. A layer's own
/// links are never followed: they mean something in the root only.
fn in_layer(layer: &Path, below: &Path) -> Option<Option<Option<PathBuf>>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(layer, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found =
        rustix::fs::openat2(&top, below, flags | OFlags::NOFOLLOW, Mode::empty(), within).ok()?;
    let stat = rustix::fs::fstat(&found).ok()?;
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found, c"", Vec::new()).ok()?;
            Some(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))))
        }
        // What lies below is hidden.
        FileType::CharacterDevice => None,
        _ => Some(None),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::image::CodeForm;

    fn programs(paths: &[&str]) -> Vec<ImageProgram> {
        let program = |path: &&str| ImageProgram {
            path: (*path).to_owned(),
            digest: format!("sha256:{path}"),
            form: CodeForm::Module,
            file: PathBuf::new(),
        };
        paths.iter().map(program).collect()
    }

    #[test]
    fn programs_are_found_by_path_by_name_and_through_path() {
        let programs =
            programs(&["/app.wasm", "/bin/tool.wasm", "/opt/deep/probe.wasm", "/usr/bin/x"]);
        for (name, working_dir, path) in [
            ("/app.wasm", "/", "/app.wasm"),
            ("/app", "/", "/app.wasm"),
            ("app", "/", "/app.wasm"),
            ("app.wasm", "/tmp", "/app.wasm"),
            ("tool", "/", "/bin/tool.wasm"),
            ("x", "", "/usr/bin/x"),
            ("probe", "/", "/opt/deep/probe.wasm"),
            ("./probe", "/opt/deep", "/opt/deep/probe.wasm"),
            ("/opt/./deep//../deep/probe.wasm", "/", "/opt/deep/probe.wasm"),
            ("../../../bin/tool", "/opt/deep", "/bin/tool.wasm"),
        ] {
            let search = Search { working_dir, path: "/usr/bin:/bin" };
            let found = find(&programs, &[], name, search).map(|program| program.path.as_str());
            assert_eq!(found, Some(path), "{name}");
        }
        assert!(find(&programs, &[], "sh", Search::default()).is_none());
        assert!(find(&programs, &[], "", Search::default()).is_none());
    }

    #[test]
    fn two_different_programs_of_one_name_are_not_guessed_between() {
        let programs = programs(&["/a/app.wasm", "/b/app.wasm"]);
        assert!(find(&programs, &[], "app", Search::default()).is_none());
    }

    #[test]
    fn a_file_is_read_as_the_root_has_it() {
        let base = tempfile::tempdir().unwrap();
        let (upper, lower) = (base.path().join("upper"), base.path().join("lower"));
        std::fs::create_dir_all(upper.join("etc")).unwrap();
        std::fs::create_dir_all(lower.join("etc")).unwrap();
        std::fs::write(base.path().join("outside"), "out").unwrap();
        std::fs::write(lower.join("etc/passwd"), "lower").unwrap();
        std::fs::write(lower.join("etc/group"), "lower").unwrap();
        std::fs::write(upper.join("etc/group"), "upper").unwrap();
        symlink("/etc/group", upper.join("link")).unwrap();
        symlink("../outside", upper.join("out")).unwrap();
        let layers = [upper, lower];
        let found = |path: &str| read(&layers, path, 4);
        assert_eq!(found("/etc/passwd").unwrap(), b"lowe");
        assert_eq!(found("/etc/group").unwrap(), b"uppe");
        assert_eq!(found("/link").unwrap(), b"uppe");
        for path in ["/etc", "/out", "/none", "/etc/passwd/x"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn links_to_folders_are_followed_through_all_layers_and_never_out_of_them() {
        let base = tempfile::tempdir().unwrap();
        let (upper, lower) = (base.path().join("upper"), base.path().join("lower"));
        std::fs::create_dir_all(upper.join("opt")).unwrap();
        std::fs::create_dir_all(lower.join("usr/bin")).unwrap();
        std::fs::write(lower.join("usr/bin/app.wasm"), "").unwrap();
        symlink("usr/bin", lower.join("bin")).unwrap();
        symlink("/bin", upper.join("opt/tools")).unwrap();
        symlink("../../../../loop", upper.join("loop")).unwrap();
        symlink(lower.join("usr"), upper.join("host")).unwrap();
        let (programs, layers) = (programs(&["/usr/bin/app.wasm"]), [upper, lower]);
        let found = |name: &str| find(&programs, &layers, name, Search::default()).is_some();
        for name in ["/bin/app.wasm", "/bin/app", "/opt/tools/app", "opt/../bin/../bin/app"] {
            assert!(found(name), "{name}");
        }
        for name in ["/loop/app", "/host/bin/app", "/opt/bin/app"] {
            assert!(!found(name), "{name}");
        }
    }
}
