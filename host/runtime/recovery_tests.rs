use super::super::change::tests::container;
use super::super::index::tests::sandbox;
use super::*;
use crate::model::container::Reason;
use crate::model::sandbox::{Realm, SandboxConfig};

fn told(phase: Phase, started_at: i64, exit: Option<i32>) -> wire::ContainerState {
    let exit = exit.map(|code| wire::Exit {
        code,
        reason: "Error".to_owned(),
        message: String::new(),
        finished_at: 9,
    });
    wire::ContainerState { phase: phase.into(), started_at, exit, ..Default::default() }
}

fn after(state: ContainerState, told: Option<&wire::ContainerState>) -> ContainerState {
    let container = Container { state, ..container(&sandbox("a", 1).id, "one") };
    settle(&container, told).into_iter().fold(container.state, |state, change| match change {
        Change::Container(_, verb) => state.after(&verb).unwrap(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_start_under_way_is_settled_by_what_the_shim_says() {
    use ContainerState as S;
    assert_eq!(after(S::Starting, Some(&told(Phase::Created, 0, None))), S::Created);
    let running = S::Running { started_at: 5 };
    assert_eq!(after(S::Starting, Some(&told(Phase::Running, 5, None))), running);
    let exited = after(S::Starting, Some(&told(Phase::Exited, 5, Some(3))));
    assert!(
        matches!(&exited, S::Exited { started_at: 5, exit } if exit.code == 3 && exit.reason == Reason::Error)
    );
}

#[test]
fn what_the_shim_does_not_hold_is_lost() {
    for state in [ContainerState::Created, ContainerState::Running { started_at: 5 }] {
        let lost = after(state, None);
        assert_eq!(lost.exit().map(|exit| exit.code), Some(255));
    }
}

#[test]
fn an_exit_that_stands_is_not_touched() {
    let exit = Exit::lost(4, "");
    let state = ContainerState::Exited { started_at: 1, exit };
    assert_eq!(after(state.clone(), None), state);
    assert_eq!(after(state.clone(), Some(&told(Phase::Exited, 5, Some(3)))), state);
}

async fn config(folder: &Path) -> (Config, Arc<ImageStore>) {
    let config = Config {
        root: folder.join("root"),
        state: folder.join("state"),
        listen: folder.join("sock"),
        ..Config::default()
    };
    let images = Arc::new(ImageStore::open(&config).await.unwrap());
    (config, images)
}

/// A program that is no shim and ends at once.
fn no_shim() -> PathBuf {
    PathBuf::from("/bin/false")
}

#[tokio::test]
async fn what_a_kill_left_half_made_is_gone_after_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (config, images) = config(folder.path()).await;
    let folders = Folders::new(&config);
    std::fs::create_dir_all(&config.state).unwrap();
    let making =
        crate::model::sandbox::Sandbox { state: SandboxState::Creating, ..sandbox("a", 1) };
    let removing =
        crate::model::sandbox::Sandbox { state: SandboxState::Removing, ..sandbox("b", 2) };
    let whole = crate::model::sandbox::Sandbox { shim: Some(ShimId::random()), ..sandbox("c", 3) };
    let running = Container {
        state: ContainerState::Running { started_at: 5 },
        ..container(&whole.id, "running")
    };
    let half = container(&whole.id, "half");
    {
        let records = Records::open(&folders.database()).unwrap();
        let changes = [making.clone(), removing.clone(), whole.clone()].map(Change::AddSandbox);
        let adds = [running.clone(), half.clone()].map(Change::AddContainer);
        records.change(changes.into_iter().chain(adds).collect()).await.unwrap();
    }
    let stray = ContainerId::random();
    for id in [&stray, &running.id, &half.id] {
        std::fs::create_dir_all(folders.root_of(id).join("upper")).unwrap();
    }
    for id in [&making.id, &removing.id, &whole.id] {
        std::fs::create_dir_all(folders.etc_layer(id)).unwrap();
    }

    let runtime = Runtime::open_with(config, images, no_shim()).await.unwrap();
    let kept = runtime.sandbox(None, whole.id.as_str()).unwrap();
    assert_eq!(kept.state, SandboxState::NotReady);
    assert_eq!(runtime.sandboxes(&super::super::Filter::default()).len(), 1);
    let lost = runtime.container(None, running.id.as_str()).unwrap();
    let exit = lost.state.exit().unwrap();
    assert_eq!((exit.code, exit.reason), (255, Reason::Unknown));
    assert!(exit.finished_at > 0);
    assert_eq!(runtime.containers(&super::super::Filter::default()).len(), 1);
    assert!(folders.root_of(&running.id).exists() && folders.sandbox(&whole.id).exists());
    for gone in [&stray, &half.id] {
        assert!(!folders.root_of(gone).exists());
    }
    for gone in [&making.id, &removing.id] {
        assert!(!folders.sandbox(gone).exists());
    }
}

#[tokio::test]
async fn what_was_written_ahead_and_never_made_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (config, images) = config(folder.path()).await;
    let runtime = Runtime::open_with(config, images, no_shim()).await.unwrap();
    let shim = ShimId::random();
    let ready =
        |name, at| crate::model::sandbox::Sandbox { shim: Some(shim.clone()), ..sandbox(name, at) };
    let (never_made, held, lost) = (ready("a", 1), ready("b", 2), ready("c", 3));
    let created = |pod: &SandboxId, name| Container {
        state: ContainerState::Created,
        ..container(pod, name)
    };
    let unmade = created(&held.id, "unmade");
    let made = created(&held.id, "made");
    let running = Container {
        state: ContainerState::Running { started_at: 5 },
        ..container(&lost.id, "ran")
    };
    let pods = [never_made.clone(), held.clone(), lost.clone()].map(Change::AddSandbox);
    let all = [unmade.clone(), made.clone(), running.clone()].map(Change::AddContainer);
    runtime.records.change(pods.into_iter().chain(all).collect()).await.unwrap();

    let state = wire::SandboxState { id: held.id.to_string(), stopped: false };
    let told = wire::ContainerState { id: made.id.to_string(), ..told(Phase::Created, 0, None) };
    let says = Held {
        sandboxes: [(state.id.clone(), state)].into(),
        containers: [(told.id.clone(), told)].into(),
    };
    runtime.learn(&shim, &says).await.unwrap();
    let state = |id: &SandboxId| runtime.records.sandbox(id).map(|sandbox| sandbox.state);
    assert_eq!(state(&never_made.id), None);
    assert_eq!(state(&held.id), Some(SandboxState::Ready));
    assert_eq!(state(&lost.id), Some(SandboxState::NotReady));
    assert!(runtime.records.container(&unmade.id).is_none());
    assert_eq!(runtime.records.container(&made.id).unwrap().state, ContainerState::Created);
    assert_eq!(runtime.records.container(&running.id).unwrap().state.exit().unwrap().code, 255);
}

#[tokio::test]
async fn a_second_daemon_with_one_root_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (config, images) = config(folder.path()).await;
    let _first = Runtime::open_with(config.clone(), images.clone(), no_shim()).await.unwrap();
    let other = Config { state: folder.path().join("other"), ..config };
    let error = Runtime::open_with(other, images, no_shim()).await.err().unwrap();
    assert!(error.to_string().contains("another wasmpod uses the root"), "{error}");
}

#[tokio::test]
async fn a_sandbox_that_no_shim_takes_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (config, images) = config(folder.path()).await;
    let folders = Folders::new(&config);
    let runtime = Runtime::open_with(config, images, no_shim()).await.unwrap();
    let asked = || SandboxConfig {
        name: crate::model::sandbox::SandboxName {
            name: "pod".to_owned(),
            uid: "u".to_owned(),
            namespace: "ns".to_owned(),
            attempt: 0,
        },
        ..SandboxConfig::default()
    };
    for _ in 0..2 {
        // The name is free again each time.
        let error = runtime.run_sandbox(Realm::Kubelet, "", asked()).await.unwrap_err();
        assert!(error.to_string().contains("a new shim ended"), "{error}");
    }
    assert!(names_in(&folders.sandboxes()).unwrap().is_empty());
    let refused = runtime.run_sandbox(Realm::Kubelet, "wasm-shared", asked()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "handler wasm-shared (store = shared) is not available yet, use wasm or wasm-isolated"
    );
    let unknown = runtime.run_sandbox(Realm::Kubelet, "runc", asked()).await.unwrap_err();
    assert!(unknown.to_string().contains("wasm-isolated"), "{unknown}");
}
