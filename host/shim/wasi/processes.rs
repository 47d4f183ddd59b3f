//! wasmpod:process for components of 0.2: how a guest starts programs of its container. What it
//! may is `shim/processes`'.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, DynPollable, Pollable, subscribe};

use super::component::{Input as Stream, Reader as StreamReader, State};
use crate::shim::guest::Stdin;
use crate::shim::kill::Kill;
use crate::shim::processes::{self, Child, Command, End, Input, Process, Program, Refused, Target};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/process",
        world: "wasmpod:process/starter",
        imports: { default: trappable },
        with: {
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "wasmpod:process/processes.reader": super::Reader,
            "wasmpod:process/processes.writer": super::Writer,
            "wasmpod:process/processes.process": super::Started,
        },
        require_store_data_send: true,
    });
}

use bindings::wasmpod::process::processes as wire;

/// The package's name, in front of its interfaces'.
pub const PACKAGE: &str = "wasmpod:process/";

/// A pipe's reading end.
pub struct Reader {
    end: End,
    /// Its stream has been given: there is one, so that an end is two descriptors at most.
    is_read: bool,
}

/// A pipe's writing end.
pub struct Writer(End);

/// A process that the guest started.
pub struct Started(Child);

#[async_trait]
impl Pollable for Started {
    async fn ready(&mut self) {
        self.0.ended().await;
    }
}

/// What the functions see of a Store.
pub struct View<'a> {
    pub table: &'a mut ResourceTable,
    /// `None` where nothing is registered: a service's instances.
    pub own: Option<Arc<Process>>,
    pub kill: Arc<Kill>,
}

struct HasProcesses;

impl HasData for HasProcesses {
    type Data<'a> = View<'a>;
}

pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wire::add_to_linker::<State, HasProcesses>(linker, State::processes)
}

fn refusal(refused: Refused) -> wire::Error {
    match refused {
        Refused::Denied => wire::Error::Denied,
        Refused::Limit(most) => wire::Error::Limit(most),
        Refused::Missing => wire::Error::NoSuchProcess,
        Refused::Other(sentence) => wire::Error::Other(sentence),
    }
}

type Answer<T> = wasmtime::Result<Result<T, wire::Error>>;

impl View<'_> {
    fn own(&self) -> Result<&Arc<Process>, Refused> {
        self.own.as_ref().ok_or(Refused::Denied)
    }

    fn target(&self, output: &wire::Output) -> wasmtime::Result<Result<Target, Refused>> {
        Ok(match output {
            wire::Output::Stdout => Ok(Target::Stdout),
            wire::Output::Stderr => Ok(Target::Stderr),
            wire::Output::Nothing => Ok(Target::Nothing),
            wire::Output::Pipe(writer) => self.table.get(writer)?.0.copy().map(Target::Pipe),
        })
    }

    fn command(&self, asked: wire::Command) -> wasmtime::Result<Result<Command, Refused>> {
        let stdin = match asked.stdin {
            wire::Input::Inherit => Ok(Input::Inherit),
            wire::Input::Nothing => Ok(Input::Nothing),
            wire::Input::Pipe(reader) => self.table.get(&reader)?.end.copy().map(Input::Pipe),
            wire::Input::Bytes(bytes) => Ok(Input::Bytes(bytes)),
        };
        let (stdout, stderr) = (self.target(&asked.stdout)?, self.target(&asked.stderr)?);
        Ok((|| {
            Ok(Command {
                program: match asked.program {
                    wire::Program::Own => Program::Own,
                    wire::Program::Main => Program::Main,
                    wire::Program::File(path) => Program::File(path),
                },
                arguments: asked.arguments,
                environment: asked
                    .environment
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
                working_folder: asked.working_folder,
                stdin: stdin?,
                stdout: stdout?,
                stderr: stderr?,
            })
        })())
    }
}

impl wire::Host for View<'_> {
    fn pipe(&mut self) -> Answer<(Resource<Reader>, Resource<Writer>)> {
        match self.own().and_then(|own| own.pipe()) {
            Ok((end, writer)) => {
                let reader = self.table.push(Reader { end, is_read: false })?;
                Ok(Ok((reader, self.table.push(Writer(writer))?)))
            }
            Err(refused) => Ok(Err(refusal(refused))),
        }
    }

    fn spawn(&mut self, command: wire::Command) -> Answer<Resource<Started>> {
        let command = self.command(command)?;
        let started = command.and_then(|command| self.own()?.start(command));
        match started {
            Ok(child) => Ok(Ok(self.table.push(Started(child))?)),
            Err(refused) => Ok(Err(refusal(refused))),
        }
    }

    fn all(&mut self) -> Answer<Vec<wire::Info>> {
        let own = match self.own() {
            Ok(own) => own,
            Err(refused) => return Ok(Err(refusal(refused))),
        };
        let told = |info: processes::Info| wire::Info {
            id: info.id,
            parent: info.parent,
            container: info.container,
            arguments: info.arguments,
            cpu_nanoseconds: info.cpu_nanos,
            memory: info.memory,
            is_own: info.id == own.id,
        };
        Ok(own.all().map(|all| all.into_iter().map(told).collect()).map_err(refusal))
    }

    fn kill(&mut self, id: u32) -> Answer<()> {
        Ok(self.own().and_then(|own| own.kill(id)).map_err(refusal))
    }

    fn hold_interrupts(&mut self) -> Answer<()> {
        Ok(self.own().map(|own| own.hold_interrupts()).map_err(refusal))
    }

    fn release_interrupts(&mut self) -> Answer<bool> {
        Ok(self.own().map(|own| own.release_interrupts()).map_err(refusal))
    }
}

impl wire::HostReader for View<'_> {
    fn stream(&mut self, own: Resource<Reader>) -> Answer<Resource<DynInputStream>> {
        let reader = self.table.get_mut(&own)?;
        if std::mem::replace(&mut reader.is_read, true) {
            return Ok(Err(wire::Error::Other("the pipe's stream was given before".to_owned())));
        }
        let copy = match reader.end.copy() {
            Ok(copy) => copy,
            Err(refused) => return Ok(Err(refusal(refused))),
        };
        match Stream::new(Stdin::Descriptor(copy), self.kill.clone()) {
            Ok(input) => {
                let stream: DynInputStream = Box::new(StreamReader::Input(input));
                Ok(Ok(self.table.push(stream)?))
            }
            Err(error) => Ok(Err(wire::Error::Other(format!("reading a pipe: {error}")))),
        }
    }

    fn drop(&mut self, own: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(own)?;
        Ok(())
    }
}

impl wire::HostWriter for View<'_> {
    fn drop(&mut self, own: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(own)?;
        Ok(())
    }
}

impl wire::HostProcess for View<'_> {
    fn id(&mut self, own: Resource<Started>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&own)?.0.id)
    }

    fn ended(&mut self, own: Resource<Started>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, own)
    }

    fn exit_code(&mut self, own: Resource<Started>) -> wasmtime::Result<Option<u32>> {
        let code = self.table.get(&own)?.0.exit_code();
        Ok(code.map(|code| u32::try_from(code).unwrap_or(255)))
    }

    fn drop(&mut self, own: Resource<Started>) -> wasmtime::Result<()> {
        self.table.delete(own)?;
        Ok(())
    }
}
