//! Everything the store knows of one image, as one JSON document for people: what `wasmpod
//! inspect` prints.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::image::name::is_digest;
use crate::image::state::{Shared, blocking};
use crate::image::{CodeForm, Image, ImageProgram, ImageStore, interfaces, mend};

impl ImageStore {
    pub async fn describe(&self, reference: &str) -> Result<Value> {
        let image = self.need(reference)?;
        let shared = self.shared.clone();
        blocking(move || describe(&image, &shared)).await
    }
}

fn describe(image: &Image, shared: &Shared) -> Result<Value> {
    let record = shared.index().record(&image.id).cloned();
    let record = record.ok_or_else(|| Error::not_found("image", &image.id))?;
    let named = || image.digests.iter().find_map(|name| Some(name.split_once('@')?.1));
    let digest = record.manifest.as_deref().or_else(named);
    let document = |digest: &str| -> Value {
        let bytes = is_digest(digest).then(|| mend::read(digest, &shared.folders).ok()).flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
    };
    let manifest = digest.map_or(Value::Null, document);
    let own = document(&image.id);
    let programs: Vec<Value> = image.programs.iter().map(|p| program(p, shared)).collect();
    let config = &image.config;
    Ok(json!({
        "id": image.id,
        "tags": image.tags,
        "digests": image.digests,
        "size": image.size,
        "codeSize": shared.code_size(image),
        "pinned": image.pinned,
        "origin": record.origin,
        "created": own.get("created"),
        "author": own.get("author"),
        "os": own.get("os"),
        "architecture": own.get("architecture"),
        "config": {
            "entrypoint": config.entrypoint,
            "cmd": config.cmd,
            "env": config.env,
            "workingDir": config.working_dir,
            "user": config.user,
            "stopSignal": config.stop_signal,
            "labels": config.labels,
        },
        "mediaType": manifest.get("mediaType"),
        "artifactType": manifest.get("artifactType"),
        "annotations": manifest.get("annotations"),
        "layers": manifest.get("layers"),
        "programs": programs,
    }))
}

fn program(program: &ImageProgram, shared: &Shared) -> Value {
    let names = interfaces::read(&program.file, program.form).unwrap_or_default();
    json!({
        "path": program.path,
        "digest": program.digest,
        "form": match program.form {
            CodeForm::Module => "module",
            CodeForm::Component => "component",
        },
        "size": std::fs::metadata(&program.file).map(|found| found.len()).ok(),
        "codeSize": shared.codes.size(&program.digest),
        "imports": names.imports,
        "exports": names.exports,
    })
}
