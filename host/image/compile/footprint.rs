//! What running a program once costs the host beside its memories, tables and stack: wasmtime keeps
//! a block for each instance with a place for every global, function reference, import and element
//! of a passive segment. A component may make many instances of one module. And a loaded program
//! is described in memory, item by item; that is counted in full for each run, though runs of one
//! program share it. Counted from wasmtime's own translation, so that it holds whatever a file is
//! made to look like.

use wasmtime_environ::component::{
    Component, ComponentTypesBuilder, GlobalInitializer, InstantiateModule, Translator,
    VMComponentOffsets,
};
use wasmtime_environ::wasmparser::{Parser, Validator, WasmFeatures};
use wasmtime_environ::{
    Atom, HostPtr, Initializer, Module, ModuleEnvironment, ModuleTypesBuilder, ScopeVec,
    StaticModuleIndex, Tunables, VMOffsets,
};

use crate::engine::MOST_MEMORIES;
use crate::error::{Error, Result};
use crate::image::CodeForm;

/// Bytes of what surrounds an instance's own block, and of a memory, a table and a segment without
/// what they hold: generously, by their sizes in wasmtime 48.
const INSTANCE: u64 = 512;
const MEMORY: u64 = 512;
const TABLE: u64 = 256;
const SEGMENT: u64 = 64;
const ELEMENT: u64 = 16;

/// Bytes that describe one item of a loaded program, as measured with wasmtime 48, rounded up.
const TYPE: u64 = 1024;
const NAMED: u64 = 128;
const FUNCTION: u64 = 32;
const GLOBAL: u64 = 72;
const TAG: u64 = 48;
const COMPONENT_EXPORT: u64 = 1024;

/// One run of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Footprint {
    bytes: u64,
    memories: u64,
}

impl Footprint {
    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.memories = self.memories.saturating_add(other.memories);
    }
}

/// Bytes of the host's memory that one run takes. `wasm` has been compiled before. The error is a
/// clause without the file's name.
pub fn of(wasm: &[u8], form: CodeForm) -> Result<u64> {
    let footprint = match form {
        CodeForm::Module => module(wasm),
        CodeForm::Component => component(wasm),
    };
    let footprint = footprint
        .map_err(|error| Error::Internal(format!("counting what an instance takes: {error:#}")))?;
    if footprint.memories > MOST_MEMORIES as u64 {
        return Err(Error::Invalid(format!(
            "it has {} memories and may have {MOST_MEMORIES}",
            footprint.memories
        )));
    }
    Ok(footprint.bytes)
}

fn module(wasm: &[u8]) -> wasmtime::Result<Footprint> {
    let tunables = Tunables::default_host();
    let mut validator = Validator::new_with_features(WasmFeatures::default());
    let mut types = ModuleTypesBuilder::new(&validator);
    let index = StaticModuleIndex::from_u32(0);
    let environment = ModuleEnvironment::new(&tunables, &mut validator, &mut types, index);
    let module = environment.translate(Parser::new(0), wasm)?.module;
    let mut whole = instance(&module);
    whole.bytes = whole.bytes.saturating_add(description(&module));
    Ok(whole)
}

fn component(wasm: &[u8]) -> wasmtime::Result<Footprint> {
    let tunables = Tunables::default_host();
    let scope = ScopeVec::new();
    let mut validator = Validator::new_with_features(WasmFeatures::default());
    let mut types = ComponentTypesBuilder::new(&validator);
    let translator = Translator::new(&tunables, &mut validator, &mut types, &scope);
    let (translation, modules) = translator.translate(wasm)?;
    let mut whole = own(&translation.component);
    for (_, translation) in &modules {
        whole.bytes = whole.bytes.saturating_add(description(&translation.module));
    }
    for initializer in &translation.component.initializers {
        if let GlobalInitializer::InstantiateModule(InstantiateModule::Static(index, _), _) =
            initializer
            && let Some(translation) = modules.get(*index)
        {
            whole.add(instance(&translation.module));
        }
    }
    Ok(whole)
}

/// What a component takes beside its modules' instances.
fn own(component: &Component) -> Footprint {
    let block = VMComponentOffsets::new(HostPtr, component).size_of_vmctx();
    let instances = u64::from(component.num_runtime_component_instances);
    let exports = component.export_items.len() as u64 * COMPONENT_EXPORT;
    Footprint { bytes: u64::from(block) + (instances + 1) * INSTANCE + exports, memories: 0 }
}

/// What it takes to know a module, whether or not it is instantiated.
fn description(module: &Module) -> u64 {
    let named = |name: Atom| module.strings.get(name).map_or(0, str::len) as u64;
    let imports = module.initializers.iter().map(|initializer| match initializer {
        Initializer::Import { name, field, .. } => named(*name) + named(*field) + NAMED,
    });
    let exports = module.exports.keys().map(|name| named(*name) + NAMED);
    imports.chain(exports).sum::<u64>()
        + module.types.len() as u64 * TYPE
        + module.functions.len() as u64 * FUNCTION
        + module.globals.len() as u64 * GLOBAL
        + module.tags.len() as u64 * TAG
}

fn instance(module: &Module) -> Footprint {
    let block = VMOffsets::new(HostPtr, module).size_of_vmctx();
    let memories = module.num_defined_memories() as u64;
    let tables = module.num_defined_tables() as u64;
    let segments = module
        .passive_elements
        .iter()
        .map(|(_, (_, length))| SEGMENT.saturating_add(length.saturating_mul(ELEMENT)))
        .fold(0, u64::saturating_add);
    let bytes = u64::from(block) + INSTANCE + memories * MEMORY + tables * TABLE;
    Footprint { bytes: bytes.saturating_add(segments), memories }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> u64 {
        let form = if text.contains("component") { CodeForm::Component } else { CodeForm::Module };
        of(&wat::parse_str(text).unwrap(), form).unwrap()
    }

    #[test]
    fn whatever_a_module_makes_the_host_keep_is_counted() {
        let empty = bytes("(module)");
        let global = "(global v128 (v128.const i64x2 0 0))".repeat(1000);
        assert_eq!(bytes(&format!("(module {global})")) - empty, 16_000 + 1000 * GLOBAL);
        let exported: String = (0..1000).map(|n| format!("(func (export \"f{n}\"))")).collect();
        assert!(bytes(&format!("(module {exported})")) - empty >= 32_000);
        let elements = "$f ".repeat(1000);
        let passive = format!("(module (func $f) (elem func {elements}))");
        assert!(bytes(&passive) - empty >= 16_000, "{}", bytes(&passive));
        assert!(bytes("(module (table 1 funcref) (table 1 funcref))") > empty);
    }

    #[test]
    fn what_describes_a_program_is_counted_once_for_all_its_instances() {
        let types: String =
            (0..64).map(|n| format!("(type (func (param {})))", "i32 ".repeat(n))).collect();
        let empty = bytes("(module)");
        assert_eq!(bytes(&format!("(module {types})")) - empty, 64 * TYPE);
        let name = "n".repeat(1000);
        assert!(bytes(&format!("(module (import \"env\" \"{name}\" (func)))")) - empty > 1000);
        let instances = |count: usize| {
            let instances = "(core instance (instantiate $m))".repeat(count);
            bytes(&format!("(component (core module $m {types}) {instances})"))
        };
        assert!(instances(2) - instances(1) < TYPE);
    }

    #[test]
    fn every_instance_of_a_component_counts() {
        let global = "(global i64 (i64.const 0))".repeat(1000);
        let instances = |count: usize| {
            let instances = "(core instance (instantiate $m))".repeat(count);
            let inner = format!("(component $c (core module $m {global}) {instances})");
            bytes(&format!(
                "(component {inner} (instance (instantiate $c)) (instance (instantiate $c)))"
            ))
        };
        assert!(instances(10) - instances(0) >= 20 * 16_000);
    }

    #[test]
    fn more_memories_than_a_shim_has_room_for_are_refused() {
        let text = format!("(module {})", "(memory 0)".repeat(MOST_MEMORIES + 1));
        let error = of(&wat::parse_str(text).unwrap(), CodeForm::Module).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("it has {} memories and may have {MOST_MEMORIES}", MOST_MEMORIES + 1)
        );
    }
}
