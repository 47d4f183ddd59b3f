//! What a component of the interface really imports, and whether it speaks this version of it.

use std::collections::BTreeSet;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::error::{Error, Result};

/// The interface's package, and the version that this wasmpod speaks.
pub const PACKAGE: &str = "wasmpod:lifecycle/";
pub const VERSION: &str = "0.1.0";

/// Interfaces that need no grant: types, a component's own settings, its lines in the log.
pub const FREE: [&str; 3] = ["types", "config", "log"];

/// The interface that a component's import or export is of, if it is one of the package. The error
/// says which version it was made for.
pub fn interface(name: &str) -> Result<Option<&str>> {
    match name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')) {
        None => Ok(None),
        Some((interface, VERSION)) => Ok(Some(interface)),
        Some((_, other)) => Err(Error::Invalid(format!(
            "it speaks wasmpod:lifecycle@{other}, this wasmpod {VERSION}: build it with the guest \
             SDK of this wasmpod"
        ))),
    }
}

/// The functions of the interface that a component imports, as "interface.function", if it exports
/// `hooks` ("node-hooks", "own-hooks"). The error says which version it was made for, that it is
/// none, or what of them its manifest does not ask for.
pub fn imports(component: &Component, hooks: &str, asked: &[String]) -> Result<BTreeSet<String>> {
    let (kind, engine) = (component.component_type(), component.engine());
    let mut is_one = false;
    for (name, _) in kind.exports(engine) {
        is_one |= interface(name)? == Some(hooks);
    }
    if !is_one {
        return Err(Error::Invalid(format!(
            "it is no plugin: it does not export {PACKAGE}{hooks}@{VERSION}"
        )));
    }
    let mut functions = BTreeSet::new();
    for (name, import) in kind.imports(engine) {
        let Some(interface) = interface(name)?.filter(|interface| !FREE.contains(interface)) else {
            continue;
        };
        if let ComponentItem::ComponentInstance(instance) = import.ty {
            for (function, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    functions.insert(format!("{interface}.{function}"));
                }
            }
        }
    }
    match functions.iter().find(|function| !covers(asked, function)) {
        Some(function) => Err(Error::Invalid(format!(
            "it imports {function}, which its manifest does not ask for"
        ))),
        None => Ok(functions),
    }
}

/// Whether a grant names `what`, all of what it belongs to ("cpu" for "cpu.pin"), or everything.
pub fn grants(grant: &str, what: &str) -> bool {
    let whole = what.split_once('.').map(|(whole, _)| whole);
    grant == "*" || grant == what || whole == Some(grant)
}

/// Whether one of a list does.
pub fn covers(granted: &[String], what: &str) -> bool {
    granted.iter().any(|grant| grants(grant, what))
}
