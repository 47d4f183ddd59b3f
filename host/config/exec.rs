//! What exec finds besides a container's own programs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Names the toolbox in place of the usual ones.
const VARIABLE: &str = "WASMPOD_TOOLBOX";
/// The toolbox's place below a folder of libraries.
const FILE: &str = "wasmpod/toolbox.wasm";
/// Where packages put libraries.
const LIBRARIES: [&str; 2] = ["/usr/local/lib", "/usr/lib"];

/// How programs are found that run beside a container's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecConfig {
    /// The wasm file of the debugging shell and its kin (examples/toolbox), for names that mean
    /// no program in the container's files; "" is none.
    pub toolbox: PathBuf,
}

impl ExecConfig {
    /// The toolbox's file, unless it is switched off.
    pub fn toolbox(&self) -> Option<&Path> {
        Some(self.toolbox.as_path()).filter(|file| !file.as_os_str().is_empty())
    }
}

impl Default for ExecConfig {
    /// The file that the variable names; else beside this program, as installed; else none.
    fn default() -> Self {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        Self { toolbox: named.or_else(installed).unwrap_or_default() }
    }
}

fn installed() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    let libraries = beside.map(|prefix| prefix.join("lib")).into_iter();
    let libraries = libraries.chain(LIBRARIES.map(PathBuf::from));
    libraries.map(|library| library.join(FILE)).find(|file| file.is_file())
}
