//! Loaded programs by the digest of their wasm, shared by every container and exec of this shim.
//! Machine code is mapped only after its SHA-256 was found right on the very descriptor that is
//! mapped.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use wasmtime::component::Component;

use super::guest::{Form, Kind, LoadError, Program, load_component};
use super::ledger::{Ledger, Taken};
use super::lock;
use crate::engine::Engines;
use crate::error::{Error, Result};

/// Programs that nothing runs are kept up to this many.
const UNUSED_KEPT: usize = 64;

/// And for this long: a restart, or a probe that is asked every few seconds, finds its program
/// loaded. Its file may have been removed; mapped, it still takes its place on disk.
const UNUSED_FOR: Duration = Duration::from_secs(60);

/// Where machine code lies and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub path: PathBuf,
    /// Lower-case hex.
    pub sha256: String,
    /// Digest of the wasm binary that it was made from.
    pub module: String,
    pub form: Form,
    /// Bytes of the host's memory that one run takes beside the guest's memories and tables.
    pub footprint: u64,
}

/// What became of loading a program.
#[derive(Clone)]
pub enum Loaded {
    Ready(Arc<Program>),
    /// It never can run here; one sentence.
    Unlinkable(String),
    /// It takes more of the host's memory than its container may have; one sentence.
    TooLarge(String),
}

pub struct Programs {
    engines: Engines,
    shelf: Mutex<Shelf>,
    /// Somebody has let go of a program.
    released: Notify,
}

#[derive(Default)]
struct Shelf {
    slots: HashMap<String, Slot>,
    uses: u64,
}

struct Slot {
    /// Locked while the one that comes first loads; the others wait for it.
    loaded: Arc<Mutex<Option<Loaded>>>,
    last_use: u64,
    /// Since when nobody has been seen to use it.
    unused_since: Option<Instant>,
}

impl Programs {
    pub fn new(engines: Engines) -> Self {
        Self { engines, shelf: Mutex::default(), released: Notify::new() }
    }

    /// As [`Programs::load`], unless the program takes more than is left to whom `ledger` is of:
    /// its description alone may be hundreds of megabytes.
    pub fn load_within(&self, code: &Code, ledger: &Arc<Ledger>) -> Result<Loaded> {
        match Taken::take(ledger.clone(), code.footprint) {
            // Taken again for as long as it runs.
            Ok(_) => self.load(code),
            Err(refused) => Ok(Loaded::TooLarge(refused.to_string())),
        }
    }

    /// Loads a program or finds it loaded; reads and hashes the file, so it belongs on the
    /// thread of whoever wants it. [`Error::StaleCode`] when the file is absent, corrupt or made
    /// for another engine.
    pub fn load(&self, code: &Code) -> Result<Loaded> {
        let slot = {
            let mut shelf = lock(&self.shelf);
            shelf.uses += 1;
            let last_use = shelf.uses;
            let slot = shelf.slots.entry(code.module.clone()).or_insert_with(|| Slot {
                loaded: Arc::default(),
                last_use,
                unused_since: None,
            });
            slot.last_use = last_use;
            slot.unused_since = None;
            slot.loaded.clone()
        };
        let mut loaded = lock(&slot);
        if let Some(loaded) = &*loaded {
            return Ok(loaded.clone());
        }
        let fresh = read(&self.engines, code)?;
        *loaded = Some(fresh.clone());
        drop(loaded);
        drop(slot);
        let dropped = lock(&self.shelf).make_room();
        // Unmapping takes its time: not under the lock.
        drop(dropped);
        Ok(fresh)
    }

    /// A component that is no program. Reads and hashes the file as [`Programs::load`] does.
    pub fn component(&self, code: &Code) -> Result<Component> {
        let (_file, open) = verified(code)?;
        // SAFETY: as in `read`.
        let component = unsafe { load_component(&self.engines, &open) };
        component.map_err(|error| stale(code, format!("{error:#}")))
    }

    /// To be told by whoever has let go of a program.
    pub fn released(&self) {
        self.released.notify_one();
    }

    /// Lets programs go that nothing has used for a while; never ends. Sleeps while there are
    /// none of those.
    pub async fn let_go(&self) {
        loop {
            self.released.notified().await;
            while self.sweep(UNUSED_FOR) > 0 {
                tokio::time::sleep(UNUSED_FOR / 2).await;
            }
        }
    }

    /// Lets go what nothing has used for so long; how many unused programs are left.
    fn sweep(&self, unused_for: Duration) -> usize {
        let (gone, left) = lock(&self.shelf).sweep(unused_for);
        // Unmapping takes its time: not under the lock.
        drop(gone);
        left
    }

    /// How many programs are held.
    pub fn count(&self) -> usize {
        lock(&self.shelf).slots.len()
    }
}

impl Shelf {
    /// Takes out what has been unused for so long; and how many are unused besides.
    fn sweep(&mut self, unused_for: Duration) -> (Vec<Slot>, usize) {
        let (mut gone, mut left) = (Vec::new(), 0);
        for slot in self.slots.values_mut() {
            match (slot.is_unused(), slot.unused_since) {
                (true, None) => slot.unused_since = Some(Instant::now()),
                (true, Some(_)) => {}
                (false, _) => slot.unused_since = None,
            }
        }
        let modules: Vec<String> = self.slots.keys().cloned().collect();
        for module in modules {
            match self.slots.get(&module).and_then(|slot| slot.unused_since) {
                Some(since) if since.elapsed() >= unused_for => {
                    gone.extend(self.slots.remove(&module));
                }
                Some(_) => left += 1,
                None => {}
            }
        }
        (gone, left)
    }

    /// Takes out what nothing uses beyond [`UNUSED_KEPT`], the least recently used first.
    fn make_room(&mut self) -> Vec<Slot> {
        let mut unused: Vec<(u64, String)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_unused())
            .map(|(module, slot)| (slot.last_use, module.clone()))
            .collect();
        unused.sort_unstable();
        let over = unused.len().saturating_sub(UNUSED_KEPT);
        unused.iter().take(over).filter_map(|(_, module)| self.slots.remove(module)).collect()
    }
}

impl Slot {
    fn is_unused(&self) -> bool {
        if Arc::strong_count(&self.loaded) > 1 {
            return false;
        }
        match &*lock(&self.loaded) {
            Some(Loaded::Ready(program)) => Arc::strong_count(program) == 1,
            Some(Loaded::Unlinkable(_) | Loaded::TooLarge(_)) | None => true,
        }
    }
}

fn stale(code: &Code, what: impl std::fmt::Display) -> Error {
    Error::StaleCode(format!("machine code {}: {what}", code.path.display()))
}

/// The file, and a path by which it alone can be mapped while it is open.
fn verified(code: &Code) -> Result<(File, PathBuf)> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&code.path)
        .map_err(|error| stale(code, error))?;
    let found = sha256(&mut file).map_err(|error| stale(code, error))?;
    if found != code.sha256 {
        return Err(stale(code, format!("its SHA-256 is {found}, expected {}", code.sha256)));
    }
    let open = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok((file, open))
}

fn read(engines: &Engines, code: &Code) -> Result<Loaded> {
    let (_file, open) = verified(code)?;
    // SAFETY: the bytes are those whose digest the daemon recorded when its compile child wrote
    // them; such files are mode 0400, written once and renamed in, never written again.
    match unsafe { Kind::load(engines, &open, code.form) } {
        Ok(kind) => Ok(Loaded::Ready(Arc::new(Program { kind, footprint: code.footprint }))),
        Err(LoadError::Link(sentence)) => Ok(Loaded::Unlinkable(sentence)),
        Err(LoadError::Code(error)) => Err(stale(code, format!("{error:#}"))),
    }
}

fn sha256(file: &mut File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 17];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(count) => hasher.update(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn code(dir: &Path, name: &str, bytes: &[u8]) -> Code {
        let path = dir.join(name);
        std::fs::write(&path, bytes).expect("writes");
        let sha256 = hex::encode(Sha256::digest(bytes));
        Code { path, sha256, module: format!("sha256:{name}"), form: Form::Module, footprint: 0 }
    }

    fn machine_code(engines: &Engines, wat: &str) -> Vec<u8> {
        engines.mapped.precompile_module(&wat::parse_str(wat).expect("parses")).expect("compiles")
    }

    #[test]
    fn a_program_is_loaded_once_and_outlives_its_file() {
        let engines = Engines::plain();
        let dir = tempfile::tempdir().expect("a folder");
        let bytes = machine_code(
            &engines,
            r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
        );
        let code = code(dir.path(), "a", &bytes);
        let programs = Programs::new(engines);
        let Loaded::Ready(first) = programs.load(&code).expect("loads") else { panic!("links") };
        std::fs::remove_file(&code.path).expect("removes");
        let Loaded::Ready(second) = programs.load(&code).expect("is held") else { panic!("links") };
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_program_over_its_container_s_memory_is_not_even_loaded() {
        let engines = Engines::plain();
        let programs = Programs::new(engines);
        let dir = tempfile::tempdir().expect("a folder");
        let code = Code { footprint: 2 << 20, ..code(dir.path(), "a", b"never read") };
        let ledger = Arc::new(Ledger::new(crate::shim::ledger::Budget::new(1 << 20), 0, 0));
        let Ok(Loaded::TooLarge(sentence)) = programs.load_within(&code, &ledger) else {
            panic!("it was loaded")
        };
        assert_eq!(sentence, "out of memory: the limit is 1048576 bytes");
        assert_eq!((programs.count(), ledger.memory.used()), (0, 0));
    }

    #[test]
    fn corrupt_and_foreign_files_are_stale_and_not_remembered() {
        let engines = Engines::plain();
        let dir = tempfile::tempdir().expect("a folder");
        let bytes = machine_code(
            &engines,
            r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
        );
        let programs = Programs::new(engines);

        let foreign = code(dir.path(), "a", b"no machine code");
        assert!(matches!(programs.load(&foreign), Err(Error::StaleCode(_))));
        let mut corrupt = code(dir.path(), "a", &bytes);
        corrupt.sha256 = "0".repeat(64);
        assert!(matches!(programs.load(&corrupt), Err(Error::StaleCode(_))));
        let right = code(dir.path(), "a", &bytes);
        assert!(programs.load(&right).is_ok());
    }

    #[test]
    fn a_program_that_nothing_uses_is_let_go_after_a_while() {
        let engines = Engines::plain();
        let dir = tempfile::tempdir().expect("a folder");
        let bytes = machine_code(&engines, r#"(module (func (export "_start")))"#);
        let code = code(dir.path(), "a", &bytes);
        let programs = Programs::new(engines);
        let used = programs.load(&code).expect("loads");
        assert_eq!((programs.sweep(Duration::ZERO), programs.count()), (0, 1));
        drop(used);
        assert_eq!((programs.sweep(UNUSED_FOR), programs.count()), (1, 1));
        drop(programs.load(&code).expect("is held"));
        assert_eq!((programs.sweep(UNUSED_FOR), programs.count()), (1, 1));
        assert_eq!((programs.sweep(Duration::ZERO), programs.count()), (0, 0));
    }

    #[test]
    fn unused_programs_beyond_the_shelf_go_oldest_first() {
        let engines = Engines::plain();
        let dir = tempfile::tempdir().expect("a folder");
        let bytes = machine_code(
            &engines,
            r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
        );
        let programs = Programs::new(engines);
        let used = programs.load(&code(dir.path(), "used", &bytes)).expect("loads");
        for name in 0..UNUSED_KEPT + 3 {
            programs.load(&code(dir.path(), &name.to_string(), &bytes)).expect("loads");
        }
        // The one in use, the one in hand at the last load, and the shelf.
        assert_eq!(programs.count(), UNUSED_KEPT + 2);
        let held = |name: &str| lock(&programs.shelf).slots.contains_key(&format!("sha256:{name}"));
        assert!(held("used") && !held("0") && !held("1") && held("2"));
        drop(used);
    }
}
