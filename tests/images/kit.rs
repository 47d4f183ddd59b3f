//! Builds stores, wasm files, layouts and layers to test with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wasmpod::config::Config;
use wasmpod::image::{Image, ImageStore};

/// A fresh folder with a store's configuration in it.
pub struct Kit {
    pub folder: tempfile::TempDir,
    pub config: Config,
}

impl Kit {
    pub const PROGRAM: &str = env!("CARGO_BIN_EXE_wasmpod");

    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { root: folder.path().join("root"), ..Config::default() };
        config.compile.program = Some(PathBuf::from(Self::PROGRAM));
        Self { folder, config }
    }

    /// With the store on a file system of its own, of so many MiB; only root may.
    pub fn on_disk(mib: u32) -> (Self, Disk) {
        let mut kit = Self::new();
        let disk = Disk { at: kit.path("disk") };
        std::fs::create_dir(&disk.at).unwrap();
        let options = std::ffi::CString::new(format!("size={mib}m")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("test", &disk.at, "tmpfs", flags, options.as_c_str()).unwrap();
        kit.config.root = disk.at.join("root");
        (kit, disk)
    }

    pub async fn store(&self) -> ImageStore {
        ImageStore::open(&self.config).await.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A shell script that can be run.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name, format!("#!/bin/sh\n{text}\n"));
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, rights).unwrap();
        path
    }

    /// An empty layout folder.
    pub fn layout(&self, name: &str) -> Layout {
        let folder = self.path(name);
        std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { folder, manifests: Vec::new() }
    }
}

/// A command module that does nothing; `mark` makes each one's bytes its own.
pub fn module(mark: u32) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1)
            (func (export "_start") i32.const {mark} drop))"#
    );
    wat::parse_str(text).unwrap()
}

pub fn component() -> Vec<u8> {
    wat::parse_str(r#"(component (core module (func (export "f"))))"#).unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An OCI layout in the making.
pub struct Layout {
    pub folder: PathBuf,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// A descriptor of a new blob.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        std::fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// A manifest's descriptor.
    pub fn manifest(&self, config: Value, layers: &[Value]) -> Value {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    /// A classic image of plain tar layers.
    pub fn classic(&self, platform: (&str, &str), entrypoint: &[&str], tars: &[Vec<u8>]) -> Value {
        let layers: Vec<Value> = tars
            .iter()
            .map(|tar| self.blob("application/vnd.oci.image.layer.v1.tar", tar))
            .collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
        self.image(platform, entrypoint, (&layers, &diff_ids))
    }

    pub fn image(
        &self,
        (os, architecture): (&str, &str),
        entrypoint: &[&str],
        (layers, diff_ids): (&[Value], &[String]),
    ) -> Value {
        let config = json!({
            "os": os,
            "architecture": architecture,
            "config": { "Entrypoint": entrypoint, "Env": ["A=b"], "Labels": null },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let mut manifest = self.manifest(config, layers);
        manifest["platform"] = json!({ "os": os, "architecture": architecture });
        manifest
    }

    pub fn write_index(&self) {
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        std::fs::write(self.folder.join("index.json"), index.to_string()).unwrap();
    }

    /// With one manifest, as a folder.
    pub fn of(mut self, manifest: Value) -> PathBuf {
        self.manifests.push(manifest);
        self.write_index();
        self.folder
    }
}

/// One entry of a layer.
pub enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Folder(&'a str, u32),
    Symlink(&'a str, &'a str),
    HardLink(&'a str, &'a str),
    Other(&'a str, tar::EntryType),
    /// An empty file of this user and group.
    Owned(&'a str, u64),
}

/// A tar with exactly these names, however odd.
pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_000_000);
        let (name, link, kind, content): (_, _, _, &[u8]) = match entry {
            Entry::File(name, content) => (name, "", tar::EntryType::Regular, content),
            Entry::Folder(name, mode) => {
                header.set_mode(*mode);
                (name, "", tar::EntryType::Directory, b"")
            }
            Entry::Symlink(name, to) => (name, *to, tar::EntryType::Symlink, b""),
            Entry::HardLink(name, to) => (name, *to, tar::EntryType::Link, b""),
            Entry::Other(name, kind) => (name, "", *kind, b""),
            Entry::Owned(name, _) => (name, "", tar::EntryType::Regular, b""),
        };
        header.set_entry_type(kind);
        // Past the library, which would refuse what is tested here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(content.len() as u64);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        if let Entry::Owned(_, id) = entry {
            header.set_uid(*id);
            header.set_gid(*id);
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder's content as a tar.
pub fn pack(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap()
}

/// Where a path of an image's root lies on the host, in the topmost layer that has it; no links
/// are followed. A path of no layer leads nowhere.
pub fn in_root(image: &Arc<Image>, path: &str) -> PathBuf {
    for layer in &image.layers {
        let place = layer.join(path);
        let Ok(found) = std::fs::symlink_metadata(&place) else { continue };
        let hides = std::os::unix::fs::FileTypeExt::is_char_device(&found.file_type());
        return if hides { PathBuf::from("/nonexistent/hidden") } else { place };
    }
    PathBuf::from("/nonexistent/absent")
}

/// Every file below a folder, as text paths; what a store keeps back for a full disk left out.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.retain(|file| !file.ends_with("images/reserve"));
    found.sort();
    found
}

/// An image's layers under an overlay, as a container has them.
pub struct Overlay {
    pub at: PathBuf,
}

impl Overlay {
    pub fn mount(kit: &Kit, image: &Image) -> Self {
        let at = kit.path("overlay");
        std::fs::create_dir_all(&at).unwrap();
        let layers: Vec<String> = image.layers.iter().map(|l| l.display().to_string()).collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", layers.join(":"))).unwrap();
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount("test", &at, "overlay", flags, options.as_c_str()).unwrap();
        Self { at }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// A small file system, gone when dropped.
pub struct Disk {
    pub at: PathBuf,
}

impl Disk {
    /// Takes all room but so many KiB.
    pub fn fill(&self, but_kib: u64) {
        let found = rustix::fs::statvfs(&self.at).unwrap();
        let free = found.f_bavail * found.f_frsize;
        let bytes = vec![1u8; (free - but_kib * 1024) as usize];
        std::fs::write(self.at.join("ballast"), bytes).unwrap();
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.at.join("ballast")).unwrap();
    }

    pub fn remount(&self, flags: rustix::mount::MountFlags) {
        rustix::mount::mount_remount(&self.at, flags, c"").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
