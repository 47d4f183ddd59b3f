//! Where the image commands work: through the daemon that listens, else on the store itself,
//! whose lock keeps a daemon that starts meanwhile waiting.

use std::path::PathBuf;

use clap::Args;

use super::client::Client;
use super::{Endpoint, Global};
use crate::config::{Config, Overrides};
use crate::image::ImageStore;

/// Which store is meant.
#[derive(Debug, Args)]
pub struct Place {
    /// Use the store in this folder, without a daemon.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub enum Store {
    Daemon(Client),
    /// Opened by this process: no daemon runs.
    Own(Box<ImageStore>),
}

impl Place {
    /// A daemon that was asked for by its endpoint has to answer; without an endpoint the
    /// default one is tried, and its store is opened when nobody listens there.
    pub async fn open(&self, global: &Global) -> anyhow::Result<Store> {
        if self.root.is_none() {
            let endpoint = global.endpoint()?;
            let given = matches!(endpoint, Endpoint::Given(_));
            match Client::connect(&endpoint).await {
                Ok(client) => return Ok(Store::Daemon(client)),
                Err(error) if given => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Store::Own(Box::new(ImageStore::open(&self.config()?).await?)))
    }

    /// Of a store without a daemon.
    pub fn config(&self) -> anyhow::Result<Config> {
        let overrides = Overrides { root: self.root.clone(), ..Overrides::default() };
        Ok(Config::load(None, overrides)?)
    }
}
