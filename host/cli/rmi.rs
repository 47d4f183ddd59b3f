//! `wasmpod rmi`: images out of the store.

use std::process::ExitCode;

use clap::Args;

use super::store::{Place, Store};
use super::{Global, block_on};
use crate::image::Released;
use crate::proto::pod::{ImageRequest, ReleaseResponse};

/// Remove images. Of an image with several names the given one is taken away alone; an id removes
/// the image with all of them.
#[derive(Debug, Args)]
pub struct Rmi {
    #[command(flatten)]
    place: Place,
    /// Names, ids or unique beginnings of ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Rmi {
    /// Prints each removed image's id, or the name that was taken away. Goes on after one that cannot be removed, and fails then.
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

/// CRI's RemoveImage removes an image with all its names and succeeds for what is not there;
/// people mean one name, and want to hear of a typing error.
async fn remove(store: &Store, name: &str) -> anyhow::Result<String> {
    let untagged = |name: &str| format!("untagged {name}");
    Ok(match store {
        Store::Daemon(client) => {
            let request = ImageRequest { image: name.to_owned() };
            let ReleaseResponse { id, untagged: name } =
                client.imports().release(request).await?.into_inner();
            if name.is_empty() { id } else { untagged(&name) }
        }
        // No daemon runs, so no container is being made, but those that were may live on; what the
        // next one finds again of exited containers needs no image.
        Store::Own(store) => {
            let running = store.running()?;
            match store.release(name, move |id| running.contains(id)).await? {
                Released::Untagged { name, .. } => untagged(&name),
                Released::Removed { id } => id,
            }
        }
    })
}
