//! What component guests share, whatever their WASI version: the Store's data, files on the
//! path layer, standard streams, linking and one run from the runtime to its end. Names no
//! version's filesystem interface: `p2` and `p3` put theirs on top.
//!
//! File calls are made at once on the guest's own thread, never on a helper thread: the thread
//! is the container's alone, so waiting there hurts nobody, and nothing of a container outlives
//! its Store. A kill interrupts them as it does any system call.

mod convert;
mod descriptor;
mod link;
mod listing;
mod run;
mod sockets;
mod state;
mod stdin;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use convert::{error_codes, flag_conversions};
pub use descriptor::{Access, Descriptor, Files, Hash, Opening};
pub use link::{Linked, exports, no_command};
pub use listing::Listing;
pub use run::{Failure, run};
pub use sockets::Sockets;
pub use state::{Fault, FilesView, HasFiles, Shared, State, borrow, own};
pub use stdin::Input;
pub use transfer::{Reader, TRANSFER, Writer};
