//! `wasmpod load`: the named images of an archive into the store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::store::{Place, Store};
use super::{Global, block_on};
use crate::proto::pod::LoadRequest;

/// Take in every named image of an archive: an OCI layout (folder or tar), or what `wasmpod save`
/// or `docker save` wrote.
#[derive(Debug, Args)]
pub struct Load {
    #[command(flatten)]
    place: Place,
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Load {
    /// Prints the id and names of each image.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let file = std::path::absolute(&self.file)
            .with_context(|| format!("resolving {}", self.file.display()))?;
        let loaded: Vec<(String, Vec<String>)> = block_on(async {
            Ok(match self.place.open(global).await? {
                Store::Daemon(client) => {
                    let path = file.to_str().context("the file's path is not UTF-8")?.to_owned();
                    let answer = client.imports().load(LoadRequest { path }).await?.into_inner();
                    answer.images.into_iter().map(|image| (image.id, image.tags)).collect()
                }
                Store::Own(store) => {
                    let images = store.load(&file).await?;
                    images.iter().map(|image| (image.id.clone(), image.tags.clone())).collect()
                }
            })
        })?;
        // An image with several names came once for each; its last answer has them all.
        for (number, (id, tags)) in loaded.iter().enumerate() {
            if !loaded.iter().skip(number + 1).any(|(later, _)| later == id) {
                println!("{id} {}", tags.join(" "));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
