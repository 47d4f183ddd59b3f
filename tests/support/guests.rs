//! The guests of examples/, built once by scripts/build-guests.sh.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The folder of the built guests.
pub fn guest_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build-guests.sh");
        let output = Command::new(&script)
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("running {}: {error}", script.display()));
        assert!(output.status.success(), "{} failed: {}", script.display(), output.status);
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// The file of a guest: "probe" is the p1 module, "probe-p2" the component.
pub fn guest(name: &str) -> PathBuf {
    let file = guest_folder().join(format!("{name}.wasm"));
    assert!(file.exists(), "guest {name} was not built: {} is missing", file.display());
    file
}
