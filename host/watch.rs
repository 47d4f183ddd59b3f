//! Waits for changes of files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Tells when something in a folder changes: a file grows, appears or is renamed.
#[derive(Debug)]
pub struct FolderWatch(Option<AsyncFd<OwnedFd>>);

impl FolderWatch {
    /// Where the kernel gives no watch (its number is limited), waiting falls back to the clock.
    pub fn new(folder: &Path) -> Self {
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let open = || -> io::Result<AsyncFd<OwnedFd>> {
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            inotify::add_watch(&watch, folder, flags)?;
            // Deprecated for types that may change their descriptor; an `OwnedFd` does not, and
            // its replacement is unsafe.
            #[allow(deprecated)]
            AsyncFd::new(watch)
        };
        Self(open().ok())
    }

    /// Waits for a change since the last call.
    pub async fn changed(&self) {
        let Some(watch) = &self.0 else {
            return tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if let Ok(mut ready) = watch.readable().await {
            let mut buffer = [0u8; 4096];
            while rustix::io::read(watch.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {}
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_growing_file_rings_its_folders_watch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let watch = FolderWatch::new(folder.path());
        std::fs::write(&path, "x").unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
    }
}
