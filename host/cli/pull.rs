//! `wasmpod pull`: an image from a registry into the store.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::progress::{Progress, Style};
use super::store::{Place, Store};
use super::{Global, block_on};
use crate::cri::pull_progress;
use crate::image::{Auth, Image, ImageStore, Imported, Name, Pull as Wanted, Registry};
use crate::proto::pod::pull_response::Item;
use crate::proto::pod::{Login, PullRequest, pull_request};

/// Fetch an image from its registry, with the credentials of `docker login`.
#[derive(Debug, Args)]
pub struct Pull {
    #[command(flatten)]
    place: Place,
    /// As in a pod's manifest.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    /// Prints the image's id and full name. A name that was imported comes to mean the
    /// registry's image.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        // A credential helper that fails is no error, and the reason of one that follows.
        crate::speech::warnings_to_stderr();
        let name = Name::parse(&self.name)?;
        let style = if self.quiet { Style::Nothing } else { Style::of_stderr() };
        let mut progress = Progress::new(style);
        let id = block_on(async {
            match self.place.open(global).await? {
                Store::Daemon(client) => {
                    let auth = login(Registry::docker_auth(&name).await?);
                    let request = PullRequest {
                        image: self.name,
                        auth,
                        imported: pull_request::Imported::Replace.into(),
                        docker_configs: Vec::new(),
                    };
                    let mut reports = client.imports().pull(request).await?.into_inner();
                    loop {
                        match reports.message().await?.and_then(|report| report.item) {
                            Some(Item::Progress(now)) => progress.show(&now)?,
                            Some(Item::Done(done)) => return Ok(done.id),
                            None => anyhow::bail!("the daemon stopped pulling {name}"),
                        }
                    }
                }
                Store::Own(store) => own(&store, self.name, &mut progress).await,
            }
        });
        progress.clear()?;
        let id = id?;
        super::output::print(&format!("{id} {name}\n")).context("printing the image's id")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Pulls without a daemon.
async fn own(store: &ImageStore, name: String, progress: &mut Progress) -> anyhow::Result<String> {
    let pulling = store.pull(Wanted { name, auth: None, imported: Imported::Replace })?;
    let mut told = pulling.progress();
    let done = pulling.done();
    tokio::pin!(done);
    loop {
        tokio::select! {
            image = &mut done => return Ok(Image::clone(&*image?).id),
            Ok(()) = told.changed() => {
                let now = pull_progress(&told.borrow_and_update());
                progress.show(&now)?;
            }
        }
    }
}

/// For a daemon that asks a registry on this user's behalf.
pub fn login(auth: Auth) -> Option<Login> {
    (auth != Auth::default()).then_some(Login {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    })
}
