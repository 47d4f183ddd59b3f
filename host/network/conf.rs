//! The network configuration of a folder: *.conflist, *.conf and *.json by name, the first valid
//! one. Read again when a name, size or time in the folder changes. Runs no plugin.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::version::Version;

/// A configuration file is not longer.
const LONGEST: u64 = 1 << 20;

const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// One network, and the plugins that make it, in the order of ADD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkList {
    pub name: String,
    /// Versions of the specification that it is written for, the highest first.
    pub versions: Vec<Version>,
    pub plugins: Vec<PluginConf>,
    pub disable_check: bool,
    pub disable_gc: bool,
}

/// One plugin's configuration, as the file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginConf {
    /// The plugin's file name.
    pub kind: String,
    pub keys: Map<String, Value>,
}

/// What a folder says.
#[derive(Clone, Debug)]
pub enum Choice {
    Network(Arc<NetworkList>),
    /// No file at all, and none was ever valid while this daemon lived.
    Absent,
    /// Why there is no network although there should be.
    Broken(String),
}

pub struct Confs {
    folder: PathBuf,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    stamp: Option<Stamp>,
    choice: Option<Choice>,
    /// Whether a valid network was ever seen: then none is a fault.
    seen: Option<String>,
}

/// Every candidate file's name, size, inode and time of change.
type Stamp = Vec<(PathBuf, u64, u64, Option<SystemTime>)>;

impl Confs {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, last: Mutex::new(Last::default()) }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the folder says now. Blocks.
    pub fn choose(&self) -> Choice {
        let stamp = match stamp(&self.folder) {
            Ok(stamp) => stamp,
            Err(error) => {
                return Choice::Broken(format!("reading {}: {error}", self.folder.display()));
            }
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(old), Some(choice)) = (&last.stamp, &last.choice)
            && *old == stamp
        {
            return choice.clone();
        }
        let choice = self.load(&stamp, last.seen.as_deref());
        match &choice {
            Choice::Network(network) => {
                tracing::info!(network = network.name, "network configuration is read");
                last.seen = Some(network.name.clone());
            }
            Choice::Absent => {}
            Choice::Broken(why) => tracing::warn!(why, "there is no network"),
        }
        last.stamp = Some(stamp);
        last.choice = Some(choice.clone());
        choice
    }

    fn load(&self, stamp: &Stamp, seen: Option<&str>) -> Choice {
        let mut faults = Vec::new();
        for (file, ..) in stamp {
            match read(file) {
                Ok(network) => {
                    for fault in faults {
                        tracing::warn!("{fault}");
                    }
                    return Choice::Network(Arc::new(network));
                }
                Err(why) => faults.push(format!("{}: {why}", file.display())),
            }
        }
        match (faults.is_empty(), seen) {
            (true, None) => Choice::Absent,
            (true, Some(name)) => Choice::Broken(format!(
                "the configuration of network {name} was removed from {}",
                self.folder.display()
            )),
            (false, _) => Choice::Broken(faults.join("; ")),
        }
    }
}

/// Every file of the folder by name: its network, or what is wrong with it. Blocks.
pub fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, Result<NetworkList, String>)>> {
    let files = stamp(folder)?.into_iter();
    Ok(files
        .map(|(file, ..)| {
            let content = read(&file);
            (file, content)
        })
        .collect())
}

/// A folder that is not there has no files.
fn stamp(folder: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut stamp = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            continue;
        }
        // One that vanished meanwhile, or a link to nothing, is no file.
        let Ok(found) = std::fs::metadata(&path) else { continue };
        if found.is_file() {
            stamp.push((path, found.len(), found.ino(), found.modified().ok()));
        }
    }
    stamp.sort();
    Ok(stamp)
}

fn read(file: &Path) -> Result<NetworkList, String> {
    let found = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if found.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    parse(&text)
}

/// A list, or one plugin's configuration, which is a list of one.
fn parse(text: &[u8]) -> Result<NetworkList, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(keys) = value else { return Err("is no JSON object".to_owned()) };
    let name = word(&keys, "name")?;
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|first| first.is_ascii_alphanumeric());
    if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Err(format!("{name:?} is no network's name: letters, digits, _, . and -"));
    }
    let plugins = match keys.get("plugins") {
        None => vec![plugin(&keys).map_err(|why| format!("{why} and no \"plugins\""))?],
        Some(Value::Array(plugins)) if !plugins.is_empty() => plugins
            .iter()
            .enumerate()
            .map(|(index, value)| match value {
                Value::Object(keys) => {
                    plugin(keys).map_err(|why| format!("plugins[{index}]: {why}"))
                }
                _ => Err(format!("plugins[{index}] is no object")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err("\"plugins\" is no list with a plugin in it".to_owned()),
    };
    Ok(NetworkList {
        versions: versions(&keys)?,
        plugins,
        disable_check: flag(&keys, "disableCheck")?,
        disable_gc: flag(&keys, "disableGC")?,
        name,
    })
}

fn plugin(keys: &Map<String, Value>) -> Result<PluginConf, String> {
    let kind = word(keys, "type")?;
    if kind.contains('/') || kind == "." || kind == ".." {
        return Err(format!("type {kind:?} is no file name"));
    }
    Ok(PluginConf { kind, keys: keys.clone() })
}

fn word(keys: &Map<String, Value>, key: &str) -> Result<String, String> {
    match keys.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(format!("{key:?} is no text, or empty")),
        None => Err(format!("has no {key:?}")),
    }
}

/// libcni takes the text "true" too.
fn flag(keys: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match keys.get(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("{key:?} is neither true nor false")),
    }
}

/// `cniVersion` and `cniVersions` (specification 1.1), those that wasmpod speaks.
fn versions(keys: &Map<String, Value>) -> Result<Vec<Version>, String> {
    let mut named = Vec::new();
    if keys.contains_key("cniVersion") {
        named.push(word(keys, "cniVersion")?);
    }
    match keys.get("cniVersions") {
        None => {}
        Some(Value::Array(more)) => {
            for version in more {
                let text = version.as_str().ok_or("\"cniVersions\" holds what is no text")?;
                named.push(text.to_owned());
            }
        }
        Some(_) => return Err("\"cniVersions\" is no list".to_owned()),
    }
    if named.is_empty() {
        return Err("has no \"cniVersion\", write \"cniVersion\": \"1.0.0\"".to_owned());
    }
    let mut spoken: Vec<Version> = named.iter().filter_map(|text| Version::parse(text)).collect();
    if spoken.is_empty() {
        return Err(format!(
            "is written for CNI {}, wasmpod speaks {}",
            named.join(", "),
            Version::ALL.map(Version::text).join(", ")
        ));
    }
    spoken.sort_unstable_by(|a, b| b.cmp(a));
    spoken.dedup();
    Ok(spoken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "7.0.0"],
        "name": "pods", "disableCheck": true, "plugins": [{"type": "bridge", "mtu": 9000}, {"type": "portmap"}]}"#;

    #[test]
    fn a_list_is_read_with_its_versions_highest_first() {
        let list = parse(LIST.as_bytes()).unwrap();
        assert_eq!(list.name, "pods");
        assert_eq!(
            list.versions.iter().map(|v| v.text()).collect::<Vec<_>>(),
            ["1.1.0", "1.0.0", "0.4.0"]
        );
        assert_eq!(
            list.plugins.iter().map(|p| p.kind.as_str()).collect::<Vec<_>>(),
            ["bridge", "portmap"]
        );
        assert!(list.disable_check && !list.disable_gc);
        let back: NetworkList =
            serde_json::from_str(&serde_json::to_string(&list).unwrap()).unwrap();
        assert_eq!(back, list);
    }

    #[test]
    fn one_plugin_alone_is_a_list_of_one() {
        let list = parse(br#"{"cniVersion": "0.3.1", "name": "a", "type": "ptp"}"#).unwrap();
        assert_eq!((list.plugins.len(), list.plugins[0].kind.as_str()), (1, "ptp"));
    }

    #[test]
    fn every_fault_is_one_sentence() {
        for (text, says) in [
            ("{", "no JSON"),
            ("[]", "is no JSON object"),
            (r#"{"name": "a"}"#, "has no \"type\" and no \"plugins\""),
            (r#"{"name": "a b", "type": "x"}"#, "no network's name"),
            (r#"{"name": "a", "plugins": []}"#, "no list with a plugin"),
            (r#"{"name": "a", "plugins": [{"type": "../x"}]}"#, "plugins[0]: type \"../x\""),
            (r#"{"name": "a", "type": "x"}"#, "has no \"cniVersion\""),
            (r#"{"name": "a", "type": "x", "cniVersion": "0.2.0"}"#, "wasmpod speaks 0.3.0,"),
            (r#"{"name": "a", "type": "x", "cniVersion": "1.0.0", "disableCheck": 3}"#, "neither"),
        ] {
            let why = parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn the_first_valid_file_by_name_is_taken_and_changes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let confs = Confs::new(folder.path().join("net.d"));
        assert!(matches!(confs.choose(), Choice::Absent));
        std::fs::create_dir(confs.folder()).unwrap();
        let write = |name: &str, text: &str| std::fs::write(confs.folder().join(name), text);
        write("README", LIST).unwrap();
        assert!(matches!(confs.choose(), Choice::Absent));
        write("10-a.conflist", "{").unwrap();
        let Choice::Broken(why) = confs.choose() else { panic!("it is broken") };
        assert!(why.contains("10-a.conflist: no JSON"), "{why}");
        write("20-b.conf", r#"{"cniVersion": "1.0.0", "name": "b", "type": "ptp"}"#).unwrap();
        write("30-c.conflist", LIST).unwrap();
        let name = || match confs.choose() {
            Choice::Network(network) => network.name.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(name(), "b");
        write("10-a.conflist", LIST).unwrap();
        assert_eq!(name(), "pods");
        std::fs::remove_dir_all(confs.folder()).unwrap();
        let Choice::Broken(why) = confs.choose() else { panic!("it was there before") };
        assert!(why.contains("network pods was removed"), "{why}");
    }
}
