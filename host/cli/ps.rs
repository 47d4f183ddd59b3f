//! `wasmpod ps`: pods and their containers, of the kubelet and of `wasmpod run`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::client::Client;
use super::objects::{PodView, Snapshot, attempt, container_name};
use super::output::{self, Format};
use super::publish::arrow;
use super::{Global, block_on};
use crate::cri::client::RealmScope;
use crate::proto::cri;
use crate::proto::pod::PublishedPort;

/// List pods and their containers.
#[derive(Debug, Args)]
pub struct Ps {
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
struct Pod {
    uid: String,
    namespace: String,
    name: String,
    realm: String,
    /// The agent's word, else ready or notready.
    phase: String,
    reason: String,
    created_at: i64,
    sandbox: String,
    handler: String,
    ports: Vec<Port>,
    containers: Vec<Container>,
}

/// A port of the host that leads to the pod.
#[derive(Debug, Serialize)]
struct Port {
    /// tcp, udp or sctp.
    protocol: String,
    /// Empty: every address of the host.
    host_ip: String,
    host_port: u32,
    container_port: u32,
}

#[derive(Debug, Serialize)]
struct Container {
    id: String,
    name: String,
    /// created, running, exited or unknown.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    reason: String,
    restarts: u32,
    created_at: i64,
    image: String,
}

impl Ps {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        let pods = block_on(async {
            let client = Client::connect(&endpoint).await?;
            let snapshot = Snapshot::fetch(&client).await?;
            let mut pods = Vec::new();
            for pod in &snapshot.pods {
                pods.push(show(&client, pod).await?);
            }
            Ok(pods)
        })?;
        match self.output {
            Format::Json => output::print_json(&pods)?,
            Format::Table => output::print(&table(&pods))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn show(client: &Client, pod: &PodView) -> anyhow::Result<Pod> {
    let newest = pod.sandboxes.first();
    let is_ready = newest.map(|s| s.state() == cri::PodSandboxState::SandboxReady);
    let mut containers = Vec::new();
    for name in pod.container_names() {
        let newest = pod.containers.iter().find(|container| container_name(container) == name);
        if let Some(container) = newest {
            containers.push(show_container(client, container).await?);
        }
    }
    let ports = match newest {
        Some(sandbox) if is_ready == Some(true) => show_ports(client, &sandbox.id).await?,
        _ => Vec::new(),
    };
    Ok(Pod {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        realm: pod.realm.to_string(),
        phase: match (&pod.agent, is_ready) {
            (Some(agent), _) => agent.phase.clone(),
            (None, Some(true)) => "Ready".to_owned(),
            (None, _) => "NotReady".to_owned(),
        },
        reason: pod.agent.as_ref().map_or(String::new(), |agent| agent.reason.clone()),
        created_at: pod.created_at,
        sandbox: newest.map_or(String::new(), |sandbox| sandbox.id.clone()),
        handler: newest.map_or(String::new(), |sandbox| sandbox.runtime_handler.clone()),
        ports,
        containers,
    })
}

/// A ready sandbox's, as CRI was told them.
async fn show_ports(client: &Client, sandbox: &str) -> anyhow::Result<Vec<Port>> {
    let request =
        cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: true };
    let mut runtime = client.in_realm(RealmScope::All).runtime();
    let info = match runtime.pod_sandbox_status(request).await {
        Ok(answer) => answer.into_inner().info,
        // Removed since it was listed.
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(Vec::new()),
        Err(status) => return Err(status.into()),
    };
    let info: Value =
        info.get("info").and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let mappings = info.get("portMappings").and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let number = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    };
    let ports = mappings.map(|mapping| Port {
        protocol: text(mapping, "protocol"),
        host_ip: text(mapping, "host_ip"),
        host_port: number(mapping, "host_port"),
        container_port: number(mapping, "container_port"),
    });
    Ok(ports.filter(|port| port.host_port > 0).collect())
}

/// As `wasmpod run -d` shows them; "-" for none.
fn arrows(ports: &[Port]) -> String {
    let shown = ports.iter().map(|port| {
        arrow(&PublishedPort {
            protocol: port.protocol.clone(),
            host_ip: port.host_ip.clone(),
            host_port: port.host_port,
            container_port: port.container_port,
        })
    });
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

async fn show_container(client: &Client, container: &cri::Container) -> anyhow::Result<Container> {
    let state = container.state();
    let mut exit = None;
    if state == cri::ContainerState::ContainerExited {
        let request = cri::ContainerStatusRequest {
            container_id: container.id.clone(),
            ..Default::default()
        };
        let mut runtime = client.in_realm(RealmScope::All).runtime();
        match runtime.container_status(request).await {
            Ok(answer) => exit = answer.into_inner().status,
            // Removed since it was listed.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
    }
    let image = container.image.clone().unwrap_or_default();
    let state = match state {
        cri::ContainerState::ContainerCreated => "created",
        cri::ContainerState::ContainerRunning => "running",
        cri::ContainerState::ContainerExited => "exited",
        cri::ContainerState::ContainerUnknown => "unknown",
    };
    Ok(Container {
        id: container.id.clone(),
        name: container_name(container).to_owned(),
        state: state.to_owned(),
        exit_code: exit.as_ref().map(|exit| exit.exit_code),
        reason: exit.map_or(String::new(), |exit| exit.reason),
        restarts: attempt(container),
        created_at: container.created_at,
        image: if image.user_specified_image.is_empty() {
            image.image
        } else {
            image.user_specified_image
        },
    })
}

fn table(pods: &[Pod]) -> String {
    let header =
        ["POD", "CONTAINER", "CONTAINER ID", "STATUS", "RESTARTS", "AGE", "PORTS", "IMAGE"];
    let mut rows = Vec::new();
    for pod in pods {
        let name = if pod.namespace == "default" || pod.namespace.is_empty() {
            pod.name.clone()
        } else {
            format!("{}/{}", pod.namespace, pod.name)
        };
        if pod.containers.is_empty() {
            let status = if pod.reason.is_empty() { &pod.phase } else { &pod.reason };
            let dash = || "-".to_owned();
            let age = output::age(pod.created_at);
            let ports = arrows(&pod.ports);
            rows.push(vec![name, dash(), dash(), status.clone(), dash(), age, ports, dash()]);
            continue;
        }
        for (index, container) in pod.containers.iter().enumerate() {
            rows.push(vec![
                name.clone(),
                container.name.clone(),
                output::short(&container.id).to_owned(),
                status(pod, container),
                container.restarts.to_string(),
                output::age(container.created_at),
                // The pod's, told once.
                if index == 0 { arrows(&pod.ports) } else { "-".to_owned() },
                container.image.clone(),
            ]);
        }
    }
    output::table(&header, &rows)
}

fn status(pod: &Pod, container: &Container) -> String {
    match (container.state.as_str(), container.exit_code) {
        // What a container waits for matters more than how its last attempt ended.
        ("exited", _) if pod.reason == "CrashLoopBackOff" && container.exit_code != Some(0) => {
            pod.reason.clone()
        }
        ("exited", Some(code)) if container.reason.is_empty() => format!("exited ({code})"),
        ("exited", Some(code)) => format!("{} ({code})", container.reason),
        (state, _) => {
            let mut letters = state.chars();
            letters.next().map_or(String::new(), |first| {
                format!("{}{}", first.to_uppercase(), letters.as_str())
            })
        }
    }
}
