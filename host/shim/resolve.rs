//! Finds what argv[0] of an exec means in a container's file system, through the path layer
//! alone, so that no name reaches outside the root.

use std::collections::BTreeSet;
use std::fs::File as HostFile;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::container::{Container, on_thread};
use super::kill::Kill;
use super::ledger::{Budget, Ledger};
use super::wasi::fs::{Dir, Entry, File, Kind, Node, OpenOptions, Root, uninterrupted};
use crate::error::{Error, Result};

/// Bytes of the largest program that is taken out of a container.
const LARGEST: u64 = 256 << 20;

/// How many programs an answer lists.
const LISTED: usize = 20;

/// How many files are looked into for that.
const LOOKS: usize = 200;

/// Where names are looked for when the container's environment has no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin:/";

const MAGIC: &[u8] = b"\0asm";

#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The container's own entry module.
    Entrypoint,
    /// Its path inside the root, and "sha256:..." of the bytes that were copied out.
    File { path: String, digest: String },
    /// What could be run instead.
    Nothing(Vec<String>),
}

/// Looks for `program`; what is found is copied to `copy_to`, a host path that is not there yet.
pub async fn resolve(
    container: Arc<Container>,
    program: String,
    copy_to: PathBuf,
) -> Result<Found> {
    if is_entrypoint(&container.spec.entry_path, &program) {
        return Ok(Found::Entrypoint);
    }
    let kill = Arc::new(Kill::new(container.host.engines.clone()));
    let session = container.sessions.begin(kill.clone());
    let parts = container.parts()?;
    let session = session
        .ok_or_else(|| Error::Precondition(format!("container {} is ending", container.id())))?;
    on_thread("w-resolve", move || {
        let found = (|| {
            let _interruptible = kill.enter();
            let _placed = container.control.enter()?;
            // The guest's own share of descriptors is not touched.
            let ledger = Arc::new(Ledger::new(Budget::new(0), 8, 0));
            let root = Root::new(parts.tree.open_root()?, ledger, container.host.devices.clone());
            let search = Search::new(root, &container, &kill)?;
            search.find(&program, &copy_to)
        })();
        drop(parts);
        drop(session);
        found
    })
    .await?
}

/// Whether `program` names the entry module: by its path, or by its file name with or without
/// the extension.
fn is_entrypoint(entry_path: &str, program: &str) -> bool {
    if program.contains('/') {
        return program == entry_path;
    }
    let name = entry_path.rsplit('/').next().unwrap_or(entry_path);
    !program.is_empty() && (program == name || Some(program) == name.strip_suffix(".wasm"))
}

struct Search<'a> {
    root: Root,
    top: Dir,
    kill: &'a Kill,
    container: &'a Container,
}

impl<'a> Search<'a> {
    fn new(root: Root, container: &'a Container, kill: &'a Kill) -> Result<Self> {
        let top = root.top().map_err(Error::sys("opening the container's root"))?;
        Ok(Self { root, top, kill, container })
    }

    fn find(&self, program: &str, copy_to: &Path) -> Result<Found> {
        for path in self.candidates(program) {
            if let Some(file) = self.open_program(&path) {
                let digest = self.copy(&file, &path, copy_to)?;
                return Ok(Found::File { path, digest });
            }
        }
        Ok(Found::Nothing(self.programs()))
    }

    fn candidates(&self, program: &str) -> Vec<String> {
        if program.starts_with('/') {
            return vec![program.to_owned()];
        }
        if program.contains('/') {
            return vec![join(&self.container.spec.working_dir, program)];
        }
        let folders = self.path().split(':').filter(|folder| folder.starts_with('/'));
        folders
            .flat_map(|folder| [join(folder, program), join(folder, &format!("{program}.wasm"))])
            .collect()
    }

    fn path(&self) -> &str {
        let env = &self.container.spec.env;
        env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
    }

    /// A regular file there that begins as a wasm binary does.
    fn open_program(&self, path: &str) -> Option<File> {
        let options = OpenOptions::default();
        let open = || self.root.open(&self.top, path.as_bytes(), &options);
        let Ok(Node::File(file)) = uninterrupted(self.kill, open) else { return None };
        let mut head = [0; MAGIC.len()];
        let count = uninterrupted(self.kill, || file.read_at(&mut head, 0)).ok()?;
        (head.get(..count) == Some(MAGIC)).then_some(file)
    }

    fn copy(&self, file: &File, path: &str, to: &Path) -> Result<String> {
        let mut copy = HostFile::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(Error::io(format!("making {}", to.display())))?;
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; 1 << 17];
        let mut at = 0;
        loop {
            let count = uninterrupted(self.kill, || file.read_at(&mut chunk, at))
                .map_err(Error::sys(format!("reading {path} in the container")))?;
            if count == 0 {
                return Ok(format!("sha256:{}", hex::encode(hasher.finalize())));
            }
            at += count as u64;
            if at > LARGEST {
                return Err(Error::Invalid(format!(
                    "{path} in the container is larger than {} MiB",
                    LARGEST >> 20
                )));
            }
            let bytes = chunk.get(..count).unwrap_or_default();
            hasher.update(bytes);
            copy.write_all(bytes).map_err(Error::io(format!("writing {}", to.display())))?;
        }
    }

    /// What could be run: the entry module and the wasm files where names are looked for.
    fn programs(&self) -> Vec<String> {
        let (mut found, mut looks) = (BTreeSet::new(), LOOKS);
        for folder in self.path().split(':').chain(["/"]).filter(|folder| folder.starts_with('/')) {
            // A folder that cannot be listed has nothing to offer.
            let _ = self.list(folder, (&mut found, &mut looks));
        }
        let entry = self.container.spec.entry_path.clone();
        found.remove(&entry);
        std::iter::once(entry).filter(|path| !path.is_empty()).chain(found).take(LISTED).collect()
    }

    /// Adds the programs of a folder, as long as there are `looks` left.
    fn list(
        &self,
        folder: &str,
        (found, looks): (&mut BTreeSet<String>, &mut usize),
    ) -> Result<(), Errno> {
        let options = OpenOptions { directory: true, ..OpenOptions::default() };
        let open = || self.root.open(&self.top, folder.as_bytes(), &options);
        let Node::Dir(dir) = uninterrupted(self.kill, open)? else { return Ok(()) };
        let mut cookie = 0;
        while found.len() <= LISTED && *looks > 0 {
            let entries = uninterrupted(self.kill, || dir.entries(cookie))?;
            let Some(last) = entries.last() else { break };
            cookie = last.cookie;
            for entry in &entries {
                let Some(path) = candidate(folder, entry) else { continue };
                // Folders, dangling links and texts may have such names too.
                if found.len() <= LISTED && *looks > 0 && !found.contains(&path) {
                    *looks -= 1;
                    found.extend(self.open_program(&path).map(|_| path));
                }
            }
        }
        Ok(())
    }
}

/// The path of an entry that may be a program, by its name and kind.
fn candidate(folder: &str, entry: &Entry) -> Option<String> {
    let name = std::str::from_utf8(&entry.name).ok()?;
    let is_file = matches!(entry.kind, Kind::File | Kind::Symlink | Kind::Unknown);
    (is_file && name.ends_with(".wasm")).then(|| join(folder, name))
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_module_is_known_by_path_and_by_name() {
        for (program, is) in [
            ("/opt/app.wasm", true),
            ("app.wasm", true),
            ("app", true),
            ("/app.wasm", false),
            ("app.was", false),
            ("", false),
        ] {
            assert_eq!(is_entrypoint("/opt/app.wasm", program), is, "{program:?}");
        }
    }
}
