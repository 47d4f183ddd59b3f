//! The daemon's log, with the plugin's name (interface `log`).

use crate::backend;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One line: control characters become spaces, and what is longer than 4 KiB is cut.
pub fn write(level: Level, text: &str) {
    backend::log::write(level, text);
}

/// A line in the daemon's log, as `format!` has it.
#[macro_export]
macro_rules! debug {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($text)*)) };
}

/// A line in the daemon's log, as `format!` has it.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($text)*)) };
}

/// A line in the daemon's log, as `format!` has it.
#[macro_export]
macro_rules! warn {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($text)*)) };
}

/// A line in the daemon's log, as `format!` has it.
#[macro_export]
macro_rules! error {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($text)*)) };
}
