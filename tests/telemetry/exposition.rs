//! GET /metrics: what is told, who is answered how, and what a flood does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use support::{DEADLINE, Daemon, container, eventually, sandbox};
use tonic::Code;
use wasmpod::proto::cri;

use crate::network::kit::{Net, networked, possible};
use crate::support;

const LISTEN: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// Where a daemon says that its metrics are.
fn address(daemon: &Daemon) -> String {
    let log = daemon.own_log();
    let told = log.split_once("metrics on http://").expect("the log tells").1;
    told.split_once("/metrics").unwrap().0.to_owned()
}

/// The whole answer to `request`.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // An answer may come before all of a long request is sent.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn read(address: &str) -> String {
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.to_owned()
}

/// The value of a line that begins with these words.
fn value(text: &str, line: &str) -> Option<f64> {
    let found = text.lines().find(|found| found.starts_with(line))?;
    found.rsplit_once(' ')?.1.parse().ok()
}

/// Waits until a line has this value.
async fn tells(address: &str, line: &str, wanted: f64) {
    eventually(&format!("{line} is {wanted}"), || {
        let text = read(address);
        (value(&text, line) == Some(wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted() {
    let daemon = Daemon::start_with(LISTEN).await;
    let address = address(&daemon);
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("counted")).await;
    let mut config = container("main", &image);
    config.args = ["say", "up", "--", "idle"].map(str::to_owned).to_vec();
    let main = pod.run(config).await;
    main.says("up").await;
    let request = cri::ContainerStatusRequest { container_id: "none".into(), verbose: false };
    let absent = daemon.runtime().container_status(request).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);

    tells(&address, "wasmpod_sandboxes{state=\"ready\",handler=\"wasm\"}", 1.0).await;
    let text = read(&address);
    let rpc = |method: &str, code: &str| {
        let service = "runtime.v1.RuntimeService";
        let labels = format!("service=\"{service}\",method=\"{method}\",code=\"{code}\"");
        value(&text, &format!("wasmpod_rpcs_total{{{labels}}}"))
    };
    assert_eq!(rpc("RunPodSandbox", "Ok"), Some(1.0), "{text}");
    assert_eq!(rpc("StartContainer", "Ok"), Some(1.0), "{text}");
    assert_eq!(rpc("ContainerStatus", "NotFound"), Some(1.0), "{text}");
    let took =
        "wasmpod_rpc_seconds_sum{service=\"runtime.v1.RuntimeService\",method=\"RunPodSandbox\"}";
    assert!(value(&text, took).unwrap() > 0.0, "{text}");
    let running = "wasmpod_containers{state=\"running\",handler=\"wasm\"}";
    assert_eq!(value(&text, running), Some(1.0), "{text}");
    assert!(value(&text, "wasmpod_shims{kind=\"shared\"}").unwrap() >= 1.0, "{text}");
    assert!(value(&text, "wasmpod_compiles_total{outcome=\"ok\"}").unwrap() >= 1.0, "{text}");
    assert!(value(&text, "wasmpod_code_cache_requests_total{result=\"hit\"}").unwrap() >= 1.0);
    assert!(text.contains("wasmpod_build_info{version=\""), "{text}");

    pod.stop().await;
    tells(&address, "wasmpod_sandboxes{state=\"notready\",handler=\"wasm\"}", 1.0).await;
    let text = read(&address);
    assert!(!text.contains("state=\"ready\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_clients_invent_are_one_label() {
    let daemon = Daemon::start_with(LISTEN).await;
    let address = address(&daemon);
    let channel = wasmpod::cri::client::connect(&daemon.listen()).await.unwrap();
    for service in ["runtime.v1.RuntimeService", "no.such.Service"] {
        for number in 0..50 {
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.unwrap();
            let path = format!("/{service}/Invented{number}").parse().unwrap();
            let codec =
                tonic_prost::ProstCodec::<cri::VersionRequest, cri::VersionResponse>::default();
            let request = tonic::Request::new(cri::VersionRequest::default());
            let status = client.unary(request, path, codec).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented);
        }
    }
    let line = "wasmpod_rpcs_total{service=\"unknown\",method=\"unknown\",code=\"Unimplemented\"}";
    tells(&address, line, 100.0).await;
    assert!(!read(&address).contains("Invented"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_are_told_so() {
    let daemon = Daemon::start_with(LISTEN).await;
    let address = address(&daemon);
    let huge = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    for (request, says) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("GET /metrics/x HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "405"),
        ("nonsense\r\n\r\n", "400"),
        (huge.as_str(), "431"),
    ] {
        let answer = ask(&address, request);
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(says), "{says}: {answer:?}");
    }
    let answer = ask(&address, "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
    let answer = ask(&address, "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains("200 OK") && !answer.contains("# EOF"), "{answer}");
    read(&address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_silent_clients_keeps_nobody_from_pods_nor_for_long_from_metrics() {
    let daemon = Daemon::start_with(LISTEN).await;
    let address = address(&daemon);
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    let pod = daemon.run_pod(sandbox("meanwhile")).await;
    pod.remove().await;
    let threads = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(threads < 64, "few of them are let in: {threads} descriptors");
    drop(silent);
    read(&address);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens_unless_told_and_a_taken_address_is_told() {
    let daemon = Daemon::start().await;
    assert!(!daemon.own_log().contains("metrics on"), "{}", daemon.own_log());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let listen = taken.local_addr().unwrap();
    std::fs::write(&config, format!("[metrics]\nlisten = \"{listen}\"\n")).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut command = daemon.command(&[
        "serve",
        "--config",
        &path("config.toml"),
        "--root",
        &path("root"),
        "--state",
        &path("state"),
    ]);
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let named = format!("metrics.listen = {listen}");
    assert!(!ended.status.success() && said.contains(&named), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_plugins_and_pulls_are_counted() {
    use crate::registry::kit::artifact;
    use crate::registry::server::{Guard, Server, folder, is_there};
    let Some(net) = possible().then(Net::new) else { return };
    net.write(&[net.bridge_plugin()]);
    let daemon = Daemon::start_with(&format!("{LISTEN}{}", net.configuration())).await;
    let address = address(&daemon);
    if is_there() {
        let folder = folder();
        let server = Server::start(folder.path(), Guard::Nothing).await;
        server.push(&artifact(std::fs::read(support::guest("probe")).unwrap()), "team/probe", "1");
        daemon.cli(&["pull", &format!("{}/team/probe:1", server.host)]).await;
        let text = read(&address);
        assert_eq!(value(&text, "wasmpod_image_pulls_total{outcome=\"ok\"}"), Some(1.0), "{text}");
        assert!(value(&text, "wasmpod_image_pull_bytes_total").unwrap() > 1000.0, "{text}");
        assert_eq!(value(&text, "wasmpod_image_pull_seconds_count"), Some(1.0), "{text}");
    }
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(networked("sessions")).await;
    let mut config = container("main", &image);
    config.args = ["say", "up", "--", "idle"].map(str::to_owned).to_vec();
    let main = pod.run(config).await;
    main.says("up").await;
    let calls = "wasmpod_cni_calls_total{plugin=\"bridge\",verb=\"ADD\",outcome=\"ok\"}";
    tells(&address, calls, 1.0).await;
    let mut session =
        crate::streaming::kit::exec(&main, &["probe", "echo"], crate::streaming::kit::PIPES).await;
    tells(&address, "wasmpod_stream_sessions_open{kind=\"exec\"}", 1.0).await;
    session.stdin.take().unwrap().finish().await;
    crate::streaming::kit::ended(&mut session).await.unwrap();
    drop(session);
    tells(&address, "wasmpod_stream_sessions_open{kind=\"exec\"}", 0.0).await;
    tells(&address, "wasmpod_stream_sessions_total{kind=\"exec\"}", 1.0).await;
    pod.remove().await;
    let calls = "wasmpod_cni_calls_total{plugin=\"bridge\",verb=\"DEL\",outcome=\"ok\"}";
    tells(&address, calls, 1.0).await;
}
