//! What a container is told of itself (interface `self`): for programs that pods run, not for
//! plugins. They are components built for `wasm32-wasip2`.

use crate::{Container, CpuSet, Pod, backend};

/// The pod as it was when this container was created.
pub fn pod() -> Pod {
    backend::this::pod()
}

/// This container as it was created, with what plugins made of it. Its state and its start are
/// those of now; its resources are those of its creation, whatever was changed since.
pub fn container() -> Container {
    backend::this::container()
}

/// The CPUs that this thread may be on now.
pub fn cpuset() -> CpuSet {
    backend::this::cpuset()
}

/// The container is asked to end; it has its grace left.
pub struct StopRequest(backend::this::Stop);

/// A main program that asks for this hears stops, so it is not ended before its grace is over. Hold
/// it: asking is cheap, but it is the first call that says so.
pub fn stop_requested() -> StopRequest {
    StopRequest(backend::this::stop_requested())
}

impl StopRequest {
    pub fn has_come(&self) -> bool {
        self.0.ready()
    }

    /// Returns when it has come.
    pub fn wait(&self) {
        self.0.block();
    }
}

/// Ends the container with this very code. A service ends as a whole, requests under way included;
/// of a program beside the main one (exec) that program ends alone.
pub fn exit(code: u8) -> ! {
    backend::this::exit(code)
}
