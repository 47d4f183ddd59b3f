//! The store as the rest of the daemon sees it. Readers see a snapshot and never wait; changes
//! go one after another, each durable before it is seen.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use crate::config::Config;
use crate::engine;
use crate::error::{Error, Result};
use crate::image::admit::{Admission, Prepared};
use crate::image::code::CodeCache;
use crate::image::compiler::Compiler;
use crate::image::folders::{Folders, Footprint, footprint, names, remove_tree};
use crate::image::index::{Found, Index, Origin, Record};
use crate::image::name::Name;
use crate::image::plan::Plan;
use crate::image::progress::{self, Progress};
use crate::image::{Code, Image, Usage, admit, found, import, mend, skeleton};

/// Every image of a node, and the machine code of their programs. Holds the store's lock until
/// it is dropped.
pub struct ImageStore {
    shared: Arc<Shared>,
}

struct Shared {
    folders: Arc<Folders>,
    codes: Arc<CodeCache>,
    index: RwLock<Arc<Index>>,
    changes: Mutex<Changes>,
    usage: Mutex<Option<(Stamp, Footprint)>>,
}

/// Who is changing the store.
#[derive(Default)]
struct Changes {
    /// Imports under way: their blobs and layers belong to no image yet, so nothing is collected
    /// meanwhile.
    imports: usize,
    /// Something was left for the last of them to collect.
    litter: bool,
}

/// When each folder last gained or lost a name.
type Stamp = Vec<Option<SystemTime>>;

impl ImageStore {
    /// Opens the store, putting right what a kill left half done. `Error::Unavailable` when
    /// another process has it open.
    pub async fn open(config: &Config) -> Result<Self> {
        let config = config.clone();
        let shared = blocking(move || Shared::open(&config)).await?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// All images, sorted by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.shared.index().images().cloned().collect()
    }

    /// By id, unique id prefix, digest, or name with or without tag; `None` when there is none.
    pub fn get(&self, reference: &str) -> Option<Arc<Image>> {
        found(self.shared.index().find(reference))
    }

    /// Takes in a wasm file, an OCI layout folder, or a tar of one or of `docker save`, under
    /// `name`, with its entry's machine code made. The image is pinned. Durable when it returns.
    /// `Error::Invalid` is one sentence that names the file and the fault.
    pub async fn import(&self, file: &Path, name: &str) -> Result<Arc<Image>> {
        self.import_with(file, name, progress::silent()).await
    }

    /// As [`ImageStore::import`], telling how far it is.
    pub async fn import_with(
        &self,
        file: &Path,
        name: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let name = Name::parse_tag(name)?;
        let (shared, path, of) = (self.shared.clone(), file.to_path_buf(), name.clone());
        let busy = self.busy();
        let (busy, plan) =
            blocking(move || Ok((busy, import::take(&path, &of, &shared.folders)?))).await?;
        let admission = Admission {
            tags: [name.tagged()].into(),
            digests: [format!("{}@{}", name.repository, plan.manifest.digest)].into(),
            origin: Origin::Imported,
            subject: file.display().to_string(),
            progress,
        };
        self.admit(busy, plan, admission).await
    }

    /// Nothing is collected while it lives: what is on its way into the store belongs to no image
    /// yet.
    pub(super) fn busy(&self) -> Busy {
        Busy::new(self.shared.clone())
    }

    /// Makes an image of blobs that are in the store. Durable when it returns.
    pub(super) async fn admit(
        &self,
        busy: Busy,
        plan: Plan,
        admission: Admission,
    ) -> Result<Arc<Image>> {
        let shared = self.shared.clone();
        let (busy, admission, prepared) = blocking(move || {
            let prepared = admit::prepare(&plan, &admission, &shared.folders)?;
            Ok((busy, admission, prepared))
        })
        .await?;
        admit::compile(&self.shared.codes, &prepared, &admission.progress)
            .await
            .map_err(|(file, error)| import::about(error, &file, &admission.subject))?;
        blocking(move || busy.commit(prepared)).await
    }

    /// Removes an image with all its names; succeeds when there is none. What a container still
    /// uses is `Error::Precondition`, told by `in_use` (image id).
    pub async fn remove(
        &self,
        reference: &str,
        in_use: impl Fn(&str) -> bool + Send,
    ) -> Result<()> {
        let image = match self.shared.index().find(reference) {
            Found::One(image) => image,
            Found::None => return Ok(()),
            Found::Many(count) => {
                let id = reference.to_owned();
                return Err(Error::Ambiguous { what: "image", id, count });
            }
        };
        if in_use(&image.id) {
            let name = image.tags.first().unwrap_or(&image.id);
            return Err(Error::Precondition(format!("image {name} is in use by a container")));
        }
        let shared = self.shared.clone();
        blocking(move || shared.remove(&image.id)).await
    }

    /// Removes machine code of other engines than this wasmpod's and the `used` ones, those of
    /// living shims.
    pub async fn retain_engines(&self, used: BTreeSet<String>) -> Result<()> {
        let shared = self.shared.clone();
        blocking(move || {
            for engine in shared.folders.retain_engines(&used)? {
                tracing::info!(engine, "machine code that no shim can map was removed");
            }
            Ok(())
        })
        .await
    }

    /// What images and machine code take on disk. Counted anew only after a change.
    pub fn usage(&self) -> Result<Usage> {
        let Footprint { bytes, inodes } = self.shared.usage();
        Ok(Usage { mountpoint: self.shared.folders.images.clone(), bytes, inodes })
    }

    /// Machine code of a wasm file whose digest is known: from the cache, else compiled by a
    /// child. Concurrent calls for one digest share the work; when all of them are dropped, the
    /// child is killed. `Error::Invalid` names the file and the fault.
    pub async fn code(&self, digest: &str, file: &Path) -> Result<Code> {
        self.shared.codes.get(digest, file).await
    }

    /// As [`ImageStore::code`] after a shim found the cached file corrupt or foreign: what is
    /// cached is thrown away first.
    pub async fn rebuild(&self, digest: &str, file: &Path) -> Result<Code> {
        self.shared.codes.rebuild(digest, file).await
    }
}

impl Shared {
    fn open(config: &Config) -> Result<Self> {
        let engine = engine::new()
            .map_err(|error| Error::Internal(format!("this machine cannot run wasm: {error:#}")))?;
        let folders = Arc::new(Folders::open(&config.root, &engine::compatibility(&engine))?);
        skeleton::make(&folders)?;
        let (index, broken) = Index::load(&folders)?;
        let index = RwLock::new(Arc::new(index));
        let codes = Arc::new(CodeCache::new(folders.clone(), Compiler::new(&config.compile)));
        let shared =
            Self { folders, codes, index, changes: Mutex::default(), usage: Mutex::default() };
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

    fn index(&self) -> Arc<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an index durable, then visible. The caller holds `changes`.
    fn replace(&self, index: Index) -> Result<()> {
        index.save(&self.folders)?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<()> {
        let mut changes = self.changes();
        let mut index = Index::clone(&self.index());
        let Some(record) = index.remove(id) else { return Ok(()) };
        self.replace(index)?;
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

    /// Digests of every image's programs.
    fn programs(&self) -> BTreeSet<String> {
        let index = self.index();
        index.records().flat_map(|r| &r.programs).map(|p| p.digest.clone()).collect()
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

    fn usage(&self) -> Footprint {
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
pub(super) struct Busy {
    shared: Arc<Shared>,
    outcome: Outcome,
}

enum Outcome {
    /// What came into the store belongs to nothing.
    Open,
    Committed,
}

impl Busy {
    fn new(shared: Arc<Shared>) -> Self {
        shared.changes().imports += 1;
        Self { shared, outcome: Outcome::Open }
    }

    /// Makes an image of what was prepared.
    fn commit(mut self, prepared: Prepared) -> Result<Arc<Image>> {
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
        changes.litter |= matches!(self.outcome, Outcome::Open);
        if changes.imports == 0
            && std::mem::take(&mut changes.litter)
            && let Err(error) = self.shared.collect()
        {
            tracing::warn!(%error, "what belongs to no image was not removed");
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(format!("working on the image store: {error}")))?
}
