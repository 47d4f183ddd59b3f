//! `wasmpod events`: what happens to pods and containers of both realms, and what plugins tell of
//! them, as CRI's stream of events has it.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use serde::Serialize;
use tonic::{Code, Status};

use super::client::Client;
use super::objects::{Found, POD_NAME, POD_NAMESPACE, POD_UID, Snapshot};
use super::output::{self, Clock, Format, Paint};
use super::{Global, block_on};
use crate::cri::client::RealmScope;
use crate::model::sandbox::Realm;
use crate::proto::cri;

/// The annotations in which an event carries a plugin's words.
const TOLD: &str = "event.wasmpod.dev/";

/// Show what happens to pods and containers from now on, and what plugins tell of them, until
/// Ctrl-C.
#[derive(Debug, Args)]
pub struct Events {
    /// How to print them; JSON is a line for each.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Of this one alone: pod (name, namespace/name or uid), or container id.
    #[arg(value_name = "POD|CONTAINER")]
    target: Option<String>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    /// RFC 3339.
    time: String,
    realm: String,
    /// Normal or Warning.
    severity: String,
    /// Created, Started, Stopped, Deleted, or a plugin's word.
    reason: String,
    message: String,
    /// Of those that a plugin tells.
    plugin: Option<String>,
    namespace: String,
    pod: String,
    pod_uid: String,
    /// Empty for the pod itself.
    container: String,
    /// The container's, or the sandbox's.
    id: String,
    #[serde(skip)]
    at: i64,
}

/// Whose events are shown.
enum Only {
    All,
    /// By its uid.
    Pod(String),
    Container(String),
}

type Told = (Realm, Option<Result<cri::ContainerEventResponse, Status>>);

impl Events {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            let only = self.only(&client).await?;
            let mut stream = SelectAll::new();
            for realm in [Realm::Agent, Realm::Kubelet] {
                stream.push(listen(&client, realm).await?);
            }
            eprintln!("wasmpod: showing what happens from now on");
            let printer = Printer::new(self.output);
            let mut names = Names::default();
            while let Some((realm, told)) = stream.next().await {
                match told {
                    Some(Ok(told)) => {
                        let event = names.event(realm, &told);
                        if only.shows(&event) {
                            printer.print(&event)?;
                        }
                    }
                    Some(Err(status)) if status.code() == Code::DataLoss => {
                        eprintln!("wasmpod: some events of the {realm}'s pods were lost: too slow");
                        stream.push(listen(&client, realm).await?);
                    }
                    Some(Err(status)) => return Err(status).context("listening to events"),
                    None => bail!("the daemon has ended"),
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    async fn only(&self, client: &Client) -> anyhow::Result<Only> {
        let Some(target) = &self.target else { return Ok(Only::All) };
        let snapshot = Snapshot::fetch(client).await?;
        Ok(match snapshot.find(target)? {
            Found::Pod(pod) => Only::Pod(pod.uid.clone()),
            Found::Container(_, container) => Only::Container(container.id.clone()),
        })
    }
}

impl Only {
    fn shows(&self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Pod(uid) => event.pod_uid == *uid,
            Self::Container(id) => event.id == *id,
        }
    }
}

/// A realm's events from now on; `None` is its end.
async fn listen(client: &Client, realm: Realm) -> anyhow::Result<BoxStream<'static, Told>> {
    let mut runtime = client.in_realm(RealmScope::Only(realm)).runtime();
    let stream = runtime.get_container_events(cri::GetEventsRequest {}).await;
    let stream = stream.context("listening to events")?.into_inner();
    let end = futures::future::ready(None).into_stream();
    Ok(stream.map(Some).chain(end).map(move |told| (realm, told)).boxed())
}

/// Who containers are, for events of those that are gone by then, perhaps with their pod.
#[derive(Default)]
struct Names(HashMap<String, Known>);

#[derive(Clone, Default)]
struct Known {
    namespace: String,
    pod: String,
    pod_uid: String,
    container: String,
}

impl Names {
    fn event(&mut self, realm: Realm, told: &cri::ContainerEventResponse) -> Event {
        let (id, kind) = (&told.container_id, told.container_event_type());
        let own = told.pod_sandbox_status.as_ref().map(known);
        for container in &told.containers_statuses {
            let name = container.metadata.as_ref().map(|metadata| metadata.name.clone());
            if let Some(own) = own.clone() {
                let container_name = name.unwrap_or_default();
                self.0.insert(container.id.clone(), Known { container: container_name, ..own });
            }
        }
        let remembered = match kind {
            cri::ContainerEventType::ContainerDeletedEvent => self.0.remove(id),
            _ => self.0.get(id).cloned(),
        };
        let is_pod = told.pod_sandbox_status.as_ref().is_some_and(|status| status.id == *id);
        let known = remembered.unwrap_or_else(|| Known {
            container: if is_pod { String::new() } else { output::short(id).to_owned() },
            ..own.unwrap_or_default()
        });
        let (reason, message) = match kind {
            cri::ContainerEventType::ContainerCreatedEvent => ("Created", String::new()),
            cri::ContainerEventType::ContainerStartedEvent => ("Started", String::new()),
            cri::ContainerEventType::ContainerStoppedEvent => ("Stopped", end(told)),
            cri::ContainerEventType::ContainerDeletedEvent => ("Deleted", String::new()),
        };
        let event = Event {
            time: output::rfc3339(told.created_at),
            realm: realm.to_string(),
            severity: "Normal".to_owned(),
            reason: reason.to_owned(),
            message,
            plugin: None,
            namespace: known.namespace,
            pod: known.pod,
            pod_uid: known.pod_uid,
            container: known.container,
            id: id.clone(),
            at: told.created_at,
        };
        with_words(event, told)
    }
}

fn known(status: &cri::PodSandboxStatus) -> Known {
    let metadata = status.metadata.clone().unwrap_or_default();
    let label = |key: &str, otherwise: String| status.labels.get(key).cloned().unwrap_or(otherwise);
    Known {
        namespace: label(POD_NAMESPACE, metadata.namespace),
        pod: label(POD_NAME, metadata.name),
        pod_uid: label(POD_UID, metadata.uid),
        container: String::new(),
    }
}

/// The same event with a plugin's words, where it is one's.
fn with_words(event: Event, told: &cri::ContainerEventResponse) -> Event {
    let word = |key: &str| {
        let status = told.pod_sandbox_status.as_ref()?;
        status.annotations.get(&format!("{TOLD}{key}")).cloned()
    };
    let (Some(plugin), Some(reason)) = (word("plugin"), word("reason")) else { return event };
    Event {
        plugin: Some(plugin),
        reason,
        severity: word("severity").unwrap_or(event.severity),
        message: word("message").unwrap_or_default(),
        ..event
    }
}

/// How the event's container ended.
fn end(told: &cri::ContainerEventResponse) -> String {
    let own = told.containers_statuses.iter().find(|status| status.id == told.container_id);
    let Some(own) = own else { return String::new() };
    let line = own.message.lines().next().unwrap_or_default();
    let why = if line.is_empty() { String::new() } else { format!(": {line}") };
    format!("{}, exit code {}{why}", own.reason, own.exit_code)
}

struct Printer {
    format: Format,
    paint: Paint,
    clock: Clock,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self { format, paint: Paint::of(&std::io::stdout()), clock: Clock::local() }
    }

    fn print(&self, event: &Event) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return Ok(output::print(&(serde_json::to_string(event)? + "\n"))?);
        }
        let line = format!("{} {}", self.clock.time(event.at), line(event));
        let line = match event.severity.as_str() {
            "Warning" => self.paint.text(&line, "33"),
            _ => line,
        };
        Ok(output::print(&format!("{line}\n"))?)
    }
}

fn line(event: &Event) -> String {
    let Event { severity, reason, namespace, pod, container, message, .. } = event;
    let pod = match namespace.as_str() {
        "" | "default" => pod.clone(),
        namespace => format!("{namespace}/{pod}"),
    };
    let subject = match (container.as_str(), pod.as_str()) {
        ("", pod) => format!("pod {pod}"),
        // It is gone, and nothing was told of it before.
        (name, "") => format!("container {name}"),
        (name, pod) => format!("container {name} of pod {pod}"),
    };
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    let plugin = event.plugin.as_ref().map_or(String::new(), |name| format!(" (plugin {name})"));
    format!("{severity} {reason} {subject}{message}{plugin}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: cri::ContainerEventType, words: &[(&str, &str)]) -> cri::ContainerEventResponse {
        let words = words.iter().map(|(key, value)| (format!("{TOLD}{key}"), (*value).to_owned()));
        let metadata = cri::PodSandboxMetadata {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            uid: "u".to_owned(),
            attempt: 0,
        };
        cri::ContainerEventResponse {
            container_id: "c".to_owned(),
            container_event_type: kind.into(),
            created_at: 1,
            pod_sandbox_status: Some(cri::PodSandboxStatus {
                id: "p".to_owned(),
                metadata: Some(metadata),
                annotations: words.collect(),
                ..Default::default()
            }),
            containers_statuses: vec![cri::ContainerStatus {
                id: "c".to_owned(),
                metadata: Some(cri::ContainerMetadata { name: "app".to_owned(), attempt: 0 }),
                reason: "Error".to_owned(),
                exit_code: 3,
                ..Default::default()
            }],
        }
    }

    #[test]
    fn a_container_that_is_gone_is_still_called_by_its_name() {
        use cri::ContainerEventType::{ContainerDeletedEvent, ContainerStoppedEvent};
        let mut names = Names::default();
        let stopped = names.event(Realm::Agent, &told(ContainerStoppedEvent, &[]));
        let words = "Normal Stopped container app of pod shop/web: Error, exit code 3";
        assert_eq!(line(&stopped), words);
        let mut gone = told(ContainerDeletedEvent, &[]);
        gone.containers_statuses.clear();
        gone.pod_sandbox_status = None;
        let deleted = names.event(Realm::Agent, &gone);
        assert_eq!(line(&deleted), "Normal Deleted container app of pod shop/web");
        let unknown = names.event(Realm::Agent, &gone);
        assert_eq!(line(&unknown), "Normal Deleted container c");
    }

    #[test]
    fn a_plugins_words_are_the_events() {
        let words = [
            ("plugin", "audit"),
            ("severity", "Warning"),
            ("reason", "Odd"),
            ("message", "as never before"),
        ];
        let kind = cri::ContainerEventType::ContainerStartedEvent;
        let event = Names::default().event(Realm::Kubelet, &told(kind, &words));
        let expected = "Warning Odd container app of pod shop/web: as never before (plugin audit)";
        assert_eq!(line(&event), expected);
        assert!(Only::Pod("u".to_owned()).shows(&event));
        assert!(!Only::Container("p".to_owned()).shows(&event));
    }
}
