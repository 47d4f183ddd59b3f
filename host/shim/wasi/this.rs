//! How a component asks what it is: wasmpod:lifecycle/self, which guest-sdk/wit describes.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{I32Exit, async_trait};

use super::component::State;
use crate::interface::About;
use crate::interface::this::{self, Host};
use crate::interface::types::{self, Container, Pod};
use crate::shim::cpu;
use crate::shim::guest::Role;
use crate::shim::kill::Kill;
use crate::shim::this::This;

/// The interface's name, in front of its version.
pub const INTERFACE: &str = "wasmpod:lifecycle/self@";

/// What the functions see of a Store.
pub struct View<'a> {
    pub table: &'a mut ResourceTable,
    pub this: Arc<This>,
    pub role: Role,
}

struct HasThis;

impl HasData for HasThis {
    type Data<'a> = View<'a>;
}

pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasThis>(linker, State::this)?;
    this::add_to_linker::<State, HasThis>(linker, State::this)
}

/// Ready once the container is to end.
struct Stop(Arc<Kill>);

#[async_trait]
impl Pollable for Stop {
    async fn ready(&mut self) {
        self.0.asked().await;
    }
}

impl View<'_> {
    fn about(&self) -> wasmtime::Result<About> {
        let untold =
            |error| wasmtime::Error::msg(format!("the container is not told what it is: {error}"));
        self.this.about().map_err(untold)
    }
}

impl types::Host for View<'_> {}

impl Host for View<'_> {
    fn own_pod(&mut self) -> wasmtime::Result<Pod> {
        self.about().map(|about| about.pod)
    }

    fn own_container(&mut self) -> wasmtime::Result<Container> {
        self.about().map(|about| about.container)
    }

    fn cpuset(&mut self) -> wasmtime::Result<String> {
        Ok(cpu::own().to_string())
    }

    fn stop_requested(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        // What is run beside the main program does not make it wait.
        if self.role == Role::Main {
            self.this.listen();
        }
        let stop = self.table.push(Stop(self.this.kill.clone()))?;
        subscribe(self.table, stop)
    }

    fn exit(&mut self, code: u8) -> wasmtime::Result<()> {
        if self.role == Role::Main {
            self.this.exit(code);
        }
        Err(wasmtime::Error::new(I32Exit(code.into())))
    }
}
