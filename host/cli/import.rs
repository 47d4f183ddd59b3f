//! `wasmpod import`: a wasm file or an image's files into the store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::store::{Place, Store};
use super::{Global, block_on};
use crate::image::Name;
use crate::proto::pod::ImportRequest;

/// Make an image of a .wasm file, an OCI layout (folder or tar) or a `docker save` archive.
#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    place: Place,
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Import {
    /// Prints the image's id and full name.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let file = std::path::absolute(&self.file)
            .with_context(|| format!("resolving {}", self.file.display()))?;
        let full = Name::parse_tag(&self.name)?.tagged();
        let id = block_on(async {
            Ok(match self.place.open(global).await? {
                Store::Daemon(client) => {
                    let path = file.to_str().context("the file's path is not UTF-8")?.to_owned();
                    let request = ImportRequest { path, name: self.name };
                    client.imports().import(request).await?.into_inner().id
                }
                Store::Own(store) => store.import(&file, &self.name).await?.id.clone(),
            })
        })?;
        println!("{id} {full}");
        Ok(ExitCode::SUCCESS)
    }
}
