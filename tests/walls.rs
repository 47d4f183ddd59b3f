//! The walls of the house (ARCHITECTURE.md, "Directions"): which part may name which. Reads the
//! sources as text, without comments and without their tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines, tests below them not counted. Longer files want splitting, by noun or verb.
const LONGEST: usize = 400;

/// The parts that a part may name as `crate::PART`, besides itself. `proto` is told apart by its
/// packages.
const DIRECTIONS: [(&str, &[&str]); 22] = [
    ("model", &[]),
    ("error", &["model"]),
    ("proto", &[]),
    ("speech", &[]),
    ("config", &["error", "model"]),
    ("engine", &["error"]),
    ("netns", &["error"]),
    ("passing", &[]),
    ("retry", &[]),
    ("watch", &[]),
    ("interface", &["error"]),
    ("lifecycle", &["config", "engine", "error", "image", "interface", "model", "watch"]),
    ("telemetry", &["config", "error", "retry"]),
    ("network", &["config", "error", "model", "netns", "telemetry"]),
    (
        "shim",
        &[
            "engine",
            "error",
            "interface",
            "model",
            "netns",
            "passing",
            "proto::shim",
            "proto::SHIM_PROTOCOLS",
            "retry",
            "speech",
        ],
    ),
    ("image", &["config", "engine", "error", "model", "telemetry"]),
    (
        "runtime",
        &[
            "config",
            "engine",
            "error",
            "image",
            "interface",
            "lifecycle",
            "model",
            "network",
            "passing",
            "proto::shim",
            "proto::SHIM_PROTOCOLS",
            "retry",
            "speech",
            "telemetry",
        ],
    ),
    // Sizes and states that CRI echoes: everything through `runtime`.
    // `proto::pod` for the import of images, which CRI lacks.
    (
        "cri",
        &[
            "config",
            "error",
            "image",
            "model",
            "proto::METHODS",
            "proto::cri",
            "proto::pod",
            "retry",
            "runtime",
            "telemetry",
        ],
    ),
    (
        "agent",
        &[
            "config",
            "cri::client",
            "cri::codes",
            "error",
            "model",
            "proto::cri",
            "proto::pod",
            "watch",
        ],
    ),
    (
        "cli",
        &[
            "agent",
            "config",
            "cri",
            "error",
            "image",
            "interface",
            "lifecycle",
            "model",
            "network",
            "proto::cri",
            "proto::pod",
            "retry",
            "runtime",
            "shim",
            "speech",
            "telemetry",
            "watch",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// The parts, or the files in one, that may name wasmtime and its kin.
const NAME_WASMTIME: [&str; 5] = ["engine", "interface/", "lifecycle/", "shim/", "image/compile"];

struct Source {
    /// "shim/wasi/p1".
    path: String,
    /// Without comments and tests; a line for a line.
    code: String,
}

impl Source {
    fn part(&self) -> &str {
        self.path.split('/').next().unwrap()
    }
}

fn sources() -> Vec<Source> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("host");
    let mut files = Vec::new();
    collect(&host, &mut files);
    files.sort();
    files
        .into_iter()
        // A file of tests alone, which its parent names under #[cfg(test)].
        .filter(|file| {
            let stem = file.file_stem().unwrap().to_str().unwrap();
            stem != "tests" && !stem.ends_with("_tests")
        })
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&host).unwrap().with_extension("");
            Source { path: path.to_str().unwrap().to_owned(), code: code(&text) }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn code(text: &str) -> String {
    let untested = text.split("#[cfg(test)]\nmod ").next().unwrap();
    untested.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Every `crate::PART` of some code, as "PART" or "proto::PACKAGE" or "cri::client"; the roots
/// within `crate::{..}` too.
fn named(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push(two(&item));
                        item.clear();
                    }
                    _ if depth == 0 => item.push(letter),
                    _ => (),
                }
            }
            found.push(two(&item));
        } else {
            found.push(two(rest));
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

/// The first two names of a path, "a::b"; one where there is only one.
fn two(path: &str) -> String {
    let end = |text: &str| {
        text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
    };
    let path = path.trim_start();
    let (first, rest) = path.split_at(end(path));
    match rest.strip_prefix("::") {
        Some(rest) if end(rest) > 0 => format!("{first}::{}", &rest[..end(rest)]),
        _ => first.to_owned(),
    }
}

#[test]
fn a_part_names_only_the_parts_below_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        let part = source.part();
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == part) else {
            panic!("host/{} belongs to no part that tests/walls.rs knows", source.path);
        };
        for path in named(&source.code) {
            let first = path.split("::").next().unwrap();
            let fine = first == part
                || allowed.iter().any(|name| *name == first || path == *name)
                // Macros and items of lib.rs itself.
                || !DIRECTIONS.iter().any(|(name, _)| *name == first);
            if !fine {
                wrong.push(format!("host/{}.rs names crate::{path}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "these walls are broken:\n{}", wrong.join("\n"));
}

#[test]
fn wasmtime_is_named_where_guests_run_and_compile_only() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|source| !NAME_WASMTIME.iter().any(|place| source.path.starts_with(place)))
        .filter(|source| {
            source.code.contains("wasmtime::") || source.code.contains("wasmtime_wasi")
        })
        .map(|source| format!("host/{}.rs", source.path))
        .collect();
    assert!(wrong.is_empty(), "these name wasmtime:\n{}", wrong.join("\n"));
}

#[test]
fn exporters_are_named_by_telemetry_only() {
    let sources = sources();
    let wrong = |crate_name: &str, file: &str| -> Vec<String> {
        let others = sources.iter().filter(|source| source.path != file);
        others.filter(|source| source.code.contains(crate_name)).map(|s| s.path.clone()).collect()
    };
    assert_eq!(wrong("opentelemetry", "telemetry/trace"), [""; 0]);
    assert_eq!(wrong("prometheus_client", "telemetry/metrics"), [""; 0]);
}

#[test]
fn files_are_short_enough_to_be_read_whole() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|source| (source.code.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("host/{path}.rs: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "these want splitting at {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn the_reader_of_sources_sees_paths_and_no_comments() {
    let seen = named(&code(
        "use crate::error::{Error, Result}; // crate::not::this\nuse crate::{model::ids, proto};\n\
         fn a(b: &crate::proto::cri::C) {}\n#[cfg(test)]\nmod tests { use crate::cli; }",
    ));
    assert_eq!(seen, ["error", "model::ids", "proto", "proto::cri"]);
}

#[test]
fn every_file_of_tests_is_run() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let all = fs::read_to_string(tests.join("all.rs")).unwrap();
    for entry in fs::read_dir(&tests).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "rs") && stem != "all" {
            assert!(all.contains(&format!("mod {stem};\n")), "tests/all.rs does not name {stem}");
        }
    }
}
