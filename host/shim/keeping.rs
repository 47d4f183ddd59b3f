//! What a service's thread keeps of an instance that is gone for the next: stacks and memories.

use super::{memories, stacks};

/// While it lives, this thread keeps.
pub struct Keeping(());

impl Keeping {
    pub fn begin() -> Self {
        let keeping = Self(());
        keeping.let_go();
        keeping
    }

    /// Lets go what there is, and keeps on.
    pub fn let_go(&self) {
        stacks::keep();
        memories::keep();
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        stacks::keep_no_more();
        memories::keep_no_more();
    }
}
