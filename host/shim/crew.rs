//! A container's threads beside the one it was built on, for guests that several may serve.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::container::Container;
use super::guest::Crew;
use super::sandbox::thread_name;
use crate::engine::THREAD_STACK;

impl Crew for Arc<Container> {
    fn size(&self) -> usize {
        self.control.width()
    }

    /// Called by a thread of the container's, whose namespaces and user the new one has from birth.
    fn begin(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        let own = self.clone();
        let named = Builder::new().name(thread_name('h', self.id().as_str()));
        named.stack_size(THREAD_STACK).spawn(move || {
            let _entered = own.kill.enter();
            match own.control.enter() {
                Ok(_placed) => work(),
                // Work that is dropped is done by somebody else.
                Err(error) => tracing::error!(container = %own.id(), %error, "no help"),
            }
        })
    }
}
