//! The four clocks. A guest has its own thread, so its CPU time is that thread's.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

use super::Call;
use super::errno::{Code, Result};

pub const REALTIME: u32 = 0;
pub const MONOTONIC: u32 = 1;
const PROCESS_CPU: u32 = 2;
const THREAD_CPU: u32 = 3;

fn clock(id: u32) -> Result<ClockId> {
    Ok(match id {
        REALTIME => ClockId::Realtime,
        MONOTONIC => ClockId::Monotonic,
        PROCESS_CPU | THREAD_CPU => ClockId::ThreadCPUTime,
        _ => return Err(Code::INVALID.into()),
    })
}

/// Nanoseconds; clocks before 1970 stand at 0.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let below = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(below)
}

/// What a clock shows, in nanoseconds.
pub fn now(id: u32) -> Result<u64> {
    Ok(nanoseconds(clock_gettime(clock(id)?)))
}

pub fn clock_res_get(call: &mut Call<'_>, id: u32, to: u32) -> Result<()> {
    call.memory.put_u64(to, nanoseconds(clock_getres(clock(id)?)))
}

pub fn clock_time_get(call: &mut Call<'_>, id: u32, to: u32) -> Result<()> {
    call.memory.put_u64(to, now(id)?)
}
