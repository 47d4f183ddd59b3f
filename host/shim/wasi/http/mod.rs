//! Guests that answer HTTP requests: components that export wasi:http/incoming-handler (0.2) or
//! wasi:http/handler (0.3). Each is served on a port of its pod's network by its own thread, an
//! instance for each request or for a few; wasmtime-wasi-http turns requests into calls. Here is
//! also where any component's own requests go out.

mod body;
mod client;
mod hands;
mod instance;
mod serve;

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre as ProxyPreOf02;
use wasmtime_wasi_http::p3::bindings::ServicePre as ServicePreOf03;

pub use client::{Authorities, Outgoing};

use super::component::{Linked, State, exports};
use crate::shim::guest::{Context, Ended};

/// What a service of 0.2 exports, and one of 0.3, in front of their versions.
const HANDLER_OF_02: &str = "wasi:http/incoming-handler@0.2.";
const HANDLER_OF_03: &str = "wasi:http/handler@0.3.";

/// A service with its imports found.
pub struct Program {
    pre: Arc<ProxyPre<State>>,
    engine: Engine,
}

impl Program {
    /// `Err` is one sentence naming what is missing.
    pub fn link(engine: &Engine, component: &Component) -> Result<Self, String> {
        let linker = super::p3::linker(engine)
            .map_err(|error| format!("no linker for services: {error:#}"))?;
        let linked = Linked::new(&linker, component)?;
        let is_of_03 =
            exports(engine, component).iter().any(|name| name.starts_with(HANDLER_OF_03));
        let pre = match is_of_03 {
            true => ServicePreOf03::new(linked.pre).map(ProxyPre::P3),
            false => ProxyPreOf02::new(linked.pre).map(ProxyPre::P2),
        };
        let pre = pre.map_err(|error| format!("the component is no service: {error:#}"))?;
        Ok(Self { pre: Arc::new(pre), engine: engine.clone() })
    }

    /// Serves until asked to end and done, or killed.
    /// Each instance takes `footprint` bytes beside its memories.
    pub fn run(&self, context: Context, footprint: u64) -> Ended {
        let program = serve::Runs { engine: &self.engine, pre: self.pre.clone(), footprint };
        serve::run(&program, context)
    }
}

/// Whether the component answers HTTP requests.
pub fn exports_service(exports: &[String]) -> bool {
    let handlers = [HANDLER_OF_02, HANDLER_OF_03];
    exports.iter().any(|name| handlers.iter().any(|handler| name.starts_with(handler)))
}
