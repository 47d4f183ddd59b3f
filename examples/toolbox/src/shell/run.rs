//! Runs commands.

use std::rc::Rc;

use super::pattern;
use super::syntax::{
    Chain, Command, Compound, Item, Join, List, Pipeline, Place, Redirect, While, Word,
};
use super::{Ran, Shell, Stop, Variable, builtins};
use crate::programs::{self, Surroundings};
use crate::stream::Stream;

/// Commands, functions and substitutions inside of each other: the stack has room for that many.
const DEEPEST: u32 = 200;

/// As a process that SIGPIPE ended.
pub const BROKEN_PIPE: u8 = 141;
/// The exit status of what the interrupt key has ended.
pub const INTERRUPTED: u8 = 130;

impl Shell {
    /// Runs a subshell's commands until it ends, however that is.
    pub fn to_its_end(&mut self, list: &List) -> Ran {
        let ended = self.list(list);
        self.end(ended)
    }

    /// The status of what ended, after the trap for that.
    pub fn end(&mut self, ended: Ran) -> Ran {
        let status = match ended {
            Ok(status) | Err(Stop::Exit(status) | Stop::Return(status) | Stop::Abort(status)) => {
                status
            }
            Err(Stop::Break(_) | Stop::Continue(_)) => 0,
        };
        self.status = status;
        let Some(action) = self.traps.remove("EXIT") else { return Ok(status) };
        match self.source(&action) {
            Err(Stop::Exit(status)) => Ok(status),
            _ => Ok(status),
        }
    }

    pub fn list(&mut self, list: &List) -> Ran {
        let mut status = 0;
        for Item { chain, place } in &list.0 {
            status = match place {
                Place::Foreground => self.chain(chain)?,
                Place::Background => self.background(chain),
            };
            self.status = status;
        }
        Ok(status)
    }

    fn background(&mut self, chain: &Chain) -> u8 {
        let item = Item { chain: chain.clone(), place: Place::Foreground };
        let started = programs::background(self, &List(vec![item]));
        match started {
            Ok(pid) => {
                let variable = Variable { value: Some(pid.to_string()), ..Variable::default() };
                self.variables.insert("!".to_owned(), variable);
                0
            }
            Err(sentence) => {
                self.complain(&format!("&: {sentence}"));
                1
            }
        }
    }

    fn chain(&mut self, chain: &Chain) -> Ran {
        let last = chain.rest.len();
        let mut status = self.pipeline(&chain.first, last == 0)?;
        for (number, (join, pipeline)) in chain.rest.iter().enumerate() {
            if (*join == Join::And) == (status == 0) {
                status = self.pipeline(pipeline, number + 1 == last)?;
            }
        }
        Ok(status)
    }

    /// `counts`: a failure ends a shell that is told to end with one.
    fn pipeline(&mut self, pipeline: &Pipeline, counts: bool) -> Ran {
        let counts = counts && !pipeline.negated;
        self.guards += u32::from(!counts);
        let ran = match pipeline.stages.as_slice() {
            [only] => self.command(only),
            stages => self.stages(stages),
        };
        self.guards -= u32::from(!counts);
        let status = ran?;
        let status = if pipeline.negated { u8::from(status == 0) } else { status };
        self.status = status;
        if status != 0 && counts && self.options.errexit && self.guards == 0 {
            return Err(Stop::Exit(status));
        }
        Ok(status)
    }

    fn stages(&mut self, stages: &[Command]) -> Ran {
        if let Some(ran) = programs::concurrently(self, stages) {
            return match ran {
                Ok(INTERRUPTED) if self.is_watched => Err(Stop::Abort(INTERRUPTED)),
                ran => ran,
            };
        }
        let mut input = self.stream(0);
        let (mut status, mut worst) = (0, 0);
        for (number, stage) in stages.iter().enumerate() {
            let mut shell = self.subshell();
            shell.descriptors.insert(0, input);
            let output = if number + 1 < stages.len() { Stream::memory() } else { self.stream(1) };
            if number + 1 < stages.len() {
                shell.descriptors.insert(1, output.clone());
                shell.pipe = Some(output.clone());
            }
            status = shell.stage(stage)?;
            worst = if status == 0 { worst } else { status };
            input = output;
        }
        Ok(if self.options.pipefail { worst } else { status })
    }

    /// Runs one stage in this subshell, to its end.
    pub fn stage(&mut self, stage: &Command) -> Ran {
        let ended = self.command(stage);
        self.end(ended)
    }

    fn command(&mut self, command: &Command) -> Ran {
        self.depth += 1;
        if self.depth > DEEPEST {
            self.depth -= 1;
            self.complain(&format!("commands are nested deeper than {DEEPEST} levels"));
            return Err(Stop::Abort(2));
        }
        let ran = match command {
            Command::Simple(simple) => self.simple(simple),
            Command::Compound(compound, redirects) => {
                self.with(redirects, |shell| shell.compound(compound))
            }
            Command::Function(name, body) => {
                self.functions.insert(name.clone(), body.clone());
                Ok(0)
            }
        };
        self.depth -= 1;
        ran
    }

    /// Runs something with descriptors changed meanwhile.
    pub(super) fn with(
        &mut self,
        redirects: &[Redirect],
        run: impl FnOnce(&mut Self) -> Ran,
    ) -> Ran {
        if redirects.is_empty() {
            return run(self);
        }
        let before = self.descriptors.clone();
        let ran = match self.redirect(redirects) {
            Ok(Ok(())) => run(self),
            Ok(Err(sentence)) => {
                self.complain(&sentence);
                Ok(1)
            }
            Err(stop) => Err(stop),
        };
        self.descriptors = before;
        ran
    }

    fn compound(&mut self, compound: &Compound) -> Ran {
        match compound {
            Compound::Group(list) => self.list(list),
            Compound::Subshell(list) => {
                let mut shell = self.subshell();
                shell.to_its_end(list)
            }
            Compound::If(branches, other) => {
                for (condition, body) in branches {
                    if self.condition(condition)? == 0 {
                        return self.list(body);
                    }
                }
                other.as_ref().map_or(Ok(0), |other| self.list(other))
            }
            Compound::For(name, words, body) => {
                let values = match words {
                    Some(words) => self.fields(words)?,
                    None => self.arguments.clone(),
                };
                let mut values = values.into_iter();
                self.repeat(body, |shell| {
                    let Some(value) = values.next() else { return Ok(false) };
                    shell.set(name, value).map(|()| true).map_err(|sentence| {
                        shell.complain(&sentence);
                        Stop::Abort(2)
                    })
                })
            }
            Compound::Loop(until, condition, body) => self.repeat(body, |shell| {
                let succeeds = shell.condition(condition)? == 0;
                Ok(succeeds == (*until == While::Succeeds))
            }),
            Compound::Case(subject, arms) => self.case(subject, arms),
        }
    }

    fn case(&mut self, subject: &Word, arms: &[(Vec<Word>, List)]) -> Ran {
        let subject: Vec<char> = self.text(&subject.0)?.chars().collect();
        for (patterns, list) in arms {
            for one in patterns {
                let one = self.letters(&one.0)?;
                if pattern::matches(&one, &subject) {
                    return self.list(list);
                }
            }
        }
        Ok(0)
    }

    fn condition(&mut self, list: &List) -> Ran {
        self.guards += 1;
        let ran = self.list(list);
        self.guards -= 1;
        ran
    }

    fn repeat(
        &mut self,
        body: &List,
        mut goes_on: impl FnMut(&mut Self) -> Result<bool, Stop>,
    ) -> Ran {
        let mut status = 0;
        self.loops += 1;
        let ran = loop {
            let ran = match goes_on(self) {
                Ok(true) => self.list(body),
                Ok(false) => break Ok(status),
                Err(stop) => Err(stop),
            };
            match ran {
                Ok(last) => status = last,
                Err(Stop::Continue(1)) => status = 0,
                Err(Stop::Break(1)) => break Ok(0),
                Err(Stop::Continue(levels)) => break Err(Stop::Continue(levels - 1)),
                Err(Stop::Break(levels)) => break Err(Stop::Break(levels - 1)),
                Err(stop) => break Err(stop),
            }
        };
        self.loops -= 1;
        ran
    }

    /// Runs what these fields name: a builtin, a function, a program.
    pub fn run(&mut self, argv: &[String]) -> Ran {
        let (Some(name), arguments) = (argv.first(), argv.get(1..).unwrap_or_default()) else {
            return Ok(0);
        };
        if self.options.no_execute {
            return Ok(0);
        }
        if !builtins::is_special(name)
            && let Some(body) = self.functions.get(name).cloned()
        {
            return self.call(&body, arguments);
        }
        match builtins::run(self, name, arguments) {
            Some(ran) => ran,
            None => self.program(argv),
        }
    }

    fn call(&mut self, body: &Rc<Command>, arguments: &[String]) -> Ran {
        let before = std::mem::replace(&mut self.arguments, arguments.to_vec());
        self.locals.push(Default::default());
        let loops = std::mem::take(&mut self.loops);
        let ran = self.command(body);
        self.loops = loops;
        for (name, variable) in self.locals.pop().unwrap_or_default() {
            match variable {
                Some(variable) => drop(self.variables.insert(name, variable)),
                None => drop(self.variables.remove(&name)),
            }
        }
        self.arguments = before;
        match ran {
            Err(Stop::Return(status)) => Ok(status),
            ran => ran,
        }
    }

    /// Whether `local` has a meaning, and what it hides.
    pub fn hide(&mut self, name: &str) -> Result<(), String> {
        let variable = self.variables.get(name).cloned();
        let Some(locals) = self.locals.last_mut() else {
            return Err("local: not in a function".to_owned());
        };
        locals.entry(name.to_owned()).or_insert(variable);
        Ok(())
    }

    pub fn in_function(&self) -> bool {
        !self.locals.is_empty() || self.sourced > 0
    }

    pub fn in_loop(&self) -> bool {
        self.loops > 0
    }

    /// Runs a program with this shell's surroundings.
    pub fn program(&mut self, argv: &[String]) -> Ran {
        let surroundings = Surroundings {
            streams: self.streams(),
            cwd: self.cwd.clone(),
            environment: self.environment(),
        };
        let run = if self.is_watched { programs::run_apart } else { programs::run };
        let status = run(argv, &surroundings, &self.name);
        if self.is_watched && status == INTERRUPTED {
            return Err(Stop::Abort(INTERRUPTED));
        }
        let is_over = self.pipe.as_ref().is_some_and(|pipe| pipe.is(&self.stream(1)));
        if status == BROKEN_PIPE && is_over {
            return Err(Stop::Exit(BROKEN_PIPE));
        }
        Ok(status)
    }

    /// Runs a text's commands here: `.`, `eval`, a trap's action.
    pub fn source(&mut self, text: &str) -> Ran {
        let mut parser = super::parser::Parser::new(text);
        let mut status = 0;
        self.depth += 1;
        let ran = loop {
            if self.depth > DEEPEST {
                self.complain(&format!("commands are nested deeper than {DEEPEST} levels"));
                break Err(Stop::Abort(2));
            }
            match parser.line() {
                Ok(Some(list)) => match self.list(&list) {
                    Ok(last) => status = last,
                    Err(stop) => break Err(stop),
                },
                Ok(None) => break Ok(status),
                Err(fault) => {
                    self.complain(super::start::sentence(&fault));
                    break Err(Stop::Abort(2));
                }
            }
        };
        self.depth -= 1;
        ran
    }

    pub fn dot(&mut self, text: &str) -> Ran {
        self.sourced += 1;
        let ran = self.source(text);
        self.sourced -= 1;
        match ran {
            Err(Stop::Return(status)) => Ok(status),
            ran => ran,
        }
    }
}
