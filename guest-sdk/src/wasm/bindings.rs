//! What wit-bindgen makes of the interface. The worlds share their types and imports.

pub mod plugin {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin",
        pub_export_macro: true,
        export_macro_name: "export_plugin",
    });
}

pub mod pod_hooks {
    wit_bindgen::generate!({
        path: "wit",
        world: "pod-hooks",
        pub_export_macro: true,
        export_macro_name: "export_pod_hooks",
        with: {
            "wasmpod:lifecycle/types@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::types,
            "wasmpod:lifecycle/cpu@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::cpu,
            "wasmpod:lifecycle/memory@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::memory,
            "wasmpod:lifecycle/pods@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::pods,
            "wasmpod:lifecycle/containers@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::containers,
            "wasmpod:lifecycle/events@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::events,
            "wasmpod:lifecycle/log@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::log,
            "wasmpod:lifecycle/config@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::config,
            "wasmpod:lifecycle/kv@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::kv,
        },
    });
}

pub mod container {
    wit_bindgen::generate!({
        path: "wit",
        world: "container",
        with: {
            "wasmpod:lifecycle/types@0.1.0": crate::wasm::bindings::plugin::wasmpod::lifecycle::types,
            "wasi:io/poll@0.2.12": generate,
        },
    });
}
