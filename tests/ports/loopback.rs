//! Pods without network namespaces: each has a loopback address of its own and sees 127.0.0.1.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;

use super::kit::{ask, asked, asked_by_udp, free_port, got, local, run, says, write};
use crate::support::{self, Daemon};

async fn daemon() -> Daemon {
    Daemon::start_as_user("[network]\nisolation = \"virtual\"\n").await
}

/// What a probe of the pod's container prints in an exec.
async fn probe(daemon: &Daemon, pod: &str, words: &[&str]) -> String {
    let words = [&["exec", pod, "--", "/probe-p2.wasm"], words].concat();
    let output = daemon.try_cli(&words).await;
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn two_pods_listen_on_one_port_and_reach_neither_each_other_nor_the_hosts_loopback() {
    let daemon = daemon().await;
    let ports = [free_port(), free_port()];
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    // The second pod's port on the host is the very one that it listens on.
    for ((port, name), listens) in ports.iter().zip(["one", "two"]).zip([ports[1], ports[1]]) {
        let spec = format!(
            "containers: [{{name: a, image: ./probe-p2.wasm, args: [serve, '0.0.0.0:{listens}', \
             '99']}}]"
        );
        run(&daemon, &["-p", &format!("{port}:{listens}")], name, &spec).await;
        let told = says(&daemon, name, "listening").await;
        assert_eq!(told, format!("listening 127.0.0.1:{listens}\n"));
    }
    for port in ports {
        assert_eq!(asked(local(port), "x").await.unwrap(), "x");
    }
    let inside = ports[1];
    for name in ["localhost", "127.0.0.1", "127.200.3.4"] {
        let told = probe(&daemon, "one", &["ask", &format!("{name}:{inside}"), "own"]).await;
        assert!(told.contains("ok own"), "{name}: {told}");
    }
    // The first pod's server is asked, and not the second's behind the host's port.
    let at = host.local_addr().unwrap().to_string();
    let told = probe(&daemon, "one", &["ask", &at, "host"]).await;
    assert!(told.contains("CONNREFUSED"), "{told}");
    let told = probe(&daemon, "one", &["serve", &format!("127.0.0.1:{inside}"), "1"]).await;
    assert!(told.contains("ADDRINUSE"), "{told}");
    let told = probe(&daemon, "one", &["ask", "[::1]:80", "x"]).await;
    assert!(told.contains("CONNREFUSED"), "{told}");
    daemon.cli(&["stop", "one"]).await;
    let refused = asked(local(ports[0]), "x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(asked(local(ports[1]), "two").await.unwrap(), "two");
}

#[tokio::test]
async fn datagrams_go_within_the_pod_and_by_its_port_on_the_host() {
    let daemon = daemon().await;
    let port = free_port();
    let spec = format!(
        "containers: [{{name: a, image: ./probe-p2.wasm, args: [udp-serve, '0.0.0.0:{port}', '99']}}]"
    );
    run(&daemon, &["-p", &format!("{port}:{port}/udp")], "udp", &spec).await;
    says(&daemon, "udp", &format!("listening 127.0.0.1:{port}")).await;
    assert_eq!(asked_by_udp(local(port), "from the host").await, "from the host");
    let own = probe(&daemon, "udp", &["udp-ask", &format!("127.0.0.1:{port}"), "own"]).await;
    assert!(own.contains("ok own"), "{own}");
    // What the host has on its loopback hears nothing of a pod.
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let at = host.local_addr().unwrap().to_string();
    daemon
        .try_cli(&["exec", "--timeout", "1", "udp", "--", "/probe-p2.wasm", "udp-ask", &at, "x"])
        .await;
    assert_eq!(host.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// What `wasmpod port-forward` to a port of the pod brings for "x"; nothing where it leads nowhere.
async fn forwarded(daemon: &Daemon, pod: &str, port: u16) -> String {
    let mut command = daemon.command(&["port-forward", pod, &format!("0:{port}")]);
    let call = move || {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("127.0.0.1:")).unwrap();
        let (_, rest) = line.split_once("127.0.0.1:").unwrap();
        let local: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let answer = ask(super::kit::local(local.parse().unwrap()), b"x").unwrap_or_default();
        child.kill().unwrap();
        child.wait().unwrap();
        String::from_utf8(answer).unwrap()
    };
    tokio::task::spawn_blocking(call).await.unwrap()
}

#[tokio::test]
async fn forwarded_ports_lead_to_the_pods_servers_and_never_to_the_hosts() {
    let daemon = daemon().await;
    let spec =
        "containers: [{name: a, image: ./probe-p2.wasm, args: [serve, '0.0.0.0:8080', '9']}]";
    run(&daemon, &[], "forwarded", spec).await;
    says(&daemon, "forwarded", "listening").await;
    assert_eq!(forwarded(&daemon, "forwarded", 8080).await, "x");
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let port = host.local_addr().unwrap().port();
    assert_eq!(forwarded(&daemon, "forwarded", port).await, "");
    assert_eq!(host.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn annotations_bound_what_sockets_reach_by_the_addresses_that_guests_name() {
    let daemon = daemon().await;
    let spec =
        "containers: [{name: a, image: ./probe-p2.wasm, args: [serve, '0.0.0.0:8080', '9']}]";
    let file = write(&daemon, "bounded", spec);
    let text = std::fs::read_to_string(&file).unwrap();
    let notes = "name: bounded, annotations: {wasmpod.dev/bind: 'tcp:8080', wasmpod.dev/connect: \
                 'tcp:127.0.0.1:8080'}";
    std::fs::write(&file, text.replace("name: bounded", notes)).unwrap();
    daemon.cli(&["run", "-d", &file.display().to_string()]).await;
    says(&daemon, "bounded", "listening 127.0.0.1:8080").await;
    let words = ["ask", "127.0.0.1:8080", "in", "--", "serve", "0.0.0.0:9090", "1", "--"];
    let words = [&words[..], &["udp-serve", "0.0.0.0:8080", "1"]].concat();
    let told = probe(&daemon, "bounded", &words).await;
    assert!(told.contains("ok in") && told.matches(": ACCES").count() == 2, "{told}");
}

#[tokio::test]
async fn a_server_of_ipv6_alone_is_reached_as_well() {
    let daemon = daemon().await;
    let (tcp, udp) = (free_port(), free_port());
    let spec = "containers: [{name: a, image: ./probe-p2.wasm, args: [serve, '[::]:8080', '9']}, \
                {name: b, image: ./probe-p2.wasm, args: [udp-serve, '[::1]:8080', '9']}]";
    let options = [format!("{tcp}:8080"), format!("{udp}:8080/udp")];
    run(&daemon, &["-p", &options[0], "-p", &options[1]], "six", spec).await;
    support::eventually_async("both listen", || async {
        let tcp = daemon.try_cli(&["logs", "six", "-c", "a"]).await;
        let udp = daemon.try_cli(&["logs", "six", "-c", "b"]).await;
        let both = [tcp.stdout, udp.stdout];
        both.iter().all(|told| told.starts_with(b"listening [::1]:8080")).then_some(())
    })
    .await;
    assert_eq!(asked(local(tcp), "by IPv4").await.unwrap(), "by IPv4");
    assert_eq!(asked_by_udp(local(udp), "by IPv4").await, "by IPv4");
    let words =
        ["exec", "six", "-c", "a", "--", "/probe-p2.wasm", "ask", "[::1]:8080", "own", "--"];
    let told = daemon.try_cli(&[&words[..], &["udp-ask", "[::1]:8080", "datagram"]].concat()).await;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("ok own") && told.contains("ok datagram"), "{told}");
}

#[tokio::test]
async fn components_of_0_3_services_and_modules_listen_there_too() {
    let daemon = daemon().await;
    let talk = free_port();
    let spec = format!(
        "restartPolicy: Never, containers: [{{name: a, image: ./p3-command.wasm, args: [talk, \
         '{talk}']}}]"
    );
    // The pod's own port on the host takes the place on every address, the pod's included.
    run(
        &daemon,
        &["-p", &format!("{talk}:{talk}"), "-p", &format!("{talk}:{talk}/udp")],
        "p3",
        &spec,
    )
    .await;
    let told = says(&daemon, "p3", "udp").await;
    let own = format!("127.0.0.1:{talk}");
    assert_eq!(
        told,
        format!(
            "tcp listens at {own}, again Err(ErrorCode::AddressInUse), reached {own}, accepted at \
             {own} from 127.0.0.1, unbound at 127.0.0.1\n\
             udp is at {own}, question answered by {own}, question answered by {own}\n"
        )
    );

    let port = free_port();
    for (name, image) in [("web", "web"), ("web-p3", "web-p3")] {
        let spec = format!(
            "containers: [{{name: a, image: ./{image}.wasm, env: [{{name: PORT, value: '{port}'}}]}}]"
        );
        run(&daemon, &["-p", &format!("{port}:{port}")], name, &spec).await;
        let answer = got(local(port), "/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        if name == "web" {
            // Its own service, by its own loopback.
            let answer = got(local(port), &format!("/fetch?http://localhost:{port}/")).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        daemon.cli(&["rm", "-f", name]).await;
    }

    let spec = "containers: [{name: a, image: ./probe.wasm, args: [serve-fd, '3', '9']}]";
    let file = write(&daemon, "module", spec);
    let text = std::fs::read_to_string(&file).unwrap();
    let note = format!("name: module, annotations: {{wasmpod.dev/listen: 'tcp:{port}'}}");
    std::fs::write(&file, text.replace("name: module", &note)).unwrap();
    let file = file.display().to_string();
    daemon.cli(&["run", "-d", "-p", &format!("{port}:{port}"), &file]).await;
    says(&daemon, "module", "listening on 3").await;
    assert_eq!(asked(local(port), "p1").await.unwrap(), "p1");
}
