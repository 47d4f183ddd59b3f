//! Proposals to WebAssembly that guests here cannot have: which one a file needs, by its name in
//! the field, and what its user can do. Reads bytes and words, compiles nothing.

use wasmparser::{MemoryType, Parser, Payload, TypeRef};

/// What the compiler's fault contains, the proposal's name, and what to do.
const UNSUPPORTED: [(&str, &str, &str); 8] = [
    (
        "legacy",
        "legacy exception handling",
        "build it with the standard one (for clang, -mllvm -wasm-use-legacy-eh=false)",
    ),
    ("stack switching", "stack switching", WITHOUT),
    ("shared-everything", "shared-everything threads", WITHOUT),
    ("custom page size", "custom page sizes", WITHOUT),
    ("wide arithmetic", "wide arithmetic", WITHOUT),
    ("memory control", "memory control", WITHOUT),
    ("custom descriptors", "custom descriptors", WITHOUT),
    ("compact import", "compact import section", WITHOUT),
];

const WITHOUT: &str = "build it without";

/// How the compiler says that it is not the file that is wrong.
const SIGNS: [&str; 9] = [
    "proposal",
    "not enabled",
    "must be enabled",
    "support is not",
    "not supported",
    "is disabled",
    "feature required",
    "requires the component model",
    "is not available",
];

/// Refuses what compiles and could not run: memory that several threads share. The error is a
/// clause without the file's name. What cannot be read is left to the compiler.
pub fn check(wasm: &[u8]) -> Result<(), String> {
    let is_shared = |memory: MemoryType| memory.shared;
    let shares = Parser::new(0).parse_all(wasm).any(|payload| match payload {
        Ok(Payload::MemorySection(memories)) => {
            memories.into_iter().any(|memory| memory.is_ok_and(is_shared))
        }
        Ok(Payload::ImportSection(imports)) => imports.into_imports().any(|import| {
            import.is_ok_and(
                |import| matches!(import.ty, TypeRef::Memory(memory) if is_shared(memory)),
            )
        }),
        _ => false,
    });
    if shares {
        return Err("it needs the threads proposal (its memory is shared), and a guest has one \
                    thread: build it without threads, for wasm32-wasip1 and not \
                    wasm32-wasip1-threads"
            .to_owned());
    }
    Ok(())
}

/// The compiler's fault as a clause, where it tells of a proposal.
pub fn fault(line: &str) -> Option<String> {
    if !SIGNS.iter().any(|sign| line.contains(sign)) {
        return None;
    }
    let known = UNSUPPORTED.iter().find(|(word, ..)| line.contains(word));
    Some(match known {
        Some((_, name, advice)) => format!("it needs an unsupported proposal, {name}: {advice}"),
        None => format!("it needs an unsupported proposal: {line}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_found_wherever_it_is() {
        let fine = "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))";
        for (text, is_shared) in [
            (fine, false),
            ("(module (memory 1 2 shared))", true),
            (r#"(module (import "env" "memory" (memory 1 2 shared)))"#, true),
            ("(component (core module (memory 1 2 shared)))", true),
            ("(component (component (core module (memory 1 2 shared))))", true),
            ("(component (core module (memory 1)))", false),
        ] {
            let checked = check(&wat::parse_str(text).unwrap());
            assert_eq!(checked.is_err(), is_shared, "{text}");
        }
        assert_eq!(check(b"\0asm\x01\0\0\0\xff"), Ok(()));
    }

    #[test]
    fn a_fault_names_the_proposal_as_the_field_does() {
        let legacy = "legacy_exceptions feature required for try instruction (at offset 0x1f)";
        let told = fault(legacy).unwrap();
        assert!(
            told.starts_with("it needs an unsupported proposal, legacy exception handling: "),
            "{told}"
        );
        assert_eq!(fault("type mismatch: expected i32, found i64"), None);
        assert!(fault("flying support is not enabled").unwrap().contains("flying"));
    }
}
