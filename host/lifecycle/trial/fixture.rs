//! What happens in a trial, as its author writes it: one JSON object, of which all but `hook` may be
//! left out. docs/plugins/run.md describes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::containers::{Container, ContainerState};
use super::hook::Hook;
use super::pods::{Pod, PodState, Resources, digits};
use crate::error::{Error, Result};
use crate::lifecycle::bindings::types::Image as Pulled;
use crate::lifecycle::bindings::{cpu, memory};
use crate::lifecycle::hooks::Step;
use crate::lifecycle::own::SETTINGS;
use crate::model::container as model;
use crate::model::cpuset::CpuSet;
use crate::model::sandbox::{OwnHooks, Sandbox};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fixture {
    pub hook: String,
    /// The plugin's settings.
    pub settings: serde_json::Map<String, serde_json::Value>,
    pub pod: Pod,
    pub container: Container,
    /// Of image-pulled.
    pub image: Image,
    /// What update-container and update-pod-sandbox are asked for; 0 and empty: as it is.
    pub wanted: Option<Resources>,
    /// Of update-pod-sandbox.
    pub overhead: Option<Resources>,
    /// Others that are on the node already: synchronize shows them.
    pub pods: Vec<Pod>,
    pub containers: Vec<Container>,
    /// By default the machine that this is.
    pub machine: Option<Machine>,
    /// CPUs that containers have been allocated, by the container's name or id.
    pub allocations: BTreeMap<String, Allocation>,
    /// The plugin's state.
    pub kv: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Image {
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub size: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allocation {
    pub cpus: String,
    /// Whose; by default the plugin's own.
    pub plugin: Option<String>,
}

/// A machine whose sockets, nodes and cores are alike, as the guest SDK's tests have it. CPUs are
/// numbered as Linux does: the first thread of every core, then the second.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Machine {
    pub sockets: u32,
    pub nodes_of_a_socket: u32,
    pub cores_of_a_node: u32,
    pub threads_of_a_core: u32,
}

/// CPUs of a machine that is taken for one.
const MOST_CPUS: u32 = 8192;

impl Default for Machine {
    fn default() -> Self {
        Self { sockets: 1, nodes_of_a_socket: 1, cores_of_a_node: 1, threads_of_a_core: 1 }
    }
}

impl Machine {
    fn check(&self) -> Result<()> {
        let Self { sockets, nodes_of_a_socket, cores_of_a_node, threads_of_a_core } = *self;
        let counts = [sockets, nodes_of_a_socket, cores_of_a_node, threads_of_a_core];
        let cpus = counts.into_iter().try_fold(1u32, u32::checked_mul);
        match cpus {
            Some(1..=MOST_CPUS) => Ok(()),
            _ => Err(Error::Invalid(format!("machine: it has not 1 to {MOST_CPUS} CPUs"))),
        }
    }

    fn nodes(&self) -> u32 {
        self.sockets * self.nodes_of_a_socket
    }

    pub fn layout(&self) -> cpu::Layout {
        let cores = self.nodes() * self.cores_of_a_node;
        let cpu = |id: u32| {
            let core = id % cores;
            let node = core / self.cores_of_a_node;
            cpu::Cpu { id, core, socket: node / self.nodes_of_a_socket, node }
        };
        cpu::Layout {
            cpus: (0..cores * self.threads_of_a_core).map(cpu).collect(),
            caches: Vec::new(),
            nodes: (0..self.nodes()).collect(),
        }
    }

    pub fn online(&self) -> CpuSet {
        self.layout().cpus.iter().map(|cpu| cpu.id as usize).collect()
    }

    /// 8 GiB each, half of it free.
    pub fn memory(&self) -> Vec<memory::Node> {
        let distance = |one: u32, other: u32| if one == other { 10 } else { 20 };
        let node = |id: u32| memory::Node {
            id,
            total: 8 << 30,
            free: 4 << 30,
            distances: (0..self.nodes()).map(|other| distance(id, other)).collect(),
        };
        (0..self.nodes()).map(node).collect()
    }
}

/// A fixture's things as the model has them.
pub struct Things {
    /// Of the event.
    pub pod: Sandbox,
    pub container: model::Container,
    /// Besides it.
    pub pods: Vec<Sandbox>,
    pub containers: Vec<model::Container>,
}

impl Fixture {
    /// The error names the field, what is known in its place, and line and column.
    pub fn parse(text: &str) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fixture: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            // A part that is not known is a question mark, the whole a dot.
            let path = path.trim_end_matches(['.', '?']);
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            Error::Invalid(format!("{place}{}", error.into_inner()))
        })?;
        json.end().map_err(|error| Error::Invalid(error.to_string()))?;
        if let Some(machine) = &fixture.machine {
            machine.check()?;
        }
        Hook::parse(&fixture.hook)?;
        Ok(fixture)
    }

    pub fn things(&self, hook: Hook) -> Result<Things> {
        let state = match hook {
            Hook::Pod(Step::RemoveSandbox) => PodState::NotReady,
            _ => PodState::Ready,
        };
        let about = |what: String| move |error: Error| Error::Invalid(format!("{what}: {error}"));
        let pod = self.pod.sandbox(state).map_err(about("pod".to_owned()))?;
        let state = match () {
            () if hook.is_running() => ContainerState::Running,
            () if hook.is_over() => ContainerState::Exited,
            () => ContainerState::Created,
        };
        let container = &self.container;
        if !container.pod.is_empty() && !is_called(&pod, &container.pod) {
            return Err(Error::Invalid(format!(
                "container: its pod {:?} is another one than the event's {}/{}: leave it out",
                container.pod, pod.config.name.namespace, pod.config.name.name
            )));
        }
        let container = container.model(&pod, state).map_err(about("container".to_owned()))?;
        let mut pods = Vec::new();
        for (index, other) in self.pods.iter().enumerate() {
            let doing = about(format!("pods[{index}]"));
            pods.push(other.sandbox(PodState::Ready).map_err(doing)?);
        }
        let mut containers = Vec::new();
        for (index, other) in self.containers.iter().enumerate() {
            let place = format!("containers[{index}]");
            let mut own = pods.iter().chain([&pod]).filter(|pod| is_called(pod, &other.pod));
            let own = match (own.next(), own.next()) {
                (Some(pod), None) => pod,
                (None, _) if other.pod.is_empty() => {
                    let what = "it has no pod: name one of the fixture's in \"pod\"";
                    return Err(Error::Invalid(format!("{place}: {what}")));
                }
                (None, _) => {
                    let what = format!("no pod of the fixture is called {:?}", other.pod);
                    return Err(Error::Invalid(format!("{place}: {what}")));
                }
                _ => {
                    let what =
                        format!("several pods are called {:?}: say NAMESPACE/NAME", other.pod);
                    return Err(Error::Invalid(format!("{place}: {what}")));
                }
            };
            let model = other.model(own, ContainerState::Running);
            containers.push(model.map_err(about(place))?);
        }
        let things = Things { pod, container, pods, containers };
        things.check()?;
        Ok(things)
    }

    pub fn pulled(&self) -> Pulled {
        let Image { id, tags, digests, size } = self.image.clone();
        let id = match id.as_str() {
            "" => format!("sha256:{}", digits(&format!("image {}", tags.join(" ")))),
            id => id.to_owned(),
        };
        Pulled { id, tags, digests, size }
    }
}

impl Things {
    /// The event's pod has hooks of its own, with these settings where it does not say others.
    pub fn bring(&mut self, fields: &[String], settings: &toml::Table) {
        self.pod.hooks = Some(OwnHooks { image: String::new(), fields: fields.to_vec() });
        if !settings.is_empty() {
            let text = serde_json::to_string(settings).unwrap_or_default();
            self.pod.config.annotations.entry(SETTINGS.to_owned()).or_insert(text);
        }
    }

    /// No two are the same.
    fn check(&self) -> Result<()> {
        let mut ids: Vec<_> = self.containers.iter().map(|c| c.id.as_str()).collect();
        ids.push(self.container.id.as_str());
        ids.extend(self.pods.iter().chain([&self.pod]).map(|pod| pod.id.as_str()));
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(_) => Err(Error::Invalid(
                "two pods, or two containers of a pod, have the same name or id".to_owned(),
            )),
            None => Ok(()),
        }
    }
}

fn is_called(pod: &Sandbox, name: &str) -> bool {
    let own = &pod.config.name;
    match name.split_once('/') {
        Some((namespace, name)) => own.namespace == namespace && own.name == name,
        None => own.name == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) -> String {
        let things = Fixture::parse(text)
            .and_then(|fixture| fixture.things(Hook::parse(&fixture.hook)?.1).map(drop));
        things.unwrap_err().to_string()
    }

    #[test]
    fn a_hook_is_enough() {
        for name in Hook::names() {
            let fixture = Fixture::parse(&format!("{{\"hook\": \"{name}\"}}")).unwrap();
            fixture.things(Hook::parse(name).unwrap().1).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(refused("{\n \"hook\": }").contains("expected value at line 2 column 10"));
        assert!(refused("{\"hook\": \"configure\", ").starts_with("EOF while"));
        assert!(refused("{} x").contains("trailing characters at line 1 column 4"));
        let error = refused(r#"{"hook": "pre-create"}"#);
        assert!(
            error.contains("there is no hook \"pre-create\"; there are configure, "),
            "{error}"
        );
        let error = refused("{\"hook\": \"shutdown\", \"pod\": {\"nmae\": \"a\"}}");
        assert!(error.contains("pod.nmae: unknown field `nmae`, expected one of `id`"), "{error}");
        assert!(error.contains("at line 1 column"), "{error}");
        let error = refused(r#"{"hook": "shutdown", "container": {"env": ["A"]}}"#);
        assert!(error.contains("container.env: invalid type: sequence, expected an object"));
        let error = refused(r#"{"hook": "shutdown", "containers": [{"name": "a"}]}"#);
        assert!(error.contains("containers[0]: it has no pod: name one"), "{error}");
        let error = refused(r#"{"hook": "shutdown", "containers": [{"pod": "x"}]}"#);
        assert!(error.contains("containers[0]: no pod of the fixture is called \"x\""), "{error}");
        let error = refused(r#"{"hook": "shutdown", "container": {"pod": "x"}}"#);
        assert!(error.contains("its pod \"x\" is another one than the event's"), "{error}");
        let error = refused(r#"{"hook": "shutdown", "pods": [{}]}"#);
        assert!(error.contains("have the same name or id"), "{error}");
        let error = refused(r#"{"hook": "shutdown", "pod": {"id": "../x"}}"#);
        assert!(error.contains("pod: id \"../x\" has not 64 hexadecimal digits"), "{error}");
        let error = refused(r#"{"hook": "shutdown", "machine": {"sockets": 0}}"#);
        assert!(error.contains("it has not 1 to 8192 CPUs"), "{error}");
    }

    #[test]
    fn a_container_is_itself_again() {
        let text = r#"{"hook": "update-container", "container": {"name": "app", "pod": "pod",
            "args": ["a", "b"], "env": {"Z": "1", "A": "2"}, "rlimits": {"descriptors": 9},
            "mounts": [{"containerPath": "/c", "hostPath": "/h", "access": "read-only"}]}}"#;
        let fixture = Fixture::parse(text).unwrap();
        let things = fixture.things(Hook::Update).unwrap();
        let told = Container::of(&things.container, &things.pod);
        assert_eq!(told.env, fixture.container.env);
        assert_eq!(told.mounts, fixture.container.mounts);
        assert_eq!(
            (&told.args, &told.rlimits),
            (&fixture.container.args, &fixture.container.rlimits)
        );
        let again = told.model(&things.pod, ContainerState::Created).unwrap();
        assert_eq!(Container::of(&again, &things.pod), told);
    }
}
