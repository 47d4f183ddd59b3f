//! Takes in what `docker save` wrote before it wrote OCI layouts: manifest.json, a
//! configuration and plain layer tars. An OCI manifest is made of them.

use serde::Deserialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::image::blobs::{self, Blob, Expected};
use crate::image::folders::Folders;
use crate::image::name::Name;
use crate::image::plan::{self, Plan};
use crate::image::source::Source;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Every name that the archive gives to an image.
pub fn names(source: &Source, manifest: &[u8]) -> Result<Vec<String>> {
    let entries: Vec<Entry> = serde_json::from_slice(manifest).map_err(|error| {
        Error::Invalid(format!("{}: {}", source.shown, plan::not_json("manifest.json", &error)))
    })?;
    let tags = entries.iter().flat_map(|entry| entry.repo_tags.iter().flatten());
    Ok(tags.filter_map(|tag| Name::parse_tag(tag).ok()).map(|name| name.tagged()).collect())
}

/// Takes in the archive's image of that name, else its first. `manifest` is manifest.json.
pub fn take(source: &Source, manifest: &[u8], name: &Name, folders: &Folders) -> Result<Plan> {
    let named = |error: Error| match error {
        Error::Invalid(fault) => Error::Invalid(format!("{}: {fault}", source.shown)),
        other => other,
    };
    let entries: Vec<Entry> = serde_json::from_slice(manifest)
        .map_err(|error| named(plan::not_json("manifest.json", &error)))?;
    let same = |entry: &&Entry| {
        let same = |tag: &String| Name::parse(tag).is_ok_and(|n| n.tagged() == name.tagged());
        entry.repo_tags.iter().flatten().any(same)
    };
    let entry = entries.iter().find(same).or(entries.first());
    let entry = entry.ok_or_else(|| named(Error::Invalid("it holds no image".to_owned())))?;
    let missing = |path: &String| Error::Invalid(format!("{} holds no {path}", source.shown));
    let config = source.read(&entry.config)?.ok_or_else(|| missing(&entry.config))?;
    let config_blob = blobs::put(folders, &config)?;
    let mut layers = Vec::new();
    for path in &entry.layers {
        let (reader, size) = source.open(path)?.ok_or_else(|| missing(path))?;
        let expected = Expected { digest: None, size: Some(size) };
        let Blob { digest, size } = blobs::take(folders, reader, &expected).map_err(named)?;
        layers.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest,
            "size": size,
        }));
    }
    let document = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_blob.digest,
            "size": config_blob.size,
        },
        "layers": layers,
    })
    .to_string();
    let manifest = blobs::put(folders, document.as_bytes())?;
    let plan = plan::read(manifest, document.as_bytes(), &config).map_err(named)?;
    match plan.entry() {
        Ok(_) => Ok(plan),
        Err(why) => Err(named(Error::Invalid(format!("it holds {why}")))),
    }
}
