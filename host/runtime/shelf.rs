//! Records of one kind in memory, found by id, by prefix, by name and newest first, and what they
//! weigh in lists. Knows nothing of other kinds.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Bound;
use std::sync::Arc;

use super::Filter;
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerConfig, ContainerName, ContainerState};
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::{Realm, Sandbox, SandboxConfig, SandboxName, SandboxState};

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
    /// Bytes that it takes in a list, at most.
    fn weight(&self) -> usize;
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

    fn weight(&self) -> usize {
        let SandboxConfig { name, labels, annotations, .. } = &self.config;
        let texts = [&name.name, &name.uid, &name.namespace, &self.handler];
        FIXED_WEIGHT
            + texts.map(String::len).iter().sum::<usize>()
            + heft(labels)
            + heft(annotations)
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

    fn weight(&self) -> usize {
        let ContainerConfig { name, image, labels, annotations, .. } = &self.config;
        let texts = [
            &name.name,
            &image.image,
            &image.user_specified_image,
            &image.runtime_handler,
            &image.image_ref,
            &self.image_id,
            &self.image_ref,
        ];
        let maps = [labels, annotations, &image.annotations];
        FIXED_WEIGHT
            + texts.map(String::len).iter().sum::<usize>()
            + maps.map(heft).iter().sum::<usize>()
    }

    fn is_visible(&self) -> bool {
        self.state != ContainerState::Creating
    }
}

/// Ids, times, numbers of what is used, and what the wire needs around them.
const FIXED_WEIGHT: usize = 768;

/// What a map takes in a message, at most.
fn heft(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + 16).sum()
}

/// Records of one kind.
#[derive(Clone)]
pub struct Shelf<R: Record> {
    by_id: BTreeMap<R::Id, Arc<R>>,
    newest_first: BTreeMap<(Reverse<i64>, R::Id), Arc<R>>,
    pub(super) by_name: BTreeMap<R::Name, Arc<R>>,
    /// Of all records of a realm.
    weights: BTreeMap<Realm, usize>,
}

impl<R: Record> Default for Shelf<R> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            newest_first: BTreeMap::new(),
            by_name: BTreeMap::new(),
            weights: BTreeMap::new(),
        }
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
            Some(holder) if holder.id() != record.id() => Err(Error::NameReserved {
                name: record.spoken_name(),
                holder: format!("{} {}", R::NOUN, holder.id()),
            }),
            _ => Ok(()),
        }
    }

    /// Adds a record, or replaces the one of its id, which has the same name and time.
    pub fn put(&mut self, record: Arc<R>) -> Option<Arc<R>> {
        let id = record.id().clone();
        self.newest_first.insert((Reverse(record.created_at()), id.clone()), record.clone());
        self.by_name.insert(record.name(), record.clone());
        let (realm, weight) = (record.realm(), record.weight());
        let old = self.by_id.insert(id, record);
        let sum = self.weights.entry(realm).or_default();
        *sum = (*sum + weight).saturating_sub(old.as_ref().map_or(0, |old| old.weight()));
        old
    }

    pub fn remove(&mut self, id: &R::Id) -> Option<Arc<R>> {
        let record = self.by_id.remove::<R::Id>(id)?;
        self.newest_first.remove(&(Reverse(record.created_at()), id.clone()));
        self.by_name.remove(&record.name());
        if let Some(sum) = self.weights.get_mut(&record.realm()) {
            *sum = sum.saturating_sub(record.weight());
        }
        Some(record)
    }

    /// Of all of a realm's records, at most.
    pub fn weight_of(&self, realm: Realm) -> usize {
        self.weights.get(&realm).copied().unwrap_or(0)
    }

    pub fn get(&self, id: &R::Id) -> Option<&Arc<R>> {
        self.by_id.get::<R::Id>(id)
    }

    /// Newest first, those being made included.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.newest_first.values()
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
