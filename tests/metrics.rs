//! Pods' metrics by cAdvisor's names: what is described, what is measured, and that it is real.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Container, Daemon, Pod, eventually_async, sandbox};
use tokio_stream::StreamExt;
use wasmpod::proto::cri;

use crate::network::kit::{Net, networked, possible};
use crate::support;

/// A pod's container that was told `words`.
async fn running(pod: &Pod, name: &str, image: &str, words: &[&str]) -> Container {
    let mut config = support::container(name, image);
    config.args = words.iter().map(|&word| word.to_owned()).collect();
    pod.run(config).await
}

async fn described(daemon: &Daemon) -> BTreeMap<String, Vec<String>> {
    let request = cri::ListMetricDescriptorsRequest {};
    let answer = daemon.runtime().list_metric_descriptors(request).await.unwrap().into_inner();
    answer.descriptors.into_iter().map(|known| (known.name, known.label_keys)).collect()
}

async fn listed(daemon: &Daemon) -> Vec<cri::PodSandboxMetrics> {
    let request = cri::ListPodSandboxMetricsRequest {};
    let answer = daemon.runtime().list_pod_sandbox_metrics(request).await.unwrap();
    answer.into_inner().pod_metrics
}

fn value(metrics: &[cri::Metric], name: &str) -> u64 {
    let found = metrics.iter().find(|metric| metric.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {metrics:?}")).value.unwrap().value
}

fn of<'a>(listed: &'a [cri::PodSandboxMetrics], container: &Container) -> &'a [cri::Metric] {
    let mut all = listed.iter().flat_map(|pod| &pod.container_metrics);
    &all.find(|found| found.container_id == container.id).expect("its metrics").metrics
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn metrics_are_as_described_and_measured() {
    let begun = now();
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("metrics")).await;
    let spinning = running(&pod, "spinning", &image, &["say", "up", "--", "spin"]).await;
    let words = ["grow", "32", "--", "write", "/file", "x", "--", "say", "up", "--", "idle"];
    let holding = running(&pod, "holding", &image, &words).await;
    pod.create(support::container("created", &image)).await;
    daemon.run_pod(sandbox("empty")).await;
    for container in [&spinning, &holding] {
        container.says("up").await;
    }
    let metrics = eventually_async("the spinning guest has taken a second", || async {
        let metrics = listed(&daemon).await;
        let taken = value(of(&metrics, &spinning), "container_cpu_usage_seconds_total");
        (taken >= 1).then_some(metrics)
    })
    .await;

    let keys = described(&daemon).await;
    let pods = metrics.iter().flat_map(|pod| &pod.metrics);
    let containers = metrics.iter().flat_map(|p| &p.container_metrics).flat_map(|c| &c.metrics);
    for metric in pods.chain(containers) {
        let keys = keys.get(&metric.name).unwrap_or_else(|| panic!("{metric:?} is described"));
        assert_eq!(metric.label_values.len(), keys.len(), "{metric:?}");
        assert!(metric.timestamp > 0 && metric.value.is_some(), "{metric:?}");
    }
    // On the host's network its counters are nobody's.
    for name in keys.keys().filter(|name| !name.contains("network")) {
        value(of(&metrics, &holding), name);
    }
    assert_eq!(metrics.len(), 2);
    let own = metrics.iter().find(|found| found.pod_sandbox_id == pod.id).unwrap();
    assert_eq!(own.container_metrics.len(), 2, "one was never started");
    let (spins, holds) = (of(&metrics, &spinning), of(&metrics, &holding));
    for (metrics, container) in [(spins, "spinning"), (holds, "holding")] {
        let labels: BTreeMap<&str, &str> = keys["container_memory_rss"]
            .iter()
            .map(String::as_str)
            .zip(
                metrics
                    .iter()
                    .find(|m| m.name == "container_memory_rss")
                    .unwrap()
                    .label_values
                    .iter()
                    .map(String::as_str),
            )
            .collect();
        assert_eq!(labels["container"], container);
        assert_eq!((labels["pod"], labels["namespace"]), ("metrics", "tests"));
        assert_eq!(labels["image"], image);
    }
    const MIB: u64 = 1 << 20;
    let memory = value(holds, "container_memory_working_set_bytes");
    assert!((32 * MIB..48 * MIB).contains(&memory), "{memory}");
    assert!(value(spins, "container_memory_working_set_bytes") < 16 * MIB);
    assert!(value(holds, "container_memory_max_usage_bytes") >= memory);
    assert_eq!(value(holds, "container_memory_failcnt"), 0);
    assert!(value(holds, "container_fs_usage_bytes") > value(spins, "container_fs_usage_bytes"));
    assert!(value(holds, "container_fs_limit_bytes") > value(holds, "container_fs_usage_bytes"));
    assert_eq!(value(holds, "container_threads"), 1);
    assert!(value(holds, "container_ulimits_soft") >= 64);
    for (name, metrics) in [("spinning", spins), ("holding", holds), ("pod", &own.metrics)] {
        let started = value(metrics, "container_start_time_seconds");
        assert!((begun..=now()).contains(&started), "{name}: {started}");
    }
    let sum = [spins, holds].map(|metrics| value(metrics, "container_memory_usage_bytes"));
    assert_eq!(value(&own.metrics, "container_memory_usage_bytes"), sum.iter().sum::<u64>());
    // On the host's network its counters are nobody's.
    assert!(own.metrics.iter().all(|metric| !metric.name.contains("network")));
}

#[tokio::test]
async fn what_a_guest_does_is_counted_and_what_it_is_held_to_is_told() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("working")).await;
    let mut config = support::container("main", &image);
    let words = ["grow", "32", "--", "write", "/file", "x", "--", "say", "up", "--", "spin"];
    config.args = words.map(str::to_owned).to_vec();
    config.linux = Some(cri::LinuxContainerConfig {
        resources: Some(cri::LinuxContainerResources {
            cpu_period: 50_000,
            cpu_quota: 40_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 128 << 20,
            memory_swap_limit_in_bytes: 128 << 20,
            ..Default::default()
        }),
        ..Default::default()
    });
    let main = pod.run(config).await;
    main.says("up").await;
    let metrics = eventually_async("the guest has computed for a second", || async {
        let metrics = listed(&daemon).await;
        (value(of(&metrics, &main), "container_cpu_user_seconds_total") >= 1).then_some(metrics)
    })
    .await;
    let own = of(&metrics, &main);
    let labelled = |name: &str, label: &str| {
        let with = |metric: &&cri::Metric| {
            metric.name == name && metric.label_values.iter().any(|value| value == label)
        };
        own.iter().find(with).expect("it is there").value.unwrap().value
    };
    assert!(labelled("container_memory_failures_total", "pgfault") > 0);
    assert!(
        labelled("container_memory_failures_total", "pgmajfault")
            <= labelled("container_memory_failures_total", "pgfault")
    );
    assert!(value(own, "container_fs_writes_total") > 0);
    assert!(value(own, "container_processes") == 1);
    let told = [
        ("container_spec_cpu_period", 50_000),
        ("container_spec_cpu_quota", 40_000),
        ("container_spec_cpu_shares", 512),
        ("container_spec_memory_limit_bytes", 128 << 20),
        ("container_spec_memory_swap_limit_bytes", 0),
        ("container_oom_events_total", 0),
        ("container_sockets", 0),
    ];
    for (name, is) in told {
        assert_eq!(value(own, name), is, "{name}");
    }
    let pods = &metrics.iter().find(|found| found.pod_sandbox_id == pod.id).unwrap().metrics;
    assert!(value(pods, "container_cpu_user_seconds_total") >= 1);
}

#[tokio::test]
async fn the_stream_tells_what_the_list_does() {
    let daemon = Daemon::start().await;
    for number in 0..3 {
        daemon.run_pod(sandbox(&format!("pod-{number}"))).await;
    }
    let request = cri::StreamPodSandboxMetricsRequest {};
    let stream = daemon.runtime().stream_pod_sandbox_metrics(request).await.unwrap().into_inner();
    let pieces: Vec<_> = stream.map(Result::unwrap).collect().await;
    let streamed = pieces.into_iter().flat_map(|piece| piece.pod_sandbox_metrics);
    let mut streamed: Vec<String> = streamed.map(|pod| pod.pod_sandbox_id).collect();
    let mut known: Vec<String> =
        listed(&daemon).await.into_iter().map(|pod| pod.pod_sandbox_id).collect();
    streamed.sort();
    known.sort();
    assert_eq!((streamed.len(), &streamed), (3, &known));
}

#[tokio::test]
async fn a_refused_growth_counts_and_the_other_realms_pods_do_not() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("refused")).await;
    let mut config = support::container("main", &image);
    config.args = ["say", "up", "--", "idle"].map(str::to_owned).to_vec();
    config.linux = Some(cri::LinuxContainerConfig {
        resources: Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        }),
        ..Default::default()
    });
    let main = pod.run(config).await;
    main.says("up").await;
    let exec = main.exec(&["probe", "grow", "128"], 30).await.unwrap();
    assert_eq!(exec.exit_code, 137, "{}", String::from_utf8_lossy(&exec.stderr));
    let metrics = listed(&daemon).await;
    assert!(value(of(&metrics, &main), "container_memory_failcnt") >= 1);
    assert_eq!(value(of(&metrics, &main), "container_oom_events_total"), 1);
    let own = metrics.iter().find(|found| found.pod_sandbox_id == pod.id).unwrap();
    assert_eq!(value(&own.metrics, "container_oom_events_total"), 1);
    assert_eq!(value(of(&metrics, &main), "container_spec_memory_limit_bytes"), 64 << 20);
    let request = cri::ListPodSandboxMetricsRequest {};
    let agents = daemon.agent_runtime().list_pod_sandbox_metrics(request).await.unwrap();
    assert!(agents.into_inner().pod_metrics.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_traffic_is_its_own() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.write(&[net.bridge_plugin()]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let image = daemon.import("probe-p2").await;
    let server = daemon.run_pod(networked("server")).await;
    let quiet = daemon.run_pod(networked("quiet")).await;
    let words = ["serve", "0.0.0.0:8080", "1", "--", "say", "over", "--", "idle"];
    let container = running(&server, "main", &image, &words).await;
    container.says("listening").await;
    assert_eq!(value(of(&listed(&daemon).await, &container), "container_sockets"), 1);
    let address = server.status().await.unwrap().network.unwrap().ip;
    tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect((address.as_str(), 8080)).unwrap();
        stream.write_all(&vec![b'x'; 300_000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    })
    .await
    .unwrap();
    let metrics = listed(&daemon).await;
    let of_pod = |pod: &Pod| metrics.iter().find(|found| found.pod_sandbox_id == pod.id).unwrap();
    for name in ["container_network_receive_bytes_total", "container_network_transmit_bytes_total"]
    {
        let metric = of_pod(&server).metrics.iter().find(|metric| metric.name == name).unwrap();
        assert!(metric.value.unwrap().value > 300_000, "{metric:?}");
        assert_eq!(metric.label_values.last().unwrap(), "eth0");
        assert!(value(&of_pod(&quiet).metrics, name) < 100_000);
    }
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: server.id.clone() };
    let stats = daemon.runtime().pod_sandbox_stats(request).await.unwrap().into_inner();
    let network = stats.stats.unwrap().linux.unwrap().network.unwrap();
    let eth0 = network.default_interface.unwrap();
    assert_eq!(eth0.name, "eth0");
    assert!(eth0.rx_bytes.unwrap().value > 300_000 && eth0.tx_bytes.unwrap().value > 300_000);
    assert!(network.interfaces.iter().all(|interface| interface.name != "lo"));
}
