//! Connections: each is carried to the pod and back, direction by direction, until both have
//! ended. A side that is slow holds up the other, a reset on one is a reset on the other.

use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::carry::both_ways;
use super::target::Target;
use crate::retry;

/// After so long without a packet the other side is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Accepts for ever; each connection takes one of `turns`.
pub async fn serve(listener: TcpListener, target: Target, turns: Arc<Semaphore>) {
    let target = Arc::new(target);
    // Nobody closes them.
    while let Ok(turn) = turns.clone().acquire_owned().await {
        let (client, _) = retry::until_ok(|| listener.accept()).await;
        tokio::spawn(carry(client, target.clone(), turn));
    }
}

async fn carry(client: TcpStream, target: Arc<Target>, _turn: OwnedSemaphorePermit) {
    let Some(pod) = target.connect().await else {
        reset(&client);
        return;
    };
    tune(&client);
    tune(&pod);
    if both_ways(&client, &pod).await.is_err() {
        reset(&client);
        reset(&pod);
    }
}

/// What fails here costs speed, or notices a dead peer late.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE);
}

/// Has the kernel send a reset when the connection is closed.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
