//! `wasmpod push`: an image to its registry.

use std::process::ExitCode;

use clap::Args;

use super::pull::login;
use super::store::{Place, Store};
use super::{Global, block_on};
use crate::image::{Name, Registry};
use crate::proto::pod::PushRequest;

/// Send an image to a registry, with the credentials of `docker login`. A .wasm file that was
/// imported goes as a wasm artifact, any other image as it is.
#[derive(Debug, Args)]
pub struct Push {
    #[command(flatten)]
    place: Place,
    /// Name, id or unique beginning of an id.
    image: String,
    /// Where to, when that is not the image's own name.
    #[arg(value_name = "NAME[:TAG]")]
    target: Option<String>,
}

impl Push {
    /// Prints the name and digest under which the image can be pulled.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let Self { place, image, target } = self;
        let target = target.unwrap_or_else(|| image.clone());
        let name = Name::parse_tag(&target)?;
        let digest = block_on(async {
            Ok(match place.open(global).await? {
                Store::Daemon(client) => {
                    let auth = login(Registry::docker_auth(&name).await?);
                    let request = PushRequest { image, target, auth };
                    client.imports().push(request).await?.into_inner().digest
                }
                Store::Own(store) => store.push(&image, &target, None).await?.digest,
            })
        })?;
        println!("{name} {digest}");
        Ok(ExitCode::SUCCESS)
    }
}
