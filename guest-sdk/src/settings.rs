//! What the node's configuration says to a plugin.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Context, Error, Result};

/// The table `[plugins.NAME.settings]` of the node's configuration; empty where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings(Value);

impl Settings {
    /// An error where the text is not a JSON object.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(if text.trim().is_empty() { "{}" } else { text })
            .context("the settings are no JSON")?;
        match value {
            Value::Object(_) => Ok(Self(value)),
            Value::Null => Ok(Self::default()),
            other => Err(Error::new(format!("the settings are no table, but {other}"))),
        }
    }

    /// The whole of them.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.0.clone()).context("settings")
    }

    /// One of the first level.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.0
            .get(key)
            .map(|value| serde_json::from_value(value.clone()))
            .transpose()
            .context(format!("settings.{key}"))
    }

    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self(Value::Object(Default::default()))
    }
}

/// For tests: `Settings::from(json!({...}))`. What is no object counts as empty.
impl From<Value> for Settings {
    fn from(value: Value) -> Self {
        if value.is_object() { Self(value) } else { Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named() {
        let settings = Settings::from_json(r#"{"count": "two"}"#).unwrap();
        assert_eq!(settings.get::<String>("count").unwrap().as_deref(), Some("two"));
        assert_eq!(settings.get::<u32>("missing").unwrap(), None);
        let error = settings.get::<u32>("count").unwrap_err().to_string();
        assert!(error.starts_with("settings.count: invalid type: string \"two\""), "{error}");
    }

    #[test]
    fn nothing_is_an_empty_table_and_a_list_is_refused() {
        assert_eq!(Settings::from_json("").unwrap(), Settings::default());
        assert_eq!(Settings::from_json("null").unwrap(), Settings::default());
        let error = Settings::from_json("[1]").unwrap_err().to_string();
        assert_eq!(error, "the settings are no table, but [1]");
    }
}
