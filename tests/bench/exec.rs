//! ExecSync of the toolbox's programs, from the call to the answer.

use std::time::Instant;

use crate::support::{Daemon, container, guest, sandbox};
use crate::table::{Table, Times};

const EXECS: usize = 300;
const WARM_UP: usize = 20;

pub async fn measure(table: &mut Table) {
    let configuration = format!("[exec]\ntoolbox = {:?}\n", guest("toolbox"));
    let daemon = Daemon::start_with(&configuration).await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("exec")).await;
    let mut config = container("main", &image);
    config.args = vec!["idle".to_owned()];
    let main = pod.run(config).await;
    for (what, argv, most) in [
        ("true", vec!["true"], Some(2.0)),
        ("the container's own program, a module", vec!["probe", "exit", "0"], None),
        ("sh -c true", vec!["sh", "-c", "true"], None),
        ("sh -c 'echo | cat', a process", vec!["sh", "-c", "echo | cat"], None),
    ] {
        let mut times = Times::default();
        for round in 0..WARM_UP + crate::scaled(EXECS) {
            let begun = Instant::now();
            let ran = main.exec(&argv, 0).await.unwrap();
            assert_eq!(ran.exit_code, 0);
            if round >= WARM_UP {
                times.add(begun.elapsed());
            }
        }
        match most {
            Some(most) => {
                let p50 = times.percentile(50);
                table.at_most(format!("ExecSync of {what}, p50"), p50, most, "ms");
            }
            None => table.add(format!("ExecSync of {what}"), times.summary()),
        }
    }
}
