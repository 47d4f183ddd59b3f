//! Files, devices and folders as p3 streams. A stream's end or fault goes to the future that
//! the guest got with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer,
};
use wasmtime_wasi::p3::bindings::filesystem::types::{DirectoryEntry, ErrorCode};

use super::convert;
use crate::shim::wasi::component::{Fault, Listing, Reader, State, TRANSFER, Writer};

/// What the guest learns when its stream is over.
pub type Outcome = Result<(), ErrorCode>;

/// Where a stream's outcome goes, once.
struct Report(Option<oneshot::Sender<Outcome>>);

impl Report {
    fn send(&mut self, outcome: Outcome) {
        if let Some(to) = self.0.take() {
            // The guest may have dropped its future; then nobody wants to know.
            let _ = to.send(outcome);
        }
    }

    /// Ends the stream. A kill ends the guest.
    fn fault(&mut self, fault: Fault) -> wasmtime::Result<StreamResult> {
        match fault {
            Fault::Errno(errno) => {
                self.send(Err(convert::code(errno)));
                Ok(StreamResult::Dropped)
            }
            Fault::Trap(error) => Err(error),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.send(Ok(()));
    }
}

/// Entries that one read of a folder gives a reader that names no number.
const ENTRIES: usize = 32;

/// A file or device, read.
pub struct Read {
    reader: Reader,
    report: Report,
}

impl Read {
    pub fn new(reader: Reader, report: oneshot::Sender<Outcome>) -> Self {
        Self { reader, report: Report(Some(report)) }
    }
}

impl StreamProducer<State> for Read {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // The other end may be the host's too, and a device may have no end.
        store.data_mut().files().files.check_alive()?;
        let this = self.get_mut();
        let mut destination = destination.as_direct(store, TRANSFER);
        let bytes = destination.remaining();
        if bytes.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match this.reader.poll_read(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Ok(read)) => {
                destination.mark_written(read);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(errno)) => Poll::Ready(this.report.fault(errno.into())),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A file or device, written.
pub struct Write {
    writer: Writer,
    report: Report,
}

impl Write {
    pub fn new(writer: Writer, report: oneshot::Sender<Outcome>) -> Self {
        Self { writer, report: Report(Some(report)) }
    }
}

impl StreamConsumer<State> for Write {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<State>,
        source: Source<'_, u8>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        store.data_mut().files().files.check_alive()?;
        let this = self.get_mut();
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        if bytes.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(match this.writer.write(bytes) {
            Ok(0) => this.report.fault(Errno::IO.into()),
            Ok(written) => {
                source.mark_read(written);
                Ok(StreamResult::Completed)
            }
            Err(errno) => this.report.fault(errno.into()),
        })
    }
}

/// A folder, listed.
pub struct List {
    listing: Listing,
    report: Report,
}

impl List {
    pub fn new(listing: Listing, report: oneshot::Sender<Outcome>) -> Self {
        Self { listing, report: Report(Some(report)) }
    }
}

impl StreamProducer<State> for List {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut destination: Destination<'a, DirectoryEntry, Self::Buffer>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        let wanted = destination.remaining(&mut store).unwrap_or(ENTRIES).min(ENTRIES);
        let files = store.data_mut().files();
        let mut entries = Vec::with_capacity(wanted);
        let mut result = Ok(StreamResult::Completed);
        while entries.len() < wanted {
            match files.files.next_entry(&mut this.listing) {
                Ok(Some((name, kind))) => {
                    entries.push(DirectoryEntry { type_: convert::kind(kind), name });
                }
                Ok(None) => {
                    result = Ok(StreamResult::Dropped);
                    break;
                }
                Err(fault) => {
                    result = this.report.fault(fault);
                    break;
                }
            }
        }
        destination.set_buffer(entries.into());
        Poll::Ready(result)
    }
}
