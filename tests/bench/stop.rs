//! How fast StopContainer ends a guest that turns in circles and calls nothing.

use std::time::Instant;

use wasmpod::proto::cri::{self, NamespaceMode};

use crate::support::{Daemon, container};
use crate::table::{Table, Times};
use crate::target::Target;

const ROUNDS: usize = 50;

pub async fn measure(table: &mut Table) {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut target = Target::own(&daemon);
    let mut times = Times::default();
    for _ in 0..crate::scaled(ROUNDS) {
        let sandbox = target.sandbox(NamespaceMode::Node);
        let pod = target.run(&sandbox).await;
        let mut config = container("spinner", &image);
        config.args = vec!["spin".to_owned()];
        let id = target.create(&pod, &config, &sandbox).await;
        target.start(&id).await;
        let begun = Instant::now();
        let request = cri::StopContainerRequest { container_id: id, timeout: 10 };
        target.client.stop_container(request).await.unwrap();
        times.add(begun.elapsed());
        target.remove(&pod).await;
    }
    table.at_most("StopContainer of a spinner, p50", times.percentile(50), 5.0, "ms");
    table.add("StopContainer of a spinner, p99", format!("{:.2} ms", times.percentile(99)));
}
