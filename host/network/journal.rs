//! The journal of attachments, `<root>/network/`: an entry is written before a pod's ADD and
//! removed after its DEL, so that nothing of an attachment is forgotten by a crash or a reboot.
//! The result of ADD lies beside it (the specification's cached result).

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conf::NetworkList;
use super::version::Version;
use crate::error::{Error, Result};
use crate::model::ids::SandboxId;

/// A pod on a network: all that ADD was told, so that DEL is told the same, whatever the
/// configuration says by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    pub id: SandboxId,
    pub network: NetworkList,
    /// The specification's version that all its plugins speak.
    pub version: Version,
    /// CNI_IFNAME.
    pub interface: String,
    /// CNI_ARGS.
    pub args: String,
    /// Arguments of capabilities, by their names.
    pub capabilities: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

const ENTRY: &str = "json";
const RESULT: &str = "result";

/// All of these block.
impl Journal {
    /// Opens the journal; the sandboxes that have an entry.
    pub fn open(folder: PathBuf) -> Result<(Self, Vec<SandboxId>)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(Error::io(format!("making {}", folder.display())))?;
        let doing = || Error::io(format!("reading {}", folder.display()));
        let mut ids = Vec::new();
        for entry in fs::read_dir(&folder).map_err(doing())? {
            let path = entry.map_err(doing())?.path();
            let id = path.file_stem().and_then(|stem| SandboxId::parse(stem.to_str()?));
            match (id, path.extension().and_then(|ending| ending.to_str())) {
                (Some(id), Some(ENTRY)) => ids.push(id),
                // What a kill left of a write; a result goes with its entry.
                (_, Some("new")) => remove(&path)?,
                _ => {}
            }
        }
        Ok((Self { folder }, ids))
    }

    fn path(&self, id: &SandboxId, ending: &str) -> PathBuf {
        self.folder.join(format!("{id}.{ending}"))
    }

    /// Writes an entry that outlives the daemon, and with [`Journal::secure`] the power.
    pub fn begin(&self, attachment: &Attachment) -> Result<()> {
        self.write(&self.path(&attachment.id, ENTRY), &json(attachment)?)
    }

    /// Makes an entry durable. Plugins do not make their own files so: what a power loss leaves
    /// of an ADD that goes on meanwhile is written by the same commit as the entry, or later.
    pub fn secure(&self, id: &SandboxId) -> Result<()> {
        let doing = || Error::io(format!("writing {}", self.folder.display()));
        File::open(self.path(id, ENTRY)).and_then(|file| file.sync_all()).map_err(doing())?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(doing())
    }

    /// Keeps a result. Not made durable: after a power loss DEL does without.
    pub fn note(&self, id: &SandboxId, result: &Value) -> Result<()> {
        self.write(&self.path(id, RESULT), &json(result)?)
    }

    /// Writes a file that is there wholly or not at all.
    fn write(&self, path: &Path, text: &[u8]) -> Result<()> {
        let doing = || Error::io(format!("writing {}", path.display()));
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(doing())?;
        file.write_all(text).map_err(doing())?;
        fs::rename(&new, path).map_err(doing())
    }

    /// The entry and its result, if one is kept; `None` when there is no entry.
    pub fn read(&self, id: &SandboxId) -> Result<Option<(Attachment, Option<Value>)>> {
        let path = self.path(id, ENTRY);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io(format!("reading {}", path.display())))?,
        };
        let attachment: Attachment = serde_json::from_slice(&text).map_err(|error| {
            Error::Internal(format!("network journal {}: {error}", path.display()))
        })?;
        // Whole or absent, but for a power loss.
        let result = fs::read(self.path(id, RESULT)).ok();
        let result = result.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Some((attachment, result)))
    }

    /// Forgets an attachment; succeeds when there is none.
    pub fn end(&self, id: &SandboxId) -> Result<()> {
        remove(&self.path(id, RESULT))?;
        remove(&self.path(id, ENTRY))
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::Internal(format!("network journal: an entry's form: {error}")))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    pub fn attachment(plugins: &[Value]) -> Attachment {
        let plugins = plugins
            .iter()
            .map(|keys| super::super::conf::PluginConf {
                kind: keys["type"].as_str().unwrap().to_owned(),
                keys: keys.as_object().unwrap().clone(),
            })
            .collect();
        Attachment {
            id: SandboxId::random(),
            network: NetworkList {
                name: "n".to_owned(),
                versions: vec![Version::V110, Version::V040],
                plugins,
                disable_check: false,
                disable_gc: false,
            },
            version: Version::V110,
            interface: "eth0".to_owned(),
            args: "A=B".to_owned(),
            capabilities: Map::new(),
        }
    }

    #[test]
    fn what_was_begun_is_found_again_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network");
        let (journal, ids) = Journal::open(path.clone()).unwrap();
        assert!(ids.is_empty());
        let attachment = attachment(&[json!({"type": "bridge", "mtu": 1})]);
        let id = attachment.id.clone();
        journal.begin(&attachment).unwrap();
        journal.secure(&id).unwrap();
        fs::write(path.join(format!("{id}.result.new")), "ha").unwrap();
        let (journal, ids) = Journal::open(path.clone()).unwrap();
        assert_eq!(ids, std::slice::from_ref(&id));
        assert_eq!(journal.read(&id).unwrap(), Some((attachment.clone(), None)));
        journal.note(&id, &json!({"ips": []})).unwrap();
        assert_eq!(journal.read(&id).unwrap().unwrap().1, Some(json!({"ips": []})));
        fs::write(path.join(format!("{id}.result")), "\0\0").unwrap();
        assert_eq!(journal.read(&id).unwrap().unwrap().1, None);
        journal.end(&id).unwrap();
        journal.end(&id).unwrap();
        assert_eq!(journal.read(&id).unwrap(), None);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
