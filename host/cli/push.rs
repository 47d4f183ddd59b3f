//! `wasmpod push`: an image to its registry.

use std::process::ExitCode;

use clap::Args;
use tokio::sync::watch;

use super::progress::{Progress, Style};
use super::pull::login;
use super::store::{Place, Store};
use super::{Global, block_on};
use crate::cri::pull_progress;
use crate::image::{Arrival, ImageStore, Name, Registry};
use crate::proto::pod::PushRequest;
use crate::proto::pod::push_response::Item;

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
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
}

impl Push {
    /// Prints the name and digest under which the image can be pulled.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        // A credential helper that fails is no error, and the reason of one that follows.
        crate::speech::warnings_to_stderr();
        let Self { place, image, target, quiet } = self;
        let target = target.unwrap_or_else(|| image.clone());
        let name = Name::parse_tag(&target)?;
        let style = if quiet { Style::Nothing } else { Style::of_stderr() };
        let mut progress = Progress::new(style);
        let digest = block_on(async {
            match place.open(global).await? {
                Store::Daemon(client) => {
                    let auth = login(Registry::docker_auth(&name).await?);
                    let request = PushRequest { image, target, auth };
                    let mut reports = client.imports().push(request).await?.into_inner();
                    loop {
                        match reports.message().await?.and_then(|report| report.item) {
                            Some(Item::Progress(now)) => progress.show(&now)?,
                            Some(Item::Done(done)) => return Ok(done.digest),
                            None => anyhow::bail!("the daemon stopped pushing {name}"),
                        }
                    }
                }
                Store::Own(store) => own(&store, (&image, &target), &mut progress).await,
            }
        });
        progress.clear()?;
        println!("{name} {}", digest?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Pushes without a daemon.
async fn own(
    store: &ImageStore,
    names: (&str, &str),
    progress: &mut Progress,
) -> anyhow::Result<String> {
    let (sender, mut told) = watch::channel(Arrival::default());
    let pushing = store.push_with(names, None, sender);
    tokio::pin!(pushing);
    loop {
        tokio::select! {
            pushed = &mut pushing => return Ok(pushed?.digest),
            Ok(()) = told.changed() => {
                let now = pull_progress(&told.borrow_and_update());
                progress.show(&now)?;
            }
        }
    }
}
