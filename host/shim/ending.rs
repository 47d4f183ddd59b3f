//! How a guest's end becomes an exit that a kubelet reads: codes, reasons, messages.

use crate::model::container::{Exit, Reason};

use super::clock;
use super::guest::Ended;
use crate::error::cut;

/// Bytes of an exit's message, twice what a kubelet keeps. Guests choose the names in it.
const MOST_MESSAGE: usize = 8 << 10;

/// What a shell adds to the number of the signal that ended a program.
const SIGNALED: i32 = 128;
const ABORTED: i32 = 134;
const KILLED: i32 = 137;
const NOT_STARTED: i32 = 128;
const HOST_FAULT: i32 = 255;
const HIGHEST: i32 = 255;

/// The exit that `ended` means, finished now. `signal` is what a killed guest was ended by.
pub fn exit_of(ended: Ended, signal: u32) -> Exit {
    match ended {
        Ended::Exited(0) => exit(0, Reason::Completed, ""),
        Ended::Exited(code) => exit(seen_code(code), Reason::Error, ""),
        Ended::Trapped(message) => exit(ABORTED, Reason::Error, message),
        Ended::OutOfMemory(message) => exit(KILLED, Reason::OomKilled, message),
        Ended::Killed => signaled(signal),
        Ended::NotStarted(message) => exit(NOT_STARTED, Reason::StartError, message),
    }
}

/// Ended from outside by `signal`, finished now.
pub fn signaled(signal: u32) -> Exit {
    let number = i32::try_from(signal).ok().filter(|n| (1..=64).contains(n)).unwrap_or(9);
    exit(SIGNALED + number, Reason::Error, format!("ended by signal {number}"))
}

/// The thread would not go although it was interrupted again and again.
pub fn stuck() -> Exit {
    exit(
        KILLED,
        Reason::Error,
        "ended by signal 9; a thread of it is stuck in a system call and was left behind",
    )
}

/// wasmpod's own code failed while it ran the guest.
pub fn host_fault(panic: &(dyn std::any::Any + Send)) -> Exit {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown panic");
    exit(HOST_FAULT, Reason::Error, format!("wasmpod failed while running the guest: {what}"))
}

fn exit(code: i32, reason: Reason, message: impl Into<String>) -> Exit {
    Exit { code, reason, message: cut(message.into(), MOST_MESSAGE), finished_at: clock::now() }
}

/// What others see of a code that is not 0. As everywhere on Linux its lowest 8 bits are, so that
/// -1 is 255 and 259 is 3; only where they say 0, success, it becomes 255: 256 is a failure.
/// Preview 1 alone has codes that large; those of the others are 8 bits.
fn seen_code(code: i32) -> i32 {
    let [lowest, ..] = code.to_le_bytes();
    if lowest == 0 { HIGHEST } else { i32::from(lowest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_the_code_and_reason_that_a_kubelet_expects() {
        let cases = [
            (Ended::Exited(0), 0, Reason::Completed),
            (Ended::Exited(3), 3, Reason::Error),
            (Ended::Exited(256), 255, Reason::Error),
            (Ended::Exited(-1), 255, Reason::Error),
            (Ended::Exited(-2), 254, Reason::Error),
            (Ended::Exited(259), 3, Reason::Error),
            (Ended::Exited(0x4000_0000), 255, Reason::Error),
            (Ended::Trapped("wasm trap".to_owned()), 134, Reason::Error),
            (Ended::OutOfMemory("out".to_owned()), 137, Reason::OomKilled),
            (Ended::Killed, 143, Reason::Error),
            (Ended::NotStarted("no".to_owned()), 128, Reason::StartError),
        ];
        for (ended, code, reason) in cases {
            let says = format!("{ended:?}");
            let exit = exit_of(ended, 15);
            assert_eq!((exit.code, exit.reason), (code, reason), "{says}");
        }
    }

    #[test]
    fn a_signal_that_is_none_counts_as_kill() {
        for signal in [0, 65, u32::MAX] {
            assert_eq!(signaled(signal).code, 137, "{signal}");
        }
    }
}
