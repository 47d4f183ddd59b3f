//! The CRI messages that make pods, filled as a kubelet would; a test changes what it is about.

use std::sync::atomic::{AtomicU32, Ordering};

use wasmpod::proto::cri;

/// A sandbox in the host's network, of a unique uid, in namespace "tests". [`super::Daemon`]
/// gives it a log directory if it has none.
pub fn sandbox(name: &str) -> cri::PodSandboxConfig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{}-{count}", std::process::id()),
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        linux: Some(cri::LinuxPodSandboxConfig {
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(host_network()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Network of the node, everything else the pod's.
pub fn host_network() -> cri::NamespaceOption {
    cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() }
}

/// A container whose log is "<name>_0.log".
pub fn container(name: &str, image: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(cri::ImageSpec {
            image: image.to_owned(),
            user_specified_image: image.to_owned(),
            ..Default::default()
        }),
        log_path: format!("{name}_0.log"),
        ..Default::default()
    }
}

pub fn env(name: &str, value: &str) -> cri::KeyValue {
    cri::KeyValue { key: name.to_owned(), value: value.as_bytes().to_vec() }
}

pub fn mount(host: &std::path::Path, container: &str) -> cri::Mount {
    cri::Mount {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        ..Default::default()
    }
}

pub fn mount_read_only(host: &std::path::Path, container: &str) -> cri::Mount {
    cri::Mount { readonly: true, ..mount(host, container) }
}
