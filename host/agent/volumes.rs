//! A pod's volumes on the host: emptyDir, hostPath, ConfigMap and Secret, as the kubelet lays
//! them out under the pod's folder. Everything here blocks on files; callers keep it off the
//! async threads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Volume};
use rustix::mount::{MountFlags, UnmountFlags};

use super::atomic_writer::{self, Payload};
use super::env::{self, Object};
use super::quantity;
use super::record::{PodDirs, Record};
use crate::error::{Error, Result};

/// Folder or file on the host of each volume.
pub type Volumes = BTreeMap<String, PathBuf>;

/// Makes or refreshes every volume of the pod.
pub fn prepare(record: &Record, dirs: &PodDirs) -> Result<Volumes> {
    let spec = record.manifest.spec()?;
    let mut volumes = Volumes::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
        let made = one(record, dirs, volume).and_then(|path| {
            // The kubelet leaves host paths to their owners.
            if let Some(group) = group.filter(|_| volume.host_path.is_none()) {
                let rights = match volume.empty_dir {
                    Some(_) => GroupRights::ReadWrite,
                    None => GroupRights::Read,
                };
                give_to_group(&path, group, rights)?;
            }
            Ok(path)
        });
        let path = made.map_err(|error| {
            let name = &volume.name;
            Error::Precondition(format!(
                "MountVolume.SetUp failed for volume {name:?} (spec.volumes[{index}]): {error}"
            ))
        })?;
        volumes.insert(volume.name.clone(), path);
    }
    Ok(volumes)
}

fn one(record: &Record, dirs: &PodDirs, volume: &Volume) -> Result<PathBuf> {
    let folder =
        |plugin: &str| dirs.volumes().join(format!("kubernetes.io~{plugin}")).join(&volume.name);
    if let Some(source) = &volume.host_path {
        return host_path(source, &record.base_dir);
    }
    if let Some(source) = &volume.empty_dir {
        return empty_dir(source, folder("empty-dir"));
    }
    let (kind, name, optional, items, mode, folder) = if let Some(source) = &volume.config_map {
        let folder = folder("configmap");
        (
            Object::ConfigMap,
            source.name.as_str(),
            source.optional,
            &source.items,
            source.default_mode,
            folder,
        )
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        (
            Object::Secret,
            name,
            source.optional,
            &source.items,
            source.default_mode,
            folder("secret"),
        )
    } else {
        return Err(Error::Refused("its kind is not supported yet".to_owned()));
    };
    let entries = env::object(&record.manifest, kind, name, optional)?;
    let mode = mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644);
    let mut files = BTreeMap::new();
    match items {
        Some(items) => {
            for KeyToPath { key, path, mode: own } in items {
                let Some(data) = entries.and_then(|entries| entries.get(key)) else {
                    if optional == Some(true) {
                        continue;
                    }
                    let kind = kind.name();
                    return Err(Error::Invalid(format!("{kind} {name} has no key {key}")));
                };
                let mode = own.and_then(|own| u32::try_from(own).ok()).unwrap_or(mode);
                files.insert(path.clone(), Payload { data: data.0.clone(), mode });
            }
        }
        None => files.extend(
            entries
                .into_iter()
                .flatten()
                .map(|(key, data)| (key.clone(), Payload { data: data.0.clone(), mode })),
        ),
    }
    make_folder(&folder, 0o755)?;
    atomic_writer::write(&folder, &files)?;
    Ok(folder)
}

/// What a volume's group may do with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupRights {
    Read,
    ReadWrite,
}

/// The kubelet's SetVolumeOwnership: everything belongs to the group, may be read by it or written
/// too, and what is made in a folder belongs to it as well.
fn give_to_group(path: &Path, group: i64, rights: GroupRights) -> Result<()> {
    let doing = || format!("giving {} to fsGroup {group}", path.display());
    let gid = u32::try_from(group).ok();
    std::os::unix::fs::lchown(path, None, gid).map_err(Error::io(doing()))?;
    let found = fs::symlink_metadata(path).map_err(Error::io(doing()))?;
    if found.is_symlink() {
        return Ok(());
    }
    let mut mode = found.permissions().mode() | 0o440;
    if rights == GroupRights::ReadWrite {
        mode |= 0o660;
    }
    if found.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(doing()))?;
    if found.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io(doing()))? {
            give_to_group(&entry.map_err(Error::io(doing()))?.path(), group, rights)?;
        }
    }
    Ok(())
}

fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    let doing = || format!("making {}", folder.display());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(Error::io(doing()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).map_err(Error::io(doing()))
}

/// A folder for everybody, on a tmpfs for medium Memory where privileges allow.
fn empty_dir(source: &EmptyDirVolumeSource, folder: PathBuf) -> Result<PathBuf> {
    if is_mount(&folder) {
        return Ok(folder);
    }
    make_folder(&folder, 0o777)?;
    if source.medium.as_deref() != Some("Memory") {
        return Ok(folder);
    }
    let limit = match &source.size_limit {
        Some(limit) => Some(quantity::amount(limit, "sizeLimit")?.units()).filter(|n| *n > 0),
        None => None,
    };
    let options = match limit {
        Some(bytes) => format!("mode=0777,size={bytes}"),
        None => "mode=0777".to_owned(),
    };
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    match rustix::mount::mount("tmpfs", &folder, "tmpfs", flags, Some(options.as_c_str())) {
        Ok(()) => Ok(folder),
        // Without privileges a folder on disk does for the contents, but cannot hold a limit.
        Err(error) if limit.is_some() => {
            Err(Error::sys("mounting a tmpfs, which emptyDir.sizeLimit needs")(error))
        }
        Err(_) => Ok(folder),
    }
}

fn is_mount(folder: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
    let parent = folder.parent().and_then(device);
    parent.is_some() && device(folder).is_some_and(|own| Some(own) != parent)
}

/// Takes off every mount below a pod's folder, the deepest first. What does not come off lazily
/// does not come off at all, and stays for the next start.
pub fn unmount_below(folder: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(folder))
        .collect();
    points.sort();
    for point in points.iter().rev() {
        if let Err(error) = rustix::mount::unmount(point, UnmountFlags::DETACH) {
            tracing::warn!(%error, point = %point.display(), "a pod's mount is left behind");
        }
    }
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The kubelet's type checks; a relative path starts from the manifest's folder.
fn host_path(source: &HostPathVolumeSource, base_dir: &Path) -> Result<PathBuf> {
    let path = base_dir.join(&source.path);
    let shown = path.display().to_string();
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(&path).ok();
    let fault = |what: &str| {
        Err(Error::Precondition(format!("hostPath type check failed: {shown} is not {what}")))
    };
    match kind {
        "DirectoryOrCreate" if found.is_none() => make_folder(&path, 0o755)?,
        "FileOrCreate" if found.is_none() => {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(Error::io(format!("making {shown}")))?;
        }
        _ => {}
    }
    let found = fs::metadata(&path).ok().map(|metadata| metadata.file_type());
    let is = |wanted: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(wanted);
    match kind {
        "Directory" | "DirectoryOrCreate" if !is(fs::FileType::is_dir) => fault("a directory"),
        "File" | "FileOrCreate" if !is(fs::FileType::is_file) => fault("a file"),
        "Socket" if !is(FileTypeExt::is_socket) => fault("a socket file"),
        "CharDevice" if !is(FileTypeExt::is_char_device) => fault("a character device"),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => fault("a block device"),
        // With no type nothing is checked by the kubelet; a container runtime then fails later.
        "" if found.is_none() => {
            Err(Error::Precondition(format!("hostPath {shown} does not exist")))
        }
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, kind: &str) -> HostPathVolumeSource {
        HostPathVolumeSource { path: path.to_owned(), type_: Some(kind.to_owned()) }
    }

    #[test]
    fn a_volume_s_group_owns_all_of_it_but_what_links_lead_to() {
        let base = tempfile::tempdir().unwrap();
        let volume = base.path().join("volume");
        fs::create_dir_all(volume.join("deep")).unwrap();
        fs::write(volume.join("deep/file"), "x").unwrap();
        fs::write(base.path().join("outside"), "x").unwrap();
        for path in ["volume/deep/file", "outside"] {
            fs::set_permissions(base.path().join(path), fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::os::unix::fs::symlink("../outside", volume.join("link")).unwrap();
        // Any group as root, else one's own.
        let root = rustix::process::geteuid().is_root();
        let group = if root { 4321 } else { rustix::process::getegid().as_raw() };
        give_to_group(&volume, group.into(), GroupRights::Read).unwrap();
        let found = |path: &str| {
            let found = fs::symlink_metadata(base.path().join(path)).unwrap();
            (found.gid(), found.permissions().mode() & 0o7777)
        };
        assert_eq!(found("volume/deep/file"), (group, 0o640));
        assert_eq!(found("volume/deep"), (group, 0o2755));
        assert_eq!(found("outside").1, 0o600);
        give_to_group(&volume, group.into(), GroupRights::ReadWrite).unwrap();
        assert_eq!(found("volume/deep/file"), (group, 0o660));
        assert_eq!(found("volume").1 & 0o2770, 0o2770);
    }

    #[test]
    fn host_paths_are_checked_by_their_type_and_made_where_asked() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        fs::write(base.join("f"), "x").unwrap();
        assert_eq!(host_path(&source("f", "File"), base).unwrap(), base.join("f"));
        assert_eq!(host_path(&source("/", "Directory"), base).unwrap(), PathBuf::from("/"));
        host_path(&source("new/dir", "DirectoryOrCreate"), base).unwrap();
        assert!(base.join("new/dir").is_dir());
        host_path(&source("new/file", "FileOrCreate"), base).unwrap();
        assert!(base.join("new/file").is_file());
        for (path, kind, says) in [
            ("f", "Directory", "is not a directory"),
            ("new", "File", "is not a file"),
            ("f", "Socket", "is not a socket file"),
            ("none", "", "does not exist"),
            ("none", "Directory", "is not a directory"),
        ] {
            let error = host_path(&source(path, kind), base).unwrap_err().to_string();
            assert!(error.contains(says), "{path} {kind}: {error}");
        }
    }
}
