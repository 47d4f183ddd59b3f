//! How many pods, containers and shims there are, by state: what metrics show.

use super::Runtime;
use crate::model::handler::{self, ProcessPlace};
use crate::model::sandbox::SandboxState;
use crate::telemetry::metrics::Census;

impl Runtime {
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        let index = self.records.read();
        for sandbox in index.sandboxes.iter() {
            let state = match sandbox.state {
                SandboxState::NotReady => "notready",
                state => state.name(),
            };
            let key = (state, handler_of(&sandbox.handler));
            *census.sandboxes.entry(key).or_default() += 1;
        }
        for container in index.containers.iter() {
            let sandbox = index.sandboxes.get(&container.sandbox);
            let handler = handler_of(sandbox.map_or("", |sandbox| &sandbox.handler));
            *census.containers.entry((container.state.name(), handler)).or_default() += 1;
        }
        for shim in index.shims.values() {
            let kind = match shim.place {
                ProcessPlace::Shared => "shared",
                ProcessPlace::Pod => "pod",
            };
            *census.shims.entry(kind).or_default() += 1;
        }
        census
    }
}

fn handler_of(name: &str) -> String {
    if name.is_empty() { handler::DEFAULT } else { name }.to_owned()
}
