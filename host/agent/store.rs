//! The agent's desired state on disk: one JSON file per pod under `<root>/agent/pods`, written
//! for power loss. Knows files only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{PodDirs, Record};
use crate::error::{Error, Result};

/// `<root>/agent/pods`: `<uid>.json` is a pod's record, `<uid>/` holds its volumes and logs.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder, making it, and sweeps what half-done writes and removals left.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = root.join("agent/pods");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(Error::io(format!("making {}", folder.display())))?;
        Ok(Self { folder })
    }

    pub fn dirs(&self, uid: &str) -> PodDirs {
        PodDirs::new(self.folder.join(uid))
    }

    fn file(&self, uid: &str) -> PathBuf {
        self.folder.join(format!("{uid}.json"))
    }

    /// Every pod's record. One that cannot be read is logged and left where it is.
    pub fn load(&self) -> Result<Vec<Record>> {
        let doing = || format!("reading {}", self.folder.display());
        let mut records = Vec::new();
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io(doing()))? {
            let path = entry.map_err(Error::io(doing()))?.path();
            match path.extension().and_then(|end| end.to_str()) {
                Some("json") => match read(&path) {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::error!(%error, "a pod of the agent is left out"),
                },
                Some("tmp") => remove_file(&path)?,
                _ => folders.push(path),
            }
        }
        for folder in folders {
            let uid = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !self.file(uid).exists() {
                remove_folder(&folder);
            }
        }
        Ok(records)
    }

    /// Writes a record; durable when it returns.
    pub async fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::Internal(format!("writing a pod's record: {error}")))?;
        let (folder, file) = (self.folder.clone(), self.file(&record.uid));
        blocking(move || write_durably(&folder, &file, &bytes)).await
    }

    /// Forgets a pod: its record, then its folders, mounts below them taken off.
    pub async fn remove(&self, uid: &str) -> Result<()> {
        let (folder, file, dirs) = (self.folder.clone(), self.file(uid), self.dirs(uid));
        blocking(move || {
            remove_file(&file)?;
            sync_folder(&folder)?;
            remove_folder(dirs.root());
            Ok(())
        })
        .await
    }
}

/// Runs file work away from the async threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(format!("file work of the agent: {error}")))?
}

fn read(path: &Path) -> Result<Record> {
    let doing = format!("reading {}", path.display());
    let bytes = fs::read(path).map_err(Error::io(doing.clone()))?;
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Internal(format!("{doing}: {error}")))?;
    if record.version != Record::VERSION {
        return Err(Error::Internal(format!("{doing}: version {} is not known", record.version)));
    }
    Ok(record)
}

/// Temporary file, fsync, rename, fsync of the folder. Secrets are inside, so 0600.
fn write_durably(folder: &Path, file: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("writing {}", file.display());
    let fresh = file.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    let mut open = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(Error::io(doing()))?;
    open.write_all(bytes).map_err(Error::io(doing()))?;
    open.sync_all().map_err(Error::io(doing()))?;
    fs::rename(&fresh, file).map_err(Error::io(doing()))?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<()> {
    fs::File::open(folder)
        .and_then(|open| open.sync_all())
        .map_err(Error::io(format!("syncing {}", folder.display())))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Removes a pod's folder. What is mounted below it (memory volumes) is taken off first; what
/// still cannot be removed is logged and tried again at the daemon's next start.
fn remove_folder(folder: &Path) {
    super::volumes::unmount_below(folder);
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "a pod's folder is left behind");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::manifest::Manifest;
    use crate::agent::record::Mode;

    fn record(uid: &str) -> Record {
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}";
        Record {
            version: Record::VERSION,
            uid: uid.to_owned(),
            created_at: 5,
            mode: Mode::Detached,
            base_dir: PathBuf::from("/x"),
            manifest: Manifest::parse(text).unwrap(),
            images: Default::default(),
            post_started: vec!["c1".to_owned()],
            stop: None,
            ending: None,
        }
    }

    #[tokio::test]
    async fn what_is_saved_is_loaded_and_what_is_removed_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        store.save(&record("u1")).await.unwrap();
        store.save(&record("u2")).await.unwrap();
        fs::create_dir_all(store.dirs("u1").logs()).unwrap();
        fs::create_dir_all(store.dirs("orphan").logs()).unwrap();
        fs::write(root.path().join("agent/pods/u3.tmp"), "half").unwrap();
        fs::write(root.path().join("agent/pods/u4.json"), "not json").unwrap();

        let mut records = Store::open(root.path()).unwrap().load().unwrap();
        records.sort_by(|a, b| a.uid.cmp(&b.uid));
        assert_eq!(records, [record("u1"), record("u2")]);
        assert!(!store.dirs("orphan").root().exists());
        assert!(!root.path().join("agent/pods/u3.tmp").exists());

        store.remove("u1").await.unwrap();
        store.remove("u1").await.unwrap();
        assert!(!store.dirs("u1").root().exists());
        assert_eq!(store.load().unwrap(), [record("u2")]);
    }
}
