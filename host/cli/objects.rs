//! Pods and containers of every realm as commands name them: by name, by id, by the beginning of
//! an id.

use anyhow::{Context, bail};

use super::client::Client;
use crate::cri::client::RealmScope;
use crate::model::sandbox::Realm;
use crate::proto::cri;
use crate::proto::pod::{self as wire, ListRequest};

/// The kubelet's and the agent's labels on everything of a pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";

/// One pod with what CRI shows of it.
#[derive(Clone, Debug)]
pub struct PodView {
    pub realm: Realm,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub created_at: i64,
    /// What the agent says of its own pods.
    pub agent: Option<wire::Pod>,
    /// Newest first.
    pub sandboxes: Vec<cri::PodSandbox>,
    /// Newest first.
    pub containers: Vec<cri::Container>,
}

impl PodView {
    /// Names of the containers, in the order in which they first came up.
    pub fn container_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for container in self.containers.iter().rev() {
            let name = container_name(container);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The attempts of one container, newest first. Without a name, of the only one there is.
    pub fn attempts(&self, name: Option<&str>) -> anyhow::Result<Vec<&cri::Container>> {
        let names = self.container_names();
        let name = match (name, names.as_slice()) {
            (Some(name), names) if names.contains(&name) => name,
            (Some(name), names) => {
                bail!("pod {} has no container {name}, only {}", self.name, names.join(", "))
            }
            (None, [only]) => only,
            (None, []) => bail!("pod {} has no containers yet", self.name),
            (None, names) => {
                bail!(
                    "pod {} has the containers {}: choose one with -c",
                    self.name,
                    names.join(", ")
                )
            }
        };
        Ok(self.containers.iter().filter(|c| container_name(c) == name).collect())
    }
}

pub fn container_name(container: &cri::Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
}

pub fn attempt(container: &cri::Container) -> u32 {
    container.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
}

/// What a reference on the command line was found to be.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    Pod(&'a PodView),
    Container(&'a PodView, &'a cri::Container),
}

/// Every pod, as listed at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Newest first.
    pub pods: Vec<PodView>,
}

impl Snapshot {
    pub async fn fetch(client: &Client) -> anyhow::Result<Self> {
        let mut pods: Vec<PodView> = Vec::new();
        let listed = client.pods().list(ListRequest {}).await.context("listing pods")?;
        for pod in listed.into_inner().pods {
            pods.push(PodView {
                realm: Realm::Agent,
                uid: pod.uid.clone(),
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                created_at: pod.created_at,
                agent: Some(pod),
                sandboxes: Vec::new(),
                containers: Vec::new(),
            });
        }
        for realm in [Realm::Agent, Realm::Kubelet] {
            let mut runtime = client.in_realm(RealmScope::Only(realm)).runtime();
            let request = cri::ListPodSandboxRequest::default();
            let listed = runtime.list_pod_sandbox(request).await.context("listing sandboxes")?;
            for sandbox in listed.into_inner().items {
                add_sandbox(&mut pods, realm, sandbox);
            }
            let request = cri::ListContainersRequest::default();
            let listed = runtime.list_containers(request).await.context("listing containers")?;
            for container in listed.into_inner().containers {
                let of = |pod: &&mut PodView| {
                    pod.sandboxes.iter().any(|sandbox| sandbox.id == container.pod_sandbox_id)
                };
                // A container whose sandbox went away between the two lists is going, too.
                if let Some(pod) = pods.iter_mut().find(of) {
                    pod.containers.push(container);
                }
            }
        }
        for pod in &mut pods {
            pod.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
            pod.containers.sort_by_key(|container| {
                std::cmp::Reverse((container.created_at, attempt(container)))
            });
        }
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        Ok(Self { pods })
    }

    /// The id of a running container: of a pod's several the one that is named, or the only one
    /// that runs.
    pub fn running(&self, reference: &str, name: Option<&str>) -> anyhow::Result<String> {
        let pod = match self.find(reference)? {
            Found::Container(_, container) => return Ok(container.id.clone()),
            Found::Pod(pod) => pod,
        };
        let is_running = |c: &&cri::Container| c.state() == cri::ContainerState::ContainerRunning;
        if let Some(name) = name {
            let attempts = pod.attempts(Some(name))?;
            let running = attempts.into_iter().find(is_running);
            let running = running.with_context(|| format!("container {name} is not running"))?;
            return Ok(running.id.clone());
        }
        let running: Vec<&cri::Container> = pod.containers.iter().filter(is_running).collect();
        match running.as_slice() {
            [only] => Ok(only.id.clone()),
            [] => bail!("no container of pod {} is running", pod.name),
            several => {
                let names: Vec<&str> = several.iter().map(|c| container_name(c)).collect();
                bail!("pod {} runs {}: choose one with -c", pod.name, names.join(", "))
            }
        }
    }

    /// The pod or container that a reference means: a pod's name, namespace/name, uid or sandbox
    /// id, or a container's id; ids may be cut short.
    pub fn find(&self, reference: &str) -> anyhow::Result<Found<'_>> {
        if reference.is_empty() {
            bail!("an empty name names no pod");
        }
        let named = |pod: &&PodView| match reference.split_once('/') {
            Some((namespace, name)) => pod.namespace == namespace && pod.name == name,
            None => pod.name == reference,
        };
        let mut found: Vec<Found<'_>> = self.pods.iter().filter(named).map(Found::Pod).collect();
        if found.is_empty() {
            for pod in &self.pods {
                let by_sandbox = pod.sandboxes.iter().any(|s| s.id.starts_with(reference));
                if pod.uid.starts_with(reference) || by_sandbox {
                    found.push(Found::Pod(pod));
                }
                let containers = pod.containers.iter().filter(|c| c.id.starts_with(reference));
                found.extend(containers.map(|container| Found::Container(pod, container)));
            }
        }
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => bail!("no pod or container {reference:?} (see `wasmpod ps`)"),
            several => bail!("{reference:?} means {} pods or containers: say more", several.len()),
        }
    }

    /// As [`Snapshot::find`], for pods alone.
    pub fn pod(&self, reference: &str) -> anyhow::Result<&PodView> {
        match self.find(reference)? {
            Found::Pod(pod) => Ok(pod),
            Found::Container(pod, _) => {
                bail!("{reference:?} is a container of pod {}: name the pod", pod.name)
            }
        }
    }
}

fn add_sandbox(pods: &mut Vec<PodView>, realm: Realm, sandbox: cri::PodSandbox) {
    let metadata = sandbox.metadata.clone().unwrap_or_default();
    let label = |key: &str, otherwise: &str| {
        sandbox.labels.get(key).cloned().unwrap_or_else(|| otherwise.to_owned())
    };
    let uid = label(POD_UID, &metadata.uid);
    match pods.iter_mut().find(|pod| pod.realm == realm && pod.uid == uid) {
        Some(pod) => pod.sandboxes.push(sandbox),
        None => pods.push(PodView {
            realm,
            namespace: label(POD_NAMESPACE, &metadata.namespace),
            name: label(POD_NAME, &metadata.name),
            uid,
            created_at: sandbox.created_at,
            agent: None,
            sandboxes: vec![sandbox],
            containers: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, id: &str, created_at: i64) -> cri::Container {
        cri::Container {
            id: id.to_owned(),
            metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            created_at,
            ..Default::default()
        }
    }

    fn pod(name: &str, uid: &str, containers: Vec<cri::Container>) -> PodView {
        PodView {
            realm: Realm::Agent,
            uid: uid.to_owned(),
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            created_at: 0,
            agent: None,
            sandboxes: Vec::new(),
            containers,
        }
    }

    #[test]
    fn references_are_names_before_ids_and_must_mean_one_thing() {
        let pods = vec![
            pod("web", "ab12", vec![container("c", "ff01", 1)]),
            pod("ab", "ab34", Vec::new()),
        ];
        let snapshot = Snapshot { pods };
        for (reference, uid) in
            [("web", "ab12"), ("ns/web", "ab12"), ("ab", "ab34"), ("ab1", "ab12")]
        {
            assert_eq!(snapshot.pod(reference).unwrap().uid, uid, "{reference}");
        }
        assert!(matches!(snapshot.find("ff"), Ok(Found::Container(_, c)) if c.id == "ff01"));
        for (reference, says) in
            [("x", "no pod"), ("other/web", "no pod"), ("a", "means 2"), ("", "empty")]
        {
            let error = snapshot.find(reference).unwrap_err().to_string();
            assert!(error.contains(says), "{reference}: {error}");
        }
    }

    #[test]
    fn a_container_is_chosen_only_where_there_is_no_choice() {
        let one = pod("a", "u", vec![container("c", "2", 2), container("c", "1", 1)]);
        assert_eq!(one.attempts(None).unwrap()[0].id, "2");
        let two = pod("a", "u", vec![container("d", "2", 2), container("c", "1", 1)]);
        assert!(two.attempts(None).unwrap_err().to_string().contains("containers c, d: choose"));
        assert_eq!(two.attempts(Some("d")).unwrap()[0].id, "2");
        assert!(two.attempts(Some("x")).unwrap_err().to_string().contains("only c, d"));
    }
}
