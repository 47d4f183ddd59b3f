//! CRI messages to the model and back, one file per noun. Pure: what CRI cannot say or wasmpod
//! does not give is an error that names the field.

pub mod container;
pub mod image;
pub mod metrics;
pub mod resources;
pub mod sandbox;
pub mod stats;
pub mod stored;

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, Result};

fn sorted(map: HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

fn unsorted(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A message field that has to be there.
pub(super) fn required<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| Error::Invalid(format!("{name} is missing")))
}

/// An enum field's value; a number that the enum does not have is an error.
pub(super) fn known<E: TryFrom<i32>>(number: i32, name: &str) -> Result<E> {
    E::try_from(number).map_err(|_| Error::Invalid(format!("{name} = {number} is not known")))
}
