//! What has to run in the shell itself.

mod input;

use super::{Ran, Shell, Stop, Variable, syntax};
use crate::programs;
use crate::stream::Stream;
use crate::sys::{self, File, Follow, Kind, Mode};

const SPECIAL: [&str; 15] = [
    ":", ".", "break", "continue", "eval", "exec", "exit", "export", "readonly", "return", "set",
    "shift", "times", "trap", "unset",
];

const USUAL: [&str; 17] = [
    "alias", "bg", "cd", "command", "fg", "getopts", "hash", "help", "jobs", "local", "read",
    "source", "type", "ulimit", "umask", "unalias", "wait",
];

pub fn is_special(name: &str) -> bool {
    SPECIAL.contains(&name)
}

pub fn is_builtin(name: &str) -> bool {
    is_special(name) || USUAL.contains(&name)
}

type Told = Result<u8, String>;

/// `None`: it is no builtin.
pub fn run(shell: &mut Shell, name: &str, arguments: &[String]) -> Option<Ran> {
    if !is_builtin(name) {
        return None;
    }
    let told = match name {
        ":" | "times" | "hash" | "alias" | "unalias" => Ok(0),
        "break" | "continue" | "exit" | "return" => return Some(leave(shell, name, arguments)),
        "eval" => return Some(shell.source(&arguments.join(" "))),
        "." | "source" => return Some(dot(shell, arguments)),
        "command" => return Some(command(shell, arguments)),
        "export" | "readonly" => mark(shell, name, arguments),
        "set" => set(shell, arguments),
        "shift" => shift(shell, arguments),
        "trap" => trap(shell, arguments),
        "unset" => unset(shell, arguments),
        "cd" => cd(shell, arguments),
        "getopts" => input::getopts(shell, arguments),
        "local" => local(shell, arguments),
        "read" => input::read(shell, arguments),
        "type" => kind(shell, arguments),
        "umask" => shell.stream(1).write(b"0022\n").map(|()| 0).map_err(|e| sys::text(&e)),
        "wait" => programs::wait(arguments),
        "jobs" => programs::jobs(&shell.stream(1)),
        "help" => {
            let text = format!("{} {}\n", SPECIAL.join(" "), USUAL.join(" "));
            shell.stream(1).write(text.as_bytes()).map(|()| 0).map_err(|e| sys::text(&e))
        }
        _ => Err("job control and limits are the host's".to_owned()),
    };
    Some(match told {
        Ok(status) => Ok(status),
        Err(sentence) => {
            shell.complain(&format!("{name}: {sentence}"));
            match is_special(name) && !shell.interactive {
                true => Err(Stop::Abort(2)),
                false => Ok(1),
            }
        }
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("Illegal number: {text}"))
}

fn leave(shell: &mut Shell, name: &str, arguments: &[String]) -> Ran {
    let given = match arguments.first().map(|text| number::<u32>(text)).transpose() {
        Ok(given) => given,
        Err(sentence) => {
            shell.complain(&format!("{name}: {sentence}"));
            return Err(Stop::Abort(2));
        }
    };
    let status = given.map_or(shell.status, |number| (number & 0xff) as u8);
    let levels = given.unwrap_or(1).max(1);
    match name {
        "exit" => Err(Stop::Exit(status)),
        "return" if shell.in_function() => Err(Stop::Return(status)),
        "return" => Err(Stop::Exit(status)),
        _ if !shell.in_loop() => Ok(0),
        "break" => Err(Stop::Break(levels)),
        _ => Err(Stop::Continue(levels)),
    }
}

fn dot(shell: &mut Shell, arguments: &[String]) -> Ran {
    let Some(name) = arguments.first() else { return Ok(0) };
    let path = match name.contains('/') {
        true => sys::join(&shell.cwd, name),
        false => {
            let folders = shell.get("PATH").unwrap_or_default().to_owned();
            let paths = folders.split(':').map(|folder| sys::join(folder, name));
            let is_file =
                |path: &String| sys::stat(path, Follow::Yes).is_ok_and(|s| s.kind == Kind::File);
            paths.into_iter().find(is_file).unwrap_or_else(|| sys::join(&shell.cwd, name))
        }
    };
    let text = File::open(&path, Mode::Read).and_then(|file| Stream::file(file).read_all());
    match text {
        Ok(bytes) => shell.dot(&String::from_utf8_lossy(&bytes)),
        Err(error) => {
            shell.complain(&format!("{name}: {}", sys::text(&error)));
            Err(Stop::Abort(2))
        }
    }
}

fn command(shell: &mut Shell, arguments: &[String]) -> Ran {
    match arguments.first().map(String::as_str) {
        Some("-v" | "-V") => Ok(kind_of(shell, arguments.get(1..).unwrap_or_default(), "")),
        Some("-p" | "--") => command(shell, arguments.get(1..).unwrap_or_default()),
        None => Ok(0),
        Some(name) => {
            let rest = arguments.get(1..).unwrap_or_default();
            run(shell, name, rest).unwrap_or_else(|| shell.program(arguments))
        }
    }
}

fn kind(shell: &mut Shell, arguments: &[String]) -> Told {
    Ok(kind_of(shell, arguments, " is "))
}

/// What names mean: with `between`, as a sentence.
fn kind_of(shell: &Shell, names: &[String], between: &str) -> u8 {
    let (mut text, mut status) = (String::new(), 0);
    for name in names {
        let (short, long) = if shell.functions.contains_key(name) {
            (name.clone(), "a function".to_owned())
        } else if is_builtin(name) {
            (name.clone(), "a shell builtin".to_owned())
        } else {
            match programs::place(name, &shell.cwd, shell.get("PATH")) {
                Some(path) => (path.clone(), path),
                None => {
                    status = 127;
                    if !between.is_empty() {
                        shell.complain(&format!("{name}: not found"));
                    }
                    continue;
                }
            }
        };
        let line = if between.is_empty() { short } else { format!("{name}{between}{long}") };
        text.push_str(&line);
        text.push('\n');
    }
    let _ = shell.stream(1).write(text.as_bytes());
    status
}

fn mark(shell: &mut Shell, name: &str, arguments: &[String]) -> Told {
    let is_export = name == "export";
    if arguments.is_empty() || arguments == ["-p"] {
        let mut text = String::new();
        for (own, variable) in &shell.variables {
            if if is_export { variable.exported } else { variable.readonly } {
                let value = variable.value.as_ref();
                let value =
                    value.map_or(String::new(), |v| format!("={}", super::print::quoted(v)));
                text.push_str(&format!("{name} {own}{value}\n"));
            }
        }
        return shell.stream(1).write(text.as_bytes()).map(|()| 0).map_err(|e| sys::text(&e));
    }
    for argument in arguments {
        let (own, value) = match argument.split_once('=') {
            Some((own, value)) => (own, Some(value)),
            None => (argument.as_str(), None),
        };
        if !syntax::is_name(own) {
            return Err(format!("{own}: bad variable name"));
        }
        if let Some(value) = value {
            shell.set(own, value.to_owned())?;
        }
        let variable = shell.variables.entry(own.to_owned()).or_default();
        if is_export {
            variable.exported = true;
        } else {
            variable.readonly = true;
        }
    }
    Ok(0)
}

fn unset(shell: &mut Shell, arguments: &[String]) -> Told {
    let (functions, names) = match arguments.first().map(String::as_str) {
        Some("-f") => (true, arguments.get(1..)),
        Some("-v") => (false, arguments.get(1..)),
        _ => (false, Some(arguments)),
    };
    for name in names.unwrap_or_default() {
        if functions {
            shell.functions.remove(name);
        } else if shell.variables.get(name).is_some_and(|variable| variable.readonly) {
            return Err(format!("{name}: is read only"));
        } else {
            shell.variables.remove(name);
        }
    }
    Ok(0)
}

impl Shell {
    fn option(&mut self, letter: char) -> Option<&mut bool> {
        Some(match letter {
            'a' => &mut self.options.all_export,
            'C' => &mut self.options.no_clobber,
            'e' => &mut self.options.errexit,
            'f' => &mut self.options.no_glob,
            'n' => &mut self.options.no_execute,
            'u' => &mut self.options.nounset,
            'v' => &mut self.options.verbose,
            'x' => &mut self.options.xtrace,
            _ => return None,
        })
    }

    /// As `$-` tells.
    pub fn option_letters(&self) -> String {
        let mut own = self.clone();
        let is_set = |letter: &char| own.option(*letter).is_some_and(|option| *option);
        let mut letters: String = "aCefnuvx".chars().filter(is_set).collect();
        letters.push_str(if self.interactive { "i" } else { "" });
        letters
    }

    /// `-e`, `+e`, `-o name`: how many arguments that were, of those that are options.
    pub fn set_options(&mut self, arguments: &[String]) -> Result<usize, String> {
        const NAMES: [(&str, char); 8] = [
            ("allexport", 'a'),
            ("noclobber", 'C'),
            ("errexit", 'e'),
            ("noglob", 'f'),
            ("noexec", 'n'),
            ("nounset", 'u'),
            ("verbose", 'v'),
            ("xtrace", 'x'),
        ];
        let mut used = 0;
        while let Some(argument) = arguments.get(used) {
            let on = argument.starts_with('-');
            let Some(letters) = argument.strip_prefix(['-', '+']).filter(|l| !l.is_empty()) else {
                break;
            };
            used += 1;
            if argument == "--" {
                break;
            }
            for letter in letters.chars() {
                let letter = match letter {
                    'o' => {
                        let name = arguments.get(used).map(String::as_str).unwrap_or_default();
                        used += 1;
                        match NAMES.iter().find(|(known, _)| *known == name) {
                            Some((_, letter)) => *letter,
                            None if name == "pipefail" => {
                                self.options.pipefail = on;
                                continue;
                            }
                            None if matches!(name, "vi" | "emacs" | "monitor" | "notify") => {
                                continue;
                            }
                            None => return Err(format!("-o {name}: no such option")),
                        }
                    }
                    'm' | 'b' | 'h' => continue,
                    letter => letter,
                };
                match self.option(letter) {
                    Some(option) => *option = on,
                    None => return Err(format!("-{letter}: no such option")),
                }
            }
        }
        Ok(used)
    }
}

fn set(shell: &mut Shell, arguments: &[String]) -> Told {
    if arguments.is_empty() {
        let mut text = String::new();
        for (name, variable) in &shell.variables {
            if let Some(value) = &variable.value {
                text.push_str(&format!("{name}={}\n", super::print::quoted(value)));
            }
        }
        return shell.stream(1).write(text.as_bytes()).map(|()| 0).map_err(|e| sys::text(&e));
    }
    let used = shell.set_options(arguments)?;
    let rest = arguments.get(used..).unwrap_or_default();
    let said_so = used > 0 && arguments.get(used - 1).is_some_and(|last| last == "--");
    if !rest.is_empty() || said_so {
        shell.arguments = rest.to_vec();
    }
    Ok(0)
}

fn shift(shell: &mut Shell, arguments: &[String]) -> Told {
    let count = arguments.first().map_or(Ok(1), |text| number::<usize>(text))?;
    if count > shell.arguments.len() {
        return Err("can't shift that many".to_owned());
    }
    shell.arguments.drain(..count);
    Ok(0)
}

fn trap(shell: &mut Shell, arguments: &[String]) -> Told {
    let arguments = match arguments.first() {
        Some(first) if first == "--" => arguments.get(1..).unwrap_or_default(),
        _ => arguments,
    };
    let Some((action, signals)) = arguments.split_first() else {
        let mut text = String::new();
        for (signal, action) in &shell.traps {
            text.push_str(&format!("trap -- {} {signal}\n", super::print::quoted(action)));
        }
        return shell.stream(1).write(text.as_bytes()).map(|()| 0).map_err(|e| sys::text(&e));
    };
    let (resets, signals) = match signals {
        [] => (true, std::slice::from_ref(action)),
        signals => (action == "-", signals),
    };
    for signal in signals {
        let signal = signal.trim_start_matches("SIG");
        let signal = if signal == "0" { "EXIT" } else { signal };
        // No other ever comes: a WASI program has no signals.
        if resets {
            shell.traps.remove(signal);
        } else {
            shell.traps.insert(signal.to_owned(), action.clone());
        }
    }
    Ok(0)
}

fn cd(shell: &mut Shell, arguments: &[String]) -> Told {
    let words: Vec<&String> =
        arguments.iter().filter(|a| *a != "-P" && *a != "-L" && *a != "--").collect();
    let target = match words.first().map(|word| word.as_str()) {
        None => shell.get("HOME").filter(|home| !home.is_empty()).unwrap_or("/").to_owned(),
        Some("-") => shell.get("OLDPWD").ok_or("OLDPWD not set")?.to_owned(),
        Some(name) => name.to_owned(),
    };
    let path = sys::normal(&sys::join(&shell.cwd, &target));
    let found = sys::stat(&path, Follow::Yes)
        .map_err(|error| format!("can't cd to {target}: {}", sys::text(&error)))?;
    if found.kind != Kind::Folder {
        return Err(format!("can't cd to {target}: Not a directory"));
    }
    if words.first().is_some_and(|word| *word == "-") {
        let _ = shell.stream(1).write(format!("{path}\n").as_bytes());
    }
    let before = std::mem::replace(&mut shell.cwd, path.clone());
    for (name, value) in [("OLDPWD", before), ("PWD", path)] {
        let variable = Variable { value: Some(value), exported: true, readonly: false };
        shell.variables.insert(name.to_owned(), variable);
    }
    Ok(0)
}

fn local(shell: &mut Shell, arguments: &[String]) -> Told {
    for argument in arguments {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        if !syntax::is_name(name) {
            return Err(format!("{name}: bad variable name"));
        }
        shell.hide(name)?;
        match value {
            Some(value) => shell.set(name, value.to_owned())?,
            None => drop(shell.variables.remove(name)),
        }
    }
    Ok(0)
}
