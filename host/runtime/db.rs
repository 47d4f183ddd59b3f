//! The state database: `<state>/wasmpod.redb`, one table for each kind of record, JSON values.
//! Knows nothing of what the records mean.
//!
//! A table's name carries the version of its records' form: a later release reads
//! `sandboxes.v1` and writes `sandboxes.v2` when the form changes; a field that is added with a
//! serde default changes nothing.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::{Database as Redb, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::change::Edit;
use super::index::Index;
use crate::error::{Error, Result};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const SANDBOXES: Table = TableDefinition::new("sandboxes.v1");
const CONTAINERS: Table = TableDefinition::new("containers.v1");
const SHIMS: Table = TableDefinition::new("shims.v1");
const META: Table = TableDefinition::new("meta.v1");

const TABLES: [Table; 4] = [SANDBOXES, CONTAINERS, SHIMS, META];

/// A key and its new value.
type Row<'a> = (&'a str, Option<Vec<u8>>);

const POD_CIDR: &str = "pod-cidr";

/// Bytes of pages kept in memory; the index answers reads, so this serves writes alone.
const CACHE: usize = 8 << 20;

pub struct Database {
    redb: Redb,
}

fn broken(doing: &str) -> impl FnOnce(redb::Error) -> Error {
    let doing = doing.to_owned();
    move |source| Error::Internal(format!("state database: {doing}: {source}"))
}

impl Database {
    /// Opens or makes the database; a kill left nothing to repair. One daemon at a time:
    /// [`Error::Precondition`] while another has it open.
    pub fn open(file: &Path) -> Result<Self> {
        let mut builder = Redb::builder();
        builder.set_cache_size(CACHE);
        // For the owner alone: containers' environments are in it, and so their secrets.
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file)
            .map_err(Error::io(format!("opening state database {}", file.display())))?;
        let redb = builder.create_file(opened).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::Precondition(format!(
                "another wasmpod serves the state folder of {}",
                file.display()
            )),
            error => Error::Internal(format!(
                "state database {} cannot be opened: {error}",
                file.display()
            )),
        })?;
        let database = Self { redb };
        database.transact(TABLES.map(|table| (table, Vec::new())).as_slice())?;
        Ok(database)
    }

    /// Every record.
    pub fn load(&self) -> Result<Index> {
        let mut index = Index::default();
        for sandbox in self.table(SANDBOXES)? {
            index.sandboxes.put(sandbox);
        }
        for container in self.table(CONTAINERS)? {
            index.containers.put(container);
        }
        for shim in self.table::<super::index::ShimRecord>(SHIMS)? {
            index.shims.insert(shim.id.clone(), shim);
        }
        index.pod_cidr = self.table(META)?.into_iter().next();
        Ok(index)
    }

    fn table<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>> {
        let name = redb::TableHandle::name(&table).to_owned();
        let mut records = Vec::new();
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.redb.begin_read()?.open_table(table)?;
            table
                .iter()?
                .map(|row| row.map(|(k, v)| (k.value().to_owned(), v.value().to_vec())))
                .collect::<Result<_, _>>()
                .map_err(redb::Error::from)
        };
        for (key, bytes) in read().map_err(broken("reading"))? {
            let record = serde_json::from_slice(&bytes).map_err(|error| {
                Error::Internal(format!("state database: record {key} of {name}: {error}"))
            })?;
            records.push(record);
        }
        Ok(records)
    }

    /// Writes what `edits` made, in one transaction: durable on return, or nothing of it is.
    pub fn write(&self, edits: &[Edit]) -> Result<()> {
        let (mut sandboxes, mut containers) = (Vec::new(), Vec::new());
        let (mut shims, mut meta) = (Vec::new(), Vec::new());
        for edit in edits {
            match edit {
                Edit::Sandbox { id, new, .. } => sandboxes.push((id.as_str(), json(new.as_ref())?)),
                Edit::Container { id, new, .. } => {
                    containers.push((id.as_str(), json(new.as_ref())?));
                }
                Edit::Shim { id, new, .. } => shims.push((id.as_str(), json(new.as_ref())?)),
                Edit::PodCidr { new, .. } => meta.push((POD_CIDR, json(new.as_ref())?)),
            }
        }
        let mut tables: Vec<_> =
            TABLES.into_iter().zip([sandboxes, containers, shims, meta]).collect();
        tables.retain(|(_, rows)| !rows.is_empty());
        self.transact(&tables)
    }

    /// Makes the tables and puts the rows into them; no value removes a key.
    fn transact(&self, tables: &[(Table, Vec<Row<'_>>)]) -> Result<()> {
        let write = || -> Result<(), redb::Error> {
            // Without redb's quick repair, which would double the time of each commit: the next
            // start after a kill reads the file once instead, 13 ms for 4,000 containers.
            let transaction = self.redb.begin_write()?;
            for (table, rows) in tables {
                let mut table = transaction.open_table(*table)?;
                for (key, value) in rows {
                    match value {
                        Some(bytes) => drop(table.insert(*key, bytes.as_slice())?),
                        None => drop(table.remove(*key)?),
                    }
                }
            }
            Ok(transaction.commit()?)
        };
        write().map_err(broken("writing"))
    }
}

fn json<T: Serialize>(record: Option<&T>) -> Result<Option<Vec<u8>>> {
    let bytes = record.map(serde_json::to_vec).transpose();
    bytes.map_err(|error| Error::Internal(format!("state database: a record's form: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::change::Change;
    use super::super::change::tests::container;
    use super::super::index::tests::sandbox;
    use super::*;

    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        Database::open(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_was_written_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        let first = sandbox("a", 1);
        let id = first.id.clone();
        let one = container(&id, "one");
        let mut edits = Vec::new();
        let mut index = Index::default();
        let changes = vec![
            Change::AddSandbox(first.clone()),
            Change::AddContainer(one.clone()),
            Change::AddContainer(container(&id, "two")),
            Change::SetPodCidr("10.0.0.0/24".to_owned()),
        ];
        index.change(changes, &mut edits).unwrap();
        Database::open(&file).unwrap().write(&edits).unwrap();

        let database = Database::open(&file).unwrap();
        let loaded = database.load().unwrap();
        assert_eq!(loaded.sandboxes.get(&id).map(Arc::as_ref), Some(&first));
        assert_eq!(loaded.containers.get(&one.id).map(Arc::as_ref), Some(&one));
        assert_eq!(loaded.containers.len(), 2);
        assert_eq!(loaded.pod_cidr.as_deref(), Some("10.0.0.0/24"));

        let mut edits = Vec::new();
        index.change(vec![Change::ForgetSandbox(id)], &mut edits).unwrap();
        database.write(&edits).unwrap();
        let loaded = database.load().unwrap();
        assert_eq!((loaded.sandboxes.len(), loaded.containers.len()), (0, 0));
    }

    #[test]
    fn a_second_daemon_on_one_state_folder_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        let _first = Database::open(&file).unwrap();
        let error = Database::open(&file).err().unwrap();
        assert!(error.to_string().contains("another wasmpod serves"), "{error}");
    }
}
