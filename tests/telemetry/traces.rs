//! Traces of a pod's start, as a real collector gets them.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use support::{Daemon, container, eventually, sandbox};
use tonic::Request;
use wasmpod::proto::cri;

use super::collector::{Collector, texts};
use crate::network::kit::{Net, networked, possible};
use crate::support;

fn configuration(address: impl std::fmt::Display, more: &str) -> String {
    format!("[tracing]\nendpoint = \"http://{address}\"\n{more}")
}

/// The names of a span's children, in the order in which they began.
fn children(of: &Span, spans: &[Span]) -> Vec<String> {
    let mut own: Vec<&Span> = spans.iter().filter(|s| s.parent_span_id == of.span_id).collect();
    own.sort_by_key(|span| span.start_time_unix_nano);
    own.into_iter().map(|span| span.name.clone()).collect()
}

fn named<'a>(name: &str, spans: &'a [Span]) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_start_is_traced_phase_by_phase_below_its_caller() {
    let (collector, address) = Collector::start().await;
    let (net, network) = match possible() {
        true => {
            let net = Net::new();
            net.write(&[net.bridge_plugin()]);
            let text = net.configuration();
            (Some(net), text)
        }
        false => (None, String::new()),
    };
    let more = format!("service_name = \"node-7\"\n{network}");
    let daemon = Daemon::start_with(&configuration(address, &more)).await;
    let image = daemon.import("probe").await;

    let mut config = if net.is_some() { networked("traced") } else { sandbox("traced") };
    config.log_directory = daemon.logs().display().to_string();
    let mut request = Request::new(cri::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: String::new(),
    });
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace}-{parent}-01");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    let mut client = daemon.runtime();
    let id = client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let (root, spans) = collector.call("RunPodSandbox").await;
    assert_eq!(hex::encode(&root.trace_id), trace);
    assert_eq!(hex::encode(&root.parent_span_id), parent);
    let said = texts(&root.attributes);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "runtime.v1.RuntimeService"),
        ("rpc.grpc.status_code", "Ok"),
        ("k8s.pod.name", "traced"),
        ("k8s.namespace.name", "tests"),
        ("wasmpod.sandbox.id", id.as_str()),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{key}: {said:?}");
    }
    assert_eq!(collector.resource()["service.name"], "node-7");
    let phases = children(&root, &spans);
    match net {
        Some(_) => {
            assert_eq!(phases, ["reserve", "network", "shim", "record"]);
            let network = named("network", &spans);
            let plugins: Vec<_> =
                spans.iter().filter(|span| span.parent_span_id == network.span_id).collect();
            let add = plugins
                .iter()
                .find(|span| texts(&span.attributes)["cni.verb"] == "ADD")
                .expect("the plugin's ADD");
            assert_eq!(texts(&add.attributes)["cni.plugin"], "bridge");
        }
        None => assert_eq!(phases, ["reserve", "shim", "record"]),
    }
    for span in &spans {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
    }

    let pod = support::Pod { id, config, client };
    let mut config = container("main", &image);
    config.args = ["say", "up", "--", "idle"].map(str::to_owned).to_vec();
    pod.run(config).await;
    let (root, spans) = collector.call("CreateContainer").await;
    assert!(root.parent_span_id.is_empty(), "nobody called it");
    assert_eq!(children(&root, &spans), ["code", "reserve", "shim", "record"]);
    assert_eq!(texts(&root.attributes)["k8s.container.name"], "main");
    let (root, spans) = collector.call("StartContainer").await;
    assert_eq!(children(&root, &spans), ["shim", "record"]);
    // What is polled is not traced.
    assert!(collector.spans().iter().all(|span| !span.name.starts_with("List")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_traced_and_a_failure_says_why() {
    use crate::registry::kit::artifact;
    use crate::registry::server::{Guard, Server, folder, is_there};
    if !is_there() {
        return;
    }
    let (collector, address) = Collector::start().await;
    let folder = folder();
    let server = Server::start(folder.path(), Guard::Nothing).await;
    server.push(&artifact(std::fs::read(support::guest("probe")).unwrap()), "team/probe", "1");
    let daemon = Daemon::start_with(&configuration(address, "")).await;
    let pull = |name: &str| {
        let image = format!("{}/team/{name}:1", server.host);
        let image = Some(cri::ImageSpec { image, ..Default::default() });
        cri::PullImageRequest { image, ..Default::default() }
    };
    daemon.images().pull_image(pull("probe")).await.unwrap();
    let (root, spans) = collector.call("PullImage").await;
    assert_eq!(children(&root, &spans), ["resolve", "transfer", "admit"]);
    let compile = named("compile", &spans);
    let is_below = |span: &Span| {
        spans.iter().any(|above| {
            above.span_id == span.parent_span_id
                && matches!(above.name.as_str(), "admit" | "PullImage")
        })
    };
    assert!(is_below(compile), "{spans:?}");
    let image = &texts(&root.attributes)["image"];
    assert!(image.contains("team/probe:1"), "{image}");

    daemon.images().pull_image(pull("none")).await.unwrap_err();
    let failed = eventually("the failed pull is traced", || {
        let spans = collector.spans();
        spans.into_iter().find(|s| s.name == "PullImage" && s.trace_id != root.trace_id)
    })
    .await;
    let status = failed.status.unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    assert!(status.message.contains("team/none"), "{}", status.message);
    assert_ne!(texts(&failed.attributes)["rpc.grpc.status_code"], "Ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_is_the_callers_else_the_configurations() {
    let (collector, address) = Collector::start().await;
    let daemon = Daemon::start_with(&configuration(address, "sampling = 0.0\n")).await;
    daemon.run_pod(sandbox("unseen")).await;
    let request = |flags: &str| {
        let mut config = sandbox("asked");
        config.log_directory = daemon.logs().display().to_string();
        let mut request = Request::new(cri::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        });
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        request
    };
    daemon.runtime().run_pod_sandbox(request("00")).await.unwrap();
    let id = daemon.runtime().run_pod_sandbox(request("01")).await.unwrap().into_inner();
    let (root, _) = collector.call("RunPodSandbox").await;
    assert_eq!(texts(&root.attributes)["wasmpod.sandbox.id"], id.pod_sandbox_id);
    let roots = collector.spans().into_iter().filter(|span| span.name == "RunPodSandbox");
    assert_eq!(roots.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_costs_one_line() {
    // Nobody listens on port 1; nobody answers at 192.0.2.1 (RFC 5737).
    for address in ["127.0.0.1:1", "192.0.2.1:4317"] {
        let mut daemon = Daemon::start_with(&configuration(address, "")).await;
        let begun = Instant::now();
        for _ in 0..5 {
            daemon.run_pod(sandbox("meanwhile")).await.remove().await;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let lines = |daemon: &Daemon| daemon.own_log().matches("spans cannot be sent").count();
        eventually("the log tells", || (lines(&daemon) == 1).then_some(())).await;
        let before = daemon.own_log().len();
        daemon.run_pod(sandbox("later")).await.remove().await;
        daemon.terminate().await;
        assert_eq!(lines(&daemon), 1, "{}", &daemon.own_log()[before..]);
    }
}
