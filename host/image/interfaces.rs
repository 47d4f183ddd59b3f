//! What a wasm file takes from its host and gives to it, by name: a component's WIT imports and
//! exports, a module's import modules and exports. Reads the sections that name them and skips
//! all others, so that little of a file is ever in memory; the code is the compile child's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use wasmparser::{
    BinaryReader, ComponentExportSectionReader, ComponentImportSectionReader, ExportSectionReader,
    ImportSectionReader,
};

use crate::error::{Error, Result};
use crate::image::CodeForm;

/// A longer section names more than anybody reads, in bytes.
const MAX_SECTION: u64 = 1 << 20;
/// Names of one kind.
const MAX_NAMES: usize = 1000;
/// Sections of one file; components have one for each run of like items.
const MAX_SECTIONS: usize = 100_000;
const HEADER: u64 = 8;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    pub imports: BTreeSet<String>,
    pub exports: BTreeSet<String>,
}

/// Reads as far as the file is what its form promises; the rest is for the compiler to refuse.
pub fn read(path: &Path, form: CodeForm) -> Result<Interfaces> {
    let doing = || format!("reading {}", path.display());
    let file = File::open(path).map_err(Error::io(doing()))?;
    let length = file.metadata().map_err(Error::io(doing()))?.len();
    let mut reader = BufReader::new(file);
    let mut found = Interfaces::default();
    let mut at = HEADER;
    for _ in 0..MAX_SECTIONS {
        reader.seek(SeekFrom::Start(at)).map_err(Error::io(doing()))?;
        let Some((id, size, head)) = section(&mut reader) else { break };
        let end = at.saturating_add(head).saturating_add(size);
        if end > length {
            break;
        }
        if size <= MAX_SECTION && names(form, id) {
            let mut bytes = Vec::new();
            (&mut reader).take(size).read_to_end(&mut bytes).map_err(Error::io(doing()))?;
            // A section that cannot be read names nothing.
            let _ = collect(form, id, &bytes, &mut found);
        }
        at = end;
    }
    Ok(found)
}

const IMPORTS: u8 = 2;
const EXPORTS: u8 = 7;
const COMPONENT_IMPORTS: u8 = 10;
const COMPONENT_EXPORTS: u8 = 11;

fn names(form: CodeForm, id: u8) -> bool {
    match form {
        CodeForm::Module => matches!(id, IMPORTS | EXPORTS),
        CodeForm::Component => matches!(id, COMPONENT_IMPORTS | COMPONENT_EXPORTS),
    }
}

/// A section's id, its size, and the length of both.
fn section(reader: &mut impl Read) -> Option<(u8, u64, u64)> {
    let mut byte = [0u8; 1];
    let mut next = || -> Option<u8> {
        reader.read_exact(&mut byte).ok()?;
        byte.first().copied()
    };
    let id = next()?;
    let mut size = 0u64;
    for place in 0..5u32 {
        let byte = next()?;
        size |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((id, size, 2 + u64::from(place)));
        }
    }
    None
}

fn collect(form: CodeForm, id: u8, bytes: &[u8], found: &mut Interfaces) -> wasmparser::Result<()> {
    let reader = BinaryReader::new(bytes, 0);
    let add = |names: &mut BTreeSet<String>, name: &str| {
        if names.len() < MAX_NAMES {
            names.insert(name.to_owned());
        }
    };
    match (form, id) {
        (CodeForm::Module, IMPORTS) => {
            for import in ImportSectionReader::new(reader)?.into_imports() {
                add(&mut found.imports, import?.module);
            }
        }
        (CodeForm::Module, EXPORTS) => {
            for export in ExportSectionReader::new(reader)? {
                add(&mut found.exports, export?.name);
            }
        }
        (CodeForm::Component, COMPONENT_IMPORTS) => {
            for import in ComponentImportSectionReader::new(reader)? {
                add(&mut found.imports, import?.name.name);
            }
        }
        (CodeForm::Component, COMPONENT_EXPORTS) => {
            for export in ComponentExportSectionReader::new(reader)? {
                add(&mut found.exports, export?.name.name);
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, form: CodeForm) -> Interfaces {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), wat::parse_str(text).unwrap()).unwrap();
        read(file.path(), form).unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_components_wit_names_are_found_and_not_those_of_modules_inside() {
        let found = of(
            r#"(component
                (import "wasi:clocks/monotonic-clock@0.2.0" (instance))
                (core module (import "inner" "f" (func)) (export "g" (func 0)))
                (component (import "nested" (func)))
                (import "wasi:cli/environment@0.2.0" (instance $e))
                (export "wasi:cli/run@0.2.0" (instance $e)))"#,
            CodeForm::Component,
        );
        let imports = ["wasi:cli/environment@0.2.0", "wasi:clocks/monotonic-clock@0.2.0"];
        assert_eq!((found.imports, found.exports), (set(&imports), set(&["wasi:cli/run@0.2.0"])));
    }

    #[test]
    fn a_modules_names_are_those_of_its_imports_and_exports() {
        let found = of(
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func))
                (import "wasi_snapshot_preview1" "fd_read" (func))
                (memory (export "memory") 1) (func (export "_start")))"#,
            CodeForm::Module,
        );
        let expected = (set(&["wasi_snapshot_preview1"]), set(&["_start", "memory"]));
        assert_eq!((found.imports, found.exports), expected);
    }

    #[test]
    fn what_is_cut_or_nonsense_names_what_could_be_read() {
        let whole = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        for bytes in [&whole[..whole.len() - 3], b"\0asm\x01\0\0\0\x07\xff\xff\xff\xff\x0f", b""] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            read(file.path(), CodeForm::Module).unwrap();
        }
    }
}
