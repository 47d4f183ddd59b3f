//! A pod as the agent's parts share it: identity, events, status, and the orders it is given.
//! One worker owns what happens to it; everybody else sends and watches.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::backoff::Nanos;
use super::events::EventLog;
use super::ports;
use super::record::{Mode, PodDirs, Record, Stop};
use super::status::PodStatus;
use super::sync::{RestartPolicy, Role, Wanted};
use crate::error::Result;
use crate::proto::pod::{PublishedPort, PullProgress};

/// What a pod has been told to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    pub stop: Option<Stop>,
    /// Once it has ended: forget it.
    pub remove: bool,
}

/// An image on its way to one of a pod's containers.
#[derive(Clone, Debug)]
pub struct Pulling {
    pub container: String,
    pub image: String,
    pub progress: PullProgress,
}

#[derive(Debug)]
pub struct Pod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub mode: Mode,
    pub created_at: Nanos,
    /// Init containers in their order, then app containers.
    pub wanted: Vec<Wanted>,
    /// Those of the host that lead to it.
    pub ports: Vec<PublishedPort>,
    pub dirs: PodDirs,
    pub events: EventLog,
    pub status: watch::Sender<PodStatus>,
    pub orders: watch::Sender<Orders>,
    /// Of the image that it waits for; kept nowhere.
    pub pulling: watch::Sender<Option<Pulling>>,
    /// How many owners watch it.
    pub owners: watch::Sender<usize>,
    /// Rung when something of it may have changed.
    pub wake: Notify,
    /// True once nothing of it is left.
    pub gone: watch::Sender<bool>,
}

impl Pod {
    /// The shared side of a record's pod. Takes up its events.
    pub fn new(record: &Record, dirs: PodDirs) -> Result<Arc<Self>> {
        let wanted = wanted(record)?;
        let status = PodStatus {
            phase: record.ending.as_ref().map_or_else(Default::default, |ending| ending.phase),
            ending: record.ending.clone(),
            ..PodStatus::default()
        };
        Ok(Arc::new(Self {
            uid: record.uid.clone(),
            namespace: record.manifest.namespace().to_owned(),
            name: record.manifest.name().to_owned(),
            mode: record.mode,
            created_at: record.created_at,
            wanted,
            ports: ports::published(&record.manifest),
            events: EventLog::open(dirs.events()),
            dirs,
            status: watch::Sender::new(status),
            orders: watch::Sender::new(Orders { stop: record.stop.clone(), remove: false }),
            pulling: watch::Sender::new(None),
            owners: watch::Sender::new(0),
            wake: Notify::new(),
            gone: watch::Sender::new(false),
        }))
    }

    /// Orders the end. A later order wins only when it leaves less time.
    pub fn order_stop(&self, grace: Option<i64>) {
        let at = super::events::now();
        self.orders.send_if_modified(|orders| {
            let sooner = match &orders.stop {
                None => true,
                Some(Stop { grace: before, .. }) => match (before, grace) {
                    (_, None) => false,
                    (None, Some(_)) => true,
                    (Some(before), Some(grace)) => grace < *before,
                },
            };
            if sooner {
                orders.stop = Some(Stop { at, grace });
            }
            sooner
        });
    }

    pub fn order_removal(&self) {
        self.orders.send_if_modified(|orders| !std::mem::replace(&mut orders.remove, true));
    }

    pub fn has_ended(&self) -> bool {
        self.status.borrow().ending.is_some()
    }
}

fn wanted(record: &Record) -> Result<Vec<Wanted>> {
    let policy = record.manifest.spec()?.restart_policy.clone();
    let item = |(path, container): (String, &k8s_openapi::api::core::v1::Container)| {
        let own = container.restart_policy.as_deref();
        let role = match (path.starts_with("spec.initContainers"), own) {
            (false, _) => Role::App,
            (true, Some("Always")) => Role::Sidecar,
            (true, _) => Role::Init,
        };
        Wanted {
            name: container.name.clone(),
            role,
            policy: RestartPolicy::parse(own.or(policy.as_deref())),
        }
    };
    Ok(record.manifest.containers().map(item).collect())
}
