//! Moves the engines' epoch on while guests share a thread, so that each yields in turn. Guests
//! with threads of their own need none: for them the epoch moves when one of them is killed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use crate::engine::Engines;

/// How long one guest may run before the next has its turn.
const TICK: Duration = Duration::from_millis(5);

/// One per shim. Its thread begins with the first guest that wants it, sleeps while none does,
/// and ends with the ticker.
pub struct Ticker {
    engines: Engines,
    wanted: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// The epoch moves while there is one.
pub struct Ticking(Arc<Ticker>);

impl Ticker {
    pub fn new(engines: Engines) -> Arc<Self> {
        Arc::new(Self {
            engines,
            wanted: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        })
    }

    pub fn tick(self: &Arc<Self>) -> Ticking {
        self.wanted.fetch_add(1, Ordering::SeqCst);
        let thread = self.thread.get_or_init(|| {
            let ticker = Arc::downgrade(self);
            let spawned = std::thread::Builder::new()
                .name("ticker".to_owned())
                .stack_size(64 << 10)
                .spawn(move || live(&ticker));
            match spawned {
                Ok(handle) => handle.thread().clone(),
                Err(error) => {
                    tracing::error!(%error, "guests of one thread take no turns: no ticker");
                    std::thread::current()
                }
            }
        });
        if self.asleep.swap(false, Ordering::SeqCst) {
            thread.unpark();
        }
        Ticking(self.clone())
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

fn live(ticker: &Weak<Ticker>) {
    loop {
        let Some(held) = ticker.upgrade() else { return };
        if held.wanted.load(Ordering::SeqCst) > 0 {
            held.engines.increment_epoch();
            drop(held);
            std::thread::sleep(TICK);
            continue;
        }
        held.asleep.store(true, Ordering::SeqCst);
        // Who came between the look and the store has not seen it.
        if held.wanted.load(Ordering::SeqCst) > 0 {
            held.asleep.store(false, Ordering::SeqCst);
            continue;
        }
        drop(held);
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_spins_gives_way_while_it_is_wanted() {
        let engines = Engines::plain();
        let ticker = Ticker::new(engines.clone());
        let engine = engines.mapped;
        let module = wasmtime::Module::new(
            &engine,
            wat::parse_str(r#"(module (func (export "spin") (loop (br 0))))"#).unwrap(),
        )
        .unwrap();
        // Twice: the second time the thread has slept or is about to.
        for _ in 0..2 {
            let _ticking = ticker.tick();
            let mut store = wasmtime::Store::new(&engine, 0_u32);
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|mut store| {
                *store.data_mut() += 1;
                match *store.data() {
                    1..3 => Ok(wasmtime::UpdateDeadline::Continue(1)),
                    _ => Err(wasmtime::Error::msg("enough")),
                }
            });
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
            assert!(spin.call(&mut store, ()).is_err());
            assert_eq!(*store.data(), 3);
        }
    }

    #[test]
    fn its_thread_ends_with_it() {
        let ticker = Ticker::new(Engines::plain());
        let ticking = ticker.tick();
        let weak = Arc::downgrade(&ticker);
        drop((ticking, ticker));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while weak.strong_count() > 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
