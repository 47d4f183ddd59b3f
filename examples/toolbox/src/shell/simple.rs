//! Simple commands: their words, assignments and redirections.

use super::builtins;
use super::syntax::{Simple, Word};
use super::{Ran, Shell, Stop};

impl Shell {
    fn exec(&mut self, simple: &Simple, argv: &[String]) -> Ran {
        self.assign(&simple.assignments)?;
        match self.redirect(&simple.redirects)? {
            Ok(()) => {}
            Err(sentence) => {
                self.complain(&sentence);
                return Err(Stop::Abort(1));
            }
        }
        if argv.is_empty() {
            return Ok(0);
        }
        self.program(argv).and_then(|status| Err(Stop::Exit(status)))
    }

    fn assign(&mut self, assignments: &[(String, Word)]) -> Result<(), Stop> {
        for (name, word) in assignments {
            let value = self.text(&word.0)?;
            if self.options.xtrace {
                self.trace(&[format!("{name}={value}")]);
            }
            if let Err(sentence) = self.set(name, value) {
                self.complain(&sentence);
                return Err(Stop::Abort(2));
            }
        }
        Ok(())
    }

    fn trace(&self, fields: &[String]) {
        if self.options.xtrace {
            let sign = self.get("PS4").unwrap_or("+ ");
            let _ = self.stream(2).write(format!("{sign}{}\n", fields.join(" ")).as_bytes());
        }
    }

    pub(super) fn simple(&mut self, simple: &Simple) -> Ran {
        self.substituted = None;
        let fields = self.fields(&simple.words)?;
        let Some(name) = fields.first() else {
            let assigned = self.assign(&simple.assignments);
            let ran = self.with(&simple.redirects, |_| Ok(0))?;
            assigned?;
            return Ok(if ran == 0 { self.substituted.unwrap_or(0) } else { ran });
        };
        if name == "exec" {
            return self.exec(simple, fields.get(1..).unwrap_or_default());
        }
        let is_special = builtins::is_special(name);
        if is_special || simple.assignments.is_empty() {
            self.assign(&simple.assignments)?;
            self.trace(&fields);
            return self.with(&simple.redirects, |shell| shell.run(&fields));
        }
        // For this command alone.
        let names = simple.assignments.iter().map(|(name, _)| name.clone());
        let before: Vec<_> = names.map(|name| (self.variables.get(&name).cloned(), name)).collect();
        let assigned = self.assign(&simple.assignments);
        for (name, _) in &simple.assignments {
            if let Some(variable) = self.variables.get_mut(name) {
                variable.exported = true;
            }
        }
        self.trace(&fields);
        let ran = assigned.and_then(|()| self.with(&simple.redirects, |shell| shell.run(&fields)));
        for (variable, name) in before {
            match variable {
                Some(variable) => drop(self.variables.insert(name, variable)),
                None => drop(self.variables.remove(&name)),
            }
        }
        ran
    }
}
