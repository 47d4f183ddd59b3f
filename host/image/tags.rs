//! Names that images are given and lose after they came.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::name::Name;
use crate::image::state::blocking;
use crate::image::{Image, ImageStore};

/// What taking a name away came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// The image, by its id, keeps other names.
    Untagged { id: String, name: String },
    /// That was its last name, or the image itself was meant.
    Removed { id: String },
}

impl ImageStore {
    /// Gives an image one more name, taking it from the image that had it. The name pins it.
    pub async fn tag(&self, reference: &str, name: &str) -> Result<Arc<Image>> {
        let name = Name::parse_tag(name)?;
        let image = self.need(reference)?;
        let shared = self.shared.clone();
        let tagged = blocking(move || {
            shared.change(|index| {
                let mut record = index.record(&image.id)?.clone();
                record.tags = [name.tagged()].into();
                record.by_hand = Some(record.tags.clone());
                Some(index.add(record, &shared.folders))
            })
        });
        tagged.await?.ok_or_else(|| Error::not_found("image", reference))
    }

    /// What people mean by removing a name: of an image with several it is taken away alone, as
    /// docker does; CRI's RemoveImage ([`ImageStore::remove`]) removes the image with all of them.
    pub async fn release(
        &self,
        reference: &str,
        in_use: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Released> {
        let image = self.need(reference)?;
        let name = Name::parse(reference).ok().filter(|name| name.digest.is_none());
        let name = name.map(|name| name.tagged()).filter(|name| image.tags.contains(name));
        let Some(name) = name.filter(|_| image.tags.len() > 1) else {
            self.remove(&image.id, in_use).await?;
            return Ok(Released::Removed { id: image.id.clone() });
        };
        let shared = self.shared.clone();
        let (tag, id) = (name.clone(), image.id.clone());
        blocking(move || shared.change(|index| drop(index.untag(&tag, &shared.folders)))).await?;
        Ok(Released::Untagged { id, name })
    }
}
