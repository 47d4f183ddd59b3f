//! `wasmpod images prune`: images that nobody uses.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::images::size;
use super::output::{self, Format};
use super::store::{Place, Store};
use super::{Global, block_on};
use crate::image;
use crate::proto::pod::{PruneRequest, prune_request};

/// Remove images that no container uses and that are not pinned.
#[derive(Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    place: Place,
    /// Pinned ones, too: those that were imported under a name.
    #[arg(long)]
    all: bool,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
struct Outcome {
    removed: Vec<Item>,
    /// Bytes on disk.
    freed: u64,
}

#[derive(Debug, Serialize)]
struct Item {
    id: String,
    tags: Vec<String>,
}

impl Prune {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let outcome = block_on(async {
            Ok(match self.place.open(global).await? {
                Store::Daemon(client) => {
                    let which = if self.all {
                        prune_request::Which::All
                    } else {
                        prune_request::Which::Unpinned
                    };
                    let request = PruneRequest { which: which.into() };
                    let answer = client.imports().prune(request).await?.into_inner();
                    let item = |image: crate::proto::pod::StoredImage| Item {
                        id: image.id,
                        tags: image.tags,
                    };
                    let removed = answer.removed.into_iter().map(item).collect();
                    Outcome { removed, freed: answer.freed }
                }
                Store::Own(store) => {
                    let which = if self.all { image::Prune::All } else { image::Prune::Unpinned };
                    let running = store.running()?;
                    let in_use = move |id: &str| running.contains(id);
                    let (removed, freed) = store.prune(which, in_use).await?;
                    let item = |gone: image::Pruned| Item { id: gone.id, tags: gone.tags };
                    Outcome { removed: removed.into_iter().map(item).collect(), freed }
                }
            })
        })?;
        match self.output {
            Format::Json => output::print_json(&outcome)?,
            Format::Table => {
                for Item { id, tags } in &outcome.removed {
                    println!("{id} {}", tags.join(" "));
                }
                println!("freed {}", size(outcome.freed));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
