//! Tests of the path layer in folders of their own: `root` is the container's, `outside` the
//! host's, and nothing may lead from one to the other.

mod hostile;
mod names;
mod objects;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Create, Devices, Dir, File, Node, OpenOptions, Result, Root};
use crate::shim::ledger::{Budget, Ledger};

/// What lies outside and must never be seen nor touched.
const CANARY: &str = "the canary sings";

struct House {
    folder: tempfile::TempDir,
    root: Arc<Root>,
    top: Dir,
    ledger: Arc<Ledger>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["root", "outside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("outside/canary"), CANARY).unwrap();
        Self::over(folder, Devices::default())
    }

    fn over(folder: tempfile::TempDir, devices: Devices) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(folder.path().join("root"), flags, Mode::empty()).unwrap();
        let ledger = Arc::new(Ledger::new(Budget::new(u64::MAX), 32, 32));
        let root = Arc::new(Root::new(dir, ledger.clone(), Arc::new(devices)));
        let top = root.top().unwrap();
        Self { folder, root, top, ledger }
    }

    /// Where a path of the container is on the host.
    fn inside(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.folder.path().join("outside").join(path)
    }

    fn open(&self, path: &str) -> Result<Node> {
        self.root.open(&self.top, path.as_bytes(), &OpenOptions::default())
    }

    fn dir(&self, path: &str) -> Dir {
        match self.open(path).unwrap() {
            Node::Dir(dir) => dir,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, dir: &Dir, path: &str) -> Result<String> {
        match self.root.open(dir, path.as_bytes(), &OpenOptions::default())? {
            Node::File(file) => Ok(text(&file)),
            other => panic!("{other:?}"),
        }
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(self.outside("canary")).unwrap(), CANARY);
        assert_eq!(fs::read_dir(self.outside("")).unwrap().count(), 1);
    }
}

fn writing(create: Create) -> OpenOptions {
    OpenOptions { write: true, create, ..OpenOptions::default() }
}

fn text(file: &File) -> String {
    let mut bytes = [0; 100];
    let length = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

fn error<T>(result: Result<T>) -> Errno {
    result.err().expect("an error")
}
