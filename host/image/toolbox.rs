//! Owns what is known of the toolbox: the wasm file that the daemon ships for execs in containers
//! that have no program of a name. It tells its programs' names itself, in a custom section, so
//! that nothing of it has to run to know them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use wasmparser::{Parser, Payload};

use crate::error::{Error, Result};
use crate::image::blobs;

/// The section: names with spaces between them.
const SECTION: &str = "wasmpod:applets";
/// Bytes of a toolbox that is taken for one.
const LARGEST: u64 = 64 << 20;
/// Where such programs lie on other systems. People name them so, whatever the container has.
const FOLDERS: [&str; 4] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"];

#[derive(Debug)]
pub struct Toolbox {
    pub file: PathBuf,
    /// "sha256:..." of the file.
    pub digest: String,
    applets: BTreeSet<String>,
}

impl Toolbox {
    pub fn open(file: &Path) -> Result<Self> {
        let doing = || format!("reading the toolbox {} (exec.toolbox)", file.display());
        let mut bytes = Vec::new();
        let opened = File::open(file).map_err(Error::io(doing()))?;
        opened.take(LARGEST).read_to_end(&mut bytes).map_err(Error::io(doing()))?;
        let applets = applets(&bytes);
        if applets.is_empty() {
            return Err(Error::Invalid(format!(
                "{} (exec.toolbox) is no toolbox: it has no section {SECTION:?} that names its \
                 programs",
                file.display()
            )));
        }
        let file = file.to_path_buf();
        let digest = format!("sha256:{}", blobs::hash_file(&file)?.0);
        Ok(Self { file, digest, applets })
    }

    /// Whether argv[0] names one of its programs: bare, or in a folder where such programs lie.
    pub fn has(&self, program: &str) -> bool {
        let name = match program.rsplit_once('/') {
            Some((folder, name)) if FOLDERS.contains(&folder) => name,
            Some(_) => return false,
            None => program,
        };
        self.applets.contains(name)
    }
}

/// Names in the section, at whatever depth: it is the core module's inside of a component.
fn applets(wasm: &[u8]) -> BTreeSet<String> {
    // What cannot be read names nothing.
    let sections = Parser::new(0).parse_all(wasm).map_while(std::result::Result::ok);
    let own = sections.filter_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == SECTION => Some(section.data()),
        _ => None,
    });
    let text = own.filter_map(|data| std::str::from_utf8(data).ok());
    text.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_its_section_bare_or_where_programs_lie() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"(component (core module (@custom "wasmpod:applets" "sh ls\ntrue")))"#;
        std::fs::write(file.path(), wat::parse_str(text).unwrap()).unwrap();
        let toolbox = Toolbox::open(file.path()).unwrap();
        for name in ["sh", "ls", "true", "/bin/sh", "/usr/bin/ls"] {
            assert!(toolbox.has(name), "{name}");
        }
        for name in ["cat", "", "/bin/", "/data/ls", "bin/ls", "/bin/../bin/ls"] {
            assert!(!toolbox.has(name), "{name}");
        }
    }

    #[test]
    fn another_program_is_no_toolbox() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), wat::parse_str("(module)").unwrap()).unwrap();
        let error = Toolbox::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("is no toolbox"), "{error}");
    }
}
