//! Moves the engines' epoch on as one thread uses CPU time: a timer on that thread's CPU clock,
//! which stands still while the thread does. So a guest that sleeps costs nothing.

use std::ptr;

use crate::engine::Engines;
use crate::error::{Error, Result};

/// CPU time between two looks at the quota.
const PIECE_NANOS: i64 = 4_000_000;

/// Until it is dropped, the epoch moves on while the thread runs.
pub struct Beat(libc::timer_t);

// SAFETY: a timer's id is a number that any thread of the process may use.
unsafe impl Send for Beat {}

impl Beat {
    /// For thread `tid` of this process. A signal may come after the end, so the engines stay.
    pub fn begin(tid: i32, engines: &'static Engines) -> Result<Self> {
        let doing = || Error::io("timing a container's thread");
        // SAFETY: a zeroed sigevent is valid; the fields that SIGEV_THREAD_ID reads are set.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = beat_signal();
        event.sigev_notify_thread_id = tid;
        event.sigev_value = libc::sigval { sival_ptr: ptr::from_ref(engines).cast_mut().cast() };
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to locals that outlive the call.
        let made =
            unsafe { libc::timer_create(super::clock_of(tid), &raw mut event, &raw mut timer) };
        if made != 0 {
            return Err(doing()(std::io::Error::last_os_error()));
        }
        let beat = Self(timer);
        let piece = libc::timespec { tv_sec: 0, tv_nsec: PIECE_NANOS };
        let each = libc::itimerspec { it_interval: piece, it_value: piece };
        // SAFETY: the timer is there, `each` is a local, and the old value is not asked for.
        if unsafe { libc::timer_settime(beat.0, 0, &raw const each, ptr::null_mut()) } != 0 {
            return Err(doing()(std::io::Error::last_os_error()));
        }
        Ok(beat)
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own and used nowhere else.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// A real-time signal that nothing else uses.
fn beat_signal() -> i32 {
    libc::SIGRTMIN() + 5
}

extern "C" fn beat(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo; only this module's timers carry a pointer, to
    // engines that are never freed. Somebody else's signal of that number is no timer's.
    unsafe {
        if (*info).si_code == libc::SI_TIMER {
            let engines: *const Engines = (*info).si_value().sival_ptr.cast();
            // Two atomic additions.
            (*engines).increment_epoch();
        }
    }
}

/// Installs the signal's handler, with SA_RESTART: no system call is to fail by it. Once per
/// process, before the first guest.
pub fn install_beat_signal() {
    // SAFETY: a zeroed sigaction is valid; the handler does one atomic addition.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = beat;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(beat_signal(), &raw const action, ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::cpu::thread_nanos;

    #[test]
    fn the_epoch_moves_while_its_thread_runs() {
        install_beat_signal();
        let engines: &'static Engines = Box::leak(Box::new(Engines::plain()));
        let engine = &engines.mapped;
        let module = wat::parse_str(r#"(module (func (export "spin") (loop (br 0))))"#).unwrap();
        let module = wasmtime::Module::new(engine, module).unwrap();
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let beat = Beat::begin(own, engines).unwrap();
        let mut store = wasmtime::Store::new(engine, 0_u32);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            *store.data_mut() += 1;
            match *store.data() {
                1..5 => Ok(wasmtime::UpdateDeadline::Continue(1)),
                _ => Err(wasmtime::Error::msg("enough")),
            }
        });
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
        let before = thread_nanos(own);
        assert!(spin.call(&mut store, ()).is_err());
        // The kernel looks at these clocks at its ticks.
        assert!(thread_nanos(own) - before >= 4 * 4_000_000 - 4_000_000);
        drop(beat);
    }
}
