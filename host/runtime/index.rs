//! Every record in memory, found by id, by prefix, by name and newest first. What is in here is
//! in the database too. Knows nothing of how either got there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Filter;
use super::shelf::Shelf;
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerName};
use crate::model::handler::ProcessPlace;
use crate::model::ids::{SandboxId, ShimId};
use crate::model::sandbox::{Realm, Sandbox};

/// A shim that was begun and is not known to be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    pub id: ShimId,
    pub place: ProcessPlace,
    /// The cgroup folders made for it, removed when it is gone.
    pub cgroups: Vec<PathBuf>,
    /// Folders above those that were not there either, the deepest first: removed after them,
    /// unless somebody else's group is inside by then.
    #[serde(default)]
    pub parent_cgroups: Vec<PathBuf>,
}

/// Everything that is recorded.
#[derive(Clone, Default)]
pub struct Index {
    pub sandboxes: Shelf<Sandbox>,
    pub containers: Shelf<Container>,
    pub shims: BTreeMap<ShimId, ShimRecord>,
    pub pod_cidr: Option<String>,
}

/// Bytes that one realm's records may take in a list: a message of gRPC's, 16 MiB for a kubelet,
/// less some room. The heaviest list, the pods' stats, names every sandbox and every container.
const LIST_MAX: usize = 15 << 20;

impl Index {
    /// Whether lists can take one more. A list over its message's limit fails as a whole: with
    /// containerd, which has the same limit, a kubelet then sees no pod at all. So whoever would
    /// bring it over the limit is refused, and everybody else's pods stay visible. There is room
    /// for 2,000 pods of two containers with 1.7 KiB of labels and annotations each.
    pub fn check_weight(&self, realm: Realm, more: usize) -> Result<()> {
        let sum = self.sandboxes.weight_of(realm) + self.containers.weight_of(realm) + more;
        if sum <= LIST_MAX {
            return Ok(());
        }
        Err(Error::Exhausted(format!(
            "the list of the {realm}'s pods would have {sum} bytes, the most is {LIST_MAX}: use \
             shorter labels and annotations, or remove pods"
        )))
    }

    /// A sandbox's containers, those being made included, by name.
    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        self.containers
            .by_name
            .range((sandbox.clone(), ContainerName::default())..)
            .take_while(|((holder, _), _)| holder == sandbox)
            .map(|(_, container)| container.clone())
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
    use crate::model::sandbox::{SandboxConfig, SandboxName, SandboxState};

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
            hooks: None,
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
