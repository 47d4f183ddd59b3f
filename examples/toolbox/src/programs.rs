//! What a command's name means outside of the shell, and how it is run: an applet in this very
//! process, a script, or one of the container's own programs.

use std::cell::RefCell;
use std::rc::Rc;

use crate::applets::{self, Applet};
use crate::shell::syntax::{Chain, Command, Compound, Item, List, Pipeline};
use crate::shell::{Ran, Shell, is_builtin, print};
use crate::stream::Stream;
use crate::sys::{self, File, Follow, Kind, Mode};

/// What every program is given.
#[derive(Clone)]
pub struct Surroundings {
    pub streams: [Stream; 3],
    pub cwd: String,
    pub environment: Vec<(String, String)>,
}

/// Where names are looked for when PATH is not set.
const PATH: &str = "/bin:/usr/bin:/";
/// Where such programs lie on other systems; scripts name them so.
const FOLDERS: [&str; 4] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"];
/// What the toolbox's file may be called, where links to it are its applets.
const OWN: [&str; 2] = ["toolbox.wasm", "busybox.wasm"];
/// Builtins of other shells: no file of that name is looked for.
const QUICK: [&str; 8] = ["true", "false", "echo", "printf", "test", "[", "pwd", "kill"];
/// Links that are followed to learn whose a program is.
const LINKS: usize = 8;

enum Found {
    Applet(Applet),
    Wasm(String),
    Script(String),
    /// A program of another machine: an applet of its name does instead.
    Foreign,
    /// An exit status and why.
    Nothing(u8, &'static str),
}

const MISSING: Found = Found::Nothing(127, "not found");
const FOREIGN: Found = Found::Nothing(126, "Exec format error: it is no WebAssembly program");

/// 1 where the host does not tell.
pub fn own_pid() -> u32 {
    let all = sys::processes().unwrap_or_default();
    all.iter().find(|process| process.is_own).map_or(1, |process| process.pid)
}

/// Runs `argv` to its end and gives its exit status; what cannot be run is told as a shell does,
/// which is called `teller`.
pub fn run(argv: &[String], surroundings: &Surroundings, teller: &str) -> u8 {
    let Some(name) = argv.first() else { return 0 };
    let path = surroundings.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, value)| value.as_str());
    let arguments = argv.get(1..).unwrap_or_default();
    match find(name, &surroundings.cwd, path) {
        Found::Applet(applet) => applets::run(applet, name, arguments, surroundings),
        Found::Script(path) => script(&path, arguments, surroundings),
        Found::Wasm(path) => match start(&path, argv, surroundings) {
            Ok(status) => status,
            Err(sentence) => {
                tell(surroundings, &format!("{teller}: {name}: {sentence}"));
                126
            }
        },
        // Told apart before.
        Found::Foreign => 126,
        Found::Nothing(status, why) => {
            tell(surroundings, &format!("{teller}: {name}: {why}"));
            status
        }
    }
}

/// As [`run`], the toolbox's own programs as processes where that is possible: the interrupt key
/// then ends what runs, and not the shell.
pub fn run_apart(argv: &[String], surroundings: &Surroundings, teller: &str) -> u8 {
    let Surroundings { streams: [input, out, errors], cwd, environment } = surroundings;
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let name = argv.first().map_or("", String::as_str);
    let found = find(name, cwd, path.map(|(_, value)| value.as_str()));
    // A file would be read to its end for a process.
    let is_shared = !matches!(input, Stream::File(_) | Stream::Memory(_));
    if let Found::Applet(_) = found
        && !QUICK.contains(&name)
        && is_shared
    {
        let what = sys::Start { file: None, arguments: argv, cwd, environment };
        if let Ok(child) = sys::spawn(&what, [input, out, errors], None) {
            return child.wait();
        }
    }
    run(argv, surroundings, teller)
}

fn tell(surroundings: &Surroundings, text: &str) {
    let [_, _, errors] = &surroundings.streams;
    // Nobody is left to tell.
    let _ = errors.write(format!("{text}\n").as_bytes());
}

/// Where a program lies, as `command -v` tells.
pub fn place(name: &str, cwd: &str, path: Option<&str>) -> Option<String> {
    match find(name, cwd, path) {
        Found::Applet(_) => Some(name.to_owned()),
        Found::Wasm(path) | Found::Script(path) => Some(path),
        Found::Foreign | Found::Nothing(..) => None,
    }
}

fn find(name: &str, cwd: &str, path: Option<&str>) -> Found {
    let applet = |name: &str| applets::named(name).map(Found::Applet);
    if QUICK.contains(&name)
        && let Some(found) = applet(name)
    {
        return found;
    }
    if name.contains('/') {
        let path = sys::join(cwd, name);
        let usual = || match path.rsplit_once('/') {
            Some((folder, name)) if FOLDERS.contains(&folder) => applet(name),
            _ => None,
        };
        return match look(&path) {
            Some(Found::Foreign) => usual().unwrap_or(FOREIGN),
            Some(found) => found,
            None => usual().unwrap_or(MISSING),
        };
    }
    let (mut denied, mut foreign) = (None, None);
    for folder in path.unwrap_or(PATH).split(':').filter(|_| !name.is_empty()) {
        for file in [name.to_owned(), format!("{name}.wasm")] {
            match look(&sys::join(cwd, &format!("{folder}/{file}"))) {
                Some(Found::Foreign) => foreign = Some(FOREIGN),
                Some(found @ Found::Nothing(..)) => denied = denied.or(Some(found)),
                Some(found) => return found,
                None => {}
            }
        }
    }
    denied.or_else(|| applet(name)).or(foreign).unwrap_or(MISSING)
}

/// What a path is as a program; `None`: there is nothing.
fn look(path: &str) -> Option<Found> {
    const DENIED: Found = Found::Nothing(126, "Permission denied");
    let found = match sys::stat(path, Follow::Yes) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Some(DENIED),
        Err(_) => return None,
    };
    // A folder, or what hides a file that is masked.
    if found.kind != Kind::File {
        return Some(DENIED);
    }
    let mut head = [0; 4];
    let count = match File::open(path, Mode::Read).and_then(|file| file.read(&mut head)) {
        Ok(count) => count,
        Err(_) => return Some(DENIED),
    };
    Some(match head.get(..count).unwrap_or_default() {
        b"\0asm" => own(path).map_or_else(|| Found::Wasm(path.to_owned()), Found::Applet),
        b"\x7fELF" => Found::Foreign,
        _ => Found::Script(path.to_owned()),
    })
}

/// The applet that a link to the toolbox means.
fn own(path: &str) -> Option<Applet> {
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        let (folder, name) = at.rsplit_once('/')?;
        if OWN.contains(&name) {
            let called = path.rsplit('/').next()?;
            return applets::named(called.strip_suffix(".wasm").unwrap_or(called));
        }
        at = sys::join(folder, &sys::read_link(&at).ok()?);
    }
    None
}

/// Runs a file of commands in a shell of its own.
fn script(path: &str, arguments: &[String], surroundings: &Surroundings) -> u8 {
    let text = File::open(path, Mode::Read).and_then(|file| Stream::file(file).read_all());
    let bytes = match text {
        Ok(bytes) => bytes,
        Err(error) => {
            tell(surroundings, &format!("{path}: {}", sys::text(&error)));
            return 126;
        }
    };
    let Surroundings { streams, cwd, environment } = surroundings;
    let mut shell = Shell::new(path, streams.clone(), cwd, environment);
    shell.arguments = arguments.to_vec();
    shell.script(&String::from_utf8_lossy(&bytes))
}

/// Starts another program of the container and waits for it. `Err` is a sentence.
fn start(path: &str, argv: &[String], surroundings: &Surroundings) -> Result<u8, String> {
    let Surroundings { streams: [input, out, errors], cwd, environment } = surroundings;
    let what = sys::Start { file: Some(path), arguments: argv, cwd, environment };
    Ok(sys::spawn(&what, [input, out, errors], None)?.wait())
}

thread_local! {
    /// In the background, the oldest first.
    static JOBS: RefCell<Vec<(sys::Child, String)>> = const { RefCell::new(Vec::new()) };
}

/// The program and arguments of a command that needs no shell to run; a file unless it is ours.
fn plain(shell: &Shell, command: &Command) -> Option<(Option<String>, Vec<String>)> {
    let Command::Simple(simple) = command else { return None };
    let name = simple.words.first()?.literal()?;
    let needs = !simple.assignments.is_empty()
        || !simple.redirects.is_empty()
        || shell.functions.contains_key(name)
        || is_builtin(name);
    if needs || shell.options.xtrace {
        return None;
    }
    let file = match find(name, &shell.cwd, shell.get("PATH")) {
        Found::Applet(_) => None,
        Found::Wasm(path) => Some(path),
        _ => return None,
    };
    Some((file, shell.subshell().fields(&simple.words).ok()?))
}

/// Starts a command as a process: itself, or in a shell that is as `shell` is. `into` takes the
/// place of standard output.
fn fork(
    shell: &Shell,
    command: &Command,
    input: &Stream,
    into: Option<&sys::PipeWriter>,
) -> Result<sys::Child, String> {
    let (file, arguments) = plain(shell, command).unwrap_or_else(|| {
        let text = shell.prelude() + &print::command(command);
        let own = ["sh".to_owned(), "-c".to_owned(), text, shell.name.clone()];
        (None, own.into_iter().chain(shell.arguments.iter().cloned()).collect())
    });
    let environment = shell.environment();
    let (out, errors) = (shell.stream(1), shell.stream(2));
    let what = sys::Start {
        file: file.as_deref(),
        arguments: &arguments,
        cwd: &shell.cwd,
        environment: &environment,
    };
    sys::spawn(&what, [input, &out, &errors], into)
}

/// Starts a list as a process of its own and gives its number.
pub fn background(shell: &Shell, list: &List) -> Result<u32, String> {
    let command = match list.0.as_slice() {
        [Item { chain: Chain { first: Pipeline { negated: false, stages }, rest }, .. }]
            if rest.is_empty() && stages.len() == 1 =>
        {
            stages.first().cloned()
        }
        _ => None,
    };
    let group = || Command::Compound(Compound::Group(list.clone()), Vec::new());
    let child = fork(shell, &command.unwrap_or_else(group), &Stream::Null, None)?;
    let id = child.id();
    let text = print::list(list).trim().to_owned();
    JOBS.with_borrow_mut(|jobs| jobs.push((child, text)));
    Ok(id)
}

/// Runs a pipeline's stages side by side, the last one here; `None`: they cannot.
pub fn concurrently(shell: &Shell, stages: &[Command]) -> Option<Ran> {
    let (last, others) = stages.split_last()?;
    let (mut input, mut children) = (shell.stream(0), Vec::new());
    for stage in others {
        let started = sys::pipe().and_then(|(reader, writer)| {
            let child = fork(shell, stage, &input, Some(&writer))?;
            Ok((reader, child))
        });
        match started {
            Ok((reader, child)) => {
                input = Stream::Pipe(Rc::new(reader));
                children.push(child);
            }
            Err(_) if children.is_empty() => return None,
            Err(sentence) => {
                shell.complain(&sentence);
                for child in children {
                    // It may have ended by itself.
                    let _ = sys::kill(child.id());
                }
                return Some(Ok(1));
            }
        }
    }
    let mut own = shell.subshell();
    own.descriptors.insert(0, input);
    let ran = own.stage(last);
    // Whoever writes still hears that nobody reads.
    drop(own);
    let mut worst = 0;
    for child in children {
        let status = child.wait();
        worst = if status == 0 { worst } else { status };
    }
    Some(ran.map(|status| match status {
        0 if shell.options.pipefail => worst,
        status => status,
    }))
}

/// Waits for processes in the background, all or these; the status is the last one's.
pub fn wait(pids: &[String]) -> Result<u8, String> {
    let jobs = JOBS.with_borrow_mut(std::mem::take);
    let (chosen, rest): (Vec<_>, Vec<_>) = jobs
        .into_iter()
        .partition(|(child, _)| pids.is_empty() || pids.contains(&child.id().to_string()));
    JOBS.with_borrow_mut(|jobs| jobs.splice(0..0, rest).for_each(drop));
    let mut status = 0;
    for pid in pids {
        if !chosen.iter().any(|(child, _)| child.id().to_string() == *pid) {
            status = 127;
        }
    }
    for (child, _) in chosen {
        let own = child.wait();
        status = if pids.is_empty() { 0 } else { own };
    }
    Ok(status)
}

pub fn jobs(out: &Stream) -> Result<u8, String> {
    JOBS.with_borrow(|jobs| {
        for (child, text) in jobs {
            let line = format!("{} {text}\n", child.id());
            out.write(line.as_bytes()).map_err(|error| sys::text(&error))?;
        }
        Ok(0)
    })
}

/// A process of the pod.
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub container: String,
    pub command: Vec<String>,
    pub cpu_nanos: u64,
    /// Bytes.
    pub memory: u64,
    /// The one that asks.
    pub is_own: bool,
}

pub fn processes() -> Result<Vec<Process>, String> {
    sys::processes()
}

/// Ends a process. `Err` is a sentence.
pub fn kill(pid: u32, signal: u32) -> Result<(), String> {
    match signal {
        // Whether it is there.
        0 => match sys::processes()?.iter().any(|process| process.pid == pid) {
            true => Ok(()),
            false => Err("No such process".to_owned()),
        },
        // A WASI program has no signals: what asks for the end is the end.
        1 | 2 | 3 | 6 | 9 | 15 => sys::kill(pid),
        _ => Err("a WASI program has no signals but those that end it".to_owned()),
    }
}
