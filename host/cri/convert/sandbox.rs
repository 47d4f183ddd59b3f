//! Pod sandboxes: PodSandboxConfig to the model, the model to list items and statuses, filters.

use super::{known, required, resources, sorted, unsorted};
use crate::error::{Error, Result};
use crate::model::sandbox::{
    Dns, NamespaceMode, Namespaces, PortMapping, Sandbox, SandboxConfig, SandboxName, SandboxState,
};
use crate::proto::cri;
use crate::runtime::Filter;

/// Takes a config whose security fields have passed `security::sandbox`.
pub fn config_from_cri(message: cri::PodSandboxConfig) -> Result<SandboxConfig> {
    let name = name_from_cri(required(message.metadata, "config.metadata")?)?;
    let linux = message.linux.unwrap_or_default();
    let options = linux.security_context.and_then(|context| context.namespace_options);
    if !message.log_directory.is_empty() && !message.log_directory.starts_with('/') {
        return Err(Error::Invalid(format!(
            "log_directory {:?} is not an absolute path",
            message.log_directory
        )));
    }
    Ok(SandboxConfig {
        name,
        hostname: message.hostname,
        log_directory: message.log_directory,
        dns: message.dns_config.map(|dns| Dns {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        port_mappings: message
            .port_mappings
            .into_iter()
            .map(port_from_cri)
            .collect::<Result<_>>()?,
        labels: sorted(message.labels),
        annotations: sorted(message.annotations),
        cgroup_parent: linux.cgroup_parent,
        namespaces: options.map(namespaces_from_cri).transpose()?,
        overhead: linux.overhead.map(resources::from_cri),
        resources: linux.resources.map(resources::from_cri),
    })
}

fn name_from_cri(message: cri::PodSandboxMetadata) -> Result<SandboxName> {
    if message.name.is_empty() {
        return Err(Error::Invalid("config.metadata.name is empty".to_owned()));
    }
    Ok(SandboxName {
        name: message.name,
        uid: message.uid,
        namespace: message.namespace,
        attempt: message.attempt,
    })
}

fn name_to_cri(name: &SandboxName) -> cri::PodSandboxMetadata {
    cri::PodSandboxMetadata {
        name: name.name.clone(),
        uid: name.uid.clone(),
        namespace: name.namespace.clone(),
        attempt: name.attempt,
    }
}

fn port_from_cri(message: cri::PortMapping) -> Result<PortMapping> {
    let protocol = match known(message.protocol, "port_mappings.protocol")? {
        cri::Protocol::Tcp => "tcp",
        cri::Protocol::Udp => "udp",
        cri::Protocol::Sctp => "sctp",
    };
    let port = |number: i32, name: &str, lowest: u16| {
        u16::try_from(number)
            .ok()
            .filter(|port| *port >= lowest)
            .ok_or_else(|| Error::Invalid(format!("port_mappings.{name} = {number} is not a port")))
    };
    Ok(PortMapping {
        protocol: protocol.to_owned(),
        container_port: port(message.container_port, "container_port", 1)?,
        host_port: port(message.host_port, "host_port", 0)?,
        host_ip: message.host_ip,
    })
}

fn mode_from_cri(number: i32, name: &str) -> Result<NamespaceMode> {
    Ok(match known(number, name)? {
        cri::NamespaceMode::Pod => NamespaceMode::Pod,
        cri::NamespaceMode::Container => NamespaceMode::Container,
        cri::NamespaceMode::Node => NamespaceMode::Node,
        cri::NamespaceMode::Target => NamespaceMode::Target,
    })
}

fn mode_to_cri(mode: NamespaceMode) -> i32 {
    let mode = match mode {
        NamespaceMode::Pod => cri::NamespaceMode::Pod,
        NamespaceMode::Container => cri::NamespaceMode::Container,
        NamespaceMode::Node => cri::NamespaceMode::Node,
        NamespaceMode::Target => cri::NamespaceMode::Target,
    };
    mode.into()
}

fn namespaces_from_cri(message: cri::NamespaceOption) -> Result<Namespaces> {
    Ok(Namespaces {
        network: mode_from_cri(message.network, "namespace_options.network")?,
        pid: mode_from_cri(message.pid, "namespace_options.pid")?,
        ipc: mode_from_cri(message.ipc, "namespace_options.ipc")?,
        target_id: message.target_id,
        user: message
            .userns_options
            .map(|user| mode_from_cri(user.mode, "namespace_options.userns_options.mode"))
            .transpose()?,
    })
}

fn namespaces_to_cri(namespaces: &Namespaces) -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: mode_to_cri(namespaces.network),
        pid: mode_to_cri(namespaces.pid),
        ipc: mode_to_cri(namespaces.ipc),
        target_id: namespaces.target_id.clone(),
        userns_options: namespaces
            .user
            .map(|mode| cri::UserNamespace { mode: mode_to_cri(mode), ..Default::default() }),
    }
}

fn state(state: SandboxState) -> cri::PodSandboxState {
    match state {
        SandboxState::Ready => cri::PodSandboxState::SandboxReady,
        SandboxState::Creating | SandboxState::NotReady | SandboxState::Removing => {
            cri::PodSandboxState::SandboxNotready
        }
    }
}

pub fn item(sandbox: &Sandbox) -> cri::PodSandbox {
    cri::PodSandbox {
        id: sandbox.id.to_string(),
        metadata: Some(name_to_cri(&sandbox.config.name)),
        state: state(sandbox.state).into(),
        created_at: sandbox.created_at,
        labels: unsorted(&sandbox.config.labels),
        annotations: unsorted(&sandbox.config.annotations),
        runtime_handler: sandbox.handler.clone(),
    }
}

/// Without an address the network stays absent: an empty one makes a kubelet remake the pod.
fn network(sandbox: &Sandbox) -> Option<cri::PodSandboxNetworkStatus> {
    let mut ips = sandbox.addresses.iter().map(ToString::to_string);
    let ip = ips.next().filter(|_| sandbox.state == SandboxState::Ready)?;
    let additional_ips = ips.map(|ip| cri::PodIp { ip }).collect();
    Some(cri::PodSandboxNetworkStatus { ip, additional_ips })
}

pub fn status(sandbox: &Sandbox) -> cri::PodSandboxStatus {
    let options = sandbox.config.namespaces.as_ref().map(namespaces_to_cri);
    cri::PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: Some(name_to_cri(&sandbox.config.name)),
        state: state(sandbox.state).into(),
        created_at: sandbox.created_at,
        network: network(sandbox),
        linux: Some(cri::LinuxPodSandboxStatus { namespaces: Some(cri::Namespace { options }) }),
        labels: unsorted(&sandbox.config.labels),
        annotations: unsorted(&sandbox.config.annotations),
        runtime_handler: sandbox.handler.clone(),
    }
}

pub fn attributes(sandbox: &Sandbox) -> cri::PodSandboxAttributes {
    cri::PodSandboxAttributes {
        id: sandbox.id.as_str().to_owned(),
        metadata: Some(name_to_cri(&sandbox.config.name)),
        labels: unsorted(&sandbox.config.labels),
        annotations: unsorted(&sandbox.config.annotations),
    }
}

/// The core's filter, and the one state that is wanted (`None`: any).
pub fn filter_from_cri(
    message: Option<cri::PodSandboxFilter>,
) -> Result<(Filter, Option<cri::PodSandboxState>)> {
    let message = message.unwrap_or_default();
    let state = message.state.map(|value| known(value.state, "filter.state")).transpose()?;
    let labels = sorted(message.label_selector);
    Ok((Filter { id: message.id, labels, ..Filter::default() }, state))
}

pub fn stats_filter_from_cri(message: Option<cri::PodSandboxStatsFilter>) -> Filter {
    let message = message.unwrap_or_default();
    Filter { id: message.id, labels: sorted(message.label_selector), ..Filter::default() }
}

/// Whether a sandbox is in the state that a list wants.
pub fn is_in(sandbox: &Sandbox, wanted: Option<cri::PodSandboxState>) -> bool {
    wanted.is_none_or(|wanted| state(sandbox.state) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::SandboxId;
    use crate::model::sandbox::Realm;

    fn message() -> cri::PodSandboxConfig {
        let options = cri::NamespaceOption {
            network: cri::NamespaceMode::Node.into(),
            pid: cri::NamespaceMode::Container.into(),
            ipc: cri::NamespaceMode::Pod.into(),
            target_id: String::new(),
            userns_options: Some(cri::UserNamespace {
                mode: cri::NamespaceMode::Node.into(),
                ..Default::default()
            }),
        };
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: "web".into(),
                uid: "u".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            hostname: "web-0".into(),
            log_directory: "/var/log/pods/web".into(),
            dns_config: Some(cri::DnsConfig {
                servers: vec!["10.0.0.10".into()],
                ..Default::default()
            }),
            port_mappings: vec![cri::PortMapping {
                protocol: cri::Protocol::Udp.into(),
                container_port: 53,
                host_port: 0,
                host_ip: String::new(),
            }],
            labels: [("app".to_owned(), "web".to_owned())].into(),
            annotations: [("note".to_owned(), "a\nb".to_owned())].into(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: "/kubepods/pod1".into(),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            windows: None,
        }
    }

    fn sandbox(config: cri::PodSandboxConfig) -> Sandbox {
        Sandbox {
            id: SandboxId::random(),
            realm: Realm::Kubelet,
            handler: String::new(),
            config: config_from_cri(config).unwrap(),
            created_at: 7,
            state: SandboxState::Ready,
            shim: None,
            addresses: Vec::new(),
            hooks: None,
        }
    }

    #[test]
    fn a_status_echoes_what_was_asked_for() {
        let status = status(&sandbox(message()));
        let asked = message();
        assert_eq!(status.metadata, asked.metadata);
        assert_eq!(status.labels, asked.labels);
        assert_eq!(status.annotations, asked.annotations);
        let options = status.linux.unwrap().namespaces.unwrap().options;
        assert_eq!(options, asked.linux.unwrap().security_context.unwrap().namespace_options);
        assert_eq!(status.network, None);
    }

    #[test]
    fn absent_namespace_options_stay_absent() {
        let mut config = message();
        config.linux = None;
        let status = status(&sandbox(config));
        assert_eq!(status.linux.unwrap().namespaces.unwrap().options, None);
    }

    #[test]
    fn a_state_filter_tells_absent_from_ready() {
        let ready = sandbox(message());
        let mut stopped = ready.clone();
        stopped.state = SandboxState::NotReady;
        let value = cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() };
        let filter = cri::PodSandboxFilter { state: Some(value), ..Default::default() };
        let (_, wanted) = filter_from_cri(Some(filter)).unwrap();
        assert!(is_in(&ready, wanted) && !is_in(&stopped, wanted));
        let (_, any) = filter_from_cri(None).unwrap();
        assert!(is_in(&ready, any) && is_in(&stopped, any));
    }

    #[test]
    fn a_bad_field_is_named() {
        let bad_port = cri::PortMapping { container_port: 70_000, ..Default::default() };
        for (config, says) in [
            (cri::PodSandboxConfig { metadata: None, ..message() }, "metadata"),
            (cri::PodSandboxConfig { log_directory: "logs".into(), ..message() }, "log_directory"),
            (cri::PodSandboxConfig { port_mappings: vec![bad_port], ..message() }, "70000"),
        ] {
            let error = config_from_cri(config).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
