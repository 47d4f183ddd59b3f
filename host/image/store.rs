//! The store as the rest of the daemon sees it: what is brought in, found and removed. Other
//! verbs have files of their own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::admit::{self, Admission};
use crate::image::folders::Footprint;
use crate::image::index::{Found, Origin};
use crate::image::name::Name;
use crate::image::plan::Plan;
use crate::image::progress::{self, Progress};
use crate::image::pull::Remote;
use crate::image::state::{Busy, Shared, blocking};
use crate::image::{Code, Image, Toolbox, Usage, found, import};

/// Every image of a node, and the machine code of their programs. Holds the store's lock until
/// it and its clones are dropped.
#[derive(Clone)]
pub struct ImageStore {
    pub(super) shared: Arc<Shared>,
    pub(super) remote: Arc<Remote>,
}

impl ImageStore {
    /// Opens the store, putting right what a kill left half done. `Error::Unavailable` when
    /// another process has it open.
    pub async fn open(config: &Config) -> Result<Self> {
        let config = config.clone();
        let remote = Arc::new(Remote::new(&config)?);
        let shared = blocking(move || Shared::open(&config)).await?;
        Ok(Self { shared: Arc::new(shared), remote })
    }

    /// All images, sorted by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.shared.index().images().cloned().collect()
    }

    /// By id, unique id prefix, digest, or name with or without tag; `None` when there is none.
    pub fn get(&self, reference: &str) -> Option<Arc<Image>> {
        found(self.shared.index().find(reference))
    }

    /// As [`ImageStore::get`]; a beginning that several ids have is an error.
    pub(super) fn find(&self, reference: &str) -> Result<Option<Arc<Image>>> {
        match self.shared.index().find(reference) {
            Found::One(image) => Ok(Some(image)),
            Found::None => Ok(None),
            Found::Many(count) => {
                let id = reference.to_owned();
                Err(Error::Ambiguous { what: "image", id, count })
            }
        }
    }

    /// As [`ImageStore::find`]; an image that is not there is an error, too.
    pub(super) fn need(&self, reference: &str) -> Result<Arc<Image>> {
        self.find(reference)?.ok_or_else(|| Error::not_found("image", reference))
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
        mut busy: Busy,
        plan: Plan,
        admission: Admission,
    ) -> Result<Arc<Image>> {
        let shared = self.shared.clone();
        busy.compiles(admit::wasm_layers(&plan));
        let ahead = admit::compile_ahead(&shared.codes, &plan, &shared.folders);
        let (mut busy, admission, prepared) = blocking(move || {
            let prepared = admit::prepare(&plan, &admission, &shared.folders)?;
            Ok((busy, admission, prepared))
        })
        .await?;
        busy.compiles(prepared.programs.iter().map(|program| &program.digest));
        let compiled = admit::compile(&self.shared.codes, &prepared, &admission.progress).await;
        drop(ahead);
        compiled.map_err(|(program, error)| {
            let Some(program) = program else { return error };
            // Under one of its two names.
            let blob = self.shared.folders.blob(&program.digest);
            let error = import::about(error, &blob, &admission.subject);
            import::about(error, &program.file, &admission.subject)
        })?;
        blocking(move || busy.commit(prepared)).await
    }

    /// Removes an image with all its names; succeeds when there is none. What a container still
    /// uses is `Error::Precondition`, told by `in_use` (image id): asked at once, and again when
    /// nobody can get the image any more, so that who notes its use and then gets the image has it.
    pub async fn remove(
        &self,
        reference: &str,
        in_use: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<()> {
        let Some(image) = self.find(reference)? else { return Ok(()) };
        let shared = self.shared.clone();
        blocking(move || {
            let used = || {
                let name = image.tags.first().unwrap_or(&image.id);
                Error::Precondition(format!("image {name} is in use by a container"))
            };
            if in_use(&image.id) {
                return Err(used());
            }
            shared.remove(&image.id, || if in_use(&image.id) { Err(used()) } else { Ok(()) })
        })
        .await
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
    pub async fn usage(&self) -> Result<Usage> {
        let shared = self.shared.clone();
        let Footprint { bytes, inodes } = blocking(move || Ok(shared.usage())).await?;
        Ok(Usage { mountpoint: self.shared.folders.images.clone(), bytes, inodes })
    }

    /// Machine code of a wasm file whose digest is known: from the cache, else compiled by a
    /// child. Concurrent calls for one digest share the work; when all of them are dropped, the
    /// child is killed. `Error::Invalid` names the file and the fault.
    pub async fn code(&self, digest: &str, file: &Path) -> Result<Code> {
        self.shared.codes.get(digest, file).await
    }

    /// What execs fall back to, where there is one.
    pub fn toolbox(&self) -> Option<&Arc<Toolbox>> {
        self.shared.toolbox.as_ref()
    }

    /// Removes machine code of these digests that belongs to no image.
    pub async fn let_go(&self, digests: Vec<String>) -> Result<()> {
        if digests.is_empty() {
            return Ok(());
        }
        let shared = self.shared.clone();
        blocking(move || shared.let_go(&digests)).await
    }

    /// As [`ImageStore::code`] after a shim found the cached file corrupt or foreign: what is
    /// cached is thrown away first.
    pub async fn rebuild(&self, digest: &str, file: &Path) -> Result<Code> {
        self.shared.codes.rebuild(digest, file).await
    }
}
