//! The interface of plugins, of pods' own hooks and of containers (guest-sdk/wit) as Rust, and the
//! Store in which a component of it lives. Knows neither who asks such a component nor who answers
//! what it asks for.

mod asking;
mod dialogue;
mod imports;
mod store;

pub use asking::ask;
pub use dialogue::{About, Answer, Ask, Call, Hook};
pub use imports::{FREE, PACKAGE, VERSION, covers, grants, imports, interface};
pub use store::{Bounds, Holder, State, brief, link, store};

wasmtime::component::bindgen!({
    path: "guest-sdk/wit",
    world: "wasmpod:lifecycle/plugin",
    imports: { default: async | trappable },
    exports: { default: async },
    require_store_data_send: true,
    additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
});

pub use exports::wasmpod::lifecycle::node_hooks as hooks;
pub use wasmpod::lifecycle::{config, containers, cpu, events, kv, log, memory, pods, types};

/// Of the world `pod-hooks`.
pub mod own {
    wasmtime::component::bindgen!({
        path: "guest-sdk/wit",
        world: "wasmpod:lifecycle/pod-hooks",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "wasmpod:lifecycle/types": super::types,
            "wasmpod:lifecycle/cpu": super::cpu,
            "wasmpod:lifecycle/memory": super::memory,
            "wasmpod:lifecycle/pods": super::pods,
            "wasmpod:lifecycle/containers": super::containers,
            "wasmpod:lifecycle/events": super::events,
            "wasmpod:lifecycle/log": super::log,
            "wasmpod:lifecycle/config": super::config,
            "wasmpod:lifecycle/kv": super::kv,
        },
    });
}

/// Of the world `container`: what a container is told of itself.
pub mod this {
    wasmtime::component::bindgen!({
        path: "guest-sdk/wit",
        world: "wasmpod:lifecycle/container",
        imports: { default: trappable },
        require_store_data_send: true,
        with: {
            "wasmpod:lifecycle/types": super::types,
            "wasi:io": wasmtime_wasi::p2::bindings::io,
        },
    });

    pub use wasmpod::lifecycle::self_::{Host, add_to_linker};
}
