//! An ordinary user's pods serve on ports of the host.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::kit::{WAIT, asked, asked_by_udp, free_port, got, listed, local, run, says, try_run};
use crate::support::{self, Daemon, container, sandbox};
use wasmpod::proto::cri;

#[tokio::test]
async fn a_users_pod_is_reached_over_tcp_and_udp_until_it_is_stopped() {
    let daemon = Daemon::start_as_user("").await;
    let (tcp, udp) = (free_port(), free_port());
    let options = [format!("{tcp}:8080"), format!("127.0.0.1:{udp}:8080/udp")];
    let spec = "containers: [{name: tcp, image: ./probe-p2.wasm, args: [serve, '127.0.0.1:8080', \
                '100']}, {name: udp, image: ./probe-p2.wasm, args: [udp-serve, '0.0.0.0:8080', \
                '100']}]";
    run(&daemon, &["-p", &options[0], "-p", &options[1]], "both", spec).await;
    support::eventually_async("both listen", || async {
        let tcp = daemon.try_cli(&["logs", "both", "-c", "tcp"]).await;
        let udp = daemon.try_cli(&["logs", "both", "-c", "udp"]).await;
        (!tcp.stdout.is_empty() && !udp.stdout.is_empty()).then_some(())
    })
    .await;
    assert_eq!(asked(local(tcp), "over tcp").await.unwrap(), "over tcp");
    assert_eq!(
        asked(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], tcp)), "six").await.unwrap(),
        "six"
    );
    assert_eq!(asked_by_udp(local(udp), "over udp").await, "over udp");
    let ports = &listed(&daemon, "both").await["ports"];
    assert_eq!(ports[0]["host_port"], tcp, "{ports}");
    assert_eq!((&ports[1]["host_ip"], &ports[1]["protocol"]), (&"127.0.0.1".into(), &"udp".into()));
    let table = daemon.cli(&["ps"]).await;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let shown = format!("{tcp}->8080/tcp, 127.0.0.1:{udp}->8080/udp");
    assert!(table.contains(&shown), "{table}");
    let inspected = daemon.cli(&["inspect", "both"]).await;
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let mappings = &inspected["sandboxes"][0]["info"]["info"]["portMappings"];
    assert_eq!(mappings[0]["host_port"], tcp, "{inspected}");

    daemon.cli(&["stop", "both"]).await;
    TcpListener::bind(("0.0.0.0", tcp)).expect("the port is free");
    std::net::UdpSocket::bind(("127.0.0.1", udp)).expect("the port is free");
}

#[tokio::test]
async fn two_pods_listen_on_the_same_loopback_port_each_behind_a_host_port_of_its_file() {
    let daemon = Daemon::start_as_user("").await;
    let ports = [free_port(), free_port()];
    for (port, name) in ports.iter().zip(["one", "two"]) {
        let spec = format!(
            "containers: [{{name: a, image: ./probe-p2.wasm, args: [serve, '127.0.0.1:8080', '9'], \
             ports: [{{containerPort: 8080, hostPort: {port}, hostIP: 127.0.0.1}}]}}]"
        );
        run(&daemon, &[], name, &spec).await;
        says(&daemon, name, "listening 127.0.0.1:8080").await;
    }
    for port in ports {
        assert_eq!(asked(local(port), "x").await.unwrap(), "x");
    }
    // Neither is the other's, nor the host's.
    let exec = daemon.cli(&["exec", "one", "--", "/probe-p2.wasm", "ask", "127.0.0.1:8080", "own"]);
    assert!(String::from_utf8_lossy(&exec.await.stdout).contains("ok own"));
    daemon.cli(&["stop", "one"]).await;
    let refused = asked(local(ports[0]), "x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(asked(local(ports[1]), "still").await.unwrap(), "still");
}

#[tokio::test]
async fn a_service_is_reached_on_a_free_port_that_is_told() {
    let daemon = Daemon::start_as_user("").await;
    let spec = "containers: [{name: web, image: ./web.wasm}]";
    let output = run(&daemon, &["-p", "127.0.0.1::8080"], "web", spec).await;
    let told = String::from_utf8(output.stderr).unwrap();
    let port = support::eventually_async("the pod is ready", || async {
        listed(&daemon, "web").await["ports"][0]["host_port"].as_u64()
    })
    .await;
    assert_eq!(told, format!("wasmpod: ports of pod web: 127.0.0.1:{port}->8080/tcp\n"));
    let at = local(u16::try_from(port).unwrap());
    let answer = got(at, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let events = daemon.cli(&["ps"]).await;
    assert!(
        String::from_utf8_lossy(&events.stdout).contains(&format!("127.0.0.1:{port}->8080/tcp"))
    );
}

#[tokio::test]
async fn a_connection_goes_on_while_the_daemon_is_killed_and_comes_again() {
    let mut daemon = Daemon::start_as_user("").await;
    let port = free_port();
    let spec =
        "containers: [{name: a, image: ./probe-p2.wasm, args: [serve, '0.0.0.0:8080', '9']}]";
    run(&daemon, &["-p", &format!("{port}:8080")], "lasting", spec).await;
    says(&daemon, "lasting", "listening").await;
    let mut stream = TcpStream::connect_timeout(&local(port), WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let echo = |stream: &mut TcpStream, text: &[u8]| {
        stream.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text);
    };
    echo(&mut stream, b"before");
    daemon.kill();
    echo(&mut stream, b"meanwhile");
    daemon.restart().await;
    echo(&mut stream, b"after");
    drop(stream);
    assert_eq!(asked(local(port), "new").await.unwrap(), "new");
    // The port is still the pod's, and goes with it.
    let output = try_run(
        &daemon,
        &[],
        "second",
        &format!(
            "restartPolicy: Never, containers: [{{name: a, image: ./probe-p2.wasm, ports: \
         [{{containerPort: 1, hostPort: {port}}}]}}]"
        ),
    )
    .await;
    assert!(output.status.success());
    daemon.cli(&["rm", "-f", "second"]).await;
    daemon.cli(&["rm", "-f", "lasting"]).await;
    TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
}

#[tokio::test]
async fn a_pod_knows_its_machines_address() {
    let daemon = Daemon::start_as_user("").await;
    let field = |name: &str| {
        let path = format!("fieldRef: {{fieldPath: status.{name}}}");
        format!("{{name: {name}, valueFrom: {{{path}}}}}")
    };
    let fields = ["hostIP", "hostIPs", "podIP"].map(field).join(", ");
    let spec = format!(
        "restartPolicy: Never, hostNetwork: true, containers: [{{name: a, image: ./probe.wasm, \
         args: [dump], env: [{fields}]}}]"
    );
    run(&daemon, &[], "named", &spec).await;
    let told = says(&daemon, "named", "podIP=").await;
    let value = |name: &str| {
        let line = told.lines().find_map(|line| line.split_once(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name}: {told}")).1.trim().to_owned()
    };
    value("hostIP").parse::<std::net::IpAddr>().expect("an address");
    assert!(value("hostIPs").starts_with(&value("hostIP")), "{told}");
    assert_eq!(value("podIP"), value("hostIP"), "on the host's network they are one");
}

#[tokio::test]
async fn a_port_in_use_is_the_sandboxs_error_and_the_kubelets_pods_have_ports_too() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe-p2").await;
    let port = free_port();
    let mapped = |name: &str, host_ip: &str| {
        let mut config = sandbox(name);
        let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        context.namespace_options = Some(cri::NamespaceOption::default());
        config.port_mappings = vec![cri::PortMapping {
            protocol: cri::Protocol::Tcp.into(),
            container_port: 8080,
            host_port: i32::from(port),
            host_ip: host_ip.to_owned(),
        }];
        config
    };
    let mut config = container("a", &image);
    config.args = ["serve", "0.0.0.0:8080", "9"].map(str::to_owned).to_vec();
    let pod = daemon.run_pod(mapped("first", "")).await;
    pod.run(config).await.says("listening").await;
    assert_eq!(asked(local(port), "x").await.unwrap(), "x");
    let error =
        daemon.try_run_pod(mapped("second", "127.0.0.1"), "wasm-isolated").await.unwrap_err();
    let expected = format!("host port 127.0.0.1:{port}/tcp is in use");
    assert!(error.message().starts_with(&expected), "{}", error.message());
    assert_eq!(error.message().lines().count(), 1);
    let error = daemon.try_run_pod(mapped("third", "here"), "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("host_ip \"here\""), "{}", error.message());
    pod.stop().await;
    daemon.run_pod(mapped("fourth", "127.0.0.1")).await;
}
