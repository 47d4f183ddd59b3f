//! What a pod's containers find in their environment and files.

use super::kit::{pod, quick_daemon, run};

const OBJECTS: &str = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {k: v, \
                       host: db, long.conf: 'a b'}}\n---\n{apiVersion: v1, kind: Secret, metadata: \
                       {name: s}, stringData: {password: hush}}\n";

#[tokio::test]
async fn environment_and_arguments_are_put_together_as_by_a_kubelet() {
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, hostname: box, containers: [{name: a, image: PROBE, \
                workingDir: /tmp, env: [{name: WHO, value: world}, {name: HI, value: \
                'hello $(WHO) $$(WHO) $(NONE)'}, {name: PASS, valueFrom: {secretKeyRef: {name: s, \
                key: password}}}, {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, \
                {name: GONE, valueFrom: {configMapKeyRef: {name: no, key: no, optional: true}}}], \
                envFrom: [{prefix: C_, configMapRef: {name: c}}], args: [dump, --, say, '$(HI)!']}]";
    let ran = run(&daemon, &(pod("env", spec) + OBJECTS)).await;
    ran.ended_with(0);
    let output = ran.output();
    for text in [
        "HI=hello world $(WHO) $(NONE)",
        "PASS=hush",
        "ME=env",
        "C_k=v",
        "C_host=db",
        "/tmp",
        "box",
    ] {
        assert!(output.contains(text), "{text:?} is missing:\n{output}");
    }
    assert!(!output.contains("GONE"), "{output}");
    ran.wrote(&["hello world $(WHO) $(NONE)!"]);
}

#[tokio::test]
async fn volumes_are_laid_out_as_by_a_kubelet() {
    let daemon = quick_daemon().await;
    std::fs::create_dir(daemon.path().join("shared")).unwrap();
    std::fs::write(daemon.path().join("shared/in"), "from the host").unwrap();
    let spec = "restartPolicy: Never, volumes: [{name: c, configMap: {name: c}}, {name: items, \
                configMap: {name: c, items: [{key: k, path: deep/key, mode: 0400}]}}, {name: s, \
                secret: {secretName: s}}, {name: none, secret: {secretName: none, optional: true}}, \
                {name: h, hostPath: {path: shared, type: Directory}}, {name: e, emptyDir: {}}], \
                containers: [{name: a, image: PROBE, args: [read, /c/k, --, readlink, /c/k, --, ls, \
                /items/deep, --, read, /items/deep/key, --, read, /s/password, --, ls, /none, --, \
                read, /h/in, --, write, /h/out, back, --, write, /ro/in, x, --, read, /one.conf, --, \
                write, /e/x, y, --, ls, /sub, --, write, /c/k, w], volumeMounts: [{name: c, \
                mountPath: /c, readOnly: true}, {name: items, mountPath: /items}, {name: s, \
                mountPath: /s}, {name: none, mountPath: /none}, {name: h, mountPath: /h}, {name: h, \
                mountPath: /ro, readOnly: true}, {name: c, mountPath: /one.conf, subPath: \
                long.conf}, {name: e, mountPath: /e}, {name: e, mountPath: /sub, subPath: made/here}]}]";
    let ran = run(&daemon, &(pod("volumes", spec) + OBJECTS)).await;
    ran.ended_with(0);
    ran.wrote(&[
        "read /c/k: ok v",
        "readlink /c/k: ok ..data/k",
        "ls /items/deep: ok key",
        "read /items/deep/key: ok v",
        "read /s/password: ok hush",
        "read /h/in: ok from the host",
        "write /h/out: ok",
        "write /ro/in: ROFS",
        "read /one.conf: ok a b",
        "write /e/x: ok",
        "write /c/k: ROFS",
    ]);
    assert_eq!(std::fs::read(daemon.path().join("shared/out")).unwrap(), b"back");
}

#[tokio::test]
async fn hosts_and_last_words_are_files_of_their_own() {
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, hostAliases: [{ip: 10.1.2.3, hostnames: [db, db.local]}], \
                containers: [{name: a, image: PROBE, args: [read, /etc/hosts, --, write, \
                /dev/termination-log, 'that was it', --, exit, '3']}, {name: b, image: PROBE, \
                terminationMessagePolicy: FallbackToLogsOnError, args: [say, 'in the log', --, exit, \
                '4']}]";
    let ran = run(&daemon, &pod("words", spec)).await;
    assert!([3, 4].contains(&ran.code()), "{}", ran.events());
    let output = ran.output();
    assert!(output.contains("Kubernetes-managed hosts file"), "{output}");
    assert!(output.contains("10.1.2.3\tdb\tdb.local"), "{output}");
    let events = ran.events();
    assert!(events.contains("container a: Container exited with code 3: that was it"), "{events}");
    assert!(events.contains("container b: Container exited with code 4: in the log"), "{events}");
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_is_told_of() {
    let daemon = quick_daemon().await;
    let spec = "containers: [{name: a, image: PROBE, volumeMounts: [{name: h, mountPath: /h}]}], \
                volumes: [{name: h, hostPath: {path: not-there, type: Directory}}]";
    let running = super::kit::start(&daemon, &pod("unmounted", spec));
    running.until_told("Warning FailedMount pod: MountVolume.SetUp failed for volume \"h\"").await;
    std::fs::create_dir(daemon.path().join("not-there")).unwrap();
    running.until_told("Normal Started container a").await;
    running.signal(rustix::process::Signal::INT);
    running.ended().await;
}
