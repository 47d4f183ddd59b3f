//! Which images run on this machine as the kernel sees it, for who works on a store without its
//! daemon: the pods of a daemon that is down live on in processes that this one knows nothing of.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::image::folders::names;

impl ImageStore {
    /// Ids of the images of which some process has a program's machine code mapped, of this
    /// engine or another.
    pub fn running(&self) -> Result<BTreeSet<String>> {
        let codes = self.shared.folders.codes();
        let codes =
            codes.canonicalize().map_err(Error::io(format!("resolving {}", codes.display())))?;
        let mapped = mapped(&codes)?;
        let index = self.shared.index();
        let runs = |image: &&std::sync::Arc<crate::image::Image>| {
            image.programs.iter().any(|program| mapped.contains(&program.digest))
        };
        Ok(index.images().filter(runs).map(|image| image.id.clone()).collect())
    }
}

/// Digests of the programs whose machine code below `codes` is mapped.
fn mapped(codes: &Path) -> Result<BTreeSet<String>> {
    let prefix = format!("{}/", codes.display());
    let mut found = BTreeSet::new();
    for process in names(Path::new("/proc"))? {
        if !process.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // It may have ended, or be another user's, who cannot use this store.
        let Ok(maps) = std::fs::read_to_string(format!("/proc/{process}/maps")) else { continue };
        for line in maps.lines() {
            let Some((_, below)) = line.split_once(&prefix) else { continue };
            let file = below.rsplit('/').next().unwrap_or(below);
            let hex = file.split('.').next().unwrap_or(file);
            found.insert(format!("sha256:{hex}"));
        }
    }
    Ok(found)
}
