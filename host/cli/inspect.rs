//! `wasmpod inspect`: everything CRI says of a pod or container, or the store of an image, as JSON.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::Client;
use super::objects::{Found, Snapshot};
use super::store::{Place, Store};
use super::{Global, block_on, output};
use crate::cri::client::RealmScope;
use crate::error::Error;
use crate::proto::cri;
use crate::proto::pod::ImageRequest;

/// Print a pod, a container or an image in full, as JSON.
#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    place: Place,
    /// What the name means; without it pods come before containers before images.
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Pod (name, namespace/name or uid), container id, or image (name or id).
    #[arg(value_name = "POD|CONTAINER|IMAGE")]
    target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Pod,
    Image,
}

impl Inspect {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let value = block_on(async {
            let client = match self.place.open(global).await {
                Ok(Store::Daemon(client)) => client,
                // Without a daemon there are images only.
                Ok(Store::Own(store)) => match store.describe(&self.target).await {
                    Err(Error::NotFound { .. }) if self.kind.is_none() => {
                        Client::connect(&global.endpoint()?).await?
                    }
                    described => return Ok(described?),
                },
                Err(error) => return Err(error),
            };
            if self.kind == Some(Kind::Image) {
                return image(&client, &self.target).await;
            }
            let snapshot = Snapshot::fetch(&client).await?;
            let client = client.in_realm(RealmScope::All);
            let found = match snapshot.find(&self.target) {
                Err(none) if self.kind.is_none() => {
                    let described = image(&client, &self.target).await;
                    // A name that means nothing at all is told of as a pod's.
                    return described
                        .map_err(|error| if is_not_found(&error) { none } else { error });
                }
                found => found?,
            };
            match found {
                Found::Container(_, found) => container(&client, &found.id).await,
                Found::Pod(pod) => {
                    let mut sandboxes = Vec::new();
                    for found in &pod.sandboxes {
                        sandboxes.push(sandbox(&client, &found.id).await?);
                    }
                    let mut containers = Vec::new();
                    for found in &pod.containers {
                        containers.push(container(&client, &found.id).await?);
                    }
                    let agent = pod.agent.as_ref();
                    Ok(json!({
                        "name": pod.name,
                        "namespace": pod.namespace,
                        "uid": pod.uid,
                        "realm": pod.realm.to_string(),
                        "phase": agent.map(|agent| &agent.phase),
                        "reason": agent.map(|agent| &agent.reason),
                        "restarts": agent.map(|agent| agent.restarts),
                        "sandboxes": sandboxes,
                        "containers": containers,
                    }))
                }
            }
        })?;
        output::print_json(&value)?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn image(client: &Client, name: &str) -> anyhow::Result<Value> {
    let request = ImageRequest { image: name.to_owned() };
    let answer = client.imports().describe(request).await?.into_inner();
    serde_json::from_str(&answer.json).context("the daemon's answer is not JSON")
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| status.code() == tonic::Code::NotFound)
}

async fn container(client: &Client, id: &str) -> anyhow::Result<Value> {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = client.runtime().container_status(request).await?.into_inner();
    let status = answer.status.context("the daemon sent no container status")?;
    Ok(json!({ "status": container_json(&status), "info": info(&answer.info) }))
}

async fn sandbox(client: &Client, id: &str) -> anyhow::Result<Value> {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
    let answer = client.runtime().pod_sandbox_status(request).await?.into_inner();
    let status = answer.status.context("the daemon sent no sandbox status")?;
    Ok(json!({ "status": sandbox_json(&status), "info": info(&answer.info) }))
}

/// Values that are JSON themselves are shown as such.
fn info(info: &HashMap<String, String>) -> Value {
    let show = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    info.iter()
        .map(|(key, value)| (key.clone(), show(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A time in nanoseconds as RFC 3339; null for what has not happened.
fn time(nanos: i64) -> Value {
    if nanos == 0 { Value::Null } else { json!(output::rfc3339(nanos)) }
}

fn container_json(status: &cri::ContainerStatus) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let image = status.image.clone().unwrap_or_default();
    let mounts: Vec<Value> = status.mounts.iter().map(mount_json).collect();
    let resources = status.resources.as_ref().and_then(|resources| resources.linux.as_ref());
    json!({
        "id": status.id,
        "metadata": { "name": metadata.name, "attempt": metadata.attempt },
        "state": status.state().as_str_name(),
        "createdAt": time(status.created_at),
        "startedAt": time(status.started_at),
        "finishedAt": time(status.finished_at),
        "exitCode": status.exit_code,
        "reason": status.reason,
        "message": status.message,
        "image": { "image": image.image, "userSpecifiedImage": image.user_specified_image },
        "imageRef": status.image_ref,
        "imageId": status.image_id,
        "labels": status.labels,
        "annotations": status.annotations,
        "mounts": mounts,
        "logPath": status.log_path,
        "resources": resources.map(|linux| json!({
            "cpuPeriod": linux.cpu_period,
            "cpuQuota": linux.cpu_quota,
            "cpuShares": linux.cpu_shares,
            "memoryLimitInBytes": linux.memory_limit_in_bytes,
            "oomScoreAdj": linux.oom_score_adj,
            "cpusetCpus": linux.cpuset_cpus,
            "cpusetMems": linux.cpuset_mems,
        })),
    })
}

fn mount_json(mount: &cri::Mount) -> Value {
    json!({
        "containerPath": mount.container_path,
        "hostPath": mount.host_path,
        "readonly": mount.readonly,
        "recursiveReadOnly": mount.recursive_read_only,
        "propagation": mount.propagation().as_str_name(),
    })
}

fn sandbox_json(status: &cri::PodSandboxStatus) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let namespaces = status.linux.as_ref().and_then(|linux| linux.namespaces.as_ref());
    let options = namespaces.and_then(|namespaces| namespaces.options.as_ref());
    json!({
        "id": status.id,
        "metadata": {
            "name": metadata.name,
            "uid": metadata.uid,
            "namespace": metadata.namespace,
            "attempt": metadata.attempt,
        },
        "state": status.state().as_str_name(),
        "createdAt": time(status.created_at),
        "network": status.network.as_ref().map(|network| json!({ "ip": network.ip })),
        "namespaces": options.map(|options| json!({
            "network": options.network().as_str_name(),
            "pid": options.pid().as_str_name(),
            "ipc": options.ipc().as_str_name(),
        })),
        "labels": status.labels,
        "annotations": status.annotations,
        "runtimeHandler": status.runtime_handler,
    })
}
