//! Counts a component's sockets as descriptors of its container. wasmtime-wasi makes and closes
//! them without telling anybody, so they are counted where they lie in the table.

use std::any::Any;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{p2, sockets};

use crate::shim::ledger::{DescriptorPermit, Ledger};

/// A Store's permits for its sockets: as many as it had when last counted.
pub struct Sockets {
    permits: Vec<DescriptorPermit>,
    ledger: Arc<Ledger>,
}

impl Sockets {
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { permits: Vec::new(), ledger }
    }

    /// Takes permits for sockets that have come, as far as there are any, and gives back those
    /// of sockets that are closed.
    pub fn count(&mut self, table: &mut ResourceTable) {
        let sockets = table.iter_mut().filter(|entry| is_socket(&**entry)).count();
        self.permits.truncate(sockets);
        while self.permits.len() < sockets
            && let Some(permit) = self.ledger.socket()
        {
            self.permits.push(permit);
        }
    }

    /// Whether there is a permit for every socket that has come.
    pub fn are_within(&mut self, table: &mut ResourceTable) -> bool {
        self.count(table);
        table.iter_mut().filter(|entry| is_socket(&**entry)).count() <= self.permits.len()
    }

    /// Takes a permit for a socket that is about to be made; without one it must not be.
    pub fn admit(&mut self, table: &mut ResourceTable) -> bool {
        self.count(table);
        self.ledger.socket().map(|permit| self.permits.push(permit)).is_some()
    }
}

fn is_socket(entry: &dyn Any) -> bool {
    entry.is::<p2::TcpSocket>()
        || entry.is::<p2::UdpSocket>()
        || entry.is::<sockets::TcpSocket>()
        || entry.is::<sockets::UdpSocket>()
}
