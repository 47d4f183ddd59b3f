//! Whose CPUs are whose: the kubelet's pods and those of `wasmpod run` on one node.

use wasmpod::proto::cri;

use super::kit::{Plugin, configuration, start};
use crate::support::{self, Container, Daemon, Pod, container, sandbox};

/// A container that says on which CPUs it is.
async fn teller(pod: &Pod, image: &str, cpus: &str) -> Result<Container, tonic::Status> {
    let mut config = container("main", image);
    let linux = config.linux.get_or_insert_default();
    linux.resources.get_or_insert_default().cpuset_cpus = cpus.to_owned();
    let container = pod.try_create(config).await?;
    container.start().await?;
    Ok(container)
}

async fn pod_of_agent(daemon: &Daemon, name: &str) -> Pod {
    let config = cri::PodSandboxConfig {
        log_directory: daemon.logs().join(name).display().to_string(),
        ..sandbox(name)
    };
    std::fs::create_dir_all(&config.log_directory).unwrap();
    let mut client = daemon.agent_runtime();
    let request = cri::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let id = client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    Pod { id, config, client }
}

fn has_two_cpus() -> bool {
    let has = std::thread::available_parallelism().unwrap().get() > 1;
    if !has {
        eprintln!("SKIPPED: one CPU cannot be shared out");
    }
    has
}

#[tokio::test]
async fn each_realms_pods_run_on_its_cpus_alone() {
    if !has_two_cpus() {
        return;
    }
    let daemon = Daemon::start_with("[cpus]\nkubelet = \"0\"\nagent = \"1\"\n").await;
    let image = daemon.import("graceful").await;
    let (kubelets, agents) =
        (daemon.run_pod(sandbox("kubelets")).await, pod_of_agent(&daemon, "agents").await);
    teller(&kubelets, &image, "").await.unwrap().says("works on CPUs 0").await;
    teller(&agents, &image, "").await.unwrap().says("works on CPUs 1").await;

    let greedy = daemon.run_pod(sandbox("greedy")).await;
    let error = teller(&greedy, &image, "1").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("names CPU 1, the pod has 0"), "{error}");
    let mut config = sandbox("strayed");
    let linux = config.linux.as_mut().unwrap();
    linux.resources.get_or_insert_default().cpuset_cpus = "0-1".to_owned();
    let error = daemon.try_run_pod(config, "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("the kubelet's pods have 0 (cpus.kubelet"), "{error}");
}

#[tokio::test]
async fn a_plugin_is_told_the_pool_of_the_pods_realm() {
    if !has_two_cpus() {
        return;
    }
    let policy = Plugin { name: "static", guest: "exclusive-cpus", ..Plugin::default() };
    let config = configuration(&[policy]) + "[cpus]\nkubelet = \"0\"\nagent = \"1\"\n";
    let daemon = Daemon::start_with(&config).await;
    let image = daemon.import("graceful").await;
    let kubelets = daemon.run_pod(sandbox("kubelets")).await;
    teller(&kubelets, &image, "").await.unwrap().says("works on CPUs 0").await;
    let agents = pod_of_agent(&daemon, "agents").await;
    teller(&agents, &image, "").await.unwrap().says("works on CPUs 1").await;
}

#[tokio::test]
async fn a_static_policy_needs_a_realms_own_cpus_once_another_realm_has_pods() {
    if !has_two_cpus() {
        return;
    }
    let policy = Plugin { name: "static", guest: "exclusive-cpus", ..Plugin::default() };
    let daemon = start(&[policy]).await;
    let image = daemon.import("probe").await;
    let other = pod_of_agent(&daemon, "other").await;
    let mut config = sandbox("own");
    config.annotations.insert("exclusive-cpus.example/count".to_owned(), "1".to_owned());
    let own = daemon.run_pod(config).await;
    let error = own.try_create(support::container("main", &image)).await.unwrap_err();
    assert!(error.message().contains("plugin static: pre-create-container: "), "{error}");
    assert!(error.message().contains("give each realm its own (cpus.kubelet, cpus.agent)"));
    other.stop().await;
    other.remove().await;
    own.create(support::container("main", &image)).await;
}
