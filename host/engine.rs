//! The engine's settings, one place for both sides of machine code: the compile child that
//! makes it and the shim that maps it. Knows nothing of images, containers or guests.

use std::hash::{Hash, Hasher};

use wasmtime::{Config, Engine, WasmBacktraceDetails};

/// Native stack a guest may use, in bytes. A container thread's stack must exceed it by what
/// host functions need ([`THREAD_STACK`]).
pub const WASM_STACK: usize = 1 << 20;

/// Stack of a thread that runs guests, in bytes; touched pages only cost memory.
pub const THREAD_STACK: usize = WASM_STACK + (1 << 20);

/// Memories that one program may have: each takes 4 GiB of address space, of which a shim has
/// 128 TiB, and several of its mappings.
pub const MOST_MEMORIES: usize = 64;

/// Settings that machine code depends on. Modules run with epoch interruption, so that any
/// guest can be ended from outside.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(THREAD_STACK)
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false);
    config
}

/// An engine with [`config`]. The error is wasmtime's own: the host cannot run wasm at all.
pub fn new() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// What machine code must have been made under to be loaded by `engine`: wasmtime's version,
/// settings and the CPU's features, as 16 hex digits. Names the cache's folder.
pub fn compatibility(engine: &Engine) -> String {
    // A fixed hasher: the name has to be the same in every process of every run.
    #[allow(deprecated)]
    let mut hasher = std::hash::SipHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
