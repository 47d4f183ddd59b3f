//! `wasmpod compile NAME`: machine code of an image's programs, before somebody starts them.

use std::process::ExitCode;

use super::images::size;
use super::store::{Place, Store};
use super::{Global, block_on};
use crate::image::{Readiness, Warmed};
use crate::proto::pod::compile_response::Outcome;
use crate::proto::pod::{CompileResponse, ImageRequest};

/// Prints a line for each program as it is done; fails when one cannot be compiled.
pub fn run(images: Vec<String>, place: Place, global: &Global) -> anyhow::Result<ExitCode> {
    let mut failed = 0;
    block_on(async {
        let store = place.open(global).await?;
        for image in images {
            let mut done = 0;
            let mut each = |line: Line| {
                done += 1;
                failed += usize::from(line.failed);
                println!("[{done}/{}] {image} {}", line.of, line.text);
            };
            match &store {
                Store::Daemon(client) => {
                    let request = ImageRequest { image: image.clone() };
                    let mut stream = client.imports().compile(request).await?.into_inner();
                    while let Some(message) = stream.message().await? {
                        each(Line::from(message));
                    }
                }
                Store::Own(store) => {
                    let each = |warmed: &Warmed, of: usize| each(Line::of(warmed, of));
                    store.warm(&image, each).await?;
                }
            }
        }
        Ok(())
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Line {
    text: String,
    of: usize,
    failed: bool,
}

impl Line {
    fn of(warmed: &Warmed, of: usize) -> Self {
        let path = &warmed.path;
        let (text, failed) = match &warmed.outcome {
            Ok((bytes, Readiness::Made)) => (format!("{path}: {} made", size(*bytes)), false),
            Ok((bytes, Readiness::Kept)) => (format!("{path}: {} was there", size(*bytes)), false),
            Err(error) => (format!("{path}: {error}"), true),
        };
        Self { text, of, failed }
    }
}

impl From<CompileResponse> for Line {
    fn from(message: CompileResponse) -> Self {
        let outcome = match message.outcome() {
            Outcome::Made => Ok((message.code_size, Readiness::Made)),
            Outcome::Kept => Ok((message.code_size, Readiness::Kept)),
            Outcome::Failed => Err(message.error),
        };
        let warmed = Warmed { path: message.path, digest: message.digest, outcome };
        Self::of(&warmed, message.of as usize)
    }
}
