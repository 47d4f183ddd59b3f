//! `wasmpod port-forward`: ports of this machine that lead into a pod.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use clap::Args;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use super::client::Client;
use super::objects::{Found, Snapshot};
use super::{Global, block_on};
use crate::cri::client::RealmScope;
use crate::cri::streaming::client::{self as streaming, Forwarded, Inflow};
use crate::proto::cri;
use crate::retry;

/// Listen on ports of this machine and carry their connections into a pod, until Ctrl-C.
#[derive(Debug, Args)]
pub struct PortForward {
    /// Address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Pod (name, namespace/name or uid).
    #[arg(value_name = "POD")]
    target: String,
    /// The pod's port, with a local one in front where they differ; local port 0 is any free one.
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    ports: Vec<Ports>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    local: u16,
    pod: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, pod) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u16>().ok();
        // ":80" is kubectl's way to leave the local port open.
        let local = if local.is_empty() { Some(0) } else { number(local) };
        match (local, number(pod).filter(|&pod| pod != 0)) {
            (Some(local), Some(pod)) => Ok(Self { local, pod }),
            _ => Err(format!("{text:?} is no [LOCAL:]PORT, such as 8080:80")),
        }
    }
}

impl PortForward {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            let snapshot = Snapshot::fetch(&client).await?;
            let pod = match snapshot.find(&self.target)? {
                Found::Pod(pod) | Found::Container(pod, _) => pod,
            };
            let sandbox = pod.sandboxes.first();
            let sandbox = sandbox.with_context(|| format!("pod {} does not run", pod.name))?;
            let request = cri::PortForwardRequest {
                pod_sandbox_id: sandbox.id.clone(),
                port: self.ports.iter().map(|ports| ports.pod.into()).collect(),
            };
            let mut runtime = client.in_realm(RealmScope::All).runtime();
            let url = runtime.port_forward(request).await?.into_inner().url;
            let link = Arc::new(streaming::Client::ports(&url).await?);
            let numbers = Arc::new(AtomicU64::new(0));
            for ports in &self.ports {
                let address = SocketAddr::new(self.address, ports.local);
                let listener = TcpListener::bind(address)
                    .await
                    .with_context(|| format!("listening on {address}"))?;
                println!("Forwarding from {} -> {}", listener.local_addr()?, ports.pod);
                tokio::spawn(listen(listener, (link.clone(), ports.pod), numbers.clone()));
            }
            link.gone().await;
            bail!("the daemon has closed the connection: the pod or the daemon has gone")
        })
    }
}

async fn listen(
    listener: TcpListener,
    (link, port): (Arc<streaming::Client>, u16),
    numbers: Arc<AtomicU64>,
) {
    loop {
        let (stream, _) = retry::until_ok(|| listener.accept()).await;
        let (link, number) = (link.clone(), numbers.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(async move {
            match link.forward(port, number).await {
                Ok(forwarded) => carry(stream, forwarded).await,
                Err(error) => eprintln!("wasmpod: {error}"),
            }
        });
    }
}

async fn carry(stream: TcpStream, forwarded: Forwarded) {
    let Forwarded { incoming, outgoing, mut fault } = forwarded;
    let (read, write) = stream.into_split();
    let sending = tokio::spawn(outgoing.carry(read));
    receive(incoming, write).await;
    sending.abort();
    if let Ok(Some(sentence)) = fault.next().await {
        eprintln!("wasmpod: {}", String::from_utf8_lossy(&sentence));
    }
}

async fn receive(mut from: Inflow, mut to: OwnedWriteHalf) {
    while let Ok(Some(bytes)) = from.next().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        let ports = |local, pod| Ok(Ports { local, pod });
        assert_eq!("80".parse::<Ports>(), ports(80, 80));
        assert_eq!("8080:80".parse::<Ports>(), ports(8080, 80));
        assert_eq!(":80".parse::<Ports>(), ports(0, 80));
        for text in ["0", "80:0", "a", "1:2:3", "70000", ""] {
            assert!(text.parse::<Ports>().unwrap_err().contains("8080:80"), "{text}");
        }
    }
}
