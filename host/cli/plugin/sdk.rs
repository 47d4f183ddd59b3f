//! The guest SDK's files, so that a new plugin is built with the SDK of this very wasmpod.

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        /// Paths in the SDK's folder, and texts.
        pub const FILES: &[(&str, &str)] =
            &[$(($file, include_str!(concat!("../../../guest-sdk/", $file)))),*];
    };
}

files![
    "Cargo.toml",
    "src/adjustment.rs",
    "src/config.rs",
    "src/containers.rs",
    "src/cpu.rs",
    "src/cpuset.rs",
    "src/error.rs",
    "src/events.rs",
    "src/hooks.rs",
    "src/kv.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/manifest.rs",
    "src/memory.rs",
    "src/pages.rs",
    "src/plugin.rs",
    "src/pods.rs",
    "src/settings.rs",
    "src/testing/asked.rs",
    "src/testing/backend.rs",
    "src/testing/fixtures.rs",
    "src/testing/mod.rs",
    "src/testing/node.rs",
    "src/this.rs",
    "src/types.rs",
    "src/wasm/backend.rs",
    "src/wasm/bindings.rs",
    "src/wasm/convert.rs",
    "src/wasm/export.rs",
    "src/wasm/mod.rs",
    "src/wasm/panic.rs",
    "wit/deps/io.wit",
    "wit/functions.wit",
    "wit/hooks.wit",
    "wit/types.wit",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_sdk_is_here() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-sdk");
        let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_own = !path.ends_with("target") && !path.ends_with("tests");
                if path.is_dir() {
                    folders.extend(is_own.then_some(path));
                } else if path.is_file() && !path.ends_with("Cargo.lock") {
                    let name = path.strip_prefix(&root).unwrap();
                    found.push(name.to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), found);
    }
}
