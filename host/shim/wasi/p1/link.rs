//! Binds a module's imports, and says in one sentence why one cannot be run.

use rustix::fs::SeekFrom;
use wasmtime::{Caller, Engine, ExternType, InstancePre, Linker, Module};

use super::descriptor::times;
use super::memory::{Buffers, Span};
use super::path::{Opening, Path, follow};
use super::poll::Lists;
use super::socket::Received;
use super::stream::seek_from;
use super::{
    Call, Guest, answer, clock, descriptor, identity, path, poll, process, socket, stream,
};
use crate::shim::wasi::some_of;

/// The module whose functions guests import.
const MODULE: &str = "wasi_snapshot_preview1";

/// The module of what is given beside WASI.
const OWN: &str = "wasmpod_container";

/// The one function that does not answer with an error number.
const EXIT: &str = "proc_exit";

/// What a command exports.
pub const ENTRY: &str = "_start";

/// What a library exports instead.
const REACTOR: &str = "_initialize";

/// `Err` is one sentence naming what is missing.
pub fn link(engine: &Engine, module: &Module) -> Result<InstancePre<Guest>, String> {
    check_entry(module)?;
    let given = functions(engine).map_err(|error| format!("cannot link: {error:#}"))?;
    let missing: Vec<String> = module
        .imports()
        .filter(|import| !given.names.contains(&(import.module(), import.name())))
        .map(|import| format!("{}::{}", import.module(), import.name()))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "the module imports {}, which wasmpod does not provide: it gives modules the \
             functions of {MODULE} and {OWN} alone",
            some_of(&missing)
        ));
    }
    given.linker.instantiate_pre(module).map_err(|error| {
        let text = format!("{error:#}").replace('\n', " ");
        format!("the module cannot be linked: {text}")
    })
}

fn check_entry(module: &Module) -> Result<(), String> {
    match module.get_export(ENTRY) {
        Some(ExternType::Func(entry))
            if entry.params().len() == 0 && entry.results().len() == 0 =>
        {
            Ok(())
        }
        Some(other) => {
            Err(format!("the module's {ENTRY} is no entry point: it is {}", describe(&other)))
        }
        None if module.get_export(REACTOR).is_some() => Err(format!(
            "the module is a library (it exports {REACTOR} and no {ENTRY}): it has no entry point"
        )),
        None => {
            let exports: Vec<&str> = module.exports().map(|export| export.name()).collect();
            let exports = match exports.as_slice() {
                [] => "nothing".to_owned(),
                names => some_of(names),
            };
            Err(format!("the module exports no {ENTRY}: it exports {exports}"))
        }
    }
}

fn describe(kind: &ExternType) -> String {
    match kind {
        ExternType::Func(function) => format!("a function {function}"),
        ExternType::Global(global) => format!("a global of type {}", global.content()),
        ExternType::Table(_) => "a table".to_owned(),
        ExternType::Memory(_) => "a memory".to_owned(),
        ExternType::Tag(_) => "a tag".to_owned(),
    }
}

/// What modules are given.
struct Given {
    linker: Linker<Guest>,
    /// Modules and functions.
    names: Vec<(&'static str, &'static str)>,
}

/// Binds each name to an expression over its arguments, which gathers the ABI's flat ones.
macro_rules! bind {
    ($given:ident, $module:ident, $call:ident:
        $($name:ident($($argument:ident: $type:ty),*) => $body:expr;)*
    ) => {
        $($given.names.push(($module, stringify!($name)));
        $given.linker.func_wrap(
            $module,
            stringify!($name),
            |caller: Caller<'_, Guest>, $($argument: $type),*| {
                answer(caller, |$call: &mut Call<'_>| $body)
            },
        )?;)*
    };
}

fn functions(engine: &Engine) -> wasmtime::Result<Given> {
    let mut given = Given { linker: Linker::new(engine), names: vec![(MODULE, EXIT)] };
    given.linker.func_wrap(MODULE, EXIT, process::proc_exit)?;
    bind_process(&mut given)?;
    bind_descriptors(&mut given)?;
    bind_streams(&mut given)?;
    bind_paths(&mut given)?;
    bind_own(&mut given)?;
    Ok(given)
}

fn bind_own(given: &mut Given) -> wasmtime::Result<()> {
    bind! { given, OWN, call:
        user_get(uid: u32, gid: u32) => identity::user_get(call, uid, gid);
        groups_size_get(count: u32) => identity::groups_size_get(call, count);
        groups_get(at: u32) => identity::groups_get(call, at);
        user_name_size_get(size: u32) => identity::user_name_size_get(call, size);
        user_name_get(at: u32) => identity::user_name_get(call, at);
    }
    Ok(())
}

fn bind_process(given: &mut Given) -> wasmtime::Result<()> {
    bind! { given, MODULE, call:
        args_get(at: u32, text: u32) => process::args_get(call, at, text);
        args_sizes_get(count: u32, size: u32) => process::args_sizes_get(call, count, size);
        environ_get(at: u32, text: u32) => process::environ_get(call, at, text);
        environ_sizes_get(count: u32, size: u32) =>
            process::environ_sizes_get(call, count, size);
        proc_raise(_signal: u32) => process::proc_raise(call);
        sched_yield() => process::sched_yield(call);
        random_get(at: u32, length: u32) => process::random_get(call, at, length);
        clock_res_get(id: u32, to: u32) => clock::clock_res_get(call, id, to);
        clock_time_get(id: u32, _precision: u64, to: u32) => clock::clock_time_get(call, id, to);
        poll_oneoff(from: u32, to: u32, count: u32, ready: u32) =>
            poll::poll_oneoff(call, Lists { from, to, count }, ready);
        sock_accept(fd: u32, flags: u32, to: u32) => socket::sock_accept(call, fd, flags, to);
        sock_recv(fd: u32, at: u32, count: u32, how: u32, bytes: u32, flags: u32) => {
            let to = Received { bytes, flags };
            socket::sock_recv(call, fd, Buffers { at, count }, how, to)
        };
        sock_send(fd: u32, at: u32, count: u32, how: u32, sent: u32) =>
            socket::sock_send(call, fd, Buffers { at, count }, how, sent);
        sock_shutdown(fd: u32, how: u32) => socket::sock_shutdown(call, fd, how);
    }
    Ok(())
}

fn bind_descriptors(given: &mut Given) -> wasmtime::Result<()> {
    bind! { given, MODULE, call:
        fd_advise(fd: u32, offset: u64, length: u64, advice: u32) =>
            descriptor::fd_advise(call, fd, offset..offset.saturating_add(length), advice);
        fd_allocate(fd: u32, offset: u64, length: u64) =>
            descriptor::fd_allocate(call, fd, offset, length);
        fd_close(fd: u32) => descriptor::fd_close(call, fd);
        fd_datasync(fd: u32) => descriptor::fd_datasync(call, fd);
        fd_fdstat_get(fd: u32, to: u32) => descriptor::fd_fdstat_get(call, fd, to);
        fd_fdstat_set_flags(fd: u32, flags: u32) =>
            descriptor::fd_fdstat_set_flags(call, fd, flags);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) =>
            descriptor::fd_fdstat_set_rights(call, fd, base, inheriting);
        fd_filestat_get(fd: u32, to: u32) => descriptor::fd_filestat_get(call, fd, to);
        fd_filestat_set_size(fd: u32, size: u64) =>
            descriptor::fd_filestat_set_size(call, fd, size);
        fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, which: u32) =>
            descriptor::fd_filestat_set_times(call, fd, times(accessed, modified, which)?);
        fd_prestat_get(fd: u32, to: u32) => descriptor::fd_prestat_get(call, fd, to);
        fd_prestat_dir_name(fd: u32, at: u32, length: u32) =>
            descriptor::fd_prestat_dir_name(call, fd, Span { at, length });
        fd_readdir(fd: u32, at: u32, length: u32, cookie: u64, used: u32) =>
            descriptor::fd_readdir(call, fd, Span { at, length }, cookie, used);
        fd_renumber(from: u32, to: u32) => descriptor::fd_renumber(call, from, to);
        fd_sync(fd: u32) => descriptor::fd_sync(call, fd);
    }
    Ok(())
}

fn bind_streams(given: &mut Given) -> wasmtime::Result<()> {
    bind! { given, MODULE, call:
        fd_read(fd: u32, at: u32, count: u32, read: u32) =>
            stream::fd_read(call, fd, Buffers { at, count }, read);
        fd_pread(fd: u32, at: u32, count: u32, offset: u64, read: u32) =>
            stream::fd_pread(call, fd, Buffers { at, count }, offset, read);
        fd_write(fd: u32, at: u32, count: u32, written: u32) =>
            stream::fd_write(call, fd, Buffers { at, count }, written);
        fd_pwrite(fd: u32, at: u32, count: u32, offset: u64, written: u32) =>
            stream::fd_pwrite(call, fd, Buffers { at, count }, offset, written);
        fd_seek(fd: u32, offset: i64, whence: u32, to: u32) =>
            stream::fd_seek(call, fd, seek_from(offset, whence)?, to);
        fd_tell(fd: u32, to: u32) => stream::fd_seek(call, fd, SeekFrom::Current(0), to);
    }
    Ok(())
}

fn bind_paths(given: &mut Given) -> wasmtime::Result<()> {
    bind! { given, MODULE, call:
        path_create_directory(fd: u32, at: u32, length: u32) =>
            path::path_create_directory(call, Path { fd, at, length });
        path_filestat_get(fd: u32, flags: u32, at: u32, length: u32, to: u32) =>
            path::path_filestat_get(call, Path { fd, at, length }, follow(flags), to);
        path_filestat_set_times(fd: u32, flags: u32, at: u32, length: u32, accessed: u64,
            modified: u64, which: u32) =>
        {
            let times = times(accessed, modified, which)?;
            path::path_filestat_set_times(call, Path { fd, at, length }, follow(flags), times)
        };
        path_link(fd: u32, flags: u32, at: u32, length: u32, to: u32, to_at: u32,
            to_length: u32) =>
        {
            let to = Path { fd: to, at: to_at, length: to_length };
            path::path_link(call, Path { fd, at, length }, follow(flags), to)
        };
        path_open(fd: u32, follow: u32, at: u32, length: u32, oflags: u32, rights: u64,
            _inheriting: u64, flags: u32, to: u32) =>
        {
            let opening = Opening { follow, oflags, rights, flags };
            path::path_open(call, Path { fd, at, length }, &opening, to)
        };
        path_readlink(fd: u32, at: u32, length: u32, to: u32, size: u32, used: u32) => {
            let to = Span { at: to, length: size };
            path::path_readlink(call, Path { fd, at, length }, to, used)
        };
        path_remove_directory(fd: u32, at: u32, length: u32) =>
            path::path_remove_directory(call, Path { fd, at, length });
        path_rename(fd: u32, at: u32, length: u32, to: u32, to_at: u32, to_length: u32) => {
            let to = Path { fd: to, at: to_at, length: to_length };
            path::path_rename(call, Path { fd, at, length }, to)
        };
        path_symlink(at: u32, length: u32, fd: u32, to_at: u32, to_length: u32) => {
            let path = Path { fd, at: to_at, length: to_length };
            path::path_symlink(call, Span { at, length }, path)
        };
        path_unlink_file(fd: u32, at: u32, length: u32) =>
            path::path_unlink_file(call, Path { fd, at, length });
    }
    Ok(())
}
