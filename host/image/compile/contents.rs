//! Which programs' memories are copied and which are mapped: services of 0.2 have an instance for
//! each request, and to copy little costs less than to map it. Reads bytes, compiles nothing.

use wasmparser::{Parser, Payload};

use crate::engine::Contents;

/// What a service exports, in front of its version.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];

/// Bytes of data up to which copying it is quicker than mapping it, touching the pages anew
/// included.
const MOST_DATA: usize = 256 << 10;

/// Bytes that a memory has at first: shims keep none that has become much larger.
const MOST_MEMORY: u64 = 2 << 20;

const PAGE: u64 = 64 << 10;

/// What `wasm`'s machine code is to be made for. What cannot be read is left to the compiler.
pub fn of(wasm: &[u8]) -> Contents {
    let (mut is_service, mut data) = (false, 0_usize);
    for payload in Parser::new(0).parse_all(wasm) {
        let fits = match payload {
            Ok(Payload::ComponentExportSection(exports)) => {
                is_service |= exports.into_iter().flatten().any(|export| {
                    HANDLERS.iter().any(|handler| export.name.name.starts_with(handler))
                });
                true
            }
            Ok(Payload::MemorySection(memories)) => memories.into_iter().flatten().all(|memory| {
                // A longer one may outgrow what is reserved for it.
                !memory.memory64
                    && memory.page_size_log2.is_none()
                    && memory.initial <= MOST_MEMORY / PAGE
            }),
            Ok(Payload::DataSection(segments)) => {
                data = segments
                    .into_iter()
                    .flatten()
                    .fold(data, |sum, segment| sum.saturating_add(segment.data.len()));
                data <= MOST_DATA
            }
            _ => true,
        };
        if !fits {
            return Contents::Mapped;
        }
    }
    if is_service { Contents::Copied } else { Contents::Mapped }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of one module, which exports `name`.
    fn component(name: &str, module: &str) -> Contents {
        let wat = format!(
            r#"(component (core module {module}) (instance $none) (export "{name}" (instance $none)))"#
        );
        of(&wat::parse_str(wat).unwrap())
    }

    const SERVICE: &str = "wasi:http/incoming-handler@0.2.6";

    #[test]
    fn a_service_with_little_data_is_copied() {
        let little = r#"(memory 17) (data (i32.const 1024) "little")"#;
        assert_eq!(component(SERVICE, little), Contents::Copied);
        assert_eq!(component("wasi:http/handler@0.3.0", little), Contents::Copied);
        assert_eq!(component("wasi:cli/run@0.2.6", little), Contents::Mapped);
    }

    #[test]
    fn what_has_much_data_or_memory_is_mapped() {
        let much = format!(r#"(memory 17) (data (i32.const 0) "{}")"#, "x".repeat(MOST_DATA + 1));
        assert_eq!(component(SERVICE, &much), Contents::Mapped);
        for memory in ["(memory 33)", "(memory i64 1)"] {
            assert_eq!(component(SERVICE, memory), Contents::Mapped);
        }
    }

    #[test]
    fn modules_and_garbage_are_mapped() {
        assert_eq!(of(&wat::parse_str("(module (memory 1))").unwrap()), Contents::Mapped);
        assert_eq!(of(b"no wasm"), Contents::Mapped);
    }
}
