//! What a plugin's file says of itself: which interface it speaks, what it really imports, what its
//! manifest asks for, and where these differ. Nothing of it runs or is compiled.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::interface::{FREE, PACKAGE, VERSION, grants, interface};
use crate::lifecycle::Manifest;

const WIT: &str = include_str!("../../../guest-sdk/wit/types.wit");
/// Where the SDK writes which hooks a plugin wants.
const HOOKS_SECTION: &str = "wasmpod:hooks";
const FIELDS: [&str; 7] =
    ["env", "args", "mounts", "annotations", "rlimits", "resources", "updates"];

/// A manifest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Asked {
    pub functions: Vec<String>,
    pub fields: Vec<String>,
    pub namespaces: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examination {
    /// "plugin" or "pod hooks".
    pub world: &'static str,
    pub interface: String,
    /// None where it is only told when it runs.
    pub hooks: Option<Vec<&'static str>>,
    /// That it imports, as "interface.function", without those that need no grant.
    pub imports: BTreeSet<String>,
    /// Other packages' interfaces, WASI's.
    pub others: BTreeSet<String>,
    pub manifest: Option<Asked>,
    /// The daemon refuses it for these.
    pub problems: Vec<String>,
    /// It asks for what it does not use.
    pub remarks: Vec<String>,
}

impl Examination {
    /// `beside` is the text of the manifest beside the file. An error says that it is no plugin.
    pub fn of(wasm: &[u8], beside: Option<&str>) -> anyhow::Result<Self> {
        let names = names(wasm)?;
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let types = validator.validate_all(wasm).map_err(|error| {
            anyhow::anyhow!(
                "it is damaged, or only a part of a component: {} at byte {}",
                error.message(),
                error.offset()
            )
        })?;
        let world = world(&names)?;
        let (mut imports, mut others) = (BTreeSet::new(), BTreeSet::new());
        for name in &names.imports {
            match interface(name)? {
                Some(interface) if FREE.contains(&interface) => {}
                Some(interface) => {
                    let functions = functions(types.as_ref(), name);
                    imports.extend(functions.iter().map(|name| format!("{interface}.{name}")));
                }
                None => drop(others.insert(name.clone())),
            }
        }
        let (manifest, unreadable) = match Manifest::of(wasm, beside) {
            Ok(manifest) => (manifest, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut examination = Self {
            world,
            interface: format!("wasmpod:lifecycle@{VERSION}"),
            hooks: names.hooks.map(hooks),
            imports,
            others,
            manifest: manifest.map(Asked::from),
            problems: unreadable.into_iter().collect(),
            remarks: Vec::new(),
        };
        examination.compare();
        Ok(examination)
    }

    fn compare(&mut self) {
        let none = Asked::default();
        let asked = self.manifest.as_ref().unwrap_or(&none);
        let (problems, remarks) = (&mut self.problems, &mut self.remarks);
        if self.manifest.is_none() && problems.is_empty() {
            remarks.push(
                "it has no manifest, so it may change nothing and call nothing: the SDK's macro \
                 writes one, or NAME.wasm.json beside it"
                    .to_owned(),
            );
        }
        for import in &self.imports {
            if !asked.functions.iter().any(|function| grants(function, import)) {
                problems.push(format!(
                    "it imports {import}, which its manifest does not ask for: add it to the \
                     manifest's functions"
                ));
            }
        }
        for function in &asked.functions {
            let is_free = FREE.iter().any(|free| grants(free, function));
            if !is_free && !self.imports.iter().any(|import| grants(function, import)) {
                remarks.push(format!(
                    "its manifest asks for {function}, of which it imports nothing: leave it out"
                ));
            }
        }
        for field in &asked.fields {
            if field != "*" && !FIELDS.iter().any(|known| grants(known, field)) {
                problems
                    .push(format!("its manifest asks for field {field}, which no container has"));
            }
        }
    }
}

impl From<Manifest> for Asked {
    fn from(found: Manifest) -> Self {
        Self { functions: found.functions, fields: found.fields, namespaces: found.namespaces }
    }
}

/// What stands at the component's outside.
#[derive(Default)]
struct Names {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
    hooks: Option<u32>,
}

/// Reads as far as it can; the validator says what is wrong behind.
fn names(wasm: &[u8]) -> anyhow::Result<Names> {
    let mut found = Names::default();
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding == Encoding::Module {
                    bail!("it is a core module, no component: build it for wasm32-wasip2");
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section.into_iter().map_while(Result::ok) {
                    found.imports.insert(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section.into_iter().map_while(Result::ok) {
                    found.exports.insert(export.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if section.name() == HOOKS_SECTION => {
                found.hooks = section.data().try_into().ok().map(u32::from_le_bytes);
            }
            _ => {}
        }
    }
    match wasm {
        [0, b'a', b's', b'm', ..] => Ok(found),
        _ => bail!("it is no WebAssembly: it does not begin as such a file does"),
    }
}

fn world(names: &Names) -> anyhow::Result<&'static str> {
    let all = names.imports.iter().map(|name| interface(name));
    all.collect::<Result<Vec<_>, _>>()?;
    let exported = names.exports.iter().map(|name| interface(name));
    let exported = exported.collect::<Result<Vec<_>, _>>()?;
    let exports = |interface: &str| exported.contains(&Some(interface));
    match () {
        () if exports("node-hooks") => Ok("plugin"),
        () if exports("own-hooks") => Ok("pod hooks"),
        () => {
            bail!("it is no plugin: it exports neither {PACKAGE}node-hooks nor {PACKAGE}own-hooks")
        }
    }
}

/// The functions of an imported interface.
fn functions(types: TypesRef<'_>, import: &str) -> Vec<String> {
    let item = types.component_item_for_import(import);
    let Some(ComponentEntityType::Instance(id)) = item.map(|item| item.ty) else {
        return Vec::new();
    };
    let exports = types.get(id).into_iter().flat_map(|instance| &instance.exports);
    let functions = exports.filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
    functions.map(|(name, _)| name.to_string()).collect()
}

/// Names of the interface's flags.
fn hooks(bits: u32) -> Vec<&'static str> {
    let flags = WIT.split_once("flags hooks {").and_then(|(_, rest)| rest.split_once('}'));
    let names = flags.map_or("", |(flags, _)| flags).split(',').map(str::trim);
    names
        .enumerate()
        .filter(|(bit, name)| bits >> bit & 1 == 1 && !name.is_empty())
        .map(|(_, name)| name)
        .collect()
}

/// A file's examination, with the manifest beside it.
pub fn file(path: &std::path::Path) -> anyhow::Result<Examination> {
    let doing = || format!("reading {}", path.display());
    let wasm = std::fs::read(path).with_context(doing)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".json");
    let beside = std::fs::read_to_string(beside).ok();
    Examination::of(&wasm, beside.as_deref()).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with these imports, each an interface with one function, and exports.
    fn component(imports: &[(&str, &str)], exports: &[&str], manifest: &str) -> Vec<u8> {
        let mut text = String::from("(component\n");
        for (interface, function) in imports {
            text += &format!(
                "(import \"wasmpod:lifecycle/{interface}\" (instance (export \"{function}\" (func))))\n"
            );
        }
        // Unnamed, for names are a section of their own.
        text += "(instance)\n";
        let empty = imports.len();
        for interface in exports {
            text += &format!("(export \"wasmpod:lifecycle/{interface}\" (instance {empty}))\n");
        }
        let manifest = manifest.replace('"', "\\\"");
        if !manifest.is_empty() {
            text += &format!("(core module (@custom \"wasmpod:plugin\" \"{manifest}\")\n");
            text += "(@custom \"wasmpod:hooks\" \"\\20\\00\\01\\00\"))\n";
        }
        wat::parse_str(text + ")").unwrap()
    }

    #[test]
    fn imports_are_compared_with_the_manifest() {
        let imports = [("kv@0.1.0", "get"), ("cpu@0.1.0", "pin"), ("log@0.1.0", "write")];
        let manifest = r#"{"functions":["cpu","memory"],"fields":["env","linux.devices"]}"#;
        let wasm = component(&imports, &["node-hooks@0.1.0"], manifest);
        let found = Examination::of(&wasm, None).unwrap();
        assert_eq!(found.world, "plugin");
        assert_eq!(found.imports, ["cpu.pin".to_owned(), "kv.get".to_owned()].into());
        assert_eq!(found.hooks, Some(vec!["pre-create-container", "validate-container"]));
        assert_eq!(
            found.problems,
            [
                "it imports kv.get, which its manifest does not ask for: add it to the manifest's \
                 functions",
                "its manifest asks for field linux.devices, which no container has",
            ]
        );
        assert_eq!(
            found.remarks,
            ["its manifest asks for memory, of which it imports nothing: leave it out"]
        );
    }

    #[test]
    fn a_manifest_beside_the_file_counts_where_there_is_no_section() {
        let wasm = component(&[("kv@0.1.0", "get")], &["own-hooks@0.1.0"], "");
        let beside = Some(r#"{"functions":["kv.get"]}"#);
        let found = Examination::of(&wasm, beside).unwrap();
        assert_eq!((found.world, found.hooks), ("pod hooks", None));
        assert!(found.problems.is_empty() && found.remarks.is_empty());
        let found = Examination::of(&wasm, Some("{")).unwrap();
        assert!(found.problems[0].contains("its manifest cannot be read"), "{:?}", found.problems);
        let found = Examination::of(&wasm, None).unwrap();
        assert!(found.remarks[0].contains("it has no manifest"), "{:?}", found.remarks);
    }

    #[track_caller]
    fn assert_refused(wasm: &[u8], reason: &str) {
        let error = Examination::of(wasm, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_no_plugin_is_refused_with_what_to_do() {
        assert_refused(b"hello", "it is no WebAssembly");
        assert_refused(&wat::parse_str("(module)").unwrap(), "build it for wasm32-wasip2");
        assert_refused(&wat::parse_str("(component)").unwrap(), "it is no plugin");
        let later = component(&[], &["node-hooks@0.2.0"], "");
        assert_refused(
            &later,
            "it speaks wasmpod:lifecycle@0.2.0, this wasmpod 0.1.0: build it with the guest SDK",
        );
    }
}
