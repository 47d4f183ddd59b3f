//! WASI for guests: files on one path layer (`fs`), and the three kinds of guest above it;
//! `component` is what p2 and p3 share. Knows nothing of containers' lives.

pub(crate) mod component;
pub mod fs;
pub mod http;
mod identity;
pub mod p1;
pub mod p2;
pub mod p3;
mod processes;
mod this;
mod working_dir;

use crate::error::cut;

/// Names that a sentence lists, and bytes of each: they are the guest's.
const LISTED: usize = 5;
const LONGEST: usize = 120;

/// The first few of some names, and how many more there are.
fn some_of(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<String> =
        names.iter().take(LISTED).map(|name| cut(name.as_ref().to_owned(), LONGEST)).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
