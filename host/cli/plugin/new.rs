//! `wasmpod plugin new`: a project that builds and passes its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::sdk;
use crate::cli::output;

const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("README.md", include_str!("template/README.md.in")),
    ("fixture.json", include_str!("template/fixture.json.in")),
];
const IGNORED: &str = "/target\n";

/// The folder of the SDK that comes with the project.
const SDK: &str = "wasmpod-guest";

/// Make a plugin's project: a folder that builds with cargo and passes its tests.
#[derive(Debug, Args)]
pub struct New {
    /// The plugin's name and its folder's: small letters, digits and -.
    name: String,
    /// The guest SDK's folder (guest-sdk in wasmpod's sources); by default this wasmpod's SDK is
    /// written into the project, for it is in no registry yet.
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

impl New {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        check(&self.name)?;
        let sdk = self.sdk.as_deref().map(outside).transpose()?;
        let folder = Path::new(&self.name);
        fs::create_dir(folder).with_context(|| format!("making folder {}", self.name))?;
        let path = match &sdk {
            Some(path) => path.display().to_string(),
            None => {
                for (file, text) in sdk::FILES {
                    write(&folder.join(SDK).join(file), text)?;
                }
                SDK.to_owned()
            }
        };
        for (file, text) in FILES {
            let text = text
                .replace("{{name}}", &self.name)
                .replace("{{type}}", &type_name(&self.name))
                .replace("{{library}}", &self.name.replace('-', "_"))
                .replace("{{sdk}}", &toml_text(&path));
            write(&folder.join(file), &text)?;
        }
        write(&folder.join(".gitignore"), IGNORED)?;
        output::print(&told(&self.name, sdk.as_deref()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn told(name: &str, sdk: Option<&Path>) -> String {
    let from = match sdk {
        Some(path) => format!("It uses the guest SDK in {}.", path.display()),
        None => format!("This wasmpod's guest SDK is in {name}/{SDK}: it is in no registry yet."),
    };
    let library = name.replace('-', "_");
    format!(
        "Made {name}. {from}\n\n    cd {name}\n    cargo test\n    \
         cargo build --release --target wasm32-wasip2\n    \
         wasmpod plugin check target/wasm32-wasip2/release/{library}.wasm\n    \
         wasmpod plugin run target/wasm32-wasip2/release/{library}.wasm --event fixture.json\n"
    )
}

/// Cargo takes it as a package's name, and the configuration as a plugin's.
fn check(name: &str) -> anyhow::Result<()> {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !is_plain || !begins || name.ends_with('-') || name.len() > 63 {
        bail!(
            "{name:?} is no plugin's name: at most 63 small letters, digits and -, a letter first \
             and no - last"
        );
    }
    if ["core", "std", "test", "wasmpod-guest"].contains(&name) {
        bail!("{name} is a name that Rust has taken: choose another");
    }
    Ok(())
}

/// The folder that the project's manifest names; it has to be the SDK's.
fn outside(path: &Path) -> anyhow::Result<PathBuf> {
    let doing = || format!("{} is not the guest SDK", path.display());
    let path = fs::canonicalize(path).with_context(doing)?;
    let manifest = fs::read_to_string(path.join("Cargo.toml")).with_context(doing)?;
    if !manifest.contains("name = \"wasmpod-guest\"") {
        bail!("{} is not the guest SDK: its Cargo.toml is another package's", path.display());
    }
    Ok(path)
}

/// "image-signer" is `ImageSigner`.
fn type_name(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    };
    name.split('-').map(word).collect()
}

/// Between quotes in TOML.
fn toml_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let doing = || format!("writing {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    fs::write(file, text).with_context(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cargos_and_the_configurations() {
        for good in ["a", "image-signer", "v2"] {
            check(good).unwrap();
        }
        for bad in ["", "2fast", "A", "a_b", "../a", "a-", "-a", "test", "a b"] {
            check(bad).unwrap_err();
        }
        assert_eq!(type_name("image-signer"), "ImageSigner");
        assert_eq!(type_name("a--b"), "AB");
    }
}
