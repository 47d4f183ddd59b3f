//! Joining a component to what the host gives, once per component, and saying in one sentence
//! why that cannot be done.

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::state::State;
use crate::shim::wasi::processes::PACKAGE as PROCESSES;
use crate::shim::wasi::{identity, some_of, this};

/// A component with all its imports found.
pub struct Linked {
    pub pre: InstancePre<State>,
    /// It can open sockets, so its runtime must watch descriptors.
    pub has_sockets: bool,
}

impl Linked {
    /// `Err` is one sentence that names the import in question.
    pub fn new(linker: &Linker<State>, component: &Component) -> Result<Self, String> {
        let engine = component.engine();
        let pre = linker
            .instantiate_pre(component)
            .map_err(|error| sentence(&error, &foreign(engine, component)))?;
        let has_sockets = component
            .component_type()
            .imports(engine)
            .any(|(name, _)| WATCHING.iter().any(|package| name.starts_with(package)));
        Ok(Self { pre, has_sockets })
    }
}

/// The names that a component exports.
pub fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect()
}

/// The packages whose functions wait for descriptors.
const WATCHING: [&str; 3] = ["wasi:sockets/", "wasi:http/", PROCESSES];

/// The packages of which something is given.
const GIVEN: [&str; 9] = [
    PROCESSES,
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
    identity::PACKAGE,
    this::INTERFACE,
];

/// The names that a component imports of other packages.
fn foreign(engine: &Engine, component: &Component) -> Vec<String> {
    let kind = component.component_type();
    let imports = kind.imports(engine).map(|(name, _)| name.to_owned());
    imports.filter(|name| !GIVEN.iter().any(|package| name.starts_with(package))).collect()
}

/// Why a component that exports these names is no command.
pub fn no_command(exports: &[String]) -> String {
    let with_prefix = |prefix: &str| exports.iter().find(|name| name.starts_with(prefix));
    if let Some(name) = with_prefix("wasi:cli/run@") {
        return format!("the component exports {name}; wasmpod runs wasi:cli/run 0.2 and 0.3.0");
    }
    if let Some(name) =
        with_prefix("wasi:http/incoming-handler@").or_else(|| with_prefix("wasi:http/handler@"))
    {
        return format!("the component exports {name}; wasmpod serves wasi:http 0.2 and 0.3");
    }
    match exports {
        [] => "the component exports nothing; a command exports wasi:cli/run".to_owned(),
        names => {
            format!("the component does not export wasi:cli/run; it exports {}", some_of(names))
        }
    }
}

/// wasmtime's "component imports instance `x`, but a matching implementation was not found in
/// the linker: ...", which names only the first, told to someone who does not know wasmtime.
fn sentence(error: &wasmtime::Error, foreign: &[String]) -> String {
    let text = error.to_string();
    let name = text.strip_prefix("component imports ").and_then(|rest| rest.split('`').nth(1));
    let Some(name) = name else { return format!("the component cannot be linked: {error:#}") };
    let missing = |names: &[String]| {
        let names = some_of(names);
        format!("the component imports {names}, which wasmpod does not provide")
    };
    if foreign.iter().any(|import| import == name) {
        return missing(foreign);
    }
    let cause = error.root_cause().to_string();
    // Of an interface that is there, what does not fit is what its user has to know.
    match cause.as_str() {
        _ if cause == text || cause.contains("implementation is missing") => {
            let names: Vec<String> =
                [name.to_owned()].into_iter().chain(foreign.iter().cloned()).collect();
            missing(&names)
        }
        cause => {
            format!("the component imports {name}, which wasmpod provides differently: {cause}")
        }
    }
}
