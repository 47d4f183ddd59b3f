//! What a file's machine code is made for. Services of 0.2 have an instance for each request, and to
//! copy little costs less than to map it. Reads bytes, compiles nothing.

use wasmparser::{Parser, Payload};

use crate::engine::Purpose;

/// What a service exports, in front of its version.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];

/// What a command exports.
const COMMAND: &str = "wasi:cli/run@";

/// What a plugin of the node exports.
const PLUGIN: &str = "wasmpod:lifecycle/node-hooks@";

/// Bytes of data up to which copying it is quicker than mapping it, touching the pages anew
/// included.
const MOST_DATA: usize = 256 << 10;

/// Bytes that a memory has at first: shims keep none that has become much larger.
const MOST_MEMORY: u64 = 2 << 20;

const PAGE: u64 = 64 << 10;

/// What `wasm`'s machine code is to be made for. What cannot be read is left to the compiler.
pub fn of(wasm: &[u8]) -> Purpose {
    let (mut is_service, mut is_command, mut is_plugin) = (false, false, false);
    let (mut is_small, mut data) = (true, 0_usize);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::ComponentExportSection(exports)) => {
                for export in exports.into_iter().flatten() {
                    let name = export.name.name;
                    is_service |= HANDLERS.iter().any(|handler| name.starts_with(handler));
                    is_command |= name.starts_with(COMMAND);
                    is_plugin |= name.starts_with(PLUGIN);
                }
            }
            Ok(Payload::MemorySection(memories)) => {
                is_small &= memories.into_iter().flatten().all(|memory| {
                    // A longer one may outgrow what is reserved for it.
                    !memory.memory64
                        && memory.page_size_log2.is_none()
                        && memory.initial <= MOST_MEMORY / PAGE
                });
            }
            Ok(Payload::DataSection(segments)) => {
                let sizes = segments.into_iter().flatten().map(|segment| segment.data.len());
                data = sizes.fold(data, usize::saturating_add);
            }
            _ => {}
        }
    }
    match (is_plugin, is_command, is_service) {
        (true, false, false) => Purpose::Plugin,
        (false, _, true) if is_small && data <= MOST_DATA => Purpose::Copied,
        _ => Purpose::Mapped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of one module, which exports `name`.
    fn component(name: &str, module: &str) -> Purpose {
        let wat = format!(
            r#"(component (core module {module}) (instance $none) (export "{name}" (instance $none)))"#
        );
        of(&wat::parse_str(wat).unwrap())
    }

    const SERVICE: &str = "wasi:http/incoming-handler@0.2.6";

    #[test]
    fn a_plugin_is_one_that_is_no_program_besides() {
        let hooks = "wasmpod:lifecycle/node-hooks@0.1.0";
        assert_eq!(component(hooks, "(memory 17)"), Purpose::Plugin);
        assert_eq!(component("wasmpod:lifecycle/own-hooks@0.1.0", ""), Purpose::Mapped);
        for program in [SERVICE, "wasi:cli/run@0.2.6"] {
            let both = format!(
                r#"(component (instance $none) (export "{hooks}" (instance $none))
                   (export "{program}" (instance $none)))"#
            );
            assert_eq!(of(&wat::parse_str(both).unwrap()), Purpose::Mapped, "{program}");
        }
    }

    #[test]
    fn a_service_with_little_data_is_copied() {
        let little = r#"(memory 17) (data (i32.const 1024) "little")"#;
        assert_eq!(component(SERVICE, little), Purpose::Copied);
        assert_eq!(component("wasi:http/handler@0.3.0", little), Purpose::Copied);
        assert_eq!(component("wasi:cli/run@0.2.6", little), Purpose::Mapped);
    }

    #[test]
    fn what_has_much_data_or_memory_is_mapped() {
        let much = format!(r#"(memory 17) (data (i32.const 0) "{}")"#, "x".repeat(MOST_DATA + 1));
        assert_eq!(component(SERVICE, &much), Purpose::Mapped);
        for memory in ["(memory 33)", "(memory i64 1)"] {
            assert_eq!(component(SERVICE, memory), Purpose::Mapped);
        }
    }

    #[test]
    fn modules_and_garbage_are_mapped() {
        assert_eq!(of(&wat::parse_str("(module (memory 1))").unwrap()), Purpose::Mapped);
        assert_eq!(of(b"no wasm"), Purpose::Mapped);
    }
}
