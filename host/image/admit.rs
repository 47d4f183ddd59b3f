//! The way from blobs that are in the store to an image: its layers are unpacked, the program
//! that it starts is found, machine code is made of all its programs, and one step makes it an
//! image. Everything before that step can be thrown away. Knows nothing of where blobs come from.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::image::assemble::{Assembled, assemble};
use crate::image::code::CodeCache;
use crate::image::folders::Folders;
use crate::image::index::{Origin, Record, found};
use crate::image::kind::Kind;
use crate::image::plan::{LayerForm, Plan};
use crate::image::progress::{Progress, Step};
use crate::image::{ImageProgram, Search, lookup};
use crate::telemetry::trace::carried;

/// Programs of one image that get their machine code before somebody starts them: an image with
/// more is a collection of tools, of which few are.
const MAX_EAGER: usize = 256;

/// What an image is called, and for whom it is made.
#[derive(Clone)]
pub struct Admission {
    /// Full names with tags; an image pulled by digest has none.
    pub tags: BTreeSet<String>,
    /// repository@digest.
    pub digests: BTreeSet<String>,
    pub origin: Origin,
    /// The file or name that the user gave: errors begin with it.
    pub subject: String,
    pub progress: Progress,
}

/// An image whose parts are in the store and which no index names yet.
pub struct Prepared {
    pub record: Record,
    pub programs: Vec<ImageProgram>,
    /// What starts: its machine code must be there before the image is one. `None` of data.
    pub entry: Option<ImageProgram>,
}

/// Unpacks. Blocks.
pub fn prepare(plan: &Plan, admission: &Admission, folders: &Folders) -> Result<Prepared> {
    prepare_nameless(plan, admission, folders).map_err(|error| match error {
        Error::Invalid(fault) => Error::Invalid(format!("{}: {fault}", admission.subject)),
        other => other,
    })
}

fn prepare_nameless(plan: &Plan, admission: &Admission, folders: &Folders) -> Result<Prepared> {
    let Assembled { layers, programs, whole } = assemble(plan, folders, &admission.progress)?;
    let placed: Vec<_> = programs.iter().map(|p| found(p, &folders.layers)).collect();
    let entry = entry(plan, &placed, whole.path())?;
    let mut config = plan.config.clone();
    if config.entrypoint.is_empty() && config.cmd.is_empty() {
        config.entrypoint = entry.iter().map(|entry| entry.path.clone()).collect();
    }
    let mut blobs: BTreeSet<String> =
        plan.layers.iter().map(|layer| layer.blob.digest.clone()).collect();
    blobs.insert(plan.manifest.digest.clone());
    blobs.insert(plan.config_blob.digest.clone());
    let record = Record {
        id: plan.config_blob.digest.clone(),
        tags: admission.tags.clone(),
        digests: admission.digests.clone(),
        manifest: Some(plan.manifest.digest.clone()),
        blobs,
        layers,
        origin: admission.origin,
        by_hand: Some(match admission.origin {
            Origin::Imported => admission.tags.clone(),
            Origin::Pulled => BTreeSet::new(),
        }),
        size: plan.size(),
        config,
        programs,
    };
    Ok(Prepared { record, programs: placed, entry })
}

fn entry(plan: &Plan, programs: &[ImageProgram], root: &Path) -> Result<Option<ImageProgram>> {
    let entry = plan.entry().map_err(|why| Error::Invalid(format!("it holds {why}")))?;
    let Some(entry) = entry else { return Ok(None) };
    let path = plan.config.env.iter().find_map(|pair| pair.strip_prefix("PATH="));
    let search = Search { working_dir: &plan.config.working_dir, path: path.unwrap_or_default() };
    let layers = [root.to_owned()];
    if let Some(program) = lookup::find(programs, &layers, &entry, search) {
        return Ok(Some(program.clone()));
    }
    let file = root.join(entry.trim_start_matches('/'));
    match Kind::of_file(&file) {
        Ok(kind) => {
            kind.wasm(&format!("its entrypoint {entry}"))?;
            Err(Error::Invalid(format!("its entrypoint {entry} cannot be reached in the image")))
        }
        Err(_) => Err(Error::Invalid(format!("its entrypoint {entry} is not in the image"))),
    }
}

/// Begins to make machine code of the programs that are layers themselves, while the layers are
/// put in their places; [`compile`] joins it. Dropping it gives that up.
pub fn compile_ahead(codes: &Arc<CodeCache>, plan: &Plan, folders: &Folders) -> JoinSet<()> {
    let mut work = JoinSet::new();
    for digest in wasm_layers(plan) {
        let (codes, digest, file) = (codes.clone(), digest.clone(), folders.blob(digest));
        work.spawn(carried(async move {
            // Whoever joins it hears what is wrong.
            let _ = codes.get(&digest, &file).await;
        }));
    }
    work
}

/// Digests of the programs that are layers themselves.
pub fn wasm_layers(plan: &Plan) -> impl Iterator<Item = &String> {
    let wasm = plan.layers.iter().filter(|layer| matches!(layer.form, LayerForm::Wasm(_)));
    wasm.map(|layer| &layer.blob.digest)
}

/// Makes machine code of an image's programs, as many at a time as there are CPUs. One that is
/// not `entry` may be refused: the image can be run without it.
pub async fn compile(
    codes: &Arc<CodeCache>,
    prepared: &Prepared,
    progress: &Progress,
) -> Result<(), (Option<ImageProgram>, Error)> {
    let mut seen = BTreeSet::new();
    let programs: Vec<&ImageProgram> = prepared
        .entry
        .iter()
        .chain(&prepared.programs)
        .filter(|program| seen.insert(program.digest.as_str()))
        .take(MAX_EAGER)
        .collect();
    let of = programs.len();
    let is_entry = |program: &ImageProgram| {
        prepared.entry.as_ref().is_some_and(|e| e.digest == program.digest)
    };
    progress(Step::Compiling { done: 0, of });
    let mut work = JoinSet::new();
    for program in programs {
        let (codes, program) = (codes.clone(), program.clone());
        work.spawn(carried(async move {
            let made = codes.get(&program.digest, &program.file).await;
            (program, made)
        }));
    }
    let mut done = 0;
    while let Some(ended) = work.join_next().await {
        let (program, made) = ended.map_err(|error| {
            let error = Error::Internal(format!("compiling: {error}"));
            (prepared.entry.clone(), error)
        })?;
        match made {
            Ok(_) => {}
            Err(error) if is_entry(&program) => {
                return Err((Some(program), error));
            }
            Err(error) => {
                let (path, image) = (&program.path, &prepared.record.id);
                tracing::warn!(image, path, %error, "a program of an image cannot be run");
            }
        }
        done += 1;
        progress(Step::Compiling { done, of });
    }
    Ok(())
}
