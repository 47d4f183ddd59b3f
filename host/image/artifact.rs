//! Makes a wasm OCI artifact of a plain wasm file: configuration, manifest and one layer, so
//! that an imported file has an id and a digest and can be pushed like any other image.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::image::CodeForm;
use crate::image::blobs::{self, Expected};
use crate::image::folders::Folders;
use crate::image::interfaces::{self, Interfaces};
use crate::image::plan::{self, Plan, TITLE, WASM_CONFIG, WASM_LAYER};

/// Takes in a file that begins as wasm. The same file under the same file name gives the same
/// id on every machine: no time or path of this one goes in.
pub fn take(file: &Path, form: CodeForm, folders: &Folders) -> Result<Plan> {
    let shown = file.display();
    let reader = std::fs::File::open(file).map_err(Error::io(format!("opening {shown}")))?;
    let expected = Expected { digest: None, size: None };
    let layer = blobs::take(folders, reader, &expected).map_err(|error| match error {
        Error::Invalid(fault) => Error::Invalid(format!("{shown}: {fault}")),
        other => other,
    })?;
    let name = plan::file_name(&file.file_name().unwrap_or_default().to_string_lossy());
    let mut config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": match form {
            CodeForm::Module => "wasip1",
            CodeForm::Component => "wasip2",
        },
        "layerDigests": [layer.digest],
        "config": { "Entrypoint": [format!("/{name}")] },
    });
    if let (CodeForm::Component, Some(fields)) = (form, config.as_object_mut()) {
        let Interfaces { imports, exports } = interfaces::read(&folders.blob(&layer.digest), form)?;
        let component = json!({ "imports": imports, "exports": exports });
        fields.insert("component".to_owned(), component);
    }
    let config = config.to_string();
    let config_blob = blobs::put(folders, config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": WASM_CONFIG,
            "digest": config_blob.digest,
            "size": config_blob.size,
        },
        "layers": [{
            "mediaType": WASM_LAYER,
            "digest": layer.digest,
            "size": layer.size,
            "annotations": { TITLE: name },
        }],
    })
    .to_string();
    let manifest_blob = blobs::put(folders, manifest.as_bytes())?;
    plan::read(manifest_blob, manifest.as_bytes(), config.as_bytes())
}
