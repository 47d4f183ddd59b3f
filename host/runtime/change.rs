//! What may be changed in the records, as one pure step over the index. Knows nothing of the
//! database, which writes down what a step did, or of shims.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::index::{Index, ShimRecord};
use super::shelf::Record;
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerVerb};
use crate::model::ids::{ContainerId, SandboxId, ShimId};
use crate::model::resources::{PodResources, Resources};
use crate::model::sandbox::{Sandbox, SandboxState, SandboxVerb};

#[derive(Clone, Debug)]
pub enum Change {
    /// Reserves its name; [`Error::NameReserved`] when another holds it.
    AddSandbox(Sandbox),
    Sandbox(SandboxId, SandboxVerb),
    /// With all its containers.
    ForgetSandbox(SandboxId),
    /// Its sandbox must be ready.
    AddContainer(Container),
    Container(ContainerId, ContainerVerb),
    SetResources(ContainerId, Resources),
    /// Adds to who set what of it.
    SetOwners(ContainerId, BTreeMap<String, String>),
    SetAddresses(SandboxId, Vec<IpAddr>),
    SetPodResources(SandboxId, PodResources),
    ForgetContainer(ContainerId),
    AddShim(ShimRecord),
    ForgetShim(ShimId),
    SetPodCidr(String),
}

/// One record before and after; `None` where it is absent.
#[derive(Clone, Debug)]
pub enum Edit {
    Sandbox { id: SandboxId, old: Option<Arc<Sandbox>>, new: Option<Arc<Sandbox>> },
    Container { id: ContainerId, old: Option<Arc<Container>>, new: Option<Arc<Container>> },
    Shim { id: ShimId, old: Option<ShimRecord>, new: Option<ShimRecord> },
    PodCidr { old: Option<String>, new: Option<String> },
}

impl Edit {
    /// The edit that takes this one back.
    pub fn reversed(self) -> Self {
        match self {
            Self::Sandbox { id, old, new } => Self::Sandbox { id, old: new, new: old },
            Self::Container { id, old, new } => Self::Container { id, old: new, new: old },
            Self::Shim { id, old, new } => Self::Shim { id, old: new, new: old },
            Self::PodCidr { old, new } => Self::PodCidr { old: new, new: old },
        }
    }
}

impl Index {
    /// Makes `changes` in order, all or none, and adds what they did to `edits`.
    pub fn change(&mut self, changes: Vec<Change>, edits: &mut Vec<Edit>) -> Result<()> {
        let mut made = Vec::with_capacity(changes.len());
        for change in changes {
            if let Err(error) = self.edits_of(change, &mut made) {
                for edit in made.into_iter().rev() {
                    self.edit(&edit.reversed());
                }
                return Err(error);
            }
        }
        edits.append(&mut made);
        Ok(())
    }

    /// Puts one edit's new record in place of its old one.
    pub fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Sandbox { new: Some(sandbox), .. } => {
                self.sandboxes.put(sandbox.clone());
            }
            Edit::Sandbox { id, new: None, .. } => {
                self.sandboxes.remove(id);
            }
            Edit::Container { new: Some(container), .. } => {
                self.containers.put(container.clone());
            }
            Edit::Container { id, new: None, .. } => {
                self.containers.remove(id);
            }
            Edit::Shim { id, new: Some(shim), .. } => {
                self.shims.insert(id.clone(), shim.clone());
            }
            Edit::Shim { id, new: None, .. } => {
                self.shims.remove(id);
            }
            Edit::PodCidr { new, .. } => self.pod_cidr.clone_from(new),
        }
    }

    fn edits_of(&mut self, change: Change, made: &mut Vec<Edit>) -> Result<()> {
        match change {
            Change::AddSandbox(sandbox) => {
                self.sandboxes.check_name(&sandbox)?;
                self.check_weight(sandbox.realm, sandbox.weight())?;
                self.set_sandbox(sandbox.id.clone(), Some(sandbox), made);
            }
            Change::Sandbox(id, verb) => {
                let Some(old) = self.sandboxes.get(&id) else {
                    return Err(Error::not_found("sandbox", id.as_str()));
                };
                let state = old.state.after(&verb).map_err(|expected| {
                    Error::Precondition(format!(
                        "sandbox {id} is {}, expected {expected}",
                        old.state
                    ))
                })?;
                let mut sandbox = Sandbox { state, ..Sandbox::clone(old) };
                if let SandboxVerb::Ready(shim) = verb {
                    sandbox.shim = Some(shim);
                }
                self.set_sandbox(id, Some(sandbox), made);
            }
            Change::ForgetSandbox(id) => {
                for container in self.containers_of(&id) {
                    self.set_container(container.id.clone(), None, made);
                }
                self.set_sandbox(id, None, made);
            }
            Change::AddContainer(container) => {
                let id = &container.sandbox;
                let state = self.sandboxes.get(id).map(|sandbox| sandbox.state);
                let state = state.ok_or_else(|| Error::not_found("sandbox", id.as_str()))?;
                if state != SandboxState::Ready {
                    return Err(Error::Precondition(format!(
                        "sandbox {id} is {state}, expected ready"
                    )));
                }
                self.containers.check_name(&container)?;
                self.check_weight(container.realm, container.weight())?;
                self.set_container(container.id.clone(), Some(container), made);
            }
            Change::Container(id, verb) => {
                let mut container = self.container_to_change(&id)?;
                container.state = container.state.after(&verb).map_err(|expected| {
                    Error::WrongState { id: id.clone(), state: container.state.clone(), expected }
                })?;
                self.set_container(id, Some(container), made);
            }
            Change::SetOwners(id, owners) => {
                let mut container = self.container_to_change(&id)?;
                container.config.adjusted.owners.extend(owners);
                self.set_container(id, Some(container), made);
            }
            Change::SetResources(id, resources) => {
                let container = Container { resources, ..self.container_to_change(&id)? };
                self.set_container(id, Some(container), made);
            }
            Change::SetAddresses(id, addresses) => {
                let sandbox = Sandbox { addresses, ..self.sandbox_to_change(&id)? };
                self.set_sandbox(id, Some(sandbox), made);
            }
            Change::SetPodResources(id, PodResources { overhead, resources }) => {
                let mut sandbox = self.sandbox_to_change(&id)?;
                (sandbox.config.overhead, sandbox.config.resources) = (overhead, resources);
                self.set_sandbox(id, Some(sandbox), made);
            }
            Change::ForgetContainer(id) => self.set_container(id, None, made),
            Change::AddShim(shim) => {
                let old = self.shims.insert(shim.id.clone(), shim.clone());
                made.push(Edit::Shim { id: shim.id.clone(), old, new: Some(shim) });
            }
            Change::ForgetShim(id) => {
                let old = self.shims.remove(&id);
                made.push(Edit::Shim { id, old, new: None });
            }
            Change::SetPodCidr(cidr) => {
                let old = self.pod_cidr.replace(cidr.clone());
                made.push(Edit::PodCidr { old, new: Some(cidr) });
            }
        }
        Ok(())
    }

    fn sandbox_to_change(&self, id: &SandboxId) -> Result<Sandbox> {
        let sandbox = self.sandboxes.get(id);
        sandbox
            .map(|sandbox| Sandbox::clone(sandbox))
            .ok_or_else(|| Error::not_found("sandbox", id.as_str()))
    }

    fn container_to_change(&self, id: &ContainerId) -> Result<Container> {
        let container = self.containers.get(id);
        container
            .map(|container| Container::clone(container))
            .ok_or_else(|| Error::not_found("container", id.as_str()))
    }

    fn set_sandbox(&mut self, id: SandboxId, new: Option<Sandbox>, made: &mut Vec<Edit>) {
        let new = new.map(Arc::new);
        let old = self.sandboxes.get(&id).cloned();
        let edit = Edit::Sandbox { id, old, new };
        self.edit(&edit);
        made.push(edit);
    }

    fn set_container(&mut self, id: ContainerId, new: Option<Container>, made: &mut Vec<Edit>) {
        let new = new.map(Arc::new);
        let old = self.containers.get(&id).cloned();
        let edit = Edit::Container { id, old, new };
        self.edit(&edit);
        made.push(edit);
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::index::tests::sandbox;
    use super::*;
    use crate::model::container::{ContainerConfig, ContainerName, ContainerState};
    use crate::model::sandbox::Realm;

    pub fn container(sandbox: &SandboxId, name: &str) -> Container {
        let name = ContainerName { name: name.to_owned(), attempt: 0 };
        Container {
            id: ContainerId::random(),
            sandbox: sandbox.clone(),
            realm: Realm::Kubelet,
            config: ContainerConfig { name, ..ContainerConfig::default() },
            image_id: String::new(),
            image_ref: String::new(),
            created_at: 1,
            state: ContainerState::Creating,
            resources: Resources::default(),
            log_path: String::new(),
            user: Arc::default(),
            stop_signal: 15,
        }
    }

    #[test]
    fn a_refused_change_takes_the_ones_before_it_back() {
        let mut index = Index::default();
        let first = sandbox("a", 1);
        let id = first.id.clone();
        let mut edits = Vec::new();
        index.change(vec![Change::AddSandbox(first)], &mut edits).unwrap();
        let made = container(&id, "one");
        let twin = container(&id, "one");
        let both = vec![Change::AddContainer(made.clone()), Change::AddContainer(twin)];
        let error = index.change(both, &mut edits).unwrap_err();
        assert!(error.to_string().contains(&format!("reserved for container {}", made.id)));
        assert_eq!(index.containers.len(), 0);
        assert_eq!(edits.len(), 1);
    }

    #[test]
    fn lists_stay_within_a_message_and_what_is_removed_makes_room() {
        let heavy = |name: &str, realm: Realm| {
            let mut heavy = Sandbox { realm, ..sandbox(name, 1) };
            heavy.config.annotations = [("a".to_owned(), "x".repeat(4 << 20))].into();
            heavy
        };
        let mut index = Index::default();
        let mut add =
            |heavy: Sandbox| index.change(vec![Change::AddSandbox(heavy)], &mut Vec::new());
        let ids: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                let heavy = heavy(name, Realm::Kubelet);
                let id = heavy.id.clone();
                add(heavy).unwrap();
                id
            })
            .collect();
        let error = add(heavy("d", Realm::Kubelet)).unwrap_err();
        assert!(matches!(&error, Error::Exhausted(text) if text.contains("kubelet's pods")));
        add(heavy("e", Realm::Agent)).unwrap();
        add(sandbox("f", 2)).unwrap();
        // A state that changes adds nothing.
        let stop = Change::Sandbox(ids[0].clone(), SandboxVerb::Stop);
        index.change(vec![stop.clone(), stop], &mut Vec::new()).unwrap();
        let gone = Change::ForgetSandbox(ids[0].clone());
        let again = Change::AddSandbox(heavy("d", Realm::Kubelet));
        index.change(vec![gone, again], &mut Vec::new()).unwrap();
        let mut bulky = container(&ids[1], "bulky");
        bulky.config.labels = [("a".to_owned(), "x".repeat(4 << 20))].into();
        let error = index.change(vec![Change::AddContainer(bulky)], &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::Exhausted(_)), "{error}");
    }

    #[test]
    fn a_container_needs_a_ready_sandbox() {
        let mut index = Index::default();
        let stopped = Sandbox { state: SandboxState::NotReady, ..sandbox("a", 1) };
        let id = stopped.id.clone();
        index.change(vec![Change::AddSandbox(stopped)], &mut Vec::new()).unwrap();
        let change = vec![Change::AddContainer(container(&id, "one"))];
        let error = index.change(change, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("is not ready, expected ready"), "{error}");
    }

    #[test]
    fn forgetting_a_sandbox_forgets_its_containers_alone() {
        let mut index = Index::default();
        let (first, second) = (sandbox("a", 1), sandbox("b", 2));
        let (a, b) = (first.id.clone(), second.id.clone());
        let adds = vec![
            Change::AddSandbox(first),
            Change::AddSandbox(second),
            Change::AddContainer(container(&a, "one")),
            Change::AddContainer(container(&a, "two")),
            Change::AddContainer(container(&b, "one")),
        ];
        index.change(adds, &mut Vec::new()).unwrap();
        assert_eq!(index.containers_of(&a).len(), 2);
        index.change(vec![Change::ForgetSandbox(a.clone())], &mut Vec::new()).unwrap();
        assert_eq!(index.containers_of(&a).len(), 0);
        assert_eq!(index.containers_of(&b).len(), 1);
    }
}
