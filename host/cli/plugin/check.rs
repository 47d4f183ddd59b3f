//! `wasmpod plugin check`: what a plugin's file asks for, and what is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::examine::{self, Examination};
use crate::cli::output::{self, Format};

/// Show what a plugin asks for, and what is inconsistent in it. Nothing of it runs.
///
/// The exit status is 1 where the daemon would refuse it.
#[derive(Debug, Args)]
pub struct Check {
    /// The component's file.
    file: PathBuf,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Check {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let found = examine::file(&self.file)?;
        match self.output {
            Format::Json => output::print_json(&found)?,
            Format::Table => output::print(&self.told(&found))?,
        }
        Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn told(&self, found: &Examination) -> String {
        let list = |items: &mut dyn Iterator<Item = &str>| -> String {
            let text = items.collect::<Vec<_>>().join(", ");
            if text.is_empty() { "none".to_owned() } else { text }
        };
        let manifest = found.manifest.clone().unwrap_or_default();
        let asked = |items: &[String]| list(&mut items.iter().map(String::as_str));
        let hooks = match &found.hooks {
            Some(hooks) => list(&mut hooks.iter().copied()),
            None if found.world == "plugin" => "told when it is configured".to_owned(),
            None => "all".to_owned(),
        };
        let mut rows = vec![
            ("kind", found.world.to_owned()),
            ("interface", found.interface.clone()),
            ("hooks", hooks),
            ("imports", list(&mut found.imports.iter().map(String::as_str))),
            ("besides", list(&mut found.others.iter().map(String::as_str))),
            ("asks for functions", asked(&manifest.functions)),
            ("asks for fields", asked(&manifest.fields)),
            ("asks for namespaces", asked(&manifest.namespaces)),
        ];
        rows.extend(found.problems.iter().map(|problem| ("problem", problem.clone())));
        rows.extend(found.remarks.iter().map(|remark| ("remark", remark.clone())));
        let lines = rows.iter().map(|(what, text)| format!("{what:<19}  {text}\n"));
        lines.collect::<String>() + &self.grant(found)
    }

    /// The configuration's table that grants what it asks for.
    fn grant(&self, found: &Examination) -> String {
        let (true, Some(manifest)) = (found.world == "plugin", &found.manifest) else {
            return String::new();
        };
        let file = std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        let name = super::name(&self.file);
        let mut text = format!(
            "\nGranted by, in the daemon's configuration:\n\n[plugins.{name}]\npath = {:?}\n",
            file.display().to_string()
        );
        for (key, asked) in [
            ("functions", &manifest.functions),
            ("fields", &manifest.fields),
            ("namespaces", &manifest.namespaces),
        ] {
            if !asked.is_empty() {
                text += &format!("{key} = {asked:?}\n");
            }
        }
        text
    }
}
