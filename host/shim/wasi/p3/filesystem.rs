//! wasi:filesystem 0.3 on the path layer. Only translates: what happens is in `component`.

use std::iter;

use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime_wasi::filesystem::Descriptor as Marker;
use wasmtime_wasi::p3::bindings::filesystem::preopens;
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    Host, HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::convert;
use super::streams::{List, Outcome, Read, Write};
use crate::shim::wasi::component::{
    Descriptor, Fault, Files, FilesView, HasFiles, State, borrow, own,
};

type Handle = Resource<Marker>;
type Store<'a> = Access<'a, State, HasFiles>;

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let given = self.files.given();
        given.map(|(dir, name)| Ok((own(self.table.push(dir)?), name.to_owned()))).collect()
    }
}

impl Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl HostDescriptor for FilesView<'_> {
    fn drop(&mut self, of: Handle) -> wasmtime::Result<()> {
        self.table.delete(own::<_, Descriptor>(of))?;
        Ok(())
    }
}

/// Does something with one descriptor, at once.
fn with<T>(
    store: &Accessor<State, HasFiles>,
    handle: &Handle,
    call: impl FnOnce(&Files, &Descriptor) -> Result<T, Fault>,
) -> FilesystemResult<T> {
    store.with(|mut access| {
        let view = access.get();
        let descriptor = view.table.get(&borrow::<_, Descriptor>(handle)).map_err(Fault::from)?;
        Ok(call(view.files, descriptor)?)
    })
}

/// Does something with two descriptors, at once.
fn with_both<T>(
    store: &Accessor<State, HasFiles>,
    (one, other): (&Handle, &Handle),
    call: impl FnOnce(&Files, &Descriptor, &Descriptor) -> Result<T, Fault>,
) -> FilesystemResult<T> {
    store.with(|mut access| {
        let view = access.get();
        let one = view.table.get(&borrow::<_, Descriptor>(one)).map_err(Fault::from)?;
        let other = view.table.get(&borrow::<_, Descriptor>(other)).map_err(Fault::from)?;
        Ok(call(view.files, one, other)?)
    })
}

/// What `open` makes of a descriptor; an error code is for the guest.
fn start<T>(
    store: &mut Store<'_>,
    handle: &Handle,
    open: impl FnOnce(&Files, &Descriptor) -> Result<T, Fault>,
) -> wasmtime::Result<Result<T, ErrorCode>> {
    let view = store.get();
    match open(view.files, view.table.get(&borrow::<_, Descriptor>(handle))?) {
        Ok(opened) => Ok(Ok(opened)),
        Err(Fault::Errno(errno)) => Ok(Err(convert::code(errno))),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// Pipes what the guest writes into a file.
fn write(
    mut store: Store<'_>,
    (handle, offset): (Handle, Option<Filesize>),
    mut data: StreamReader<u8>,
) -> wasmtime::Result<FutureReader<Outcome>> {
    let (report, outcome) = oneshot::channel();
    match start(&mut store, &handle, |files, to| files.writer(to, offset))? {
        Ok(writer) => data.pipe(&mut store, Write::new(writer, report))?,
        Err(code) => {
            data.close(&mut store)?;
            let _ = report.send(Err(code));
        }
    }
    FutureReader::new(&mut store, outcome)
}

impl HostDescriptorWithStore<State> for HasFiles {
    fn read_via_stream(
        mut store: Store<'_>,
        of: Handle,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Outcome>)> {
        let (report, outcome) = oneshot::channel();
        let stream = match start(&mut store, &of, |files, from| files.reader(from, offset))? {
            Ok(reader) => StreamReader::new(&mut store, Read::new(reader, report))?,
            Err(code) => {
                let _ = report.send(Err(code));
                StreamReader::new(&mut store, iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, outcome)?))
    }

    fn write_via_stream(
        store: Store<'_>,
        of: Handle,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<FutureReader<Outcome>> {
        write(store, (of, Some(offset)), data)
    }

    fn append_via_stream(
        store: Store<'_>,
        of: Handle,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Outcome>> {
        write(store, (of, None), data)
    }

    fn read_directory(
        mut store: Store<'_>,
        of: Handle,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, FutureReader<Outcome>)> {
        let (report, outcome) = oneshot::channel();
        let stream = match start(&mut store, &of, |files, dir| files.listing(dir))? {
            Ok(listing) => StreamReader::new(&mut store, List::new(listing, report))?,
            Err(code) => {
                let _ = report.send(Err(code));
                StreamReader::new(&mut store, iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, outcome)?))
    }

    async fn advise(
        store: &Accessor<State, Self>,
        of: Handle,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FilesystemResult<()> {
        let advice = convert::advice(advice);
        with(store, &of, |files, of| files.advise(of, (offset, length), advice))
    }

    async fn sync_data(store: &Accessor<State, Self>, of: Handle) -> FilesystemResult<()> {
        with(store, &of, Files::sync_data)
    }

    async fn get_flags(
        store: &Accessor<State, Self>,
        of: Handle,
    ) -> FilesystemResult<DescriptorFlags> {
        with(store, &of, |_, of| Ok(convert::flags(of.access())))
    }

    async fn get_type(
        store: &Accessor<State, Self>,
        of: Handle,
    ) -> FilesystemResult<DescriptorType> {
        with(store, &of, |_, of| Ok(convert::kind(of.kind())))
    }

    async fn set_size(
        store: &Accessor<State, Self>,
        of: Handle,
        size: Filesize,
    ) -> FilesystemResult<()> {
        with(store, &of, |files, of| files.set_len(of, size))
    }

    async fn set_times(
        store: &Accessor<State, Self>,
        of: Handle,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let times = convert::set_times(accessed, modified);
        with(store, &of, |files, of| files.set_times(of, times))
    }

    async fn sync(store: &Accessor<State, Self>, of: Handle) -> FilesystemResult<()> {
        with(store, &of, Files::sync)
    }

    async fn create_directory_at(
        store: &Accessor<State, Self>,
        at: Handle,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, &at, |files, at| files.make_dir(at, &path))
    }

    async fn stat(store: &Accessor<State, Self>, of: Handle) -> FilesystemResult<DescriptorStat> {
        with(store, &of, Files::stat).map(convert::stat)
    }

    async fn stat_at(
        store: &Accessor<State, Self>,
        at: Handle,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        let follow = convert::follow(flags);
        with(store, &at, |files, at| files.stat_at(at, &path, follow)).map(convert::stat)
    }

    async fn set_times_at(
        store: &Accessor<State, Self>,
        at: Handle,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let (times, follow) = (convert::set_times(accessed, modified), convert::follow(flags));
        with(store, &at, |files, at| files.set_times_at(at, (&path, follow), times))
    }

    async fn link_at(
        store: &Accessor<State, Self>,
        old: Handle,
        flags: PathFlags,
        old_path: String,
        new: Handle,
        new_path: String,
    ) -> FilesystemResult<()> {
        let follow = convert::follow(flags);
        with_both(store, (&old, &new), |files, old, new| {
            files.link((old, &old_path), follow, (new, &new_path))
        })
    }

    async fn open_at(
        store: &Accessor<State, Self>,
        at: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Handle> {
        let opening = convert::opening(path_flags, open_flags, flags);
        let opened = with(store, &at, |files, at| files.open(at, &path, opening))?;
        let handle = store.with(|mut access| access.get().table.push(opened));
        Ok(own(handle.map_err(Fault::from)?))
    }

    async fn readlink_at(
        store: &Accessor<State, Self>,
        at: Handle,
        path: String,
    ) -> FilesystemResult<String> {
        with(store, &at, |files, at| files.read_link(at, &path))
    }

    async fn remove_directory_at(
        store: &Accessor<State, Self>,
        at: Handle,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, &at, |files, at| files.remove_dir(at, &path))
    }

    async fn rename_at(
        store: &Accessor<State, Self>,
        old: Handle,
        old_path: String,
        new: Handle,
        new_path: String,
    ) -> FilesystemResult<()> {
        with_both(store, (&old, &new), |files, old, new| {
            files.rename((old, &old_path), (new, &new_path))
        })
    }

    async fn symlink_at(
        store: &Accessor<State, Self>,
        at: Handle,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, &at, |files, at| files.symlink(&target, at, &path))
    }

    async fn unlink_file_at(
        store: &Accessor<State, Self>,
        at: Handle,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, &at, |files, at| files.unlink(at, &path))
    }

    async fn is_same_object(
        store: &Accessor<State, Self>,
        one: Handle,
        other: Handle,
    ) -> wasmtime::Result<bool> {
        match with_both(store, (&one, &other), Files::is_same) {
            Ok(same) => Ok(same),
            // A file that cannot be asked is like no other; all else ends the guest.
            Err(error) => error.downcast().map(|_: ErrorCode| false),
        }
    }

    async fn metadata_hash(
        store: &Accessor<State, Self>,
        of: Handle,
    ) -> FilesystemResult<MetadataHashValue> {
        with(store, &of, Files::hash).map(convert::hash)
    }

    async fn metadata_hash_at(
        store: &Accessor<State, Self>,
        at: Handle,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        let follow = convert::follow(flags);
        with(store, &at, |files, at| files.hash_at(at, &path, follow)).map(convert::hash)
    }
}
