//! What a plugin asks for, as JSON in a custom section of its own, and the macros that write it.
//! What the interface does not know is an error of the compiler.

/// Interfaces, and functions of them.
pub const FUNCTIONS: &[&str] = &[
    "cpu",
    "cpu.topology",
    "cpu.shared-pool",
    "cpu.allocate",
    "cpu.release",
    "cpu.allocations",
    "cpu.pin",
    "cpu.ran-on",
    "memory",
    "memory.nodes",
    "memory.set-mems",
    "pods",
    "pods.list",
    "pods.get",
    "containers",
    "containers.list",
    "containers.get",
    "containers.update",
    "containers.stats",
    "events",
    "events.emit",
    "log",
    "log.write",
    "config",
    "config.all",
    "config.get",
    "kv",
    "kv.get",
    "kv.set",
    "kv.delete",
    "kv.keys",
];

/// Parts of an adjustment.
pub const FIELDS: &[&str] = &[
    "env",
    "args",
    "mounts",
    "annotations",
    "rlimits",
    "resources",
    "resources.cpu-period",
    "resources.cpu-quota",
    "resources.cpu-shares",
    "resources.memory-limit",
    "resources.cpuset-cpus",
    "resources.cpuset-mems",
    "updates",
];

/// Whether the list has the text; for constants.
pub const fn knows(list: &[&str], text: &str) -> bool {
    let mut at = 0;
    while at < list.len() {
        if same(list[at].as_bytes(), text.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

/// A namespace's name, or "*": nothing that JSON would want escaped.
pub const fn is_namespace(text: &str) -> bool {
    let (bytes, mut at) = (text.as_bytes(), 0);
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'*') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// A text's bytes, for a static; `N` is its length.
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let (text, mut bytes, mut at) = (text.as_bytes(), [0; N], 0);
    while at < N {
        bytes[at] = text[at];
        at += 1;
    }
    bytes
}

/// Exports a [`Plugin`](crate::Plugin) and writes down what it asks for. Of these lists, in this
/// order, any may be left out:
///
/// - `functions`: interfaces ("cpu") and functions ("cpu.topology") that it calls. `log` and
///   `config` need not be named.
/// - `fields`: what its adjustments and its updates set: "env", "args", "mounts", "annotations",
///   "rlimits", "resources" or "resources.cpuset-cpus" and the like, "updates" (of other containers
///   with an adjustment). `cpu::allocate` and `cpu::pin` set "resources.cpuset-cpus",
///   `memory::set_mems` "resources.cpuset-mems".
/// - `namespaces`: whose pods it wants to see; all without it.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty $(, functions: [$($function:literal),* $(,)?])?
        $(, fields: [$($field:literal),* $(,)?])?
        $(, namespaces: [$($namespace:literal),* $(,)?])? $(,)?) => {
        $crate::__manifest!([$($($function),*)?] [$($($field),*)?] [$($($namespace),*)?]);

        #[cfg(target_family = "wasm")]
        const _: () = {
            /// Which hooks it wants, as the interface's flags: for `wasmpod plugin check`.
            #[used]
            #[unsafe(link_section = "wasmpod:hooks")]
            static HOOKS: [u8; 4] = <$plugin as $crate::Plugin>::HOOKS.bits().to_le_bytes();

            type Exported = $crate::private::Export<$plugin>;
            $crate::private::bindings::plugin::export_plugin!(
                Exported with_types_in $crate::private::bindings::plugin
            );
        };

        // On other targets nothing is exported: the type has to be a plugin all the same.
        const _: $crate::Hooks = <$plugin as $crate::Plugin>::HOOKS;
    };
}

/// Exports a [`PodHooks`](crate::PodHooks), with the lists of [`plugin!`](crate::plugin).
#[macro_export]
macro_rules! pod_hooks {
    ($hooks:ty $(, functions: [$($function:literal),* $(,)?])?
        $(, fields: [$($field:literal),* $(,)?])? $(,)?) => {
        $crate::__manifest!([$($($function),*)?] [$($($field),*)?] []);

        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::private::PodExport<$hooks>;
            $crate::private::bindings::pod_hooks::export_pod_hooks!(
                Exported with_types_in $crate::private::bindings::pod_hooks
            );
        };

        const _: fn() = || {
            fn is_pod_hooks<T: $crate::PodHooks>() {}
            is_pod_hooks::<$hooks>();
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __manifest {
    ([$($function:literal),*] [$($field:literal),*] []) => {
        $crate::__manifest!([$($function),*] [$($field),*] ["*"]);
    };
    ([$($function:literal),*] [$($field:literal),*] [$($namespace:literal),+]) => {
        const _: () = {
            $(assert!(
                $crate::manifest::knows($crate::manifest::FUNCTIONS, $function),
                concat!("wasmpod:lifecycle has no function or interface \"", $function, "\""),
            );)*
            $(assert!(
                $crate::manifest::knows($crate::manifest::FIELDS, $field),
                concat!("an adjustment has no field \"", $field, "\""),
            );)*
            $(assert!(
                $crate::manifest::is_namespace($namespace),
                concat!("\"", $namespace, "\" is no namespace"),
            );)+
        };

        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            // Linkers put what is in these sections where it is called before `main`.
            #[used]
            #[cfg_attr(
                not(any(target_vendor = "apple", windows)),
                unsafe(link_section = ".init_array")
            )]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
            #[cfg_attr(windows, unsafe(link_section = ".CRT$XCU"))]
            static REGISTER: extern "C" fn() = register;
            extern "C" fn register() {
                static ASKED: $crate::testing::asked::Asked = $crate::testing::asked::Asked::new(
                    &[$($function),*],
                    &[$($field),*],
                    &[$($namespace),+],
                );
                ASKED.register();
            }
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            const TEXT: &str = concat!(
                "{\"functions\":[", $crate::__list!($($function),*),
                "],\"fields\":[", $crate::__list!($($field),*),
                "],\"namespaces\":[", $crate::__list!($($namespace),+), "]}"
            );
            #[used]
            #[unsafe(link_section = "wasmpod:plugin")]
            static MANIFEST: [u8; TEXT.len()] = $crate::manifest::bytes(TEXT);
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    () => { "" };
    ($first:literal $(, $rest:literal)*) => { concat!("\"", $first, "\"" $(, ",\"", $rest, "\"")*) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_as_json() {
        assert_eq!(__list!(), "");
        assert_eq!(__list!("a"), "\"a\"");
        assert_eq!(__list!("a", "b.c"), "\"a\",\"b.c\"");
        assert_eq!(bytes::<3>("abc"), *b"abc");
    }

    #[test]
    fn functions_are_the_interfaces() {
        let mut found = Vec::new();
        let mut interface = String::new();
        for line in include_str!("../wit/functions.wit").lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix("interface ") {
                interface = name.trim_end_matches(" {").to_owned();
                found.push(interface.clone());
            } else if let Some((name, _)) = line.split_once(": func(") {
                found.push(format!("{interface}.{}", name.trim_start_matches('%')));
            }
        }
        found.retain(|name| !name.starts_with("self"));
        assert_eq!(FUNCTIONS, found);
    }

    #[test]
    fn names_are_checked() {
        assert!(knows(FUNCTIONS, "kv.get") && !knows(FUNCTIONS, "kv.gets"));
        assert!(!knows(FUNCTIONS, "kv.ge"));
        assert!(is_namespace("kube-system") && is_namespace("*"));
        assert!(!is_namespace("") && !is_namespace("a\"b"));
    }
}
