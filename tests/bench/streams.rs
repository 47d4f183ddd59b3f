//! Bytes of an exec's output and through forwarded ports, as a client gets them over SPDY.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

use bytes::Bytes;
use wasmpod::cri::streaming::client::{Client, Forwarded, Inflow};
use wasmpod::proto::cri;
use wasmpod::runtime::Wanted;

use crate::support::{Container, Daemon, Pod, container, guest, sandbox};
use crate::table::Table;

const ROUNDS: usize = 3;

/// MiB that a program writes in one round.
const OUTPUT: usize = 1024;

/// Connections through one client.
const STREAMS: usize = 64;

/// Bytes of each connection in one round.
const EACH: usize = 48 << 20;

/// Bytes of one write.
const PIECE: usize = 256 << 10;

pub async fn measure(table: &mut Table) {
    let configuration = format!("[exec]\ntoolbox = {:?}\n", guest("toolbox"));
    let daemon = Daemon::start_with(&configuration).await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("streams")).await;
    let mut config = container("main", &image);
    config.args = vec!["idle".to_owned()];
    let main = pod.run(config).await;
    output(table, &main).await;
    forwarded(table, &pod).await;
}

async fn output(table: &mut Table, main: &Container) {
    let count = crate::scaled(OUTPUT);
    let script = format!("dd if=/dev/zero bs=1M count={count} 2>/dev/null");
    let (mut bytes, begun) = (0, Instant::now());
    for _ in 0..ROUNDS {
        let wanted = Wanted { stdout: true, ..Wanted::default() };
        let request = cri::ExecRequest {
            container_id: main.id.clone(),
            cmd: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            stdout: true,
            ..Default::default()
        };
        let url = main.pod.client.clone().exec(request).await.unwrap().into_inner().url;
        let mut remote = Client::remote(&url, wanted).await.unwrap();
        bytes += taken(remote.stdout.as_mut().unwrap()).await;
    }
    assert_eq!(bytes, (ROUNDS * count) << 20);
    table.at_least("an exec's standard output", megabytes(bytes, begun), 300.0, "MB/s");
}

async fn taken(inflow: &mut Inflow) -> usize {
    let mut bytes = 0;
    while let Some(piece) = inflow.next().await.unwrap() {
        bytes += piece.len();
    }
    bytes
}

fn megabytes(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// The pod has the host's network, so what is measured is the forwarding and no guest.
async fn forwarded(table: &mut Table, pod: &Pod) {
    let each = crate::scaled(EACH);
    let from = port(move |mut stream| {
        let piece = vec![7; PIECE];
        let mut left = each;
        while left > 0 {
            left -= stream.write(&piece[..left.min(PIECE)]).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let to = port(move |mut stream| {
        let (mut piece, mut left) = (vec![0; PIECE], each);
        while left > 0 {
            left -= stream.read(&mut piece).unwrap();
        }
        stream.write_all(b"all").unwrap();
    });
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let came = connected(pod, from, async |mut one: Forwarded| {
            one.outgoing.finish().await;
            taken(&mut one.incoming).await
        });
        assert_eq!(came.await, STREAMS * each);
    }
    let rate = megabytes(ROUNDS * STREAMS * each, begun);
    table.at_least(format!("port-forward, {STREAMS} streams from the pod"), rate, 1000.0, "MB/s");

    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let piece = Bytes::from(vec![7; PIECE]);
        let sent = connected(pod, to, async |mut one: Forwarded| {
            let mut left = each;
            while left > 0 {
                let next = piece.slice(..left.min(PIECE));
                left -= next.len();
                one.outgoing.send(next).await.unwrap();
            }
            taken(&mut one.incoming).await
        });
        assert_eq!(sent.await, STREAMS * "all".len());
    }
    let rate = megabytes(ROUNDS * STREAMS * each, begun);
    table.at_least(format!("port-forward, {STREAMS} streams into the pod"), rate, 1000.0, "MB/s");
}

/// A port of this machine whose connections are served by a thread each.
fn port(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (serve.clone(), stream.unwrap());
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// The sum of what all connections through one client give.
async fn connected(pod: &Pod, port: u16, each: impl AsyncFn(Forwarded) -> usize) -> usize {
    let request = cri::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![] };
    let url = pod.client.clone().port_forward(request).await.unwrap().into_inner().url;
    let client = Client::ports(&url).await.unwrap();
    let all = (0..STREAMS as u64).map(async |number| {
        let one = client.forward(port, number).await.unwrap();
        each(one).await
    });
    futures::future::join_all(all).await.into_iter().sum()
}
