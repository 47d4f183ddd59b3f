//! `wasmpod tag`: one more name for an image.

use std::process::ExitCode;

use clap::Args;

use super::store::{Place, Store};
use super::{Global, block_on};
use crate::image::Name;
use crate::proto::pod::TagRequest;

/// Give an image one more name; an image that had the name loses it.
#[derive(Debug, Args)]
pub struct Tag {
    #[command(flatten)]
    place: Place,
    /// Name, id or unique beginning of an id.
    image: String,
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Tag {
    /// Prints the image's id and its new full name.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let full = Name::parse_tag(&self.name)?.tagged();
        let id = block_on(async {
            Ok(match self.place.open(global).await? {
                Store::Daemon(client) => {
                    let request = TagRequest { image: self.image, name: self.name };
                    client.imports().tag(request).await?.into_inner().id
                }
                Store::Own(store) => store.tag(&self.image, &self.name).await?.id.clone(),
            })
        })?;
        println!("{id} {full}");
        Ok(ExitCode::SUCCESS)
    }
}
