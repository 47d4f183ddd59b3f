//! `wasmpod save`: images as an archive. The file is this process's own, whoever the daemon is.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::store::{Place, Store};
use super::{Global, block_on};
use crate::proto::pod::SaveRequest;

/// Write images as a tar of an OCI layout, which `wasmpod load` and other tools read.
#[derive(Debug, Args)]
pub struct Save {
    #[command(flatten)]
    place: Place,
    /// The archive; stdout without it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names, ids or unique beginnings of ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Save {
    /// The archive appears whole or not at all.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let Self { place, output, images } = self;
        let Some(path) = output else {
            if std::io::stdout().is_terminal() {
                bail!("an archive is nothing to read on a terminal: name a file with --output");
            }
            block_on(async { write(place.open(global).await?, images, std::io::stdout()).await })?;
            return Ok(ExitCode::SUCCESS);
        };
        let doing = || format!("writing {}", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let made = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let made = made.with_context(doing)?;
        let file = made.reopen().with_context(doing)?;
        block_on(async { write(place.open(global).await?, images, file).await })?;
        made.as_file().sync_all().with_context(doing)?;
        use std::os::unix::fs::PermissionsExt;
        let rights = std::fs::Permissions::from_mode(0o644);
        made.as_file().set_permissions(rights).with_context(doing)?;
        let _: File = made.persist(&path).with_context(doing)?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn write(
    store: Store,
    images: Vec<String>,
    mut writer: impl Write + Send + 'static,
) -> anyhow::Result<()> {
    match store {
        Store::Daemon(client) => {
            let mut pieces = client.imports().save(SaveRequest { images }).await?.into_inner();
            while let Some(piece) = pieces.message().await? {
                writer.write_all(&piece.data).context("writing the archive")?;
            }
            writer.flush().context("writing the archive")?;
        }
        Store::Own(store) => store.save(&images, std::io::BufWriter::new(writer)).await?,
    }
    Ok(())
}
