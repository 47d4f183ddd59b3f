//! The daemon and its shims: one that it cannot serve, ones that die while they are being given a
//! pod, and what they leave in the cgroups.

use crate::support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, container, eventually, eventually_async, sandbox};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use wasmpod::proto::cri::{ContainerState, PodSandboxState};

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended just now.
    let _ = kill_process(pid, signal);
}

/// A shim of a wasmpod to come: it has no protocol in common with this one.
#[derive(Clone)]
struct Stranger;

const REFUSAL: &str = "the shim (wasmpod 9.9.9) speaks protocol versions [9, 8], the daemon [1]";

impl<Body> tower::Service<tonic::codegen::http::Request<Body>> for Stranger {
    type Response = tonic::codegen::http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::codegen::http::Request<Body>) -> Self::Future {
        std::future::ready(Ok(Status::failed_precondition(REFUSAL).into_http()))
    }
}

fn serve_stranger(socket: &Path) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let served = tonic::transport::Server::builder()
            .serve_with_incoming(Stranger, UnixListenerStream::new(listener));
        served.await.unwrap();
    })
}

#[tokio::test]
async fn a_shim_without_a_common_protocol_is_told_left_alone_and_served_by_whoever_can() {
    let mut daemon = Daemon::start_with("[shim]\nmax_pods = 1\n").await;
    let image = daemon.import("probe").await;
    let mut config = container("main", &image);
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    let mut guests = Vec::new();
    for name in ["kept", "strange"] {
        let guest = daemon.run_pod(sandbox(name)).await.run(config.clone()).await;
        guest.says("here").await;
        guests.push(guest);
    }
    let [kept, strange] = guests.try_into().ok().unwrap();
    let shim = {
        let request = wasmpod::proto::cri::ContainerStatusRequest {
            container_id: strange.id.clone(),
            verbose: true,
        };
        let answer = daemon.runtime().container_status(request).await.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        info["shim"].as_str().unwrap().to_owned()
    };
    daemon.kill();
    let socket = daemon.state().join("shims").join(shim).join("shim.sock");
    let aside = socket.with_extension("aside");
    fs::rename(&socket, &aside).unwrap();
    let stranger = serve_stranger(&socket);

    daemon.restart().await;
    assert!(daemon.own_log().contains(REFUSAL), "{}", daemon.own_log());
    let error = strange.exec(&["probe", "exit", "0"], 10).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert!(error.message().contains(REFUSAL), "{error}");
    assert_eq!(strange.pod.status().await.unwrap().state(), PodSandboxState::SandboxReady);
    assert_eq!(kept.exec(&["probe", "exit", "4"], 10).await.unwrap().exit_code, 4);
    let next = daemon.run_pod(sandbox("next")).await;
    assert_eq!(next.output_of("main", &image, &["say", "served"]).await, "served\n");

    // A daemon that knows its protocol serves it again.
    daemon.kill();
    stranger.abort();
    fs::rename(&aside, &socket).unwrap();
    daemon.restart().await;
    assert_eq!(strange.status().await.unwrap().state(), ContainerState::ContainerRunning);
    assert_eq!(strange.exec(&["probe", "exit", "5"], 10).await.unwrap().exit_code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_dies_while_it_is_given_a_pod_is_replaced_unseen() {
    let daemon = Daemon::start().await;
    for round in 0u32..24 {
        let handler = if round % 3 == 2 { "wasm-isolated" } else { "" };
        let config = sandbox(&format!("round-{round}"));
        let run = daemon.try_run_pod(config, handler);
        let kill = async {
            // Every round's kill comes at another point of the pod's making.
            tokio::time::sleep(Duration::from_micros(300) * round).await;
            tokio::task::block_in_place(|| {
                daemon.shims().into_iter().for_each(|pid| signal(pid, Signal::KILL));
            });
        };
        let (pod, ()) = tokio::join!(run, kill);
        let pod = pod.unwrap_or_else(|error| panic!("round {round}: {error}"));
        pod.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_hangs_and_dies_is_replaced_unseen() {
    let daemon = Daemon::start().await;
    daemon.run_pod(sandbox("first")).await.remove().await;
    let shims = daemon.shims();
    assert!(!shims.is_empty());
    shims.iter().for_each(|pid| signal(*pid, Signal::STOP));
    let run = daemon.try_run_pod(sandbox("second"), "");
    let kill = async {
        // The call is on its way into the stopped process.
        tokio::time::sleep(Duration::from_millis(100)).await;
        shims.iter().for_each(|pid| signal(*pid, Signal::KILL));
    };
    let (pod, ()) = tokio::join!(run, kill);
    let pod = pod.unwrap();
    assert_eq!(pod.status().await.unwrap().state(), PodSandboxState::SandboxReady);
    assert!(daemon.shims().iter().all(|pid| !shims.contains(pid)));
}

#[tokio::test]
async fn no_cgroup_of_a_shim_outlives_it() {
    if !support::root_for("cgroups") {
        return;
    }
    let mut daemon = Daemon::start().await;
    let pod = daemon.run_pod(sandbox("shared")).await;
    let own = daemon.run_pod_with(sandbox("own"), "wasm-isolated").await;
    let names = daemon.shim_names();
    let all = [names.clone(), vec![format!("pod-{}", own.id)]].concat();
    assert!(!daemon.cgroups(&all).is_empty());
    own.remove().await;
    assert_eq!(daemon.cgroups(&all[all.len() - 1..]), Vec::<std::path::PathBuf>::new());
    // Killed, and told to end.
    daemon.shims().into_iter().for_each(|pid| signal(pid, Signal::KILL));
    eventually_async("the shim is buried", || async {
        let state = pod.status().await.unwrap().state();
        (state == PodSandboxState::SandboxNotready).then_some(())
    })
    .await;
    eventually("its groups go", || {
        let dead: Vec<_> =
            names.iter().filter(|name| !daemon.shim_names().contains(name)).collect();
        let dead: Vec<String> = dead.into_iter().cloned().collect();
        (!dead.is_empty() && daemon.cgroups(&dead).is_empty()).then_some(())
    })
    .await;
    pod.remove().await;
    daemon.run_pod(sandbox("next")).await.remove().await;
    let all = [all, daemon.shim_names()].concat();
    daemon.terminate().await;
    assert_eq!(daemon.cgroups(&all), Vec::<std::path::PathBuf>::new());
    assert_eq!(daemon.shims(), Vec::<u32>::new());
}
