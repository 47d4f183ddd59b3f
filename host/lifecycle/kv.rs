//! A plugin's durable state: a database of its own, small by its limits.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::lock;
use crate::error::{Error, Result};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kv");

const LONGEST_KEY: usize = 256;
const LARGEST_VALUE: usize = 64 << 10;

/// Bytes of keys and values together.
const MOST: usize = 1 << 20;

/// A state that is opened, and made, when it is first needed.
pub struct Keys {
    file: PathBuf,
    store: Mutex<Option<Arc<Store>>>,
}

impl Keys {
    pub fn new(file: PathBuf) -> Self {
        Self { file, store: Mutex::default() }
    }

    pub fn open(&self) -> Result<Arc<Store>> {
        let mut store = lock(&self.store);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let opened = Arc::new(Store::open(&self.file)?);
        *store = Some(opened.clone());
        Ok(opened)
    }
}

pub struct Store {
    database: Database,
    /// Bytes of keys and values. Held while something is written.
    used: Mutex<usize>,
}

fn failed(doing: &'static str) -> impl Fn(redb::Error) -> Error {
    move |error| Error::Internal(format!("{doing}: {error}"))
}

impl Store {
    /// Opens or makes the file.
    pub fn open(file: &Path) -> Result<Self> {
        let doing = |error: redb::Error| {
            Error::Internal(format!("opening a plugin's state {}: {error}", file.display()))
        };
        let database = Database::create(file).map_err(|error| doing(error.into()))?;
        let store = Self { database, used: Mutex::new(0) };
        // The table is there from now on.
        store.write(|_| Ok(())).map_err(doing)?;
        let used = store.measure().map_err(doing)?;
        *lock(&store.used) = used;
        Ok(store)
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let transaction = self.database.begin_write()?;
        let outcome = work(&mut transaction.open_table(TABLE)?)?;
        transaction.commit()?;
        Ok(outcome)
    }

    fn measure(&self) -> Result<usize, redb::Error> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut used = 0;
        for entry in table.iter()? {
            let (key, value) = entry?;
            used += key.value().len() + value.value().len();
        }
        Ok(used)
    }

    fn check(key: &str) -> Result<()> {
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(Error::Invalid(format!(
                "a key of {} bytes: 1 to {LONGEST_KEY} are taken",
                key.len()
            )));
        }
        Ok(())
    }

    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Self::check(key)?;
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        };
        read().map_err(failed("reading a plugin's state"))
    }

    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        Self::check(key)?;
        if value.len() > LARGEST_VALUE {
            return Err(Error::Invalid(format!(
                "a value of {} bytes: at most {LARGEST_VALUE} are taken",
                value.len()
            )));
        }
        let mut used = lock(&self.used);
        let before = self.get(key)?.map_or(0, |old| key.len() + old.len());
        let after = *used - before + key.len() + value.len();
        if after > MOST {
            return Err(Error::Exhausted(format!("the plugin's state is full: {MOST} bytes")));
        }
        let written = self.write(|table| {
            table.insert(key, value)?;
            Ok(())
        });
        written.map_err(failed("writing a plugin's state"))?;
        *used = after;
        Ok(())
    }

    pub fn delete(&self, key: &str) -> Result<()> {
        Self::check(key)?;
        let mut used = lock(&self.used);
        let removed =
            self.write(|table| Ok(table.remove(key)?.map(|value| key.len() + value.value().len())));
        let removed = removed.map_err(failed("writing a plugin's state"))?;
        *used -= removed.unwrap_or(0);
        Ok(())
    }

    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let table = self.database.begin_read()?.open_table(TABLE)?;
            let mut keys = Vec::new();
            for entry in table.range(prefix..)? {
                let (key, _) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                keys.push(key.value().to_owned());
            }
            Ok(keys)
        };
        read().map_err(failed("reading a plugin's state"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_there_after_a_new_opening_and_limits_hold() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.redb");
        let store = Store::open(&file).unwrap();
        store.set("a/1", b"one").unwrap();
        store.set("a/2", b"two").unwrap();
        store.set("b", b"three").unwrap();
        store.set("a/1", b"uno").unwrap();
        drop(store);
        let store = Store::open(&file).unwrap();
        assert_eq!(store.get("a/1").unwrap().unwrap(), b"uno");
        assert_eq!(store.keys("a/").unwrap(), ["a/1", "a/2"]);
        store.delete("a/2").unwrap();
        store.delete("a/2").unwrap();
        assert_eq!(store.get("a/2").unwrap(), None);
        assert!(store.set("", b"").is_err() && store.set(&"k".repeat(257), b"").is_err());
        assert!(store.set("k", &vec![0; LARGEST_VALUE + 1]).is_err());
        let mut count = 0;
        while store.set(&format!("v{count}"), &vec![0; LARGEST_VALUE]).is_ok() {
            count += 1;
            assert!(count < 17);
        }
        assert_eq!(count, 15);
        store.delete("v0").unwrap();
        store.set("v0", &vec![0; LARGEST_VALUE]).unwrap();
    }
}
