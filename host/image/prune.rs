//! Removes images that nobody uses.

use crate::error::{Error, Result};
use crate::image::ImageStore;

/// Which images may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Those that are not pinned.
    Unpinned,
    /// Those that were imported under a name, too.
    All,
}

/// One image that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    pub id: String,
    pub tags: Vec<String>,
}

impl ImageStore {
    /// Removes every image that `in_use` (image id) denies; gives what went and how many bytes on
    /// disk that freed.
    pub async fn prune(
        &self,
        which: Prune,
        in_use: impl Fn(&str) -> bool + Send + Clone + 'static,
    ) -> Result<(Vec<Pruned>, u64)> {
        let mut gone = Vec::new();
        let before = self.shared.usage().bytes;
        for image in self.list() {
            if (image.pinned && which == Prune::Unpinned) || in_use(&image.id) {
                continue;
            }
            match self.remove(&image.id, in_use.clone()).await {
                Ok(()) => {}
                // A container came meanwhile.
                Err(Error::Precondition(_)) => continue,
                Err(error) => return Err(error),
            }
            gone.push(Pruned { id: image.id.clone(), tags: image.tags.clone() });
        }
        Ok((gone, before.saturating_sub(self.shared.usage().bytes)))
    }
}
