//! Tells what a file is by how it begins. Reads a few bytes, never parses a module: that is
//! the compile child's business.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::image::CodeForm;

/// How many bytes [`Kind::of`] wants to see: up to a tar header's magic.
pub const HEAD: usize = 265;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Wasm(CodeForm),
    /// "\0asm", then a version that is neither a module's nor a component's.
    UnknownWasm([u8; 4]),
    /// WebAssembly text.
    Text,
    Gzip,
    Zstd,
    Tar,
    Empty,
    /// What it begins with, for people.
    Other(String),
}

impl Kind {
    pub fn of(head: &[u8]) -> Self {
        match head {
            [] => Self::Empty,
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Self::Wasm(CodeForm::Module),
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Self::Wasm(CodeForm::Component),
            [0, b'a', b's', b'm', a, b, c, d, ..] => Self::UnknownWasm([*a, *b, *c, *d]),
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ if head.get(257..262) == Some(b"ustar") => Self::Tar,
            _ if is_text_format(head) => Self::Text,
            _ => Self::Other(describe(head)),
        }
    }

    pub fn of_file(path: &Path) -> Result<Self> {
        let doing = || format!("reading {}", path.display());
        let file = std::fs::File::open(path).map_err(Error::io(doing()))?;
        let mut head = Vec::with_capacity(HEAD);
        file.take(HEAD as u64).read_to_end(&mut head).map_err(Error::io(doing()))?;
        Ok(Self::of(&head))
    }

    /// The form of a wasm file, or one sentence about what `name` is instead.
    pub fn wasm(&self, name: &str) -> Result<CodeForm> {
        let fault = match self {
            Self::Wasm(form) => return Ok(*form),
            Self::Empty => "is empty: not a WebAssembly file".to_owned(),
            Self::Text => "is WebAssembly text: assemble it first (wasm-tools parse FILE -o \
                           FILE.wasm)"
                .to_owned(),
            Self::UnknownWasm(version) => format!(
                "is WebAssembly of an unknown version ({}): neither a module nor a component \
                 of today's format",
                hex::encode(version)
            ),
            Self::Gzip => "is not a WebAssembly file but gzip data".to_owned(),
            Self::Zstd => "is not a WebAssembly file but zstd data".to_owned(),
            Self::Tar => "is not a WebAssembly file but a tar archive".to_owned(),
            Self::Other(head) => format!("is not a WebAssembly file: it starts with {head}"),
        };
        Err(Error::Invalid(format!("{name} {fault}")))
    }
}

fn is_text_format(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start();
    ["(module", "(component", ";;", "(;"].iter().any(|start| text.starts_with(start))
}

fn describe(head: &[u8]) -> String {
    let start = head.get(..head.len().min(16)).unwrap_or_default();
    let printable = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\n' | b'\t' | b'\r');
    if start.starts_with(b"\0asm") || b"\0asm".starts_with(start) {
        return format!("{}, a WebAssembly header cut short", hex::encode(start));
    }
    if start.iter().all(printable) {
        let line = start.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
        return format!("{:?}", String::from_utf8_lossy(line));
    }
    let program = match start {
        [0x7f, b'E', b'L', b'F', ..] => " (a native ELF program)",
        [b'P', b'K', 3, 4, ..] => " (a zip archive)",
        _ => "",
    };
    let bytes: Vec<String> = start.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{}{program}", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_decides_between_module_and_component() {
        assert_eq!(Kind::of(b"\0asm\x01\0\0\0"), Kind::Wasm(CodeForm::Module));
        assert_eq!(Kind::of(b"\0asm\x0d\0\x01\0..."), Kind::Wasm(CodeForm::Component));
    }

    #[test]
    fn what_is_not_wasm_is_described_in_one_sentence() {
        for (head, part) in [
            (&b""[..], "is empty"),
            (b"\0as", "starts with 006173"),
            (b"\0asm\x01\0", "a WebAssembly header cut short"),
            (b"\0asm\x02\0\0\0", "unknown version (02000000)"),
            (b"hello\nworld", "starts with \"hello\""),
            (b"\x7fELF\x02\x01\x01", "7f 45 4c 46 (a native ELF program)"),
            (b"  (module)", "WebAssembly text"),
        ] {
            let message = Kind::of(head).wasm("x").unwrap_err().to_string();
            assert!(message.starts_with("x is ") && message.contains(part), "{message}");
        }
    }
}
