//! The table of what passes and what is refused.

use super::*;
use crate::proto::cri::security_profile::ProfileType;

fn number(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

fn profile_of(kind: ProfileType) -> Option<cri::SecurityProfile> {
    Some(cri::SecurityProfile { profile_type: kind.into(), localhost_ref: "p.json".into() })
}

fn container_with(context: cri::LinuxContainerSecurityContext) -> cri::ContainerConfig {
    cri::ContainerConfig {
        linux: Some(cri::LinuxContainerConfig {
            security_context: Some(context),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn sandbox_with(context: cri::LinuxSandboxSecurityContext) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        linux: Some(cri::LinuxPodSandboxConfig {
            security_context: Some(context),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn with_mount(mount: cri::Mount) -> cri::ContainerConfig {
    cri::ContainerConfig { mounts: vec![mount], ..Default::default() }
}

fn namespaces_of(change: impl FnOnce(&mut cri::NamespaceOption)) -> Option<cri::NamespaceOption> {
    let mut options = cri::NamespaceOption::default();
    change(&mut options);
    Some(options)
}

#[test]
fn what_a_kubelet_sends_by_default_passes() {
    use cri::NamespaceMode::{Container, Node};
    let options = namespaces_of(|options| {
        options.pid = Container.into();
        options.network = Node.into();
        options.userns_options =
            Some(cri::UserNamespace { mode: Node.into(), ..Default::default() });
    });
    container(&container_with(cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        }),
        namespace_options: options.clone(),
        selinux_options: Some(cri::SeLinuxOption::default()),
        run_as_user: number(0),
        run_as_group: number(0),
        readonly_rootfs: true,
        supplemental_groups: vec![0],
        no_new_privs: true,
        masked_paths: vec!["/proc/kcore".into(), "/sys/firmware".into(), "/etc/shadow".into()],
        readonly_paths: vec!["/proc/sys".into(), "/proc/bus".into()],
        seccomp: profile_of(ProfileType::RuntimeDefault),
        apparmor: profile_of(ProfileType::Unconfined),
        seccomp_profile_path: "runtime/default".into(),
        ..Default::default()
    }))
    .unwrap();
    sandbox(&sandbox_with(cri::LinuxSandboxSecurityContext {
        namespace_options: options,
        run_as_user: number(0),
        readonly_rootfs: true,
        seccomp: profile_of(ProfileType::Unconfined),
        ..Default::default()
    }))
    .unwrap();
    container(&cri::ContainerConfig::default()).unwrap();
    sandbox(&cri::PodSandboxConfig::default()).unwrap();
}

#[test]
fn each_container_field_without_enforcement_is_refused_by_name() {
    use cri::NamespaceMode::{Node, Pod};
    let context = cri::LinuxContainerSecurityContext::default;
    let added = |add: &[&str], ambient: &[&str]| {
        Some(cri::Capability {
            add_capabilities: add.iter().map(|name| (*name).to_owned()).collect(),
            add_ambient_capabilities: ambient.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
    };
    let selinux = cri::SeLinuxOption { r#type: "svirt_t".into(), ..Default::default() };
    type Context = cri::LinuxContainerSecurityContext;
    let contexts: Vec<(&str, Context)> = vec![
        ("privileged", Context { privileged: true, ..context() }),
        ("SYS_ADMIN", Context { capabilities: added(&["SYS_ADMIN"], &[]), ..context() }),
        ("NET_RAW", Context { capabilities: added(&[], &["NET_RAW"]), ..context() }),
        (
            "namespace_options.pid = NODE",
            Context {
                namespace_options: namespaces_of(|options| options.pid = Node.into()),
                ..context()
            },
        ),
        (
            "namespace_options.ipc = NODE",
            Context {
                namespace_options: namespaces_of(|options| options.ipc = Node.into()),
                ..context()
            },
        ),
        (
            "userns_options.mode = POD",
            Context {
                namespace_options: namespaces_of(|options| {
                    options.userns_options =
                        Some(cri::UserNamespace { mode: Pod.into(), ..Default::default() });
                }),
                ..context()
            },
        ),
        ("selinux_options", Context { selinux_options: Some(selinux), ..context() }),
        (
            "seccomp = Localhost",
            Context { seccomp: profile_of(ProfileType::Localhost), ..context() },
        ),
        (
            "apparmor = Localhost",
            Context { apparmor: profile_of(ProfileType::Localhost), ..context() },
        ),
        ("apparmor_profile", Context { apparmor_profile: "localhost/x".into(), ..context() }),
    ];
    for (says, context) in contexts {
        let error = container(&container_with(context)).expect_err(says).to_string();
        assert!(error.contains(says) && error.contains("cannot be given"), "{says}: {error}");
    }
}

#[test]
fn what_kubectl_debug_asks_for_is_given() {
    use cri::NamespaceMode::Target;
    for name in ["SYS_PTRACE", "CAP_SYS_PTRACE", "NET_BIND_SERVICE"] {
        let capabilities =
            cri::Capability { add_capabilities: vec![name.to_owned()], ..Default::default() };
        let context = cri::LinuxContainerSecurityContext {
            capabilities: Some(capabilities),
            namespace_options: namespaces_of(|options| options.pid = Target.into()),
            ..Default::default()
        };
        container(&container_with(context)).unwrap();
    }
}

#[test]
fn paths_to_cover_are_absolute() {
    type Context = cri::LinuxContainerSecurityContext;
    for (says, context) in [
        ("masked_paths", Context { masked_paths: vec!["etc/shadow".into()], ..Default::default() }),
        ("readonly_paths", Context { readonly_paths: vec![String::new()], ..Default::default() }),
    ] {
        let error = container(&container_with(context)).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn devices_and_special_mounts_are_refused_by_name() {
    let at = |change: fn(&mut cri::Mount)| {
        let mut mount = cri::Mount { container_path: "/data".into(), ..Default::default() };
        change(&mut mount);
        with_mount(mount)
    };
    let device = cri::Device { container_path: "/dev/fuse".into(), ..Default::default() };
    let cdi = cri::CdiDevice { name: "vendor.com/gpu=0".into() };
    for (says, config) in [
        ("/dev/fuse", cri::ContainerConfig { devices: vec![device], ..Default::default() }),
        ("vendor.com", cri::ContainerConfig { cdi_devices: vec![cdi], ..Default::default() }),
        ("uidMappings", at(|mount| mount.uid_mappings = vec![cri::IdMapping::default()])),
        ("mount_options", at(|mount| mount.mount_options = vec!["noexec".into()])),
    ] {
        let error = container(&config).expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn each_sandbox_field_without_enforcement_is_refused_by_name() {
    type Context = cri::LinuxSandboxSecurityContext;
    let context = Context::default;
    // One of its containers may be, which is refused then.
    sandbox(&sandbox_with(Context { privileged: true, ..context() })).unwrap();
    let local = Context { seccomp_profile_path: "localhost/a".into(), ..context() };
    let error = sandbox(&sandbox_with(local)).unwrap_err().to_string();
    assert!(error.contains("seccomp_profile_path"), "{error}");
    let linux = cri::LinuxPodSandboxConfig {
        sysctls: [("net.core.somaxconn".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let config = cri::PodSandboxConfig { linux: Some(linux), ..Default::default() };
    assert!(sandbox(&config).unwrap_err().to_string().contains("net.core.somaxconn"));
}
