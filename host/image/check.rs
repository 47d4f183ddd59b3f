//! Verifies the store for `wasmpod doctor`: every blob against its digest, the presence of every
//! layer, every program against its digest, machine code against its record. Changes nothing.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::image::ImageStore;
use crate::image::blobs;
use crate::image::code::CodeFault;
use crate::image::folders::{bare, names};
use crate::image::index::Record;
use crate::image::name::is_digest;
use crate::image::state::{Shared, blocking};
use crate::model::finding::Finding;

/// What was found, a part each.
#[derive(Clone, Debug)]
pub struct Findings {
    pub images: Vec<Finding>,
    pub code: Vec<Finding>,
}

impl ImageStore {
    /// Reads everything that the store holds.
    pub async fn check(&self) -> Result<Findings> {
        // Nothing is collected under our eyes.
        let busy = self.busy();
        let shared = self.shared.clone();
        blocking(move || {
            let found = Findings { images: images(&shared)?, code: code(&shared) };
            drop(busy);
            Ok(found)
        })
        .await
    }
}

fn called(record: &Record) -> &str {
    record.tags.first().or(record.digests.first()).unwrap_or(&record.id)
}

/// What is there is not fetched again, so a blob goes with all images that have it.
fn again(users: &[&Record]) -> String {
    let names = users.iter().map(|record| called(record)).collect::<Vec<_>>().join(" ");
    format!(
        "bring every image that has it in again: `wasmpod rmi {names}`, then `wasmpod import` or `pull`"
    )
}

fn images(shared: &Shared) -> Result<Vec<Finding>> {
    let index = shared.index();
    let folders = &shared.folders;
    let mut users: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in index.records() {
        for digest in &record.blobs {
            users.entry(digest).or_default().push(record);
        }
    }
    let mut found = Vec::new();
    let mut bytes = 0;
    for (digest, records) in &users {
        let Some(record) = records.first() else { continue };
        let image = called(record);
        match blobs::hash_file(&folders.blob(digest)) {
            Ok((hex, size)) if hex == bare(digest) => bytes += size,
            Ok((hex, _)) => found.push(
                Finding::error(
                    *digest,
                    format!("the blob is damaged: its content has the digest sha256:{hex}; image {image} runs, but cannot be pushed or saved"),
                )
                .mend(again(records)),
            ),
            Err(error) => found.push(
                Finding::error(*digest, format!("a blob of image {image} cannot be read: {error}"))
                    .mend(again(records)),
            ),
        }
    }
    for name in names(&folders.blobs)? {
        let digest = format!("sha256:{name}");
        if !users.contains_key(digest.as_str()) {
            let what = if is_digest(&digest) { "a blob of no image" } else { "is no blob" };
            found.push(
                Finding::warning(digest, what).mend("nothing: the daemon's next start removes it"),
            );
        }
    }
    for record in index.records() {
        found.extend(layers(record, shared));
    }
    let count = index.records().count();
    if found.is_empty() {
        let (blobs, mib) = (users.len(), bytes >> 20);
        found.push(Finding::fine(
            folders.images.display().to_string(),
            format!("{count} images, {blobs} blobs of {mib} MiB, each as its digest says"),
        ));
    }
    Ok(found)
}

fn layers(record: &Record, shared: &Shared) -> Vec<Finding> {
    let mut found = Vec::new();
    let image = called(record);
    for layer in record.layers.iter().filter(|layer| !shared.folders.layer(layer).is_dir()) {
        found.push(
            Finding::error(image, format!("its unpacked layer {layer} is missing"))
                .mend("restart the daemon: it unpacks the layer from its blob"),
        );
    }
    for program in &record.programs {
        let file = shared.folders.layers.join(&program.file);
        let hex = blobs::hash_file(&file).map(|(hex, _)| hex).ok();
        if hex.as_deref() == Some(bare(&program.digest)) {
            continue;
        }
        let layer = program.file.iter().next().unwrap_or_default().to_string_lossy().into_owned();
        let what = match hex {
            Some(_) => "was changed since it was unpacked",
            None => "is missing",
        };
        let place = shared.folders.layer(&layer);
        found.push(Finding::error(image, format!("its program {} {what}", program.path)).mend(
            format!(
                "stop the daemon, remove {} and start it: the layer is unpacked anew",
                place.display()
            ),
        ));
    }
    found
}

fn code(shared: &Shared) -> Vec<Finding> {
    let index = shared.index();
    let mut found = Vec::new();
    let (mut count, mut bytes) = (0usize, 0u64);
    let mut seen = std::collections::BTreeSet::new();
    for record in index.records() {
        for program in record.programs.iter().filter(|p| seen.insert(p.digest.as_str())) {
            let (image, path) = (called(record), &program.path);
            let mend = format!("wasmpod compile {image}");
            match shared.codes.fault(&program.digest) {
                None => {
                    count += 1;
                    bytes += shared.codes.size(&program.digest);
                }
                Some(CodeFault::Absent) => found.push(
                    Finding::warning(image, format!("{path} has no machine code yet"))
                        .mend(format!("{mend} (or wait: its first start makes it)")),
                ),
                Some(CodeFault::Damaged) => found.push(
                    Finding::error(image, format!("the machine code of {path} is damaged"))
                        .mend(mend),
                ),
            }
        }
    }
    if found.is_empty() {
        let what = format!("machine code of {count} programs, {} MiB, as recorded", bytes >> 20);
        found.push(Finding::fine(shared.folders.code.display().to_string(), what));
    }
    found
}
