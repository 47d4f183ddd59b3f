//! Writes images as a tar of an OCI layout, which wasmpod, docker, containerd and skopeo read,
//! and brings every named image of such an archive back. The same images give the same bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tar::{Builder, Header};

use crate::error::{Error, Result};
use crate::image::folders::bare;
use crate::image::index::Record;
use crate::image::layout::{CONTAINERD_NAME, REF_NAME};
use crate::image::name::Name;
use crate::image::state::{Shared, blocking};
use crate::image::{Image, ImageStore, blobs, import, mend};

impl ImageStore {
    /// Writes images with the names they were asked by, with all their names when asked by id.
    /// Every blob is checked on its way out.
    pub async fn save(
        &self,
        references: &[String],
        writer: impl Write + Send + 'static,
    ) -> Result<()> {
        let mut wanted = Vec::new();
        for reference in references {
            let image = self.need(reference)?;
            let name = Name::parse(reference).ok().filter(|name| name.digest.is_none());
            let name = name.map(|name| name.tagged()).filter(|name| image.tags.contains(name));
            let names = name.map_or_else(|| image.tags.clone(), |name| vec![name]);
            wanted.push((image.id.clone(), names));
        }
        let (busy, shared) = (self.busy(), self.shared.clone());
        blocking(move || {
            write(&wanted, &shared, writer)?;
            drop(busy);
            Ok(())
        })
        .await
    }

    /// Takes in every image that an archive or layout folder has a name for.
    pub async fn load(&self, file: &Path) -> Result<Vec<Arc<Image>>> {
        let (shared, path) = (self.shared.clone(), file.to_path_buf());
        let names = blocking(move || import::names(&path, &shared.folders)).await?;
        if names.is_empty() {
            let shown = file.display();
            return Err(Error::Invalid(format!(
                "{shown} has no name for what it holds: use `wasmpod import {shown} NAME`"
            )));
        }
        let mut images = Vec::new();
        for name in names {
            images.push(self.import(file, &name).await?);
        }
        Ok(images)
    }
}

fn write(wanted: &[(String, Vec<String>)], shared: &Shared, writer: impl Write) -> Result<()> {
    let index = shared.index();
    let mut out = Builder::new(writer);
    let mut manifests: Vec<Value> = Vec::new();
    let mut written = BTreeSet::new();
    put(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for (id, names) in wanted {
        let record = index.record(id).ok_or_else(|| Error::not_found("image", id))?;
        let descriptor = descriptor(record, shared)?;
        for digest in &record.blobs {
            if written.insert(digest.clone()) {
                blob(&mut out, digest, shared)?;
            }
        }
        if names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in names {
            let mut named = descriptor.clone();
            let tag = name.rsplit_once(':').map_or("", |(_, tag)| tag);
            if let Some(fields) = named.as_object_mut() {
                let names = json!({ CONTAINERD_NAME: name, REF_NAME: tag });
                fields.insert("annotations".to_owned(), names);
            }
            manifests.push(named);
        }
    }
    let media = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": media, "manifests": manifests });
    put(&mut out, "index.json", index.to_string().as_bytes())?;
    out.finish().and_then(|()| out.get_mut().flush()).map_err(Error::io("writing the archive"))
}

fn descriptor(record: &Record, shared: &Shared) -> Result<Value> {
    let plan = mend::plan(record, &shared.folders)?;
    let bytes = mend::read(&plan.manifest.digest, &shared.folders)?;
    let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let otherwise = json!("application/vnd.oci.image.manifest.v1+json");
    Ok(json!({
        "mediaType": manifest.get("mediaType").unwrap_or(&otherwise),
        "digest": plan.manifest.digest,
        "size": plan.manifest.size,
    }))
}

fn blob(out: &mut Builder<impl Write>, digest: &str, shared: &Shared) -> Result<()> {
    let path = shared.folders.blob(digest);
    let (hex, size) = blobs::hash_file(&path)?;
    if hex != bare(digest) {
        return Err(Error::Invalid(format!(
            "blob {digest} is damaged: `wasmpod doctor` says what to do"
        )));
    }
    let file = File::open(&path).map_err(Error::io(format!("reading blob {digest}")))?;
    let mut header = header(size);
    let place = format!("blobs/sha256/{}", bare(digest));
    out.append_data(&mut header, place, file).map_err(Error::io("writing the archive"))
}

fn put(out: &mut Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<()> {
    out.append_data(&mut header(bytes.len() as u64), path, bytes)
        .map_err(Error::io("writing the archive"))
}

fn header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    header
}
