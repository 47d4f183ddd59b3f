//! What a service's thread keeps of an instance that is gone for the next: stacks and memories.

use std::cell::RefCell;

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
        stacks::SPARES.with(Spares::keep);
        memories::SPARES.with(Spares::keep);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        stacks::SPARES.with(Spares::keep_no_more);
        memories::SPARES.with(Spares::keep_no_more);
    }
}

/// Things of one kind that a thread keeps, while it keeps any.
pub struct Spares<T> {
    most: usize,
    /// `None`: this thread keeps none.
    kept: RefCell<Option<Vec<T>>>,
}

impl<T> Spares<T> {
    /// Of a thread that keeps none yet, and never more than `most`.
    pub const fn new(most: usize) -> Self {
        Self { most, kept: RefCell::new(None) }
    }

    /// From now on this thread keeps them; those that it keeps are let go.
    fn keep(&self) {
        self.kept.replace(Some(Vec::with_capacity(self.most)));
    }

    /// Lets go what this thread keeps, and keeps no more.
    fn keep_no_more(&self) {
        self.kept.take();
    }

    pub fn take(&self) -> Option<T> {
        self.kept.borrow_mut().as_mut()?.pop()
    }

    /// Keeps one where there is room for it and `is_cleaned` then says that it can be used again;
    /// else lets it go.
    pub fn give(&self, spare: T, is_cleaned: impl FnOnce(&T) -> bool) {
        if let Ok(mut kept) = self.kept.try_borrow_mut()
            && let Some(kept) = kept.as_mut().filter(|kept| kept.len() < self.most)
            && is_cleaned(&spare)
        {
            kept.push(spare);
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> Option<usize> {
        self.kept.borrow().as_ref().map(Vec::len)
    }
}
