//! Between the path layer's words and those of wasi:filesystem 0.3. Calls nothing.

use rustix::io::Errno;
use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;
use wasmtime_wasi::p3::bindings::filesystem::types::{self, ErrorCode};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use crate::shim::wasi::component::{Fault, error_codes, flag_conversions};
use crate::shim::wasi::fs::{SetTime, SetTimes, Stat, Timestamp};

error_codes!(ErrorCode, again: other(Errno::AGAIN), other: other);
flag_conversions!(types, unknown: types::DescriptorType::Other(None));

fn other(errno: Errno) -> ErrorCode {
    ErrorCode::Other(Some(errno.to_string()))
}

impl From<Fault> for FilesystemError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Errno(errno) => code(errno).into(),
            Fault::Trap(error) => Self::trap(error),
        }
    }
}

fn instant(time: Timestamp) -> Option<Instant> {
    Some(Instant { seconds: time.seconds, nanoseconds: time.nanoseconds })
}

pub fn stat(stat: Stat) -> types::DescriptorStat {
    types::DescriptorStat {
        type_: kind(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: instant(stat.accessed),
        data_modification_timestamp: instant(stat.modified),
        status_change_timestamp: instant(stat.changed),
    }
}

fn set_time(time: types::NewTimestamp) -> SetTime {
    match time {
        types::NewTimestamp::NoChange => SetTime::Keep,
        types::NewTimestamp::Now => SetTime::Now,
        types::NewTimestamp::Timestamp(time) => {
            SetTime::To(Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds })
        }
    }
}

pub fn set_times(accessed: types::NewTimestamp, modified: types::NewTimestamp) -> SetTimes {
    SetTimes { accessed: set_time(accessed), modified: set_time(modified) }
}
