//! The way of an image from a registry into the store: which image the name means there, its
//! blobs, and then as any other image. Pulls of the same image share the work; a pull that nobody
//! waits for any more ends and leaves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use oci_spec::image::ImageIndex;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::admit::Admission;
use crate::image::blobs::{self, Blob, Expected};
use crate::image::choice::{self, MAX_MANIFESTS, Passed, Use};
use crate::image::index::Origin;
use crate::image::name::{Name, is_digest, is_hex};
use crate::image::plan::{self, Plan};
use crate::image::progress::Step;
use crate::image::registry::arrival::{Arrival, LayerArrival, Stage};
use crate::image::registry::flights::{Flight, Flights};
use crate::image::registry::{Auth, Document, Form, Registry, Session, Target, about};
use crate::image::signature::Signatures;
use crate::image::state::blocking;
use crate::image::{Image, ImageStore};
use crate::telemetry::metrics;
use crate::telemetry::trace::phase;

const MAX_INDEX_DEPTH: usize = 4;

/// What somebody wants to have.
#[derive(Clone, Debug)]
pub struct Pull {
    /// With or without tag or digest; or the id of an image that is there.
    pub name: String,
    /// For the registry of the name; `None` looks where the configuration says.
    pub auth: Option<Auth>,
    pub imported: Imported,
}

/// What becomes of a name that somebody gave to an image by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imported {
    /// It goes on to mean that image: no registry is asked.
    Keep,
    /// It comes to mean the registry's.
    Replace,
}

/// Same name, same rights, same work.
type Key = (String, Option<Auth>, Imported);

/// What pulls share.
pub struct Remote {
    signatures: Signatures,
    pub(super) registry: Registry,
    pulls: Flights<Key, Arc<Image>, Arrival>,
}

impl Remote {
    pub fn new(config: &Config) -> Result<Self> {
        let signatures = Signatures::new(config.signature_policy.clone());
        let registry = Registry::new(&config.registry)?;
        Ok(Self { signatures, registry, pulls: Flights::default() })
    }
}

/// A pull under way; dropping it gives it up.
pub struct Pulling {
    way: Way,
}

enum Way {
    There(Arc<Image>, watch::Receiver<Arrival>),
    Flight(Flight<Arc<Image>, Arrival>),
}

impl Pulling {
    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Arrival> {
        match &self.way {
            Way::There(_, progress) => progress.clone(),
            Way::Flight(flight) => flight.progress.clone(),
        }
    }

    /// The image, durable and with its machine code.
    pub async fn done(self) -> Result<Arc<Image>> {
        match self.way {
            Way::There(image, _) => Ok(image),
            Way::Flight(flight) => flight.land().await,
        }
    }
}

impl ImageStore {
    /// Begins to fetch an image, or to see that it is here and up to date; the work is done while
    /// it is waited for. `Error::Invalid` when the name is none.
    pub fn pull(&self, wanted: Pull) -> Result<Pulling> {
        let there =
            |image| Pulling { way: Way::There(image, watch::channel(Arrival::default()).1) };
        if is_digest(&wanted.name) || (wanted.name.len() == 64 && is_hex(&wanted.name)) {
            return self.need(&wanted.name).map(there);
        }
        let name = Name::parse(&wanted.name)?;
        if wanted.imported == Imported::Keep
            && let Some(image) = self.by_hand(&name)
        {
            return Ok(there(image));
        }
        let key = (name.to_string(), wanted.auth.clone(), wanted.imported);
        let flight = self.remote.pulls.join(key, |told: watch::Sender<Arrival>| {
            let (store, auth) = (self.clone(), wanted.auth.clone());
            async move {
                let (begun, shown) = (Instant::now(), name.to_string());
                let fetched = store.fetch(name, auth, told).await;
                metrics().pull(&fetched, begun.elapsed());
                fetched.map_err(|error| about(error, &shown))
            }
        });
        Ok(Pulling { way: Way::Flight(flight) })
    }

    /// The image that a person gave this name, or brought here with this digest.
    fn by_hand(&self, name: &Name) -> Option<Arc<Image>> {
        let index = self.shared.index();
        let image = self.get(&name.to_string())?;
        let given = match &name.digest {
            None => index.is_by_hand(&name.tagged()),
            Some(_) => index.record(&image.id)?.origin == Origin::Imported,
        };
        given.then_some(image)
    }

    async fn fetch(
        self,
        name: Name,
        auth: Option<Auth>,
        told: watch::Sender<Arrival>,
    ) -> Result<Arc<Image>> {
        let wanted = match phase("resolve", &[], self.resolve(&name, auth)).await? {
            Meaning::There(image) => return Ok(image),
            Meaning::New(wanted) => *wanted,
        };
        let Wanted { session, bears, plan, texts } = wanted;
        let hold = Arc::new(self.busy());
        let told = Arc::new(told);
        let target = Target {
            folders: self.shared.folders.clone(),
            hold: hold.clone(),
            stall: self.remote.registry.stall,
        };
        let (folders, held) = (self.shared.folders.clone(), hold.clone());
        let texts = blocking(move || {
            let _held = held;
            for (blob, bytes) in &texts {
                let expected = Expected { digest: Some(&blob.digest), size: Some(blob.size) };
                if !folders.blob(&blob.digest).exists() {
                    blobs::take(&folders, bytes.as_slice(), &expected)?;
                }
            }
            Ok(())
        });
        let layers = self.layers(&session, &plan, (&target, &told));
        phase("transfer", &[], async { tokio::try_join!(layers, texts) }).await?;
        drop(target);
        // Of its own only where a download that was given up still holds it.
        let busy = Arc::into_inner(hold).unwrap_or_else(|| self.busy());
        let tags: BTreeSet<String> = match name.digest {
            // As containerd has it: a name with a digest is no tag.
            Some(_) => BTreeSet::new(),
            None => [name.tagged()].into(),
        };
        let admission = Admission {
            tags,
            digests: [bears].into(),
            origin: Origin::Pulled,
            subject: name.to_string(),
            progress: Arc::new(move |step| {
                let stage = match step {
                    Step::Unpacking { layer, of } => Stage::Unpacking { layer, of },
                    Step::Compiling { done, of } => Stage::Compiling { done, of },
                };
                told.send_modify(|arrival| arrival.stage = stage);
            }),
        };
        phase("admit", &[], self.admit(busy, plan, admission)).await
    }

    /// Which image a name means in its registry, and whether it is here already.
    async fn resolve(&self, name: &Name, auth: Option<Auth>) -> Result<Meaning> {
        let registry = &self.remote.registry;
        let session = Arc::new(registry.session(name, auth.as_ref()).await?);
        let tag = name.tag.as_deref().unwrap_or_default();
        let reference = name.digest.as_deref().unwrap_or(tag);
        // Asked even for a digest: whether the caller may have it is the registry's to say.
        if let Some(image) = self.get(&name.to_string())
            && let Some(digest) = session.digest(reference).await?
            && image.digests.contains(&format!("{}@{digest}", name.repository))
        {
            // The policy may have changed since it came.
            self.remote.signatures.verify(name, &digest, session.as_ref()).await?;
            let tag = name.tagged();
            if name.digest.is_none() && self.shared.index().is_by_hand(&tag) {
                let shared = self.shared.clone();
                let give = move || shared.change(|index| index.give_back(&tag, &shared.folders));
                blocking(give).await?;
                return self.need(&image.id).map(Meaning::There);
            }
            return Ok(Meaning::There(image));
        }
        let document = session.document(reference).await?;
        self.remote.signatures.verify(name, &document.digest, session.as_ref()).await?;
        let bears = format!("{}@{}", name.repository, document.digest);
        let (plan, texts) = choose(&session, document).await?;
        Ok(Meaning::New(Box::new(Wanted { session, bears, plan, texts })))
    }

    async fn layers(
        &self,
        session: &Arc<Session>,
        plan: &Plan,
        (target, told): (&Target, &Arc<watch::Sender<Arrival>>),
    ) -> Result<()> {
        let registry = &self.remote.registry;
        let mut seen = BTreeSet::new();
        let distinct = plan.layers.iter().filter(|layer| seen.insert(&layer.blob.digest));
        let wanted: Vec<Blob> = distinct.map(|layer| layer.blob.clone()).collect();
        let arriving =
            |blob: &Blob| LayerArrival { digest: blob.digest.clone(), size: blob.size, done: 0 };
        told.send_replace(Arrival {
            stage: Stage::Downloading,
            layers: wanted.iter().map(arriving).collect(),
        });
        let fetch = |(number, blob): (usize, Blob)| async move {
            let tell = |done| {
                told.send_modify(|arrival| {
                    if let Some(layer) = arrival.layers.get_mut(number) {
                        layer.done = done;
                    }
                });
            };
            registry.fetch(session, &blob, target, tell).await
        };
        futures::stream::iter(wanted.into_iter().enumerate())
            .map(fetch)
            .buffer_unordered(registry.downloads)
            .try_collect()
            .await
    }
}

/// What a name means in its registry.
enum Meaning {
    There(Arc<Image>),
    New(Box<Wanted>),
}

struct Wanted {
    session: Arc<Session>,
    /// The name with its digest.
    bears: String,
    plan: Plan,
    texts: Texts,
}

/// Small blobs that came whole.
type Texts = Vec<(Blob, Vec<u8>)>;

/// The image that a manifest is, or the best one of an index.
async fn choose(session: &Session, document: Document) -> Result<(Plan, Texts)> {
    let mut passed = Passed::default();
    match document.form {
        Form::Manifest => {
            let (plan, texts) = read(session, document).await?;
            let (plan, _) = passed.look(Ok(plan)).ok_or_else(|| passed.refusal())?;
            Ok((plan, texts))
        }
        Form::Index(index) => {
            let mut data = None;
            for (blob, _) in ranked(session, *index).await? {
                let (plan, texts) = match manifest(session, &blob).await {
                    Ok((plan, texts)) => (Ok(plan), texts),
                    Err(fault @ Error::Invalid(_)) => (Err(fault), Vec::new()),
                    // The registry may have the one that we want later.
                    Err(other) => return Err(other),
                };
                match passed.look(plan) {
                    Some((plan, Use::Run)) => return Ok((plan, texts)),
                    Some((plan, Use::Data)) => data = data.or(Some((plan, texts))),
                    None => {}
                }
            }
            data.ok_or_else(|| passed.refusal())
        }
    }
}

/// Every manifest of an index and of those in it, the most promising first.
async fn ranked(session: &Session, index: ImageIndex) -> Result<Vec<(Blob, u8)>> {
    let mut pending: Vec<_> =
        index.manifests().iter().rev().map(|entry| (entry.clone(), 0)).collect();
    let mut found = Vec::new();
    let mut indexes = 0;
    while let Some((entry, depth)) = pending.pop() {
        if choice::is_index(&entry) {
            indexes += 1;
            if depth >= MAX_INDEX_DEPTH || indexes > MAX_MANIFESTS {
                return Err(Error::Invalid("its indexes hold too many others".to_owned()));
            }
            let inner = document(session, &plan::blob(&entry)?).await?;
            if let Form::Index(inner) = inner.form {
                pending.extend(inner.manifests().iter().rev().map(|e| (e.clone(), depth + 1)));
            }
            continue;
        }
        if let Some(rank) = choice::rank(&entry) {
            found.push((plan::blob(&entry)?, rank));
        }
        if found.len() > MAX_MANIFESTS {
            return Err(Error::Invalid("its indexes hold too many manifests".to_owned()));
        }
    }
    found.sort_by_key(|(_, rank)| *rank);
    Ok(found)
}

/// What an index's entry names.
async fn document(session: &Session, blob: &Blob) -> Result<Document> {
    let document = session.document(&blob.digest).await.map_err(|error| match error {
        Error::NotInRegistry { .. } => {
            Error::Invalid(format!("its registry lacks the manifest {}", blob.digest))
        }
        other => other,
    })?;
    if document.bytes.len() as u64 != blob.size {
        let (digest, size, found) = (&blob.digest, blob.size, document.bytes.len());
        return Err(Error::Invalid(format!(
            "its manifest {digest} has {found} bytes, not the {size} that its index says"
        )));
    }
    Ok(document)
}

async fn manifest(session: &Session, blob: &Blob) -> Result<(Plan, Texts)> {
    let document = document(session, blob).await?;
    match document.form {
        Form::Manifest => read(session, document).await,
        Form::Index(_) => Err(Error::Invalid(format!("its manifest {} is an index", blob.digest))),
    }
}

/// A manifest with its configuration.
async fn read(session: &Session, document: Document) -> Result<(Plan, Texts)> {
    let Document { bytes, digest, .. } = document;
    let own = Blob { digest, size: bytes.len() as u64 };
    let wanted = plan::blob(plan::parse_manifest(&bytes)?.config())?;
    let config = session.small(&wanted).await?;
    let plan = plan::read(own.clone(), &bytes, &config)?;
    Ok((plan, vec![(own, bytes), (wanted, config)]))
}
