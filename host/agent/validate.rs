//! What the API server would say of a Pod: names, references between fields, values out of
//! range. The first fault is the error, with the path of its field. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, LifecycleHandler, PodSpec, Volume, VolumeMount,
};

use super::env::{self, Object, PodFacts};
use super::manifest::Manifest;
use super::{ports, quantity, security};
use crate::error::{Error, Result};

/// Checks everything that can be known before anything runs.
pub fn validate(manifest: &Manifest) -> Result<()> {
    let metadata = &manifest.pod.metadata;
    check(is_subdomain(manifest.name()), "metadata.name", || {
        format!("{:?} is not a DNS name (lower-case letters, digits, '-', '.')", manifest.name())
    })?;
    label(manifest.namespace(), "metadata.namespace")?;
    let labels = metadata.labels.iter().flatten();
    for key in labels.map(|(key, _)| key).chain(metadata.annotations.iter().flatten().map(|a| a.0))
    {
        check(is_qualified(key), "metadata", || format!("{key:?} is no label or annotation key"))?;
    }
    let spec = manifest.spec()?;
    pod(spec)?;
    pull_secrets(manifest, spec)?;
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        self::volume(manifest, volume, &format!("spec.volumes[{index}]"))?;
    }
    unique(spec.volumes.iter().flatten().map(|v| v.name.as_str()), "spec.volumes")?;
    unique(manifest.containers().map(|(_, c)| c.name.as_str()), "spec.containers")?;
    for (path, item) in manifest.containers() {
        container(manifest, item, &path)?;
        env::environment(manifest, item, &PodFacts::default())
            .map_err(|error| at(&path, &error))?;
    }
    host_ports(manifest)
}

fn at(path: &str, error: &Error) -> Error {
    Error::Invalid(format!("{path}: {error}"))
}

fn check(holds: bool, path: &str, fault: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Invalid(format!("{path}: {}", fault()))) }
}

fn unsupported(path: &str, how: &str) -> Error {
    Error::Refused(format!("{path} is not supported yet {how}"))
}

fn one_of(value: Option<&String>, allowed: &[&str], path: &str) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    check(allowed.contains(&value.as_str()), path, || {
        format!("{value:?} is none of {}", allowed.join(", "))
    })
}

fn label(name: &str, path: &str) -> Result<()> {
    check(is_label(name), path, || {
        format!("{name:?} is not a DNS label (lower-case letters, digits, '-', at most 63)")
    })
}

fn is_label(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| letter(b) || b == b'-')
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter)
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// "[subdomain/]Name", as labels and annotations have it.
fn is_qualified(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    prefix.is_none_or(is_subdomain)
        && name.len() <= 63
        && name.bytes().all(inner)
        && edge(name.bytes().next())
        && edge(name.bytes().last())
}

fn unique<'a>(names: impl Iterator<Item = &'a str>, path: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        check(seen.insert(name), path, || format!("the name {name} is there twice"))?;
    }
    Ok(())
}

fn pod(spec: &PodSpec) -> Result<()> {
    check(!spec.containers.is_empty(), "spec.containers", || "a pod needs a container".into())?;
    one_of(spec.restart_policy.as_ref(), &["Always", "OnFailure", "Never"], "spec.restartPolicy")?;
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec.dns_policy.as_ref(), &policies, "spec.dnsPolicy")?;
    let servers = spec.dns_config.as_ref().and_then(|dns| dns.nameservers.as_ref());
    let alone = spec.dns_policy.as_deref() == Some("None") && servers.is_none_or(Vec::is_empty);
    check(!alone, "spec.dnsConfig.nameservers", || "dnsPolicy None needs a name server".into())?;
    for (name, path) in [(&spec.hostname, "spec.hostname"), (&spec.subdomain, "spec.subdomain")] {
        name.as_deref().map_or(Ok(()), |name| label(name, path))?;
    }
    check(
        spec.termination_grace_period_seconds.is_none_or(|seconds| seconds >= 0),
        "spec.terminationGracePeriodSeconds",
        || "must not be negative".into(),
    )?;
    check(
        spec.active_deadline_seconds.is_none_or(|seconds| seconds >= 1),
        "spec.activeDeadlineSeconds",
        || "must be at least 1".into(),
    )?;
    check(
        spec.automount_service_account_token != Some(true),
        "spec.automountServiceAccountToken",
        || "there is no API server to give a token".into(),
    )?;
    one_of(spec.os.as_ref().map(|os| &os.name), &["linux"], "spec.os.name")?;
    if let Some(context) = &spec.security_context {
        security::check_pod(context, "spec.securityContext")?;
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        check(
            alias.ip.parse::<std::net::IpAddr>().is_ok(),
            &format!("spec.hostAliases[{index}].ip"),
            || format!("{:?} is no IP address", alias.ip),
        )?;
    }
    Ok(())
}

/// A kubelet pulls without one that it lacks; here nobody could add it later.
fn pull_secrets(manifest: &Manifest, spec: &PodSpec) -> Result<()> {
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        let path = format!("spec.imagePullSecrets[{index}]");
        env::object(manifest, Object::Secret, &secret.name, None).map_err(|e| at(&path, &e))?;
    }
    Ok(())
}

fn volume(manifest: &Manifest, volume: &Volume, path: &str) -> Result<()> {
    label(&volume.name, &format!("{path}.name"))?;
    let sources = usize::from(volume.config_map.is_some())
        + usize::from(volume.secret.is_some())
        + usize::from(volume.empty_dir.is_some())
        + usize::from(volume.host_path.is_some());
    check(sources == 1, path, || {
        format!("volume {} needs one of configMap, emptyDir, hostPath, secret", volume.name)
    })?;
    if let Some(source) = &volume.empty_dir {
        one_of(source.medium.as_ref(), &["", "Memory"], &format!("{path}.emptyDir.medium"))?;
        if let Some(limit) = &source.size_limit {
            let path = format!("{path}.emptyDir.sizeLimit");
            quantity::amount(limit, &path)?;
            if source.medium.as_deref() != Some("Memory") {
                return Err(unsupported(&path, "without medium: Memory"));
            }
        }
    }
    if let Some(source) = &volume.host_path {
        let types = [
            "",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ];
        one_of(source.type_.as_ref(), &types, &format!("{path}.hostPath.type"))?;
        let climbs = source.path.split('/').any(|part| part == "..");
        check(!source.path.is_empty(), &format!("{path}.hostPath.path"), || "is empty".into())?;
        check(!climbs, &format!("{path}.hostPath.path"), || "must not contain '..'".into())?;
    }
    let (kind, name, optional, items, key) = if let Some(source) = &volume.config_map {
        (Object::ConfigMap, source.name.as_str(), source.optional, &source.items, "configMap")
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        (Object::Secret, name, source.optional, &source.items, "secret")
    } else {
        return Ok(());
    };
    let entries = env::object(manifest, kind, name, optional).map_err(|error| at(path, &error))?;
    for (index, item) in items.iter().flatten().enumerate() {
        let path = format!("{path}.{key}.items[{index}]");
        let inside = is_inner_path(&item.path) && !item.path.starts_with("..");
        check(inside, &format!("{path}.path"), || {
            format!("{:?} must be a path inside the volume without '..'", item.path)
        })?;
        let there = entries.is_none_or(|entries| entries.contains_key(&item.key));
        check(there || optional == Some(true), &path, || {
            format!("{} {name} has no key {}", kind.name(), item.key)
        })?;
        check(item.mode.is_none_or(|mode| (0..=0o777).contains(&mode)), &path, || {
            "mode must be between 0 and 0777 (octal)".into()
        })?;
    }
    Ok(())
}

fn is_inner_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

fn container(manifest: &Manifest, container: &Container, path: &str) -> Result<()> {
    let is_init = path.starts_with("spec.initContainers");
    label(&container.name, &format!("{path}.name"))?;
    check(container.image.as_deref().is_some_and(|image| !image.trim().is_empty()), path, || {
        format!("container {} has no image", container.name)
    })?;
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(container.image_pull_policy.as_ref(), &policies, &format!("{path}.imagePullPolicy"))?;
    let policies = ["Always", "OnFailure", "Never"];
    one_of(container.restart_policy.as_ref(), &policies, &format!("{path}.restartPolicy"))?;
    one_of(
        container.termination_message_policy.as_ref(),
        &["File", "FallbackToLogsOnError"],
        &format!("{path}.terminationMessagePolicy"),
    )?;
    let message = container.termination_message_path.as_deref().unwrap_or("/");
    check(message.starts_with('/'), &format!("{path}.terminationMessagePath"), || {
        "must be absolute".into()
    })?;
    if let Some(context) = &container.security_context {
        security::check_container(context, &format!("{path}.securityContext"))?;
    }
    quantity::wanted(container.resources.as_ref(), path)?;
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = format!("{path}.env[{index}]");
        check(!variable.name.is_empty() && !variable.name.contains('='), &path, || {
            format!("{:?} is no variable's name", variable.name)
        })?;
        let both = variable.value_from.is_some()
            && variable.value.as_deref().is_some_and(|value| !value.is_empty());
        check(!both, &path, || format!("{} has both value and valueFrom", variable.name))?;
    }
    for (index, port) in container.ports.iter().flatten().enumerate() {
        self::port(manifest, port, &format!("{path}.ports[{index}]"))?;
    }
    hooks(container, path, is_init)?;
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        volume_mount(manifest, mount, &format!("{path}.volumeMounts[{index}]"))?;
    }
    let paths = container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str());
    unique(paths, &format!("{path}.volumeMounts"))
}

fn port(manifest: &Manifest, port: &ContainerPort, path: &str) -> Result<()> {
    check((1..=65535).contains(&port.container_port), path, || {
        format!("containerPort {} is no port", port.container_port)
    })?;
    one_of(port.protocol.as_ref(), &["TCP", "UDP", "SCTP"], &format!("{path}.protocol"))?;
    let Some(host_port) = port.host_port.filter(|port| *port != 0) else { return Ok(()) };
    let path = &format!("{path}.hostPort");
    check((1..=65535).contains(&host_port), path, || format!("{host_port} is no port"))?;
    let is_on_host = manifest.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    check(!is_on_host || host_port == port.container_port, path, || {
        format!("on the host's network port {} is no other port", port.container_port)
    })?;
    if port.protocol.as_deref() == Some("SCTP") {
        return Err(unsupported(path, "for SCTP"));
    }
    let ip = port.host_ip.as_deref().unwrap_or_default();
    check(ip.is_empty() || ip.parse::<std::net::IpAddr>().is_ok(), path, || {
        format!("hostIP {ip:?} is no IP address")
    })
}

/// A port of the host leads to one pod's port; the kubelet's scheduler sees to that across pods.
fn host_ports(manifest: &Manifest) -> Result<()> {
    let mut seen = BTreeSet::new();
    for port in ports::published(manifest) {
        let side = ports::host_side(&port);
        let is_new = seen.insert((port.host_ip, port.host_port, port.protocol));
        check(is_new, "spec.containers", || format!("the host port {side} is there twice"))?;
    }
    Ok(())
}

fn hooks(container: &Container, path: &str, is_init: bool) -> Result<()> {
    let Some(lifecycle) = &container.lifecycle else { return Ok(()) };
    let is_sidecar = is_init && container.restart_policy.as_deref() == Some("Always");
    check(!is_init || is_sidecar, &format!("{path}.lifecycle"), || {
        "an init container has no lifecycle hooks unless its restartPolicy is Always".into()
    })?;
    for (hook, name) in [(&lifecycle.post_start, "postStart"), (&lifecycle.pre_stop, "preStop")] {
        let Some(LifecycleHandler { exec, sleep, .. }) = hook else { continue };
        let path = format!("{path}.lifecycle.{name}");
        check(exec.is_some() != sleep.is_some(), &path, || "needs one of exec, sleep".into())?;
        let command = exec
            .as_ref()
            .is_none_or(|exec| exec.command.as_ref().is_some_and(|command| !command.is_empty()));
        check(command, &format!("{path}.exec.command"), || "is missing".into())?;
        check(sleep.as_ref().is_none_or(|sleep| sleep.seconds >= 0), &path, || {
            "must not sleep for less than no time".into()
        })?;
    }
    Ok(())
}

fn volume_mount(manifest: &Manifest, mount: &VolumeMount, path: &str) -> Result<()> {
    let volumes = manifest.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    let known = volumes.unwrap_or_default().iter().any(|volume| volume.name == mount.name);
    check(known, path, || format!("there is no volume {:?}", mount.name))?;
    check(!mount.mount_path.is_empty(), &format!("{path}.mountPath"), || "is missing".into())?;
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
    check(sub_path.is_empty() || is_inner_path(sub_path), &format!("{path}.subPath"), || {
        "must be a path inside the volume without '..'".into()
    })?;
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    check(sub_path.is_empty() || expression.is_empty(), path, || {
        "has both subPath and subPathExpr".into()
    })?;
    let recursive = mount.recursive_read_only.as_ref();
    let values = ["Disabled", "IfPossible", "Enabled"];
    one_of(recursive, &values, &format!("{path}.recursiveReadOnly"))?;
    let asked = recursive.is_some_and(|value| value != "Disabled");
    check(!asked || mount.read_only == Some(true), &format!("{path}.recursiveReadOnly"), || {
        "needs readOnly: true".into()
    })?;
    // Bidirectional needs a privileged container, which there is none of.
    let propagation = ["None", "HostToContainer"];
    one_of(mount.mount_propagation.as_ref(), &propagation, &format!("{path}.mountPropagation"))
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
