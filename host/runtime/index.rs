//! Every record in memory, found by id, by prefix, by name and newest first. What is in here is
//! in the database too. Knows nothing of how either got there.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Filter;
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerName, ContainerState};
use crate::model::handler::ProcessPlace;
use crate::model::ids::{ContainerId, SandboxId, ShimId};
use crate::model::sandbox::{Realm, Sandbox, SandboxName, SandboxState};

/// A shim that was begun and is not known to be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    pub id: ShimId,
    pub place: ProcessPlace,
    /// The cgroup folders made for it, removed when it is gone.
    pub cgroups: Vec<PathBuf>,
}

/// What a [`Shelf`] holds.
pub trait Record {
    const NOUN: &'static str;
    type Id: Ord + Clone + Borrow<str> + Display;
    /// No two records have the same.
    type Name: Ord + Clone;

    fn id(&self) -> &Self::Id;
    fn name(&self) -> Self::Name;
    /// The name as people read it.
    fn spoken_name(&self) -> String;
    fn realm(&self) -> Realm;
    fn created_at(&self) -> i64;
    fn labels(&self) -> &BTreeMap<String, String>;
    /// Whether clients may see it: not while it is being made.
    fn is_visible(&self) -> bool;
}

impl Record for Sandbox {
    const NOUN: &'static str = "sandbox";
    type Id = SandboxId;
    type Name = (Realm, SandboxName);

    fn id(&self) -> &SandboxId {
        &self.id
    }

    fn name(&self) -> Self::Name {
        (self.realm, self.config.name.clone())
    }

    fn spoken_name(&self) -> String {
        self.config.name.to_string()
    }

    fn realm(&self) -> Realm {
        self.realm
    }

    fn created_at(&self) -> i64 {
        self.created_at
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }

    fn is_visible(&self) -> bool {
        self.state != SandboxState::Creating
    }
}

impl Record for Container {
    const NOUN: &'static str = "container";
    type Id = ContainerId;
    type Name = (SandboxId, ContainerName);

    fn id(&self) -> &ContainerId {
        &self.id
    }

    fn name(&self) -> Self::Name {
        (self.sandbox.clone(), self.config.name.clone())
    }

    fn spoken_name(&self) -> String {
        let ContainerName { name, attempt } = &self.config.name;
        format!("{name}_{attempt} in sandbox {}", self.sandbox)
    }

    fn realm(&self) -> Realm {
        self.realm
    }

    fn created_at(&self) -> i64 {
        self.created_at
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }

    fn is_visible(&self) -> bool {
        self.state != ContainerState::Creating
    }
}

/// Records of one kind.
#[derive(Clone)]
pub struct Shelf<R: Record> {
    by_id: BTreeMap<R::Id, Arc<R>>,
    newest_first: BTreeSet<(Reverse<i64>, R::Id)>,
    by_name: BTreeMap<R::Name, R::Id>,
}

impl<R: Record> Default for Shelf<R> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), newest_first: BTreeSet::new(), by_name: BTreeMap::new() }
    }
}

impl<R: Record> Shelf<R> {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// [`Error::NameReserved`] when another record has this one's name.
    pub fn check_name(&self, record: &R) -> Result<()> {
        match self.by_name.get(&record.name()) {
            Some(holder) if holder != record.id() => Err(Error::NameReserved {
                name: record.spoken_name(),
                holder: format!("{} {holder}", R::NOUN),
            }),
            _ => Ok(()),
        }
    }

    /// Adds a record, or replaces the one of its id, which has the same name and time.
    pub fn put(&mut self, record: Arc<R>) -> Option<Arc<R>> {
        let id = record.id().clone();
        self.newest_first.insert((Reverse(record.created_at()), id.clone()));
        self.by_name.insert(record.name(), id.clone());
        self.by_id.insert(id, record)
    }

    pub fn remove(&mut self, id: &R::Id) -> Option<Arc<R>> {
        let record = self.by_id.remove::<R::Id>(id)?;
        self.newest_first.remove(&(Reverse(record.created_at()), id.clone()));
        self.by_name.remove(&record.name());
        Some(record)
    }

    pub fn get(&self, id: &R::Id) -> Option<&Arc<R>> {
        self.by_id.get::<R::Id>(id)
    }

    /// Newest first, those being made included.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.newest_first.iter().filter_map(|(_, id)| self.by_id.get::<R::Id>(id))
    }

    /// The visible record whose id is or uniquely begins with `prefix`, of one realm or any.
    pub fn find(&self, realm: Option<Realm>, prefix: &str) -> Result<Arc<R>> {
        let mut matches = self.matches(realm, prefix);
        let Some(first) = matches.next() else {
            return Err(Error::not_found(R::NOUN, prefix));
        };
        if first.id().borrow() == prefix {
            return Ok(first.clone());
        }
        match matches.count() {
            0 => Ok(first.clone()),
            more => Err(Error::Ambiguous { what: R::NOUN, id: prefix.to_owned(), count: more + 1 }),
        }
    }

    fn matches<'a>(
        &'a self,
        realm: Option<Realm>,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<R>> + 'a {
        self.by_id
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(_, record)| record)
            .take_while(move |record| {
                let id: &str = record.id().borrow();
                !prefix.is_empty() && id.starts_with(prefix)
            })
            .filter(move |record| {
                record.is_visible() && realm.is_none_or(|realm| realm == record.realm())
            })
    }

    /// The visible records that `filter`'s realm, id and labels let through, newest first.
    pub fn list<'a>(&'a self, filter: &'a Filter) -> Box<dyn Iterator<Item = &'a Arc<R>> + 'a> {
        let fits = move |record: &&Arc<R>| {
            record.is_visible()
                && filter.realm.is_none_or(|realm| realm == record.realm())
                && filter.labels.iter().all(|(key, value)| record.labels().get(key) == Some(value))
        };
        if filter.id.is_empty() {
            return Box::new(self.iter().filter(fits));
        }
        let mut matches = self.matches(filter.realm, &filter.id);
        let first = matches.next().filter(|first| {
            let id: &str = first.id().borrow();
            id == filter.id || matches.next().is_none()
        });
        Box::new(first.into_iter().filter(fits))
    }
}

/// Everything that is recorded.
#[derive(Clone, Default)]
pub struct Index {
    pub sandboxes: Shelf<Sandbox>,
    pub containers: Shelf<Container>,
    pub shims: BTreeMap<ShimId, ShimRecord>,
    pub pod_cidr: Option<String>,
}

impl Index {
    /// A sandbox's containers, those being made included, by name.
    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        self.containers
            .by_name
            .range((sandbox.clone(), ContainerName::default())..)
            .take_while(|((holder, _), _)| holder == sandbox)
            .filter_map(|(_, id)| self.containers.get(id).cloned())
            .collect()
    }

    /// `filter.sandbox` is not used.
    pub fn list_sandboxes(&self, filter: &Filter) -> Vec<Arc<Sandbox>> {
        self.sandboxes.list(filter).cloned().collect()
    }

    pub fn list_containers(&self, filter: &Filter) -> Vec<Arc<Container>> {
        let listed = self.containers.list(filter);
        if filter.sandbox.is_empty() {
            return listed.cloned().collect();
        }
        let Ok(sandbox) = self.sandboxes.find(filter.realm, &filter.sandbox) else {
            return Vec::new();
        };
        listed.filter(|container| container.sandbox == sandbox.id).cloned().collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::sandbox::SandboxConfig;

    pub fn sandbox(id: &str, created_at: i64) -> Sandbox {
        let id = SandboxId::parse(&format!("{id:0<64}")).unwrap();
        let name = SandboxName { name: id.to_string(), ..SandboxName::default() };
        Sandbox {
            id,
            realm: Realm::Kubelet,
            handler: String::new(),
            config: SandboxConfig { name, ..SandboxConfig::default() },
            created_at,
            state: SandboxState::Ready,
            shim: None,
            addresses: Vec::new(),
        }
    }

    fn index(sandboxes: impl IntoIterator<Item = Sandbox>) -> Index {
        let mut index = Index::default();
        for sandbox in sandboxes {
            index.sandboxes.put(Arc::new(sandbox));
        }
        index
    }

    #[test]
    fn lists_are_newest_first() {
        let index = index([sandbox("a", 1), sandbox("b", 3), sandbox("c", 2)]);
        let times: Vec<i64> =
            index.list_sandboxes(&Filter::default()).iter().map(|s| s.created_at).collect();
        assert_eq!(times, [3, 2, 1]);
    }

    #[test]
    fn a_prefix_finds_one_or_says_how_many() {
        let index = index([sandbox("ab1", 1), sandbox("ab2", 2), sandbox("c", 3)]);
        assert_eq!(index.sandboxes.find(None, "c").unwrap().created_at, 3);
        assert!(matches!(index.sandboxes.find(None, "ab"), Err(Error::Ambiguous { count: 2, .. })));
        for absent in ["", "d", "ab3", "cc"] {
            assert!(matches!(index.sandboxes.find(None, absent), Err(Error::NotFound { .. })));
        }
        let filter = |id: &str| Filter { id: id.to_owned(), ..Filter::default() };
        assert_eq!(index.list_sandboxes(&filter("ab1")).len(), 1);
        assert_eq!(index.list_sandboxes(&filter("ab")).len(), 0);
        assert_eq!(index.list_sandboxes(&filter("e")).len(), 0);
    }

    #[test]
    fn another_realms_records_neither_match_nor_make_a_prefix_ambiguous() {
        let agents = Sandbox { realm: Realm::Agent, ..sandbox("ab2", 2) };
        let index = index([sandbox("ab1", 1), agents]);
        assert_eq!(index.sandboxes.find(Some(Realm::Agent), "ab").unwrap().created_at, 2);
        assert_eq!(index.sandboxes.find(Some(Realm::Kubelet), "ab").unwrap().created_at, 1);
        assert!(index.sandboxes.find(Some(Realm::Kubelet), "ab2").is_err());
    }

    #[test]
    fn what_is_being_made_is_invisible_and_yet_holds_its_name() {
        let made = Sandbox { state: SandboxState::Creating, ..sandbox("a", 1) };
        let index = index([made]);
        assert!(index.sandboxes.find(None, "a").is_err());
        assert!(index.list_sandboxes(&Filter::default()).is_empty());
        let second = Sandbox { config: sandbox("a", 1).config, ..sandbox("b", 2) };
        let error = index.sandboxes.check_name(&second).unwrap_err();
        assert!(error.to_string().contains("reserved for sandbox a000"), "{error}");
    }

    #[test]
    fn two_thousand_records_are_listed_in_a_few_milliseconds() {
        let index = index((0..2000).map(|n| sandbox(&format!("{n:x}f"), n)));
        let began = std::time::Instant::now();
        let label = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(index.list_sandboxes(&Filter::default()).len(), 2000);
        assert_eq!(index.list_sandboxes(&Filter { labels: label, ..Filter::default() }).len(), 0);
        assert!(began.elapsed().as_millis() < 50);
    }
}
