//! What the tested plugin's manifest asks for: a node would give it nothing else, so a test fails
//! that uses more. A program without a plugin is held to nothing.

use std::sync::{Mutex, OnceLock, PoisonError};

/// What [`plugin!`](crate::plugin) and [`pod_hooks!`](crate::pod_hooks) write of one plugin.
#[derive(Debug)]
pub struct Asked {
    functions: &'static [&'static str],
    fields: &'static [&'static str],
    namespaces: &'static [&'static str],
    next: OnceLock<Option<&'static Asked>>,
}

/// All of this program's, the last first. The documentation's examples are one program.
static LAST: Mutex<Option<&'static Asked>> = Mutex::new(None);

impl Asked {
    pub const fn new(
        functions: &'static [&'static str],
        fields: &'static [&'static str],
        namespaces: &'static [&'static str],
    ) -> Self {
        Self { functions, fields, namespaces, next: OnceLock::new() }
    }

    /// Called once, before `main`: nothing of the program's may be needed.
    pub fn register(&'static self) {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if self.next.set(*last).is_ok() {
            *last = Some(self);
        }
    }
}

/// Whether one of the program's plugins, if it has any, has something.
fn any(has: impl Fn(&Asked) -> bool) -> bool {
    let last = *LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let next = |asked: &&'static Asked| asked.next.get().copied().flatten();
    last.is_none() || std::iter::successors(last, next).any(has)
}

/// Whether a list names `what`, or all of what it belongs to ("cpu" for "cpu.pin").
fn covers(list: &[&str], what: &str) -> bool {
    let whole = what.split_once('.').map(|(whole, _)| whole);
    list.iter().any(|&asked| asked == what || Some(asked) == whole)
}

/// The plugin calls a function.
#[track_caller]
pub fn function(name: &str) {
    assert!(
        any(|asked| covers(asked.functions, name)),
        "the plugin calls {name} and does not ask for it: add \"{name}\" to its macro's functions",
    );
}

/// The plugin changes a field of a container.
#[track_caller]
pub fn field(name: &str) {
    assert!(
        any(|asked| covers(asked.fields, name)),
        "the plugin changes {name} and does not ask for it: add \"{name}\" to its macro's fields",
    );
}

/// Whether the plugin wants to see the pods of a namespace.
pub fn sees(namespace: &str) -> bool {
    any(|asked| asked.namespaces.iter().any(|&asked| asked == "*" || asked == namespace))
}
