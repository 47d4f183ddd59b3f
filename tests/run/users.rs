//! Who a pod file's containers are, and whose their volumes are.

use super::kit::{pod, quick_daemon, run, start};
use crate::support::root_for;

const CONFIG: &str = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {k: v}}\n";

#[tokio::test]
async fn a_pod_s_ids_and_fs_group_reach_its_files() {
    if !root_for("other users") {
        return;
    }
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: \
                3000, runAsNonRoot: true}, volumes: [{name: e, emptyDir: {}}, {name: m, emptyDir: \
                {medium: Memory}}, {name: c, configMap: {name: c, defaultMode: 0400}}], containers: \
                [{name: a, image: PROBE, args: [write, /e/x, y, --, write, /m/x, y, --, read, /c/k, \
                --, write, /etc/x, y], volumeMounts: [{name: e, mountPath: /e}, {name: m, mountPath: \
                /m}, {name: c, mountPath: /c}]}]";
    let ran = run(&daemon, &(pod("users", spec) + CONFIG)).await;
    ran.ended_with(0);
    ran.wrote(&["write /e/x: ok", "write /m/x: ok", "read /c/k: ok v", "write /etc/x: ACCES"]);
}

#[tokio::test]
async fn run_as_non_root_keeps_an_image_of_root_from_running() {
    let daemon = quick_daemon().await;
    let spec = "securityContext: {runAsNonRoot: true}, containers: [{name: a, image: PROBE}]";
    let running = start(&daemon, &pod("root", spec));
    running.until_told("container has runAsNonRoot and image will run as root (pod: ").await;
    running.signal(rustix::process::Signal::INT);
    running.ended().await;
}
