//! A small durable state, one for each plugin, which outlives the daemon and the machine's reboot;
//! a pod's hooks have one of the pod's, which goes with it (interface `kv`). Keys are 1 to 256
//! bytes, values at most 64 KiB, both together at most 1 MiB in a plugin.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Result, backend};

/// A value that [`set`] wrote. What is there but cannot be read so is an error.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    get_bytes(key)?
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .context(format!("reading \"{key}\""))
}

/// Written as JSON. Durable when it returns.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).context(format!("writing \"{key}\""))?;
    set_bytes(key, &bytes)
}

/// None where the key is not there.
pub fn get_bytes(key: &str) -> Result<Option<Vec<u8>>> {
    backend::kv::get(key)
}

/// Durable when it returns.
pub fn set_bytes(key: &str, value: &[u8]) -> Result<()> {
    backend::kv::set(key, value)
}

/// Durable when it returns. A key that is not there is no error.
pub fn delete(key: &str) -> Result<()> {
    backend::kv::delete(key)
}

/// The keys that begin with `prefix`, all of them where it is empty, in the order of their bytes.
pub fn keys(prefix: &str) -> Result<Vec<String>> {
    backend::kv::keys(prefix)
}
