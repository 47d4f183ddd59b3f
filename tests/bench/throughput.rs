//! Pods created, run to their end and removed in a second, by 8 clients at once.

use std::time::Instant;

use wasmpod::proto::cri::NamespaceMode;

use crate::support::{Daemon, container};
use crate::table::Table;
use crate::target::Target;

const CLIENTS: usize = 8;
const PODS_EACH: usize = 250;

pub async fn measure(table: &mut Table) {
    let daemon = Daemon::start().await;
    let image = daemon.import("hello").await;
    let own = Target::own(&daemon);
    let rate = pods_per_second(&own, &image, crate::scaled(PODS_EACH)).await;
    table.at_least("pods created, run, removed, 8 clients", rate, 400.0, "pods/s");
    drop(daemon);
    if let Some((peer, image)) = Target::peer().await {
        let rate = pods_per_second(&peer, &image, crate::scaled(10)).await;
        table.add(format!("pods, 8 clients, {}", peer.name), format!("{rate:.1} pods/s"));
    }
}

async fn pods_per_second(target: &Target, image: &str, each: usize) -> f64 {
    // The first shim starts, and the module is loaded, before the clock does.
    one(&mut target.another(), image).await;
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut target, image) = (target.another(), image.to_owned());
            tokio::spawn(async move {
                for _ in 0..each {
                    one(&mut target, &image).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    (CLIENTS * each) as f64 / begun.elapsed().as_secs_f64()
}

async fn one(target: &mut Target, image: &str) {
    let sandbox = target.sandbox(NamespaceMode::Node);
    let pod = target.run(&sandbox).await;
    let id = target.create(&pod, &container("one", image), &sandbox).await;
    target.start(&id).await;
    assert_eq!(target.wait(&id).await.exit_code, 0);
    target.remove(&pod).await;
}
