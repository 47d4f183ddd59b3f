//! A panic's text goes to the daemon's log before the trap, which would say nothing of it.

use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use crate::log::{self, Level};

/// Once for each instance, before the author's code runs.
pub fn report() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|info| log::write(Level::Error, &told(info)))));
}

fn told(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("something that is no text");
    match info.location() {
        Some(place) => format!("panicked at {}:{}: {text}", place.file(), place.line()),
        None => format!("panicked: {text}"),
    }
}
