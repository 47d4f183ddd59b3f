//! Images that are used are not removed: not while a container is being made of one, and not by
//! a command that works on the store of a daemon that is down.

use std::sync::{Arc, Mutex};

use wasmpod::error::Error;
use wasmpod::proto::cri;

use super::super::support::{Daemon, container, sandbox};
use super::kit::*;

#[tokio::test]
async fn who_notes_its_use_of_an_image_that_it_can_get_keeps_it() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = store.import(&kit.file("a.wasm", module(1)), "a").await.unwrap();
    // Asked twice; the second time a container has come that got the image just before.
    let asked: Arc<Mutex<Vec<bool>>> = Arc::default();
    let (told, other) = (asked.clone(), store.clone());
    let in_use = move |id: &str| {
        let mut told = told.lock().unwrap();
        told.push(other.get(id).is_some());
        told.len() == 2
    };
    let error = store.remove("a", in_use).await.unwrap_err();
    assert!(matches!(error, Error::Precondition(_)), "{error}");
    assert_eq!(*asked.lock().unwrap(), [true, false], "then nobody can get it any more");
    assert_eq!(*store.get("a").unwrap(), *image);
    assert!(image.programs[0].file.is_file());
    drop(store);
    assert_eq!(*kit.store().await.get("a").unwrap(), *image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_being_made_has_its_image_or_is_refused() {
    let daemon = Daemon::start().await;
    let kit = Kit::new();
    let pod = daemon.run_pod(sandbox("race")).await;
    let file = kit.file("a.wasm", module(1));
    let (mut made, mut refused) = (0, 0);
    for round in 0..60 {
        let image = daemon.import_file(&file, "race").await;
        let spec = cri::ImageSpec { image: image.clone(), ..Default::default() };
        let request = cri::RemoveImageRequest { image: Some(spec.clone()) };
        let mut images = daemon.images();
        let remove = async {
            // Another moment of the making each round.
            for _ in 0..round * 40 {
                tokio::task::yield_now().await;
            }
            images.remove_image(request).await
        };
        let create = pod.try_create(container(&format!("c{round}"), &image));
        let (created, removed) = tokio::join!(create, remove);
        let request = cri::ImageStatusRequest { image: Some(spec), verbose: false };
        let there = daemon.images().image_status(request).await.unwrap().into_inner().image;
        match created {
            Ok(container) => {
                made += 1;
                assert!(there.is_some(), "round {round}: {removed:?}");
                container.start().await.unwrap();
                container.exit().await;
            }
            Err(status) => {
                refused += 1;
                assert_eq!(status.code(), tonic::Code::NotFound, "round {round}: {status}");
            }
        }
    }
    println!("{made} made, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_while_the_daemon_is_down_is_kept_by_commands_on_the_store() {
    let mut daemon = Daemon::start().await;
    let kit = Kit::new();
    let image = daemon.import("probe").await;
    daemon.import_file(&kit.file("idle.wasm", module(1)), "idle").await;
    let pod = daemon.run_pod(sandbox("down")).await;
    let mut config = container("main", &image);
    config.args = vec!["idle".to_owned()];
    let container = pod.run(config).await;
    daemon.kill();

    let root = daemon.root().display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wasmpod"));
        command.args(arguments).args(["--root", &root]).output().unwrap()
    };
    let refused = run(&["rmi", &image]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is in use by a container"), "{said}");
    let pruned = run(&["images", "prune", "--all"]);
    let said = String::from_utf8_lossy(&pruned.stdout).into_owned();
    assert!(pruned.status.success() && said.contains("tests/idle:1"), "{said}");
    assert!(!said.contains("tests/probe:1"), "{said}");

    daemon.restart().await;
    let status = container.status().await.unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
    container.stop(0).await;
}
