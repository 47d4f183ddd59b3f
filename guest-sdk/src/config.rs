//! The plugin's settings, at any time (interface `config`). [`configure`](crate::Plugin::configure)
//! is given the same.

use crate::{Result, Settings, backend};

/// The whole of them; empty where there are none.
pub fn settings() -> Result<Settings> {
    Settings::from_json(&backend::config::all())
}

/// One of the first level: a text as it is, anything else as JSON. None where there is none.
pub fn get(key: &str) -> Option<String> {
    backend::config::get(key)
}
