//! wasi:filesystem 0.2 on the path layer. Only translates: what happens is in `component`.

use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor as Marker;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, Filesize, Host, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::convert;
use crate::shim::wasi::component::{Descriptor, Fault, FilesView, Listing, borrow, own};

type Handle = Resource<Marker>;

impl FilesView<'_> {
    fn descriptor(&self, handle: &Handle) -> Result<&Descriptor, Fault> {
        Ok(self.table.get(&borrow(handle))?)
    }

    fn give(&mut self, descriptor: Descriptor) -> Result<Handle, Fault> {
        Ok(own(self.table.push(descriptor)?))
    }
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let given = self.files.given();
        given.map(|(dir, name)| Ok((own(self.table.push(dir)?), name.to_owned()))).collect()
    }
}

impl Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        error.downcast().map(Into::into)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let errno = self.table.get(&error)?.downcast_ref::<Errno>();
        Ok(errno.map(|errno| convert::code(*errno).into()))
    }
}

impl HostDescriptor for FilesView<'_> {
    fn read_via_stream(
        &mut self,
        of: Handle,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let reader = self.files.reader(self.descriptor(&of)?, offset)?;
        let stream: DynInputStream = Box::new(reader);
        Ok(self.table.push(stream).map_err(Fault::from)?)
    }

    fn write_via_stream(
        &mut self,
        of: Handle,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let writer = self.files.writer(self.descriptor(&of)?, Some(offset))?;
        let stream: DynOutputStream = Box::new(writer);
        Ok(self.table.push(stream).map_err(Fault::from)?)
    }

    fn append_via_stream(&mut self, of: Handle) -> FsResult<Resource<DynOutputStream>> {
        let writer = self.files.writer(self.descriptor(&of)?, None)?;
        let stream: DynOutputStream = Box::new(writer);
        Ok(self.table.push(stream).map_err(Fault::from)?)
    }

    fn advise(
        &mut self,
        of: Handle,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        let advice = convert::advice(advice);
        Ok(self.files.advise(self.descriptor(&of)?, (offset, length), advice)?)
    }

    fn sync_data(&mut self, of: Handle) -> FsResult<()> {
        Ok(self.files.sync_data(self.descriptor(&of)?)?)
    }

    fn get_flags(&mut self, of: Handle) -> FsResult<DescriptorFlags> {
        Ok(convert::flags(self.descriptor(&of)?.access()))
    }

    fn get_type(&mut self, of: Handle) -> FsResult<DescriptorType> {
        Ok(convert::kind(self.descriptor(&of)?.kind()))
    }

    fn set_size(&mut self, of: Handle, size: Filesize) -> FsResult<()> {
        Ok(self.files.set_len(self.descriptor(&of)?, size)?)
    }

    fn set_times(
        &mut self,
        of: Handle,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let times = convert::set_times(accessed, modified)?;
        Ok(self.files.set_times(self.descriptor(&of)?, times)?)
    }

    fn read(
        &mut self,
        of: Handle,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        Ok(self.files.read(self.descriptor(&of)?, length, offset)?)
    }

    fn write(&mut self, of: Handle, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        Ok(self.files.write(self.descriptor(&of)?, &bytes, offset)?)
    }

    fn read_directory(&mut self, of: Handle) -> FsResult<Resource<DirectoryEntryStream>> {
        let listing = self.files.listing(self.descriptor(&of)?)?;
        Ok(own(self.table.push(listing).map_err(Fault::from)?))
    }

    fn sync(&mut self, of: Handle) -> FsResult<()> {
        Ok(self.files.sync(self.descriptor(&of)?)?)
    }

    fn create_directory_at(&mut self, at: Handle, path: String) -> FsResult<()> {
        Ok(self.files.make_dir(self.descriptor(&at)?, &path)?)
    }

    fn stat(&mut self, of: Handle) -> FsResult<DescriptorStat> {
        Ok(convert::stat(self.files.stat(self.descriptor(&of)?)?))
    }

    fn stat_at(&mut self, at: Handle, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let follow = convert::follow(flags);
        Ok(convert::stat(self.files.stat_at(self.descriptor(&at)?, &path, follow)?))
    }

    fn set_times_at(
        &mut self,
        at: Handle,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (times, follow) = (convert::set_times(accessed, modified)?, convert::follow(flags));
        Ok(self.files.set_times_at(self.descriptor(&at)?, (&path, follow), times)?)
    }

    fn link_at(
        &mut self,
        old: Handle,
        flags: PathFlags,
        old_path: String,
        new: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let from = (self.descriptor(&old)?, old_path.as_str());
        let to = (self.descriptor(&new)?, new_path.as_str());
        Ok(self.files.link(from, convert::follow(flags), to)?)
    }

    fn open_at(
        &mut self,
        at: Handle,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let opening = convert::opening(path_flags, open_flags, flags);
        let opened = self.files.open(self.descriptor(&at)?, &path, opening)?;
        Ok(self.give(opened)?)
    }

    fn readlink_at(&mut self, at: Handle, path: String) -> FsResult<String> {
        Ok(self.files.read_link(self.descriptor(&at)?, &path)?)
    }

    fn remove_directory_at(&mut self, at: Handle, path: String) -> FsResult<()> {
        Ok(self.files.remove_dir(self.descriptor(&at)?, &path)?)
    }

    fn rename_at(
        &mut self,
        old: Handle,
        old_path: String,
        new: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let from = (self.descriptor(&old)?, old_path.as_str());
        Ok(self.files.rename(from, (self.descriptor(&new)?, new_path.as_str()))?)
    }

    fn symlink_at(&mut self, at: Handle, target: String, path: String) -> FsResult<()> {
        Ok(self.files.symlink(&target, self.descriptor(&at)?, &path)?)
    }

    fn unlink_file_at(&mut self, at: Handle, path: String) -> FsResult<()> {
        Ok(self.files.unlink(self.descriptor(&at)?, &path)?)
    }

    fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let same = || self.files.is_same(self.descriptor(&one)?, self.descriptor(&other)?);
        match same() {
            Err(Fault::Trap(error)) => Err(error),
            same => Ok(same.unwrap_or(false)),
        }
    }

    fn metadata_hash(&mut self, of: Handle) -> FsResult<MetadataHashValue> {
        Ok(convert::hash(self.files.hash(self.descriptor(&of)?)?))
    }

    fn metadata_hash_at(
        &mut self,
        at: Handle,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let follow = convert::follow(flags);
        Ok(convert::hash(self.files.hash_at(self.descriptor(&at)?, &path, follow)?))
    }

    fn drop(&mut self, of: Handle) -> wasmtime::Result<()> {
        self.table.delete(own::<_, Descriptor>(of))?;
        Ok(())
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    fn read_directory_entry(
        &mut self,
        of: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing = self.table.get_mut(&borrow::<_, Listing>(&of)).map_err(Fault::from)?;
        let entry = self.files.next_entry(listing)?;
        Ok(entry.map(|(name, kind)| DirectoryEntry { type_: convert::kind(kind), name }))
    }

    fn drop(&mut self, of: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(own::<_, Listing>(of))?;
        Ok(())
    }
}
