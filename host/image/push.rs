//! An image from the store to a registry, as it is: what was imported is a wasm artifact that
//! other tools read (wkg, oras, runwasi), a classic image stays one.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::image::blobs::Blob;
use crate::image::name::Name;
use crate::image::plan::Plan;
use crate::image::registry::arrival::{Arrival, LayerArrival, Stage};
use crate::image::registry::{Auth, Sent, Tell, about};
use crate::image::state::blocking;
use crate::image::{ImageStore, mend};

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Full name with its tag.
    pub name: String,
    /// Of the manifest.
    pub digest: String,
    /// Blobs that were sent, and those that the registry had.
    pub sent: usize,
    pub had: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: Option<String>,
}

impl ImageStore {
    /// Sends an image to the registry of `target`, under its tag. `auth` is for this registry;
    /// `None` looks where the configuration says.
    pub async fn push(&self, reference: &str, target: &str, auth: Option<&Auth>) -> Result<Pushed> {
        self.push_with((reference, target), auth, watch::channel(Arrival::default()).0).await
    }

    /// As [`ImageStore::push`], telling how far it is.
    pub async fn push_with(
        &self,
        (reference, target): (&str, &str),
        auth: Option<&Auth>,
        told: watch::Sender<Arrival>,
    ) -> Result<Pushed> {
        let name = Name::parse_tag(target)?;
        let image = self.need(reference)?;
        let shared = self.shared.clone();
        // What is on its way out stays.
        let busy = self.busy();
        let (busy, plan, manifest) = blocking(move || {
            let record = shared.index().record(&image.id).cloned();
            let record = record.ok_or_else(|| Error::not_found("image", &image.id))?;
            let plan = mend::plan(&record, &shared.folders)?;
            let manifest = mend::read(&plan.manifest.digest, &shared.folders)?;
            Ok((busy, plan, manifest))
        })
        .await?;
        let pushed = self.send(&name, (&plan, &manifest), (auth, told)).await;
        drop(busy);
        pushed.map_err(|error| match error {
            Error::NotInRegistry { registry, .. } => Error::Invalid(format!(
                "registry {registry} has no repository {} that can be pushed to",
                name.split().1
            )),
            other => about(other, &name.to_string()),
        })
    }

    async fn send(
        &self,
        name: &Name,
        (plan, manifest): (&Plan, &[u8]),
        (auth, told): (Option<&Auth>, watch::Sender<Arrival>),
    ) -> Result<Pushed> {
        let session = self.remote.registry.session(name, auth).await?;
        let mut seen = BTreeSet::new();
        let layers = plan.layers.iter().map(|layer| &layer.blob);
        let blobs: Vec<&Blob> = layers
            .chain([&plan.config_blob])
            .filter(|blob| seen.insert(blob.digest.as_str()))
            .collect();
        let arriving =
            |blob: &&Blob| LayerArrival { digest: blob.digest.clone(), size: blob.size, done: 0 };
        let layers = blobs.iter().map(arriving).collect();
        told.send_replace(Arrival { stage: Stage::Uploading, layers });
        let (mut sent, mut had) = (0, 0);
        for (number, blob) in blobs.into_iter().enumerate() {
            let file = self.shared.folders.blob(&blob.digest);
            let told = told.clone();
            let tell: Tell = Arc::new(move |done| {
                told.send_modify(|arrival| {
                    if let Some(layer) = arrival.layers.get_mut(number) {
                        layer.done = done;
                    }
                });
            });
            match session.upload(blob, &file, &tell).await? {
                Sent::Now => sent += 1,
                Sent::Before => had += 1,
            }
            tell(blob.size);
        }
        let head: Option<Head> = serde_json::from_slice(manifest).ok();
        let kind = head.and_then(|head| head.media_type);
        let kind = kind.as_deref().unwrap_or("application/vnd.oci.image.manifest.v1+json");
        session.publish(name.tag.as_deref().unwrap_or("latest"), kind, manifest).await?;
        let digest = plan.manifest.digest.clone();
        Ok(Pushed { name: name.tagged(), digest, sent, had })
    }
}
