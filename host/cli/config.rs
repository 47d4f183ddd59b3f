//! `wasmpod config`: prints the configuration that `wasmpod serve` with the same flags would use.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::serve::Settings;

/// Print the effective configuration as TOML.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    settings: Settings,
}

impl Config {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.config()?;
        let text = toml::to_string(&config).context("writing the configuration as TOML")?;
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
