//! `wasmpod rmi`: images out of the store.

use std::process::ExitCode;

use clap::Args;

use super::store::{Place, Store};
use super::{Global, block_on};
use crate::proto::cri::{ImageSpec, ImageStatusRequest, RemoveImageRequest};

/// Remove images, each with all its names.
#[derive(Debug, Args)]
pub struct Rmi {
    #[command(flatten)]
    place: Place,
    /// Names, ids or unique beginnings of ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Rmi {
    /// Prints each removed image's id. Goes on after one that cannot be removed, and fails then.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let mut failed = 0;
        block_on(async {
            let store = self.place.open(global).await?;
            for image in &self.images {
                match remove(&store, image).await {
                    Ok(id) => println!("{id}"),
                    Err(error) => {
                        failed += 1;
                        eprintln!("wasmpod: {}", super::one_line(&error));
                    }
                }
            }
            Ok(())
        })?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// CRI's RemoveImage succeeds for what is not there; a person wants to hear of a typing error.
async fn remove(store: &Store, name: &str) -> anyhow::Result<String> {
    let missing = || anyhow::anyhow!("image {name:?} not found");
    match store {
        Store::Daemon(client) => {
            let spec = ImageSpec { image: name.to_owned(), ..ImageSpec::default() };
            let mut images = client.images();
            let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
            let found = images.image_status(request).await?.into_inner().image;
            let id = found.ok_or_else(missing)?.id;
            images.remove_image(RemoveImageRequest { image: Some(spec) }).await?;
            Ok(id)
        }
        Store::Own(store) => {
            let id = store.get(name).ok_or_else(missing)?.id.clone();
            // No daemon runs, so no container is being made; what the next one finds again of
            // exited containers needs no image.
            store.remove(name, |_| false).await?;
            Ok(id)
        }
    }
}
