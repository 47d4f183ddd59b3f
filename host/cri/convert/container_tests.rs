//! Container messages there and back.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::container::{Exit, Reason};
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::resources::Resources;
use crate::model::sandbox::Realm;
use crate::model::user::User;

fn message() -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "main".into(), attempt: 3 }),
        image: Some(cri::ImageSpec {
            image: "sha256:1".into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            user_specified_image: "app:1".into(),
            runtime_handler: "wasm".into(),
            image_ref: "app@sha256:2".into(),
        }),
        command: vec!["/app.wasm".into()],
        args: vec!["-v".into()],
        working_dir: "/srv".into(),
        envs: vec![cri::KeyValue { key: "NAME".into(), value: b"a=b".to_vec() }],
        mounts: vec![cri::Mount {
            container_path: "/data".into(),
            host_path: "/srv/data".into(),
            ..Default::default()
        }],
        labels: [("app".to_owned(), "web".to_owned())].into(),
        log_path: "main/3.log".into(),
        linux: Some(cri::LinuxContainerConfig {
            resources: None,
            security_context: Some(cri::LinuxContainerSecurityContext {
                readonly_rootfs: true,
                ..Default::default()
            }),
        }),
        stop_signal: cri::Signal::Sigusr1.into(),
        ..Default::default()
    }
}

fn container_in(state: ContainerState) -> Container {
    Container {
        id: ContainerId::random(),
        sandbox: SandboxId::random(),
        realm: Realm::Kubelet,
        config: config_from_cri(message()).unwrap(),
        image_id: "sha256:1".into(),
        image_ref: "app@sha256:2".into(),
        created_at: 1,
        state,
        resources: Resources { memory_limit: 5, ..Resources::default() },
        log_path: "/var/log/main/3.log".into(),
        user: Arc::new(User { uid: 7, gid: 8, groups: vec![8, 9], name: String::new() }),
        stop_signal: signal::TERM,
    }
}

#[test]
fn a_config_says_the_same_in_the_model() {
    let config = config_from_cri(message()).unwrap();
    assert_eq!(config.name, ContainerName { name: "main".into(), attempt: 3 });
    assert_eq!((config.command, config.args), (vec!["/app.wasm".into()], vec!["-v".into()]));
    assert_eq!(config.env, [("NAME".to_owned(), "a=b".to_owned())]);
    assert!(config.readonly_rootfs);
    assert_eq!(config.working_dir, "/srv");
}

#[test]
fn a_status_echoes_what_was_asked_for_and_shows_what_is_applied() {
    let status = status(&container_in(ContainerState::Running { started_at: 2 }));
    let asked = message();
    assert_eq!(status.metadata, asked.metadata);
    assert_eq!(status.image, asked.image);
    assert_eq!(status.labels, asked.labels);
    assert_eq!(status.mounts, asked.mounts);
    assert_eq!(status.stop_signal, asked.stop_signal);
    assert_eq!(status.resources.unwrap().linux.unwrap().memory_limit_in_bytes, 5);
    assert_eq!((status.image_id.as_str(), status.image_ref.as_str()), ("sha256:1", "app@sha256:2"));
    assert_eq!(status.log_path, "/var/log/main/3.log");
}

#[test]
fn each_state_has_its_times_and_its_end() {
    use cri::ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};
    let exit = Exit {
        code: 137,
        reason: Reason::OomKilled,
        message: "out of memory".into(),
        finished_at: 9,
    };
    for (state, shown, times) in [
        (ContainerState::Created, ContainerCreated, (0, 0)),
        (ContainerState::Starting, ContainerCreated, (0, 0)),
        (ContainerState::Running { started_at: 2 }, ContainerRunning, (2, 0)),
        (ContainerState::Exited { started_at: 2, exit }, ContainerExited, (2, 9)),
    ] {
        let name = state.name();
        let container = container_in(state);
        let status = status(&container);
        assert_eq!(status.state(), shown, "{name}");
        assert_eq!(item(&container).state(), shown, "{name}");
        assert!(is_in(&container, Some(shown)) && is_in(&container, None), "{name}");
        assert_eq!((status.started_at, status.finished_at), times, "{name}");
        let ended = shown == ContainerExited;
        assert_eq!(status.exit_code, if ended { 137 } else { 0 }, "{name}");
        assert_eq!(status.reason, if ended { "OOMKilled" } else { "" }, "{name}");
    }
}

#[test]
fn without_a_stop_signal_of_its_own_a_container_shows_the_chosen_one() {
    let mut container = container_in(ContainerState::Created);
    container.config.stop_signal = 0;
    assert_eq!(status(&container).stop_signal(), cri::Signal::Sigterm);
}

#[test]
fn a_bad_field_is_named() {
    let env = |key: &str, value: &[u8]| cri::ContainerConfig {
        envs: vec![cri::KeyValue { key: key.into(), value: value.to_vec() }],
        ..message()
    };
    for (config, says) in [
        (cri::ContainerConfig { metadata: None, ..message() }, "metadata"),
        (cri::ContainerConfig { image: None, ..message() }, "image"),
        (cri::ContainerConfig { stop_signal: 99, ..message() }, "stop_signal = 99"),
        (env("A=B", b""), "A=B"),
        (env("", b""), "\"\""),
        (env("BINARY", &[0xff]), "BINARY"),
        (env("NUL", &[0]), "NUL"),
    ] {
        let error = config_from_cri(config).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}

proptest! {
    #[test]
    fn mounts_come_back_as_they_went(
        paths in ("/[a-z/.]{0,9}", "/[a-z/.]{0,9}"),
        access in 0usize..3,
        follows in any::<bool>(),
        selinux_relabel in any::<bool>(),
    ) {
        let access =
            [MountAccess::ReadWrite, MountAccess::ReadOnly, MountAccess::RecursiveReadOnly][access];
        // Read-only all the way down and propagation exclude each other.
        let follows = follows && access != MountAccess::RecursiveReadOnly;
        let propagation =
            if follows { Propagation::HostToContainer } else { Propagation::Private };
        let mount = Mount {
            container_path: paths.0,
            host_path: paths.1,
            image: None,
            access,
            propagation,
            selinux_relabel,
        };
        prop_assert_eq!(mount_from_cri(mount_to_cri(&mount)).unwrap(), mount);
    }
}
