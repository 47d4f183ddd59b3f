//! The shell: what it remembers, and how it is begun. Parsing is `parser`, words become fields in
//! `expand`, commands run in `run`.

mod arithmetic;
mod builtins;
mod expand;
#[cfg(test)]
mod fuzz;
pub mod parser;
mod pattern;
pub mod print;
mod redirect;
mod run;
mod simple;
mod start;
pub mod syntax;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

pub use builtins::is_builtin;
pub use pattern::{class, letters, matches};
pub use start::main;

use crate::stream::Stream;
use syntax::Command;

#[derive(Clone, Debug, Default)]
pub struct Variable {
    /// `None`: it is exported or read-only, and not set.
    pub value: Option<String>,
    pub exported: bool,
    pub readonly: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub all_export: bool,
    pub errexit: bool,
    pub no_clobber: bool,
    pub no_glob: bool,
    pub no_execute: bool,
    pub nounset: bool,
    pub pipefail: bool,
    pub verbose: bool,
    pub xtrace: bool,
}

/// Why commands do not simply go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Break(u32),
    Continue(u32),
    Return(u8),
    Exit(u8),
    /// An error that ends a script, and one line of a terminal's.
    Abort(u8),
}

pub type Ran = Result<u8, Stop>;

/// A shell, or a subshell, which is a clone.
#[derive(Clone)]
pub struct Shell {
    pub variables: BTreeMap<String, Variable>,
    pub functions: BTreeMap<String, Rc<Command>>,
    /// `$0`
    pub name: String,
    pub arguments: Vec<String>,
    pub cwd: String,
    pub status: u8,
    pub options: Options,
    pub descriptors: BTreeMap<u32, Stream>,
    pub traps: BTreeMap<String, String>,
    /// What `local` hides, one map for each function that runs.
    locals: Vec<BTreeMap<String, Option<Variable>>>,
    /// Commands inside of each other.
    depth: u32,
    loops: u32,
    /// Dots that run, for `return`.
    sourced: u32,
    /// Conditions in which a failure ends nothing.
    guards: u32,
    /// Of the last command substitution of a command.
    substituted: Option<u8>,
    /// Where a stage of a pipeline writes: when nobody reads it any more, the stage is over.
    pipe: Option<Stream>,
    pub interactive: bool,
    /// Whether a person's terminal interrupts what this shell or the one around it runs.
    pub is_watched: bool,
}

impl Shell {
    pub fn new(
        name: &str,
        streams: [Stream; 3],
        cwd: &str,
        environment: &[(String, String)],
    ) -> Self {
        let mut variables: BTreeMap<String, Variable> = environment
            .iter()
            .filter(|(name, _)| syntax::is_name(name))
            .map(|(name, value)| {
                let value = Some(value.clone());
                (name.clone(), Variable { value, exported: true, readonly: false })
            })
            .collect();
        let mut default = |name: &str, value: &str, exported: bool| {
            let variable = Variable { value: Some(value.to_owned()), exported, readonly: false };
            variables.entry(name.to_owned()).or_insert(variable);
        };
        default("IFS", " \t\n", false);
        default("PS1", "$ ", false);
        default("PS2", "> ", false);
        default("PS4", "+ ", false);
        default("OPTIND", "1", false);
        let descriptors = (0..).zip(streams).collect();
        let mut shell = Self {
            variables,
            functions: BTreeMap::new(),
            name: name.to_owned(),
            arguments: Vec::new(),
            cwd: cwd.to_owned(),
            status: 0,
            options: Options::default(),
            descriptors,
            traps: BTreeMap::new(),
            locals: Vec::new(),
            depth: 0,
            loops: 0,
            sourced: 0,
            guards: 0,
            substituted: None,
            pipe: Some(Stream::Stdout),
            interactive: false,
            is_watched: false,
        };
        // It may be another program's.
        let pwd = Variable { value: Some(cwd.to_owned()), exported: true, readonly: false };
        shell.variables.insert("PWD".to_owned(), pwd);
        shell
    }

    pub fn stream(&self, descriptor: u32) -> Stream {
        self.descriptors.get(&descriptor).cloned().unwrap_or(Stream::Null)
    }

    pub fn streams(&self) -> [Stream; 3] {
        [self.stream(0), self.stream(1), self.stream(2)]
    }

    /// One line to standard error.
    pub fn complain(&self, text: &str) {
        // Nobody is left to tell.
        let _ = self.stream(2).write(format!("{}: {text}\n", self.name).as_bytes());
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.value.as_deref()
    }

    /// `Err` is a sentence.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let exported = self.options.all_export;
        let variable = self.variables.entry(name.to_owned()).or_default();
        if variable.readonly {
            return Err(format!("{name}: is read only"));
        }
        variable.value = Some(value);
        variable.exported |= exported;
        Ok(())
    }

    /// What programs that it starts find in their environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let exported = self.variables.iter().filter(|(_, variable)| variable.exported);
        exported
            .filter_map(|(name, variable)| Some((name.clone(), variable.value.clone()?)))
            .collect()
    }

    /// Commands that make another shell what this one is, besides what is exported.
    pub fn prelude(&self) -> String {
        let mut text = String::new();
        for (name, variable) in &self.variables {
            if let (Some(value), false) = (&variable.value, variable.exported)
                && syntax::is_name(name)
            {
                text.push_str(&format!("{name}={}\n", print::quoted(value)));
            }
        }
        for (name, body) in &self.functions {
            text.push_str(&print::command(&Command::Function(name.clone(), body.clone())));
        }
        let letters = self.option_letters().replace(['i', 'n', 'v'], "");
        if !letters.is_empty() {
            text.push_str(&format!("set -{letters}\n"));
        }
        if self.options.pipefail {
            text.push_str("set -o pipefail\n");
        }
        text
    }

    /// A subshell: what it changes, this one does not see.
    pub fn subshell(&self) -> Self {
        let mut shell = self.clone();
        shell.traps.clear();
        shell.interactive = false;
        shell.loops = 0;
        shell
    }
}
