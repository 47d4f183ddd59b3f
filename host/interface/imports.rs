//! What a component of the interface really imports, and whether it speaks this version of it.

use std::collections::BTreeSet;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::error::{Error, Result};

/// The interface's package, and the version that this wasmpod speaks.
const PACKAGE: &str = "wasmpod:lifecycle/";
const VERSION: &str = "0.1.0";

/// Interfaces that need no grant: types, a component's own settings, its lines in the log.
const FREE: [&str; 3] = ["types", "config", "log"];

/// The functions of the interface that a component imports, as "interface.function", if it exports
/// `hooks` ("node-hooks", "own-hooks"). The error says which version it was made for, or that it
/// is none.
pub fn imports(component: &Component, engine: &Engine, hooks: &str) -> Result<BTreeSet<String>> {
    let kind = component.component_type();
    let of_package = |name: &str| -> Result<Option<String>> {
        let Some(rest) = name.strip_prefix(PACKAGE) else { return Ok(None) };
        match rest.split_once('@') {
            Some((interface, VERSION)) => Ok(Some(interface.to_owned())),
            Some((_, other)) => Err(Error::Invalid(format!(
                "it speaks wasmpod:lifecycle@{other}, this daemon {VERSION}: build it with the \
                 guest SDK of this wasmpod"
            ))),
            None => Ok(None),
        }
    };
    let mut exported = BTreeSet::new();
    for (name, _) in kind.exports(engine) {
        exported.extend(of_package(name)?);
    }
    if !exported.contains(hooks) {
        return Err(Error::Invalid(format!(
            "it is no plugin: it does not export {PACKAGE}{hooks}@{VERSION}"
        )));
    }
    let mut functions = BTreeSet::new();
    for (name, import) in kind.imports(engine) {
        let Some(interface) =
            of_package(name)?.filter(|interface| !FREE.contains(&interface.as_str()))
        else {
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
    Ok(functions)
}

/// Whether a list names `what`, all of what it belongs to ("cpu" for "cpu.pin"), or everything.
pub fn covers(granted: &[String], what: &str) -> bool {
    let whole = what.split_once('.').map(|(whole, _)| whole);
    granted.iter().any(|grant| grant == "*" || grant == what || whole == Some(grant.as_str()))
}
