//! What the store holds at one moment: readers see a snapshot of the index and never wait;
//! changes go one after another, each durable before it is seen. Collects what belongs to no
//! image, never while something is on its way in.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use crate::config::Config;
use crate::engine;
use crate::error::{Error, Result};
use crate::image::admit::Prepared;
use crate::image::code::CodeCache;
use crate::image::compiler::Compiler;
use crate::image::folders::{Folders, Footprint, footprint, names, remove_tree};
use crate::image::index::{Index, Record};
use crate::image::{Image, Toolbox, mend, skeleton};

pub struct Shared {
    pub folders: Arc<Folders>,
    pub codes: Arc<CodeCache>,
    index: RwLock<Arc<Index>>,
    changes: Mutex<Changes>,
    usage: Mutex<Option<(Stamp, Footprint)>>,
    /// Its machine code is kept as if an image had it.
    pub toolbox: Option<Arc<Toolbox>>,
}

/// Who is changing the store.
#[derive(Default)]
struct Changes {
    /// Imports under way: their blobs and layers belong to no image yet, so nothing is collected
    /// meanwhile.
    imports: usize,
    /// Something was left for the last of them to collect.
    litter: bool,
    /// Programs whose machine code was made for what became no image.
    programs: BTreeSet<String>,
}

/// A toolbox that cannot be used costs the debugging shell and nothing else.
fn toolbox(file: &Path) -> Option<Arc<Toolbox>> {
    match Toolbox::open(file) {
        Ok(toolbox) => Some(Arc::new(toolbox)),
        Err(error) => {
            tracing::warn!(%error, "exec has no toolbox");
            None
        }
    }
}

/// When each folder last gained or lost a name.
type Stamp = Vec<Option<SystemTime>>;

impl Shared {
    pub fn open(config: &Config) -> Result<Self> {
        let engine = engine::new()
            .map_err(|error| Error::Internal(format!("this machine cannot run wasm: {error:#}")))?;
        let folders = Arc::new(Folders::open(&config.root, &engine::compatibility(&engine))?);
        skeleton::make(&folders)?;
        let (index, broken) = Index::load(&folders)?;
        let index = RwLock::new(Arc::new(index));
        let codes = Arc::new(CodeCache::new(folders.clone(), Compiler::new(&config.compile)));
        let shared = Self {
            folders,
            codes,
            index,
            changes: Mutex::default(),
            usage: Mutex::default(),
            toolbox: config.exec.toolbox().and_then(toolbox),
        };
        shared.mend(broken)?;
        let wanted = shared.programs();
        shared.codes.keep(|digest| wanted.contains(digest))?;
        shared.collect()?;
        Ok(shared)
    }

    /// Unpacks the layers of images that have none, from their blobs. An image that lacks those
    /// too is forgotten.
    fn mend(&self, broken: Vec<Record>) -> Result<()> {
        if broken.is_empty() {
            return Ok(());
        }
        let mut index = Index::clone(&self.index());
        for record in broken {
            let image = record.id.clone();
            match mend::remake(record, &self.folders) {
                Ok(record) => {
                    tracing::info!(image, "an image's layers were unpacked anew");
                    index.add(record, &self.folders);
                }
                Err(Error::Invalid(why)) => {
                    tracing::warn!(image, why, "an image's files are gone: it is forgotten");
                }
                Err(error) => return Err(error),
            }
        }
        self.replace(index)
    }

    pub fn index(&self) -> Arc<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an index durable, then visible. The caller holds `changes`.
    pub fn replace(&self, index: Index) -> Result<()> {
        index.save(&self.folders)?;
        self.show(Arc::new(index));
        Ok(())
    }

    fn show(&self, index: Arc<Index>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// Changes the index in one step.
    pub fn change<T>(&self, work: impl FnOnce(&mut Index) -> T) -> Result<T> {
        let _changes = self.changes();
        let mut index = Index::clone(&self.index());
        let outcome = work(&mut index);
        self.replace(index)?;
        Ok(outcome)
    }

    /// Removes an image, unless `check`, which is asked when nobody can get it any more, objects.
    pub fn remove(&self, id: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut changes = self.changes();
        let before = self.index();
        let mut index = Index::clone(&before);
        let Some(record) = index.remove(id) else { return Ok(()) };
        // Visible before it is durable: after a kill in between, the image is simply there again.
        self.show(Arc::new(index.clone()));
        if let Err(error) = check().and_then(|()| index.save(&self.folders)) {
            self.show(before);
            return Err(error);
        }
        let wanted = self.programs();
        for program in record.programs.iter().filter(|p| !wanted.contains(&p.digest)) {
            self.codes.discard(&program.digest)?;
        }
        if changes.imports > 0 {
            changes.litter = true;
            return Ok(());
        }
        self.collect()
    }

    /// Removes machine code of these digests that belongs to no image. That of one which comes in
    /// meanwhile is made anew at its first start.
    pub fn let_go(&self, digests: &[String]) -> Result<()> {
        let _changes = self.changes();
        let wanted = self.programs();
        digests.iter().filter(|d| !wanted.contains(*d)).try_for_each(|d| self.codes.discard(d))
    }

    /// Digests of every image's programs, and of the toolbox.
    pub fn programs(&self) -> BTreeSet<String> {
        let index = self.index();
        let own = self.toolbox.iter().map(|toolbox| toolbox.digest.clone());
        own.chain(index.records().flat_map(|r| &r.programs).map(|p| p.digest.clone())).collect()
    }

    /// As [`Shared::collect`], with the machine code of those programs that no image has.
    fn clean(&self, programs: BTreeSet<String>) -> Result<()> {
        let wanted = self.programs();
        for program in programs.difference(&wanted) {
            self.codes.discard(program)?;
        }
        self.collect()
    }

    /// Removes blobs and layers of no image. No import is under way.
    fn collect(&self) -> Result<()> {
        let index = self.index();
        let blobs: BTreeSet<&String> = index.records().flat_map(|record| &record.blobs).collect();
        for name in names(&self.folders.blobs)? {
            if !blobs.contains(&format!("sha256:{name}")) {
                remove_tree(&self.folders.blobs.join(name))?;
            }
        }
        let layers: BTreeSet<&String> = index.records().flat_map(|r| &r.layers).collect();
        for name in names(&self.folders.layers)? {
            if !layers.contains(&name) && name != skeleton::NAME {
                self.remove_layer(&name)?;
            }
        }
        self.folders.keep_reserve();
        Ok(())
    }

    /// Takes a layer out of its place in one step, so that a kill leaves no half of it there.
    fn remove_layer(&self, name: &str) -> Result<()> {
        let temporary = self.folders.temporary()?;
        let place = self.folders.layer(name);
        std::fs::rename(&place, &temporary.path)
            .map_err(Error::io(format!("removing {}", place.display())))?;
        remove_tree(&temporary.path)
    }

    /// Bytes of machine code of an image's programs.
    pub fn code_size(&self, image: &Image) -> u64 {
        let digests: BTreeSet<&str> = image.programs.iter().map(|p| p.digest.as_str()).collect();
        digests.into_iter().map(|digest| self.codes.size(digest)).sum()
    }

    pub fn usage(&self) -> Footprint {
        let folders = [&self.folders.blobs, &self.folders.layers, &self.folders.code];
        let stamp: Stamp = folders
            .iter()
            .map(|folder| std::fs::metadata(folder).and_then(|found| found.modified()).ok())
            .collect();
        let mut known = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, footprint)) = known.as_ref()
            && *then == stamp
        {
            return *footprint;
        }
        let mut sum = Footprint::default();
        for folder in folders {
            let part = footprint(folder);
            sum.bytes += part.bytes;
            sum.inodes += part.inodes;
        }
        *known = Some((stamp, sum));
        sum
    }
}

/// An import under way: while one lives, nothing is collected.
pub struct Busy {
    shared: Arc<Shared>,
    /// Digests of programs that get machine code for it.
    programs: BTreeSet<String>,
    outcome: Outcome,
}

enum Outcome {
    /// What came into the store belongs to nothing.
    Open,
    Committed,
}

impl Busy {
    pub fn new(shared: Arc<Shared>) -> Self {
        shared.changes().imports += 1;
        Self { shared, programs: BTreeSet::new(), outcome: Outcome::Open }
    }

    /// Machine code of these programs, by digest, is about to be made; it goes again unless an
    /// image has them.
    pub fn compiles<'a>(&mut self, programs: impl Iterator<Item = &'a String>) {
        self.programs.extend(programs.cloned());
    }

    /// Makes an image of what was prepared.
    pub fn commit(mut self, prepared: Prepared) -> Result<Arc<Image>> {
        let shared = self.shared.clone();
        let changes = shared.changes();
        let mut index = Index::clone(&shared.index());
        let image = index.add(prepared.record, &shared.folders);
        shared.replace(index)?;
        drop(changes);
        self.outcome = Outcome::Committed;
        Ok(image)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut changes = self.shared.changes();
        changes.imports = changes.imports.saturating_sub(1);
        if matches!(self.outcome, Outcome::Open) {
            changes.litter = true;
            changes.programs.append(&mut self.programs);
        }
        if changes.imports == 0
            && std::mem::take(&mut changes.litter)
            && let Err(error) = self.shared.clean(std::mem::take(&mut changes.programs))
        {
            tracing::warn!(%error, "what belongs to no image was not removed");
        }
    }
}

/// Runs file work where it holds nobody up.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(format!("working on the image store: {error}")))?
}
