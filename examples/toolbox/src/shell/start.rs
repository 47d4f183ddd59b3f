//! How a shell is begun: `sh -c`, a script, or lines from standard input.

use super::parser::{Fault, Parser};
use super::run::INTERRUPTED;
use super::{Shell, Stop};
use crate::applets::{Call, Outcome};
use crate::stream::Stream;
use crate::sys::{self, File, Mode};

/// The `sh` applet.
pub fn main(call: &mut Call) -> Outcome {
    let streams = [call.input.clone(), call.out.stream().clone(), call.errors.clone()];
    let mut shell = Shell::new(&call.called, streams, &call.cwd, &call.environment);
    let (mut command, mut from_input, mut interactive) = (false, false, false);
    let mut used = 0;
    while let Some(argument) = call.arguments.get(used) {
        let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        if argument == "--" {
            used += 1;
            break;
        }
        let own: String = letters.chars().filter(|l| !matches!(l, 'c' | 's' | 'i' | 'l')).collect();
        command |= letters.contains('c') && !letters.starts_with('o');
        from_input |= letters.contains('s');
        interactive |= letters.contains('i');
        let mut options = vec![format!("-{own}")];
        options.extend(call.arguments.get(used + 1).filter(|_| own.ends_with('o')).cloned());
        if !own.is_empty() {
            shell.set_options(&options).map_err(|sentence| (sentence, 2))?;
        }
        used += options.len();
    }
    let mut rest = call.arguments.get(used..).unwrap_or_default().iter().cloned();
    if command {
        let text = rest.next().ok_or_else(|| ("-c: a command is missing".to_owned(), 2))?;
        shell.name = rest.next().unwrap_or(call.called.clone());
        shell.arguments = rest.collect();
        return Ok(shell.script(&text));
    }
    if let Some(file) = rest.next().filter(|_| !from_input) {
        let path = sys::join(&call.cwd, &file);
        let text = File::open(&path, Mode::Read).and_then(|file| Stream::file(file).read_all());
        let text = text.map_err(|error| (format!("{file}: {}", sys::text(&error)), 127))?;
        shell.name = file;
        shell.arguments = rest.collect();
        return Ok(shell.script(&String::from_utf8_lossy(&text)));
    }
    shell.arguments = rest.collect();
    shell.interactive = interactive || call.input.is_terminal();
    shell.is_watched = shell.interactive;
    Ok(shell.lines())
}

/// A fault as the shell tells it.
pub fn sentence(fault: &Fault) -> &str {
    match fault {
        Fault::Incomplete(sentence) | Fault::Syntax(sentence) => sentence,
    }
}

impl Shell {
    /// Runs a whole text and gives the exit status.
    pub fn script(&mut self, text: &str) -> u8 {
        if self.options.verbose {
            let _ = self.stream(2).write(text.as_bytes());
        }
        let ran = self.source(text);
        self.end(ran).unwrap_or(2)
    }

    /// Runs what standard input says, line by line, with prompts for a person.
    fn lines(&mut self) -> u8 {
        let mut text = String::new();
        loop {
            let line = match self.typed(if text.is_empty() { "PS1" } else { "PS2" }) {
                Some(line) => line,
                None => {
                    text.clear();
                    self.status = INTERRUPTED;
                    continue;
                }
            };
            let is_end = line.is_empty();
            text.push_str(&String::from_utf8_lossy(&line));
            if is_end && text.is_empty() {
                break;
            }
            let mut parser = Parser::new(&text);
            let ran = match parser.line() {
                // One line may hold several commands, but never a second line.
                Ok(Some(list)) => self.list(&list),
                Ok(None) => Ok(self.status),
                Err(Fault::Incomplete(_)) if !is_end => continue,
                Err(fault) => {
                    self.complain(sentence(&fault));
                    Err(Stop::Abort(2))
                }
            };
            text.clear();
            match ran {
                Ok(status) => self.status = status,
                Err(Stop::Abort(status)) if self.interactive => self.status = status,
                Err(Stop::Break(_) | Stop::Continue(_)) => {}
                Err(Stop::Exit(status) | Stop::Return(status) | Stop::Abort(status)) => {
                    return self.end(Err(Stop::Exit(status))).unwrap_or(status);
                }
            }
            if is_end {
                break;
            }
        }
        let status = self.status;
        if self.interactive {
            let _ = self.stream(2).write(b"\n");
        }
        self.end(Ok(status)).unwrap_or(status)
    }

    /// The next line, after a prompt; `None`: the interrupt key came, which ends no shell there.
    fn typed(&self, prompt: &str) -> Option<Vec<u8>> {
        if self.interactive {
            // First: who sees the prompt may press the key.
            sys::hold_interrupts();
        }
        self.prompt(prompt);
        let line = self.stream(0).read_line().unwrap_or_default();
        let is_interrupted = self.interactive && sys::release_interrupts();
        (!is_interrupted).then_some(line)
    }

    fn prompt(&self, name: &str) {
        if self.interactive {
            let _ = self.stream(2).write(self.get(name).unwrap_or_default().as_bytes());
        }
    }
}
