//! `wasmpod images`: what the store holds, and what of it may go.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{self, Format};
use super::prune::Prune;
use super::store::{Place, Store};
use super::{Global, block_on};
use crate::proto::pod::{ListStoredRequest, StoredImage};

/// List images; CODE is what their machine code takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Images {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    place: Place,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Prune(Prune),
}

#[derive(Debug, Serialize)]
struct Item {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    /// Bytes.
    size: u64,
    /// Bytes of machine code; what images share counts for each.
    #[serde(rename = "codeSize")]
    code_size: u64,
    pinned: bool,
}

impl Images {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        if let Some(Verb::Prune(prune)) = self.verb {
            return prune.run(global);
        }
        let items = block_on(async { list(&self.place.open(global).await?).await })?;
        match self.output {
            Format::Json => output::print_json(&items)?,
            Format::Table => {
                let header = ["REPOSITORY", "TAG", "IMAGE ID", "SIZE", "CODE"];
                output::print(&output::table(&header, &rows(&items)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(store: &Store) -> anyhow::Result<Vec<Item>> {
    Ok(match store {
        Store::Daemon(client) => {
            let found = client.imports().list_stored(ListStoredRequest {}).await?;
            let item = |image: StoredImage| Item {
                id: image.id,
                tags: image.tags,
                digests: image.digests,
                size: image.size,
                code_size: image.code_size,
                pinned: image.pinned,
            };
            found.into_inner().images.into_iter().map(item).collect()
        }
        Store::Own(store) => {
            let item = |image: &std::sync::Arc<crate::image::Image>| Item {
                id: image.id.clone(),
                tags: image.tags.clone(),
                digests: image.digests.clone(),
                size: image.size,
                code_size: store.code_size(image),
                pinned: image.pinned,
            };
            store.list().iter().map(item).collect()
        }
    })
}

/// A line for each tag, sorted; one without a tag shows its repository.
fn rows(items: &[Item]) -> Vec<Vec<String>> {
    let none = || "<none>".to_owned();
    let mut rows = Vec::new();
    for item in items {
        let id = item.id.strip_prefix("sha256:").unwrap_or(&item.id);
        let id = id.get(..12).unwrap_or(id).to_owned();
        let row = |repository: String, tag: String| {
            vec![repository, tag, id.clone(), size(item.size), size(item.code_size)]
        };
        for name in &item.tags {
            match name.rsplit_once(':') {
                Some((repository, tag)) => rows.push(row(familiar(repository), tag.to_owned())),
                None => rows.push(row(familiar(name), none())),
            }
        }
        if item.tags.is_empty() {
            let digest = item.digests.first().and_then(|digest| digest.split_once('@'));
            rows.push(row(digest.map_or_else(none, |(name, _)| familiar(name)), none()));
        }
    }
    rows.sort();
    rows
}

/// As people write it: without docker's own registry.
fn familiar(repository: &str) -> String {
    let short = repository.strip_prefix("docker.io/").unwrap_or(repository);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

/// In decimal units with three digits, as docker shows it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        unit = next;
        if value < 999.5 {
            break;
        }
        if next != "TB" {
            value /= 1000.0;
        }
    }
    let digits = match value {
        _ if unit == "B" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (1, "1B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (999_600, "1.00MB"),
            (2_500_000, "2.50MB"),
            (123_456_789_012, "123GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn every_tag_has_a_line_and_an_image_without_one_too() {
        let item = |tags: &[&str]| Item {
            id: format!("sha256:{}", "ab".repeat(32)),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: vec!["docker.io/library/old@sha256:0".to_owned()],
            size: 5,
            code_size: 7,
            pinned: true,
        };
        let rows = rows(&[item(&["docker.io/library/a:1", "ghcr.io:1/x/y:2"]), item(&[])]);
        let text: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
        let expected = [
            "a 1 abababababab 5B 7B",
            "ghcr.io:1/x/y 2 abababababab 5B 7B",
            "old <none> abababababab 5B 7B",
        ];
        assert_eq!(text, expected);
    }
}
