//! Loading a plugin: its file is read and compiled by a child, what it asks for is compared with
//! what it is granted, and a living one is shown what there is.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::bindings::{self, Shown};
use super::functions::{Shared, View};
use super::instance::asking;
use super::manifest::{Grants, Manifest};
use super::plugin::{Plugin, Seat};
use crate::config::PluginConfig;
use crate::engine::{Purpose, config};
use crate::error::{Error, Result};
use crate::image::{CodeForm, ImageStore};
use crate::interface::imports;
use crate::watch::FolderWatch;

/// Bytes of a plugin that is taken for one.
const LARGEST: u64 = 64 << 20;

/// A component that may be used, and what it may do.
pub struct Loaded {
    pub component: Component,
    pub grants: Grants,
}

/// Where a plugin comes from and what its instances are given.
pub struct Loader {
    config: PluginConfig,
    engines: [Engine; 2],
    shared: Arc<Shared>,
}

/// A file as it was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    nanos: i64,
}

/// Where changes of a plugin's file are seen.
pub struct Watched {
    folder: Option<FolderWatch>,
    seen: [Option<Stamp>; 2],
}

impl Loader {
    pub fn new(config: PluginConfig, engines: [Engine; 2], shared: Arc<Shared>) -> Self {
        Self { config, engines, shared }
    }

    pub fn view(&self, grants: &Grants) -> View {
        View::new(self.shared.clone(), grants.clone())
    }

    /// Errors are one clause each, which `the plugin ... failed:` stands before.
    pub async fn load(&self, images: &Arc<ImageStore>) -> Result<Loaded> {
        let (component, manifest) = compiled(&self.config.path, &self.engines, images).await?;
        let imported = imports(&component, "node-hooks", &manifest.functions)?;
        let grants = Grants::settle(&manifest, &imported, &self.config)?;
        Ok(Loaded { component, grants })
    }

    pub fn watch(&self) -> Watched {
        let folder = self.config.path.parent().map(FolderWatch::new);
        Watched { folder, seen: self.stamps() }
    }

    /// Of the file, and of the manifest beside it.
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [stamp(&self.config.path), stamp(&beside(&self.config.path))]
    }

    /// Returns once the file or its manifest is another one than it was at the last call.
    pub async fn changed(&self, watched: &mut Watched) {
        loop {
            let now = self.stamps();
            if now != watched.seen {
                watched.seen = now;
                return;
            }
            match &watched.folder {
                Some(folder) => folder.changed().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Shows a plugin the pods and containers that it may see, and does what it answers.
    pub async fn synchronize(&self, plugin: &Plugin, seat: &Seat) -> Result<(), String> {
        let view = self.view(&seat.grants);
        let (pods, containers) = (view.pods(), view.containers(None));
        let call = asking(move |instance| {
            Box::pin(async move {
                let hooks = instance.plugin.wasmpod_lifecycle_node_hooks();
                hooks.call_synchronize(&mut instance.store, &pods, &containers).await
            })
        });
        let updates = plugin.prepare(seat, call).await?;
        view.apply(updates).await.map_err(|error| error.to_string())
    }
}

/// The component of a file, compiled by a child, and its manifest.
pub async fn compiled(
    path: &Path,
    engines: &[Engine],
    images: &Arc<ImageStore>,
) -> Result<(Component, Manifest)> {
    let file = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || read(&file));
    let (wasm, manifest) = read
        .await
        .unwrap_or_else(|_| Err(Error::Internal("reading a plugin panicked".to_owned())))?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&wasm)));
    let code = images.code(&digest, path).await?;
    if code.form != CodeForm::Component {
        return Err(Error::Invalid(
            "it is a core module, no component: build it for wasm32-wasip2".to_owned(),
        ));
    }
    let engines = engines.to_vec();
    let mapped = tokio::task::spawn_blocking(move || component(&engines, &code.path, &code.sha256));
    let component = mapped
        .await
        .unwrap_or_else(|_| Err(Error::Internal("loading a plugin panicked".to_owned())))?;
    Ok((component, manifest))
}

fn read(path: &Path) -> Result<(Vec<u8>, Manifest)> {
    let doing = || format!("reading {}", path.display());
    let file = File::open(path).map_err(Error::io(doing()))?;
    let mut wasm = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut wasm).map_err(Error::io(doing()))?;
    if wasm.len() as u64 > LARGEST {
        return Err(Error::Invalid(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let beside = fs::read_to_string(beside(path)).ok();
    let manifest = Manifest::of(&wasm, beside.as_deref())?.unwrap_or_default();
    Ok((wasm, manifest))
}

/// Those of plugins, and of components that are programs too.
pub fn engines() -> wasmtime::Result<[Engine; 2]> {
    Ok([Engine::new(&config(Purpose::Plugin))?, Engine::new(&config(Purpose::Mapped))?])
}

/// Under the one that the code is for.
fn component(engines: &[Engine], file: &Path, sum: &str) -> Result<Component> {
    let code = fs::read(file).map_err(Error::io(format!("reading {}", file.display())))?;
    if hex::encode(Sha256::digest(&code)) != sum {
        return Err(Error::StaleCode(format!(
            "machine code {} is damaged: `wasmpod doctor` removes it",
            file.display()
        )));
    }
    let mut refusals = String::new();
    for engine in engines {
        // SAFETY: the bytes are those whose digest was recorded when the compile child wrote them,
        // and this is a copy of them.
        match unsafe { Component::deserialize(engine, &code) } {
            Ok(component) => return Ok(component),
            Err(refusal) => refusals = format!("{refusal:#}"),
        }
    }
    Err(Error::Internal(format!("machine code cannot be loaded: {refusals}")))
}

/// Where a manifest may be that is not in the component.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        nanos: found.mtime().wrapping_mul(1_000_000_000).wrapping_add(found.mtime_nsec()),
    })
}

/// A container for a plugin's eyes.
pub fn shown(
    shared: &Shared,
    container: &crate::model::container::Container,
) -> bindings::types::Container {
    let (argv, env) = shared.node.command(container);
    bindings::container(Shown { container, argv: &argv, env: &env })
}
