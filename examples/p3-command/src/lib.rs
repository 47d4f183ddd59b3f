//! A command of WASI 0.3. Without arguments it tells where it runs; with paths it copies files
//! and lists folders to standard output, all through streams; with `hoard N` it takes as many
//! sockets as it may have; with `flood N` it accepts connections and holds as many as it may; with
//! `talk PORT` it talks with itself over TCP and UDP.

mod talk;

use std::collections::VecDeque;
use std::pin::pin;

use futures::future::{Either, select};
use wasip3::cli::{environment, stderr, stdout};
use wasip3::clocks::monotonic_clock;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};
use wasip3::wit_bindgen::StreamReader;
use wasip3::wit_stream;

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let paths = arguments.get(1..).unwrap_or_default();
        if paths.is_empty() {
            let directory = environment::get_initial_cwd().unwrap_or_default();
            return say(format!("hello from WASI 0.3, in {directory}\n")).await;
        }
        if let [what, connections] = paths
            && what == "hoard"
        {
            return hoard(connections.parse().map_err(drop)?).await;
        }
        if let [what, connections] = paths
            && what == "flood"
        {
            return flood(connections.parse().map_err(drop)?).await;
        }
        if let [what, port] = paths
            && what == "talk"
        {
            let port = port.parse().map_err(drop)?;
            for told in [talk::tcp(port).await, talk::udp(port).await] {
                say(told.unwrap_or_else(|error| format!("failed: {error:?}\n"))).await?;
            }
            return Ok(());
        }
        for path in paths {
            if let Err(error) = show(path).await {
                let (mut to, from) = wit_stream::new();
                let text = format!("{path}: {error:?}\n").into_bytes();
                let _ = futures::join!(stderr_end(stderr::write_via_stream(from)), async move {
                    to.write_all(text).await
                });
                return Err(());
            }
        }
        Ok(())
    }
}

/// Listens on a port of its own, and tells which.
async fn listen() -> Result<(TcpSocket, StreamReader<TcpSocket>), ()> {
    let listener = TcpSocket::create(IpAddressFamily::Ipv4).map_err(drop)?;
    let here = Ipv4SocketAddress { port: 0, address: (127, 0, 0, 1) };
    listener.bind(IpSocketAddress::Ipv4(here)).map_err(drop)?;
    let incoming = listener.listen().map_err(drop)?;
    if let Ok(IpSocketAddress::Ipv4(at)) = listener.get_local_address() {
        say(format!("listening {}\n", at.port)).await?;
    }
    Ok((listener, incoming))
}

/// How long a connection is waited for before one that is held is let go, in nanoseconds.
const PAUSE: u64 = 300_000_000;

/// Accepts so many connections and holds them; while none comes, it lets one go. Tells how many
/// it held at once.
async fn flood(connections: usize) -> Result<(), ()> {
    let (_listener, mut incoming) = listen().await?;
    let (mut held, mut most) = (VecDeque::new(), 0);
    for _ in 0..connections {
        let mut next = pin!(incoming.next());
        let connection = loop {
            match select(next.as_mut(), pin!(monotonic_clock::wait_for(PAUSE))).await {
                Either::Left((connection, _)) => break connection.ok_or(())?,
                Either::Right(_) => drop(held.pop_front()),
            }
        };
        held.push_back(connection);
        most = most.max(held.len());
    }
    say(format!("flooded, held {most}\n")).await
}

/// Accepts so many connections, then makes as many sockets as it may have, and tells.
async fn hoard(connections: usize) -> Result<(), ()> {
    let (_listener, mut incoming) = listen().await?;
    let mut held = Vec::new();
    while held.len() < connections {
        held.push(incoming.next().await.ok_or(())?);
    }
    let mut made = Vec::new();
    let refused = loop {
        match TcpSocket::create(IpAddressFamily::Ipv4) {
            Ok(socket) => made.push(socket),
            Err(error) => break error,
        }
    };
    say(format!("accepted {}, made {}, then {refused:?}\n", held.len(), made.len())).await
}

async fn stderr_end(end: impl IntoFuture) {
    let _ = end.await;
}

/// Writes a text to standard output and waits until it is there.
async fn say(text: String) -> Result<(), ()> {
    let (mut to, from) = wit_stream::new();
    let write = async move { to.write_all(text.into_bytes()).await.is_empty() };
    let end = stdout::write_via_stream(from);
    let (told, all) = futures::join!(async move { end.await }, write);
    if all { told.map_err(drop) } else { Err(()) }
}

async fn show(path: &str) -> Result<(), ErrorCode> {
    let (root, _) = preopens::get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
    let flags = (PathFlags::SYMLINK_FOLLOW, OpenFlags::empty(), DescriptorFlags::READ);
    let file = root.open_at(flags.0, path.to_owned(), flags.1, flags.2).await?;
    match file.get_type().await? {
        DescriptorType::Directory => list(file).await,
        _ => copy(file).await,
    }
}

/// The file's stream becomes standard output's: no byte passes through this program.
async fn copy(file: Descriptor) -> Result<(), ErrorCode> {
    let (bytes, end) = file.read_via_stream(0);
    stdout::write_via_stream(bytes).await.map_err(|_| ErrorCode::Io)?;
    end.await
}

async fn list(folder: Descriptor) -> Result<(), ErrorCode> {
    let (entries, end) = folder.read_directory();
    let mut names: Vec<_> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
    names.sort();
    say(names.join("\n") + "\n").await.map_err(|()| ErrorCode::Io)?;
    end.await
}
