//! Folders' listings, entry by entry.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::io::Errno;

use super::descriptor::{Descriptor, Files};
use super::state::Fault;
use crate::shim::wasi::fs::{Dir, Entry, Follow, Kind};

type Result<T> = std::result::Result<T, Fault>;

/// A folder's listing in progress. Holds the folder open.
pub struct Listing {
    dir: Arc<Dir>,
    /// Where to go on; `None` after the end.
    cookie: Option<u64>,
    entries: VecDeque<Entry>,
}

impl Files {
    pub fn listing(&self, of: &Descriptor) -> Result<Listing> {
        Ok(Listing { dir: of.dir()?.clone(), cookie: Some(0), entries: VecDeque::new() })
    }

    /// The next entry; `None` at the end. EILSEQ for a name that is not UTF-8, after which the
    /// listing goes on. "." and ".." are left out, as WASI has it.
    pub fn next_entry(&self, listing: &mut Listing) -> Result<Option<(String, Kind)>> {
        loop {
            let Some(entry) = listing.entries.pop_front() else {
                let Some(cookie) = listing.cookie else { return Ok(None) };
                listing.entries = self.call(|| listing.dir.entries(cookie))?.into();
                listing.cookie = listing.entries.back().map(|last| last.cookie);
                continue;
            };
            if matches!(entry.name.as_slice(), b"." | b"..") {
                continue;
            }
            let kind = match entry.kind {
                // Some file systems do not say it in their listings.
                Kind::Unknown => {
                    let stat = || self.root.stat(&listing.dir, &entry.name, Follow::No);
                    self.call(stat).map_or(Kind::Unknown, |stat| stat.kind)
                }
                kind => kind,
            };
            let name = String::from_utf8(entry.name).map_err(|_| Errno::ILSEQ)?;
            return Ok(Some((name, kind)));
        }
    }
}
