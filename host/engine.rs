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

/// What machine code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A program whose memories' first contents are pages of its file, mapped privately: an instance
    /// costs what it touches, whatever the size of its data, and some calls that stop the process's
    /// other threads.
    Mapped,
    /// A program whose memories' first contents are copied into each new memory, which may be one
    /// that an instance before has left.
    Copied,
    /// A plugin of the node, which is called again and again, one call at a time: nothing is kept by
    /// which several could be under way, and that is half of what a call costs.
    Plugin,
}

/// Settings that machine code depends on. Modules run with epoch interruption, so that any
/// guest can be ended from outside.
pub fn config(purpose: Purpose) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(THREAD_STACK)
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        .memory_init_cow(purpose != Purpose::Copied);
    if purpose == Purpose::Plugin {
        config.wasm_component_model_async(false).concurrency_support(false);
    }
    config
}

/// An engine for programs whose contents are mapped. The error is wasmtime's own: the host cannot run wasm at all.
pub fn new() -> wasmtime::Result<Engine> {
    Engine::new(&config(Purpose::Mapped))
}

/// The engines of a process that runs programs: each program belongs to one of them.
#[derive(Clone)]
pub struct Engines {
    pub mapped: Engine,
    pub copied: Engine,
}

impl Engines {
    /// Guests of either come to where they can be ended, or yield.
    pub fn increment_epoch(&self) {
        self.mapped.increment_epoch();
        self.copied.increment_epoch();
    }
}

#[cfg(test)]
impl Engines {
    /// As [`config`] alone makes them.
    pub fn plain() -> Self {
        let engine = |purpose| Engine::new(&config(purpose)).unwrap();
        Self { mapped: engine(Purpose::Mapped), copied: engine(Purpose::Copied) }
    }
}

/// Changes with the rule by which programs belong to one engine or the other.
const RULE: u32 = 2;

/// What machine code must have been made under to be loaded: wasmtime's version, settings and the
/// CPU's features, as 16 hex digits. `engine` is one of mapped contents. Names the cache's folder.
pub fn compatibility(engine: &Engine) -> String {
    // A fixed hasher: the name has to be the same in every process of every run.
    #[allow(deprecated)]
    let mut hasher = std::hash::SipHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    RULE.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
