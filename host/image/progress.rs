//! What is told of an image on its way in, for whoever waits for it.

use std::sync::Arc;

/// One thing that begins or has advanced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A layer is unpacked; those that are there already are not told of.
    Unpacking { layer: usize, of: usize },
    /// So many of the image's programs have their machine code.
    Compiling { done: usize, of: usize },
}

/// Called from any thread, and never for long.
pub type Progress = Arc<dyn Fn(Step) + Send + Sync>;

/// For nobody.
pub fn silent() -> Progress {
    Arc::new(|_| ())
}
