//! The threads that a service's connections are spread over: which takes one, when another thread
//! begins, when it goes. A service that one connection at a time asks has its own thread alone.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::mpsc;

use super::instance::{Life, Living};
use super::serve::{Service, runtime};
use crate::shim::guest::Crew;
use crate::shim::keeping::Keeping;
use crate::shim::ledger::DescriptorPermit;

/// Threads of one service at most.
const MOST: usize = 4;

/// How long a thread without connections stays.
pub const STAY: Duration = Duration::from_secs(10);

/// A client's connection, on nobody's runtime, and what it counts in.
pub struct Connection {
    pub stream: std::net::TcpStream,
    pub permit: DescriptorPermit,
}

/// A thread beside the service's own.
struct Helper {
    ways: mpsc::UnboundedSender<(Connection, Life)>,
    connections: Living,
    thread: JoinHandle<()>,
}

impl Helper {
    fn serves(&self) -> bool {
        !self.ways.is_closed()
    }
}

/// The service's own thread, in whose runtime this is used, and those that help it.
pub struct Hands {
    own: Arc<Service>,
    crew: Option<Arc<dyn Crew>>,
    helpers: Vec<Helper>,
}

impl Hands {
    pub fn new(own: Arc<Service>, crew: Option<Arc<dyn Crew>>) -> Self {
        Self { own, crew, helpers: Vec::new() }
    }

    /// Gives the connection to the thread that has the fewest.
    pub fn give(&mut self, open: &GracefulShutdown, connection: Connection) {
        let least = self.choose();
        let connection = match least.and_then(|index| self.helpers.get(index)) {
            Some(helper) => {
                let given = helper.ways.send((connection, helper.connections.begin()));
                // It has gone meanwhile.
                given.err().map(|refused| refused.0.0)
            }
            None => Some(connection),
        };
        if let Some(connection) = connection {
            let life = self.own.connections.begin();
            self.own.clone().take(open, connection, life);
        }
    }

    /// Which helper is to have the next connection; `None`: the service's own thread.
    fn choose(&mut self) -> Option<usize> {
        let own = self.own.connections.count();
        if own == 0 {
            return None;
        }
        self.helpers.retain(|helper| !helper.thread.is_finished());
        let serving = self.helpers.iter().enumerate().filter(|(_, helper)| helper.serves());
        let least = serving
            .map(|(index, helper)| (helper.connections.count(), index))
            .min()
            .filter(|&(count, _)| count < own);
        match least {
            Some((0, index)) => Some(index),
            least => self.begin().or(least.map(|(_, index)| index)),
        }
    }

    /// One more helper, where the CPUs have work for it.
    fn begin(&mut self) -> Option<usize> {
        let crew = self.crew.as_ref()?;
        if self.helpers.len() + 1 >= crew.size().min(MOST) {
            return None;
        }
        let (ways, arriving) = mpsc::unbounded_channel();
        let service = self.own.again();
        let connections = service.connections.clone();
        // Without a thread to be had those that there are do the work.
        let thread = crew.begin(Box::new(move || help(&service, arriving))).ok()?;
        self.helpers.push(Helper { ways, connections, thread });
        Some(self.helpers.len() - 1)
    }

    /// Waits for the helpers' ends, which come by the service's stop or kill.
    pub fn join(self) {
        for helper in self.helpers {
            // What a thread that failed had to do failed for its clients.
            let _ = helper.thread.join();
        }
    }
}

/// A helper's life on its thread.
fn help(service: &Arc<Service>, arriving: mpsc::UnboundedReceiver<(Connection, Life)>) {
    let _keeping = Keeping::begin();
    let Ok(runtime) = runtime(&service.control()) else { return };
    let kill = service.kill();
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = kill.killed() => {}
            () = serve(service, arriving) => {}
        }
    });
}

/// Returns once asked to end, or without connections for a while, and all that was under way is
/// done.
async fn serve(service: &Arc<Service>, mut arriving: mpsc::UnboundedReceiver<(Connection, Life)>) {
    let open = GracefulShutdown::new();
    let kill = service.kill();
    let mut asked = std::pin::pin!(kill.asked());
    loop {
        tokio::select! {
            biased;
            () = &mut asked => break,
            next = next(service, &mut arriving) => match next {
                Some((connection, life)) => service.clone().take(&open, connection, life),
                // Closed, and what came at that moment is served.
                None => {
                    tokio::select! {
                        () = &mut asked => {}
                        () = service.connections.none() => {}
                    }
                    break;
                }
            },
        }
    }
    service.finish(open).await;
}

/// The next connection; closes the way, once there has been none for a while.
async fn next(
    service: &Service,
    arriving: &mut mpsc::UnboundedReceiver<(Connection, Life)>,
) -> Option<(Connection, Life)> {
    tokio::select! {
        biased;
        next = arriving.recv() => return next,
        () = service.connections.none() => {}
    }
    if let Ok(next) = tokio::time::timeout(STAY, arriving.recv()).await {
        return next;
    }
    arriving.close();
    arriving.recv().await
}
