//! What operators see of the daemon from outside: counts and durations (`metrics`, served by
//! `exposition`), and the phases of a pod's start (`trace`). Both are off unless the configuration
//! asks for them; other parts count and mark phases here all the same and know no exporter.

pub mod exposition;
pub mod metrics;
pub mod trace;

pub use metrics::metrics;
