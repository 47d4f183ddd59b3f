//! The tools. Each is a function of a [`Call`]; this file has their names, which the daemon reads
//! out of the component, and what they share.

mod compare;
mod copy;
mod dd;
mod digest;
mod expr;
mod files;
mod filter;
mod find;
mod grep;
mod input;
mod links;
mod ls;
mod net;
mod number;
mod print;
mod processes;
mod regex;
mod sed;
mod sort;
mod system;
mod tar;
#[cfg(test)]
mod tests;
mod text;
mod xargs;

use std::io::{ErrorKind, Write};

use input::{Lines, each_file, number, size};
pub use system::Identity;

use crate::programs::Surroundings;
use crate::shell;
use crate::stream::{Out, Stream};
use crate::sys;

/// One run of a tool.
pub struct Call {
    /// As it was called, a path perhaps.
    pub called: String,
    pub name: String,
    pub arguments: Vec<String>,
    pub input: Stream,
    pub out: Out,
    pub errors: Stream,
    pub cwd: String,
    pub environment: Vec<(String, String)>,
}

/// Why a tool ends at once: what it says, and its exit status.
pub enum Failure {
    Says(String, u8),
    Io(std::io::Error),
}

pub type Outcome = Result<u8, Failure>;
pub type Applet = fn(&mut Call) -> Outcome;

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Failure {
    fn from(says: String) -> Self {
        Self::Says(says, 1)
    }
}

impl From<(String, u8)> for Failure {
    fn from((says, status): (String, u8)) -> Self {
        Self::Says(says, status)
    }
}

macro_rules! applets {
    ($($name:literal => $run:path,)*) => {
        /// Sorted by name.
        const APPLETS: &[(&str, Applet)] = &[$(($name, $run)),*];
        const NAMES: &str = concat!($($name, " "),*);
    };
}

applets! {
    "[" => compare::test,
    "ash" => shell::main,
    "base64" => digest::base64,
    "basename" => text::basename,
    "cat" => text::cat,
    "cp" => copy::cp,
    "cut" => filter::cut,
    "date" => system::date,
    "dd" => dd::dd,
    "df" => files::df,
    "dirname" => text::dirname,
    "du" => files::du,
    "echo" => print::echo,
    "env" => system::env,
    "expr" => expr::expr,
    "false" => print::no,
    "find" => find::find,
    "grep" => grep::grep,
    "head" => text::head,
    "hostname" => system::hostname,
    "httpd" => net::httpd,
    "id" => system::id,
    "kill" => processes::kill,
    "ln" => links::ln,
    "ls" => ls::ls,
    "md5sum" => digest::md5sum,
    "mkdir" => files::mkdir,
    "mktemp" => files::mktemp,
    "mv" => copy::mv,
    "nc" => net::nc,
    "netstat" => net::netstat,
    "nslookup" => net::nslookup,
    "pgrep" => processes::pgrep,
    "pidof" => processes::pidof,
    "printenv" => system::printenv,
    "printf" => print::printf,
    "ps" => processes::ps,
    "pwd" => text::pwd,
    "readlink" => links::readlink,
    "realpath" => links::realpath,
    "rm" => files::rm,
    "rmdir" => files::rmdir,
    "sed" => sed::sed,
    "seq" => number::seq,
    "sh" => shell::main,
    "sha256sum" => digest::sha256sum,
    "sleep" => system::sleep,
    "sort" => sort::sort,
    "stat" => links::stat,
    "sync" => files::sync,
    "tail" => text::tail,
    "tar" => tar::tar,
    "tee" => filter::tee,
    "test" => compare::test,
    "top" => processes::top,
    "touch" => files::touch,
    "tr" => filter::tr,
    "true" => print::yes,
    "uname" => system::uname,
    "uniq" => sort::uniq,
    "wc" => filter::wc,
    "wget" => net::wget,
    "which" => system::which,
    "whoami" => system::whoami,
    "xargs" => xargs::xargs,
    "yes" => number::yes,
}

/// [`NAMES`] in the component: how the daemon learns what there is without running it.
#[cfg(target_os = "wasi")]
#[used]
#[unsafe(link_section = "wasmpod:applets")]
static SECTION: [u8; NAMES.len()] = {
    let (names, mut bytes, mut at) = (NAMES.as_bytes(), [0; NAMES.len()], 0);
    while at < bytes.len() {
        bytes[at] = names[at];
        at += 1;
    }
    bytes
};

pub fn named(name: &str) -> Option<Applet> {
    let at = APPLETS.binary_search_by_key(&name, |(known, _)| known).ok()?;
    APPLETS.get(at).map(|(_, applet)| *applet)
}

/// What `toolbox` alone says. `--list` is one name a line, as busybox has it.
pub fn list(called: &str) -> u8 {
    let text = if called == "--list" {
        NAMES.trim().replace(' ', "\n")
    } else {
        format!("usage: toolbox NAME [ARGUMENT...], or called by a NAME:\n{}", NAMES.trim())
    };
    u8::from(Stream::Stdout.write(format!("{text}\n").as_bytes()).is_err())
}

/// A path's last name.
pub fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Runs a tool; what went wrong is told under its name.
pub fn run(applet: Applet, called: &str, arguments: &[String], with: &Surroundings) -> u8 {
    let [input, output, errors] = with.streams.clone();
    let mut call = Call {
        called: called.to_owned(),
        name: base(called).to_owned(),
        arguments: arguments.to_vec(),
        input,
        out: Out::new(output),
        errors,
        cwd: with.cwd.clone(),
        environment: with.environment.clone(),
    };
    let ran = applet(&mut call).and_then(|status| Ok(call.out.flush().map(|()| status)?));
    let failure = match ran {
        Ok(status) => return status,
        Err(failure) => failure,
    };
    // What it had to say before.
    let _ = call.out.flush();
    match failure {
        Failure::Says(text, status) => {
            call.complain(&text);
            status
        }
        Failure::Io(error) if error.kind() == ErrorKind::BrokenPipe => {
            if error.get_ref().is_some() {
                call.complain(&format!("write error: {}", sys::text(&error)));
            }
            141
        }
        Failure::Io(error) => {
            call.complain(&sys::text(&error));
            1
        }
    }
}

/// What options an applet takes: letters, `:` after those with a value; and long names.
pub struct Known {
    pub letters: &'static str,
    pub long: &'static [(&'static str, char)],
}

/// Options and what is left.
#[derive(Default)]
pub struct Given {
    options: Vec<(char, String)>,
    pub rest: Vec<String>,
}

impl Given {
    pub fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(own, _)| *own == letter)
    }

    /// Of several the last.
    pub fn value(&self, letter: char) -> Option<&str> {
        self.options.iter().rev().find(|(own, _)| *own == letter).map(|(_, value)| value.as_str())
    }

    pub fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(own, _)| *own == letter).map(|(_, value)| value.as_str())
    }
}

/// Whether options may follow other arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Any,
    /// The first word that is none ends them: the rest is another program's.
    First,
}

impl Call {
    pub fn complain(&self, text: &str) {
        // Nobody is left to tell.
        let _ = self.errors.write(format!("{}: {text}\n", self.name).as_bytes());
    }

    /// Tells of a path that something went wrong with.
    pub fn blame(&self, path: &str, error: &std::io::Error) {
        self.complain(&format!("{path}: {}", sys::text(error)));
    }

    pub fn path(&self, name: &str) -> String {
        sys::join(&self.cwd, name)
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn surroundings(&self) -> Surroundings {
        Surroundings {
            streams: [self.input.clone(), self.out.stream().clone(), self.errors.clone()],
            cwd: self.cwd.clone(),
            environment: self.environment.clone(),
        }
    }

    /// Opens a file for reading; "-" is standard input.
    pub fn open(&self, name: &str) -> std::io::Result<Stream> {
        if name == "-" {
            return Ok(self.input.clone());
        }
        let path = self.path(name);
        if path == "/dev/stdin" {
            return Ok(self.input.clone());
        }
        if sys::stat(&path, sys::Follow::Yes)?.kind == sys::Kind::Folder {
            return Err(ErrorKind::IsADirectory.into());
        }
        sys::File::open(&path, sys::Mode::Read).map(Stream::file)
    }

    pub fn options(&self, letters: &'static str) -> Result<Given, Failure> {
        self.options_of(&Known { letters, long: &[] }, Order::Any)
    }

    pub fn options_of(&self, known: &Known, order: Order) -> Result<Given, Failure> {
        let mut given = Given::default();
        let mut words = self.arguments.iter().cloned();
        let unknown = |what: &str| Failure::Says(format!("unrecognized option '{what}'"), 2);
        let takes = |letter: char| {
            let at = known.letters.find(letter).filter(|_| letter != ':')?;
            Some(known.letters.get(at + letter.len_utf8()..)?.starts_with(':'))
        };
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let found = known.long.iter().find(|(own, _)| *own == name);
                let letter = found.map(|(_, letter)| *letter).ok_or_else(|| unknown(&word))?;
                let value = match (value, takes(letter)) {
                    (None, Some(true)) => words.next().ok_or_else(|| unknown(&word))?,
                    (value, _) => value.unwrap_or_default(),
                };
                given.options.push((letter, value));
                continue;
            }
            let letters = word.strip_prefix('-').filter(|letters| !letters.is_empty());
            let Some(letters) = letters else {
                given.rest.push(word);
                if order == Order::First {
                    break;
                }
                continue;
            };
            for (at, letter) in letters.char_indices() {
                match takes(letter) {
                    None => return Err(unknown(&format!("-{letter}"))),
                    Some(false) => given.options.push((letter, String::new())),
                    Some(true) => {
                        let own = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                        let value = match own {
                            "" => words.next().ok_or_else(|| {
                                Failure::Says(
                                    format!("option requires an argument -- '{letter}'"),
                                    2,
                                )
                            })?,
                            own => own.to_owned(),
                        };
                        given.options.push((letter, value));
                        break;
                    }
                }
            }
        }
        given.rest.extend(words);
        Ok(given)
    }
}
