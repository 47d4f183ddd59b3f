//! What operators see: the daemon's metrics on their address, and traces of pods' starts.

mod collector;
mod exposition;
mod traces;
