//! Processes of the pod, as wasmpod:process gives them.

use std::cell::RefCell;
use std::io;

use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::InputStream;

use super::read_stream;
use crate::programs::Process;
use crate::stream::Stream;
use crate::sys::Start;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/process",
        world: "starter",
        with: {
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
        },
    });
}

use bindings::wasmpod::process::processes as wire;

fn sentence(error: &wire::Error) -> String {
    match error {
        wire::Error::Denied => "processes are not allowed here".to_owned(),
        wire::Error::Limit(most) => format!("this container may have {most} processes at once"),
        wire::Error::NoSuchProcess => "No such process".to_owned(),
        wire::Error::Other(sentence) => sentence.clone(),
    }
}

/// What a child writes that has to go where only this process can write.
struct Pump {
    /// The child's number.
    of: u32,
    input: InputStream,
    target: Stream,
}

thread_local! {
    static PUMPS: RefCell<Vec<Pump>> = const { RefCell::new(Vec::new()) };
}

/// Waits until `wanted` is ready and carries meanwhile what children write.
fn wait_for(wanted: &Pollable) {
    loop {
        let ready = PUMPS.with_borrow(|pumps| {
            let own: Vec<Pollable> = pumps.iter().map(|pump| pump.input.subscribe()).collect();
            let all: Vec<&Pollable> = std::iter::once(wanted).chain(&own).collect();
            poll(&all)
        });
        carry(&ready);
        if ready.contains(&0) {
            return;
        }
    }
}

/// Carries from the pumps that are ready; the first has number 1.
fn carry(ready: &[u32]) {
    let mut bytes = vec![0; 1 << 16];
    PUMPS.with_borrow_mut(|pumps| {
        let mut number = 0;
        pumps.retain(|pump| {
            number += 1;
            if !ready.contains(&number) {
                return true;
            }
            match read_stream(&pump.input, &mut bytes) {
                // One that nobody takes from is not read on: the child hears of that.
                Ok(count) if count > 0 => {
                    pump.target.write(bytes.get(..count).unwrap_or_default()).is_ok()
                }
                _ => false,
            }
        });
    });
}

/// A pipe's end that this process and its children read.
pub struct PipeReader {
    // Before the end that it is made of.
    stream: RefCell<Option<InputStream>>,
    end: wire::Reader,
}

impl PipeReader {
    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream.borrow_mut();
        let stream = match &mut *stream {
            Some(stream) => stream,
            none => {
                let made = self.end.stream().map_err(|error| io::Error::other(sentence(&error)))?;
                none.insert(made)
            }
        };
        wait_for(&stream.subscribe());
        read_stream(stream, bytes)
    }
}

pub struct PipeWriter(wire::Writer);

pub fn pipe() -> Result<(PipeReader, PipeWriter), String> {
    let (end, writer) = wire::pipe().map_err(|error| sentence(&error))?;
    Ok((PipeReader { stream: RefCell::new(None), end }, PipeWriter(writer)))
}

/// Starts a program.
pub fn spawn(
    what: &Start<'_>,
    [stdin, stdout, stderr]: [&Stream; 3],
    into: Option<&PipeWriter>,
) -> Result<Child, String> {
    let told = |error: wire::Error| sentence(&error);
    let input = match stdin {
        Stream::Stdin => wire::Input::Inherit,
        Stream::Pipe(reader) => wire::Input::Pipe(&reader.end),
        Stream::Null | Stream::Stdout | Stream::Stderr => wire::Input::Nothing,
        Stream::File(_) | Stream::Memory(_) => {
            wire::Input::Bytes(stdin.read_all().map_err(|error| crate::sys::text(&error))?)
        }
    };
    // What only this process can write goes through a pipe of its own.
    let through = |stream: &Stream| -> Result<Option<(wire::Reader, wire::Writer)>, String> {
        match stream {
            Stream::Stdout | Stream::Stderr | Stream::Null => Ok(None),
            _ => wire::pipe().map(Some).map_err(told),
        }
    };
    let out = if into.is_some() { None } else { through(stdout)? };
    let is_same = into.is_none() && stdout.is(stderr);
    let error = if is_same { None } else { through(stderr)? };
    fn target<'a>(
        stream: &Stream,
        own: &'a Option<(wire::Reader, wire::Writer)>,
    ) -> wire::Output<'a> {
        match (stream, own) {
            (_, Some((_, writer))) => wire::Output::Pipe(writer),
            (Stream::Stdout, None) => wire::Output::Stdout,
            (Stream::Stderr, None) => wire::Output::Stderr,
            _ => wire::Output::Nothing,
        }
    }
    let command = wire::Command {
        program: match what.file {
            Some(path) => wire::Program::File(path.to_owned()),
            None => wire::Program::Own,
        },
        arguments: what.arguments.to_vec(),
        environment: what.environment.to_vec(),
        working_folder: what.cwd.to_owned(),
        stdin: input,
        stdout: match into {
            Some(PipeWriter(writer)) => wire::Output::Pipe(writer),
            None => target(stdout, &out),
        },
        stderr: target(stderr, if is_same { &out } else { &error }),
    };
    let process = wire::spawn(&command).map_err(told)?;
    let id = process.id();
    for (own, target) in [(out, stdout), (error, stderr)] {
        let Some((reader, writer)) = own else { continue };
        drop(writer);
        let input = reader.stream().map_err(told)?;
        PUMPS.with_borrow_mut(|pumps| pumps.push(Pump { of: id, input, target: target.clone() }));
    }
    Ok(Child(process))
}

pub struct Child(wire::Process);

impl Child {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end, and for all that it wrote.
    pub fn wait(&self) -> u8 {
        wait_for(&self.0.ended());
        let id = self.id();
        while PUMPS.with_borrow(|pumps| pumps.iter().any(|pump| pump.of == id)) {
            let ready = PUMPS.with_borrow(|pumps| {
                let own: Vec<Pollable> = pumps.iter().map(|pump| pump.input.subscribe()).collect();
                poll(&own.iter().collect::<Vec<_>>())
            });
            carry(&ready.iter().map(|number| number + 1).collect::<Vec<_>>());
        }
        self.0.exit_code().map_or(255, |code| u8::try_from(code).unwrap_or(255))
    }
}

pub fn processes() -> Result<Vec<Process>, String> {
    let all = wire::all().map_err(|error| sentence(&error))?;
    let told = |info: wire::Info| Process {
        pid: info.id,
        parent: info.parent,
        container: info.container,
        command: info.arguments,
        cpu_nanos: info.cpu_nanoseconds,
        memory: info.memory,
        is_own: info.is_own,
    };
    Ok(all.into_iter().map(told).collect())
}

/// The interrupt key does not end this program until [`release_interrupts`].
pub fn hold_interrupts() {
    // Where it cannot be had, the key ends the program.
    let _ = wire::hold_interrupts();
}

/// Whether the key came meanwhile.
pub fn release_interrupts() -> bool {
    wire::release_interrupts().unwrap_or(false)
}

pub fn kill(pid: u32) -> Result<(), String> {
    wire::kill(pid).map_err(|error| sentence(&error))
}
