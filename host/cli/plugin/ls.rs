//! `wasmpod plugin ls`: the running daemon's plugins and how they are, as CRI's Status tells it.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::output::{self, Format};
use crate::cli::{Global, block_on};
use crate::proto::cri::StatusRequest;

/// List the daemon's plugins, in the order in which they are asked.
#[derive(Debug, Args)]
pub struct Ls {
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What is shown of one.
#[derive(Debug, Deserialize)]
pub struct Listed {
    pub name: String,
    index: u32,
    pub state: String,
    breakdowns: u32,
    pub fault: String,
    hooks: Vec<String>,
    fail: String,
    pub path: String,
}

impl Ls {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        let told = block_on(async { told(&Client::connect(&endpoint).await?).await })?;
        match self.output {
            Format::Json => output::print_json(&told)?,
            Format::Table => output::print(&table(&listed(told)?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The daemon's plugins.
pub async fn ask(client: &Client) -> anyhow::Result<Vec<Listed>> {
    listed(told(client).await?)
}

async fn told(client: &Client) -> anyhow::Result<Value> {
    let request = StatusRequest { verbose: true };
    let status = client.runtime().status(request).await.context("asking the daemon")?;
    let mut info = status.into_inner().info;
    let told = info
        .remove("plugins")
        .context("the daemon tells of no plugins: it is older than this wasmpod")?;
    serde_json::from_str(&told).context("the daemon's answer is not JSON")
}

fn listed(told: Value) -> anyhow::Result<Vec<Listed>> {
    serde_json::from_value(told).context("the daemon tells of plugins in another way")
}

fn table(plugins: &[Listed]) -> String {
    let header = ["NAME", "INDEX", "STATE", "BREAKDOWNS", "FAIL", "HOOKS", "PATH", "LAST FAULT"];
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let rows: Vec<_> = plugins
        .iter()
        .map(|plugin| {
            vec![
                plugin.name.clone(),
                plugin.index.to_string(),
                plugin.state.replace('-', " "),
                plugin.breakdowns.to_string(),
                plugin.fail.clone(),
                dash(&plugin.hooks.join(",")),
                plugin.path.clone(),
                dash(&plugin.fault),
            ]
        })
        .collect();
    output::table(&header, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_stands_at_the_end_of_its_line() {
        let listed = Listed {
            name: "deny".to_owned(),
            index: 50,
            state: "circuit-open".to_owned(),
            breakdowns: 3,
            fault: "gave no answer within 500 ms (pre-create-container)".to_owned(),
            hooks: vec!["pre-create-container".to_owned(), "image-pulled".to_owned()],
            fail: "closed".to_owned(),
            path: "/p.wasm".to_owned(),
        };
        let text = table(&[listed]);
        let expected = "deny   50      circuit open   3            closed   \
                        pre-create-container,image-pulled   /p.wasm   \
                        gave no answer within 500 ms (pre-create-container)\n";
        assert_eq!(text.lines().nth(1).map(|line| format!("{line}\n")).unwrap(), expected);
    }
}
