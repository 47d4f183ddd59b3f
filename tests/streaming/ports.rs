//! PortForward: connections into a pod's own network.

use bytes::Bytes;
use support::{Daemon, Pod, container};
use wasmpod::cri::streaming::client::Client;
use wasmpod::proto::cri;

use super::kit::{all, apart, echo_server, run};
use crate::support;

async fn client(pod: &Pod) -> Client {
    let request = cri::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![8080] };
    let url = pod.client.clone().port_forward(request).await.unwrap().into_inner().url;
    Client::ports(&url).await.unwrap()
}

#[tokio::test]
async fn many_connections_reach_a_pods_own_network_at_once() {
    let daemon = Daemon::start().await;
    let image = daemon.import("web").await;
    let pod = daemon.run_pod(apart("web")).await;
    let server = pod.run(container("web", &image)).await;
    let client = client(&server.pod).await;
    let request = "GET /hello HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n";
    let calls = (0..64).map(|number| {
        let client = &client;
        async move {
            let mut connection = client.forward(8080, number).await.unwrap();
            connection.outgoing.send(Bytes::from(request)).await.unwrap();
            let answer = all(&mut connection.incoming).await;
            connection.outgoing.finish().await;
            (answer, all(&mut connection.fault).await)
        }
    });
    for (answer, fault) in futures::future::join_all(calls).await {
        assert!(answer.starts_with("HTTP/1.1 "), "{answer:?}, {fault:?}");
    }
}

#[tokio::test]
async fn halves_end_alone_and_large_streams_arrive_whole() {
    let daemon = Daemon::start().await;
    let server = echo_server(&daemon, "2").await;
    let client = client(&server.pod).await;
    for number in 0..2 {
        let mut connection = client.forward(8080, number).await.unwrap();
        let bytes: Vec<u8> = (0..8_000_000_u32).map(|byte| byte as u8).collect();
        let (mut outgoing, sent) = (connection.outgoing, Bytes::from(bytes.clone()));
        let sending = tokio::spawn(async move {
            for piece in sent.chunks(100_000) {
                outgoing.send(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            outgoing.finish().await;
        });
        let mut came = Vec::new();
        while let Ok(Some(piece)) = connection.incoming.next().await {
            came.extend_from_slice(&piece);
        }
        assert!(came == bytes, "{} bytes came back", came.len());
        assert_eq!(all(&mut connection.fault).await, "");
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told_and_others_go_on() {
    let daemon = Daemon::start().await;
    let server = echo_server(&daemon, "1").await;
    let client = client(&server.pod).await;
    let mut connection = client.forward(9, 0).await.unwrap();
    let told = all(&mut connection.fault).await;
    assert_eq!(told, "nothing in the pod listens on port 9");
    let mut connection = client.forward(8080, 1).await.unwrap();
    connection.outgoing.send(Bytes::from_static(b"on")).await.unwrap();
    connection.outgoing.finish().await;
    assert_eq!(all(&mut connection.incoming).await, "on");
}

#[tokio::test]
async fn a_client_that_vanishes_closes_its_connections() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe-p2").await;
    let things = ["say", "here", "--", "serve", "127.0.0.1:8080", "1", "--", "say", "closed"];
    let server = run(&daemon, &image, &things).await;
    server.says("listening").await;
    let client = client(&server.pod).await;
    let mut connection = client.forward(8080, 0).await.unwrap();
    connection.outgoing.send(Bytes::from_static(b"x")).await.unwrap();
    connection.incoming.next().await.unwrap();
    drop((connection, client));
    server.exit().await;
}

#[tokio::test]
async fn what_is_no_port_and_no_ready_pod_is_refused() {
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(apart("refused")).await;
    let ask = |port| {
        let request = cri::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![port] };
        let mut client = pod.client.clone();
        async move { client.port_forward(request).await.unwrap_err() }
    };
    for port in [0, -1, 65536] {
        assert_eq!(ask(port).await.code(), tonic::Code::InvalidArgument);
    }
    pod.stop().await;
    assert_eq!(ask(80).await.code(), tonic::Code::FailedPrecondition);
}
