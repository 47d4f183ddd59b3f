//! Between the path layer's words and those of wasi:filesystem 0.2. Calls nothing.

use rustix::io::Errno;
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types;

use crate::shim::wasi::component::{Fault, error_codes, flag_conversions};
use crate::shim::wasi::fs::{self, SetTime, SetTimes, Stat, Timestamp};

error_codes!(ErrorCode, again: ErrorCode::WouldBlock, other: |_: Errno| ErrorCode::Io);
flag_conversions!(types, unknown: types::DescriptorType::Unknown);

impl From<Fault> for FsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Errno(errno) => code(errno).into(),
            Fault::Trap(error) => Self::trap(error),
        }
    }
}

/// The interface knows no time before 1970.
fn datetime(time: Timestamp) -> Option<Datetime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    Some(Datetime { seconds, nanoseconds: time.nanoseconds })
}

pub fn stat(stat: Stat) -> types::DescriptorStat {
    types::DescriptorStat {
        type_: kind(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: datetime(stat.accessed),
        data_modification_timestamp: datetime(stat.modified),
        status_change_timestamp: datetime(stat.changed),
    }
}

fn set_time(time: types::NewTimestamp) -> fs::Result<SetTime> {
    Ok(match time {
        types::NewTimestamp::NoChange => SetTime::Keep,
        types::NewTimestamp::Now => SetTime::Now,
        types::NewTimestamp::Timestamp(time) => SetTime::To(Timestamp {
            seconds: i64::try_from(time.seconds).map_err(|_| Errno::OVERFLOW)?,
            nanoseconds: time.nanoseconds,
        }),
    })
}

pub fn set_times(
    accessed: types::NewTimestamp,
    modified: types::NewTimestamp,
) -> Result<SetTimes, Fault> {
    Ok(SetTimes { accessed: set_time(accessed)?, modified: set_time(modified)? })
}
