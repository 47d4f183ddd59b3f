//! The imports of a p2 command, interface by interface.

use wasmtime::Engine;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::TcpSocket;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets, sync};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_io::bindings::wasi::io;

use super::loopback;
use super::sockets::{HasPoll, HasSockets, PollView, SocketsView};
use crate::shim::wasi::component::{HasFiles, State};
use crate::shim::wasi::{identity, processes, this};

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn poll(state: &mut State) -> PollView<'_> {
    PollView { table: &mut state.table, sockets: &mut state.sockets, polls: &mut state.polls }
}

fn guarded_sockets(state: &mut State) -> SocketsView<'_> {
    let (stock, sockets, resolver) = state.sockets();
    SocketsView { stock, sockets, resolver }
}

/// All of wasi:cli/command 0.2, wasi:http, and what wasmpod adds. The error is wasmtime's own: an interface given twice.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, State::random)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    io::error::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    io::streams::add_to_linker::<State, HasTable>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<State, HasPoll>(l, poll)?;
    // The variant whose functions are not async: they never wait for anything but the kernel.
    sync::filesystem::types::add_to_linker::<State, HasFiles>(l, State::files)?;
    filesystem::preopens::add_to_linker::<State, HasFiles>(l, State::files)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<State, WasiSockets>(l, &options, WasiSocketsView::sockets)?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(l, WasiSocketsView::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, HasSockets>(l, guarded_sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, HasSockets>(l, guarded_sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, HasSockets>(l, guarded_sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(l, WasiSocketsView::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(l, WasiSocketsView::sockets)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    identity::add_to_linker(l)?;
    processes::add_to_linker(l)?;
    this::add_to_linker(l)?;
    l.allow_shadowing(true);
    l.instance("wasi:sockets/tcp@0.2.12")?.func_wrap(
        "[method]tcp-socket.accept",
        |mut store, (socket,): (Resource<TcpSocket>,)| {
            Ok((guarded_sockets(store.data_mut()).accept(socket)?,))
        },
    )?;
    loopback::add_to_linker(l)?;
    l.allow_shadowing(false);
    Ok(linker)
}
