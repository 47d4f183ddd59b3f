//! CRI's configurations of a sandbox and a container, made from a pod as the kubelet makes them:
//! labels, annotations, mounts, resources. Blocks on files where a mount needs one.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec, VolumeMount};

use super::env::{self, Environment, PodFacts};
use super::quantity::{self, Qos};
use super::record::{PodDirs, Record};
use super::security::ImageUser;
use super::volumes::Volumes;
use super::{hosts, node, ports, security, sub_path};
use crate::error::{Error, Result};
use crate::proto::cri;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Pod annotations that containers get as well: they are wasmpod's own settings.
const OWN_ANNOTATIONS: &str = "wasmpod.dev/";
const ETC_HOSTS: &str = "/etc/hosts";
pub const TERMINATION_LOG: &str = "/dev/termination-log";

fn pod_labels(record: &Record) -> HashMap<String, String> {
    let manifest = &record.manifest;
    HashMap::from([
        (POD_NAME.to_owned(), manifest.name().to_owned()),
        (POD_NAMESPACE.to_owned(), manifest.namespace().to_owned()),
        (POD_UID.to_owned(), record.uid.clone()),
    ])
}

fn is_on_host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

fn namespace_options(spec: &PodSpec) -> cri::NamespaceOption {
    let network =
        if is_on_host_network(spec) { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
    cri::NamespaceOption {
        network: network.into(),
        pid: cri::NamespaceMode::Container.into(),
        ipc: cri::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

/// The sandbox of that attempt. Makes the log folder.
pub fn sandbox(record: &Record, dirs: &PodDirs, attempt: u32) -> Result<cri::PodSandboxConfig> {
    let manifest = &record.manifest;
    let spec = manifest.spec()?;
    let metadata = &manifest.pod.metadata;
    let logs = dirs.logs();
    fs::create_dir_all(&logs).map_err(Error::io(format!("making {}", logs.display())))?;
    let mut labels: HashMap<String, String> =
        metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_labels(record));
    let mut annotations: HashMap<String, String> =
        metadata.annotations.clone().unwrap_or_default().into_iter().collect();
    annotations.insert("kubernetes.io/config.source".to_owned(), "wasmpod".to_owned());
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: manifest.name().to_owned(),
            uid: record.uid.clone(),
            namespace: manifest.namespace().to_owned(),
            attempt,
        }),
        hostname: if is_on_host_network(spec) {
            String::new()
        } else {
            hosts::hostname(manifest.name(), spec)
        },
        log_directory: logs.to_string_lossy().into_owned(),
        dns_config: hosts::dns(spec, &host),
        port_mappings: ports::mappings(manifest),
        labels,
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig {
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespace_options(spec)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// What a container's configuration is made from besides its pod.
#[derive(Clone, Debug)]
pub struct Making {
    pub name: String,
    pub attempt: u32,
    /// Id from ImageStatus.
    pub image_id: String,
    /// The name that was resolved to it.
    pub image_name: String,
    pub image_user: ImageUser,
    /// The sandbox's, the first first; empty on the host's network and with loopback alone.
    pub addresses: Vec<String>,
}

/// The container's configuration; makes its log folder, its termination log and /etc/hosts.
pub fn container(
    record: &Record,
    dirs: &PodDirs,
    volumes: &Volumes,
    making: &Making,
) -> Result<cri::ContainerConfig> {
    let manifest = &record.manifest;
    let spec = manifest.spec()?;
    let container = manifest
        .container(&making.name)
        .ok_or_else(|| Error::not_found("container", making.name.as_str()))?;
    let host_ips = node::addresses();
    let facts = PodFacts {
        uid: &record.uid,
        node_name: &node_name(spec),
        pod_ips: if is_on_host_network(spec) { &host_ips } else { &making.addresses },
        host_ips: &host_ips,
    };
    let environment = env::environment(manifest, container, &facts)?;
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| environment.expand(text)).collect()
    };
    let log_path = PodDirs::log_path(&making.name, making.attempt);
    let log_folder = dirs.logs().join(&making.name);
    fs::create_dir_all(&log_folder)
        .map_err(Error::io(format!("making {}", log_folder.display())))?;
    let mut labels = pod_labels(record);
    labels.insert(CONTAINER_NAME.to_owned(), making.name.clone());
    let hosts = etc_hosts(record, dirs, &making.addresses)?;
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: making.name.clone(),
            attempt: making.attempt,
        }),
        image: Some(cri::ImageSpec {
            image: making.image_id.clone(),
            user_specified_image: making.image_name.clone(),
            runtime_handler: spec.runtime_class_name.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts((dirs, &hosts), volumes, (container, &environment))?,
        labels,
        annotations: annotations(record, container, making.attempt),
        log_path: log_path.to_string_lossy().into_owned(),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        linux: Some(linux(record, container, &making.image_user)?),
        envs: environment
            .into_pairs()
            .into_iter()
            .map(|(key, value)| cri::KeyValue { key, value: value.into_bytes() })
            .collect(),
        ..Default::default()
    })
}

/// spec.nodeName, else this machine's hostname.
fn node_name(spec: &PodSpec) -> String {
    let own = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    spec.node_name.clone().unwrap_or_else(|| own().trim().to_owned())
}

fn annotations(record: &Record, container: &Container, attempt: u32) -> HashMap<String, String> {
    let metadata = &record.manifest.pod.metadata;
    let mut annotations: HashMap<String, String> = metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(OWN_ANNOTATIONS))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let path = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let spec = record.manifest.pod.spec.as_ref();
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    for (key, value) in [
        (RESTART_COUNT, attempt.to_string()),
        ("io.kubernetes.container.terminationMessagePath", path.to_owned()),
        ("io.kubernetes.container.terminationMessagePolicy", policy.to_owned()),
        ("io.kubernetes.pod.terminationGracePeriod", grace.to_string()),
    ] {
        annotations.insert(key.to_owned(), value);
    }
    annotations
}

fn linux(
    record: &Record,
    container: &Container,
    image: &ImageUser,
) -> Result<cri::LinuxContainerConfig> {
    let spec = record.manifest.spec()?;
    let wanted = quantity::wanted(container.resources.as_ref(), "resources")?;
    let (cpu_period, cpu_quota) = wanted.cpu_quota();
    let qos = Qos::of(record.manifest.containers().map(|(_, container)| container));
    let memory = wanted.memory_request.unwrap_or(0);
    let (own, of_pod) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let who = format!("pod: {:?}, container: {}", record.title(), container.name);
    security::check_non_root(own, of_pod, (image, &who))?;
    let security = security::to_cri(own, of_pod, image);
    Ok(cri::LinuxContainerConfig {
        resources: Some(cri::LinuxContainerResources {
            cpu_period,
            cpu_quota,
            cpu_shares: wanted.cpu_shares(),
            memory_limit_in_bytes: wanted.memory_limit.unwrap_or(0),
            oom_score_adj: qos.oom_score_adj(memory, memory_capacity()),
            ..Default::default()
        }),
        security_context: Some(cri::LinuxContainerSecurityContext {
            namespace_options: Some(namespace_options(spec)),
            ..security
        }),
    })
}

/// Bytes of memory of this machine; 0 when it cannot be told.
fn memory_capacity() -> i64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn mounts(
    (dirs, hosts): (&PodDirs, &Path),
    volumes: &Volumes,
    (container, environment): (&Container, &Environment),
) -> Result<Vec<cri::Mount>> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes
            .get(&mount.name)
            .ok_or_else(|| Error::not_found("volume", mount.name.as_str()))?;
        mounts.push(volume_mount(mount, volume, environment)?);
    }
    let is_free = |mounts: &[cri::Mount], path: &str| {
        !mounts.iter().any(|mount| mount.container_path == path)
    };
    if is_free(&mounts, ETC_HOSTS) {
        mounts.push(mount_of(ETC_HOSTS, hosts));
    }
    let message = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    if is_free(&mounts, message) {
        mounts.push(mount_of(message, &termination_log(&dirs.container(&container.name))?));
    }
    Ok(mounts)
}

fn mount_of(container_path: &str, host_path: &Path) -> cri::Mount {
    cri::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Default::default()
    }
}

fn volume_mount(
    mount: &VolumeMount,
    volume: &Path,
    environment: &Environment,
) -> Result<cri::Mount> {
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    let sub_path = match mount.sub_path.as_deref() {
        Some(sub_path) if !sub_path.is_empty() => sub_path.to_owned(),
        _ => environment.expand(expression),
    };
    let host_path = if sub_path.is_empty() {
        volume.to_path_buf()
    } else if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
        return Err(Error::Invalid(format!(
            "subPath {sub_path:?} does not stay inside its volume"
        )));
    } else {
        sub_path::resolve(volume, &sub_path)?
    };
    let path = &mount.mount_path;
    let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
    let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    Ok(cri::Mount {
        readonly: mount.read_only == Some(true),
        recursive_read_only: recursive,
        propagation: propagation.into(),
        ..mount_of(&path, &host_path)
    })
}

/// Writes the pod's /etc/hosts, once per sandbox and in place, so that mounts of it stay good.
fn etc_hosts(record: &Record, dirs: &PodDirs, addresses: &[String]) -> Result<PathBuf> {
    let spec = record.manifest.spec()?;
    let text = if is_on_host_network(spec) {
        let host = fs::read_to_string(ETC_HOSTS).unwrap_or_default();
        hosts::host_network_etc_hosts(&host, spec)
    } else {
        let manifest = &record.manifest;
        hosts::etc_hosts(manifest.namespace(), manifest.name(), spec, addresses)
    };
    let file = dirs.etc_hosts();
    if fs::read_to_string(&file).is_ok_and(|there| there == text) {
        return Ok(file);
    }
    let doing = || format!("writing {}", file.display());
    fs::write(&file, text).map_err(Error::io(doing()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).map_err(Error::io(doing()))?;
    Ok(file)
}

/// A fresh, empty file that anybody in the container may write its last words to.
fn termination_log(folder: &Path) -> Result<PathBuf> {
    let id = crate::model::ids::ShimId::random();
    let file = folder.join(id.as_str().get(..8).unwrap_or_default());
    let doing = || format!("making {}", file.display());
    fs::create_dir_all(folder).map_err(Error::io(doing()))?;
    let mut options = fs::OpenOptions::new();
    let open = options.write(true).create_new(true).mode(0o666).open(&file);
    open.and_then(|open| open.set_permissions(fs::Permissions::from_mode(0o666)))
        .map_err(Error::io(doing()))?;
    Ok(file)
}
