//! What a plugin asks for: its manifest, and what it is granted of that. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;
use wasmparser::{Parser, Payload};

use crate::config::PluginConfig;
use crate::error::{Error, Result};
use crate::interface::covers;

/// The custom section that the SDK writes.
pub const SECTION: &str = "wasmpod:plugin";

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// Interfaces, or "interface.function".
    pub functions: Vec<String>,
    pub fields: Vec<String>,
    pub namespaces: Vec<String>,
}

impl Manifest {
    /// The manifest in the component, or the one `beside` it; `None` where there is neither.
    pub fn of(wasm: &[u8], beside: Option<&str>) -> Result<Option<Self>> {
        let sections = Parser::new(0).parse_all(wasm).map_while(std::result::Result::ok);
        let own = sections.filter_map(|payload| match payload {
            Payload::CustomSection(section) if section.name() == SECTION => {
                Some(String::from_utf8_lossy(section.data()).into_owned())
            }
            _ => None,
        });
        let Some(text) = own.last().or_else(|| beside.map(str::to_owned)) else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::Invalid(format!("its manifest cannot be read: {error}")))
    }
}

/// What a plugin may do: what it asked for and was granted.
#[derive(Clone, Debug)]
pub struct Grants {
    fields: Vec<String>,
    /// Empty: whose pods it sees is the configuration's alone to say.
    namespaces: Vec<String>,
}

impl Grants {
    /// To change these fields.
    pub fn of(fields: Vec<String>) -> Self {
        Self { fields, namespaces: Vec::new() }
    }

    /// The error names what was asked for or is imported, and not granted.
    pub fn settle(
        manifest: &Manifest,
        imports: &BTreeSet<String>,
        config: &PluginConfig,
    ) -> Result<Self> {
        for function in imports {
            if !covers(&config.functions, function) {
                return Err(Error::Denied(format!(
                    "it needs {function}, which is not granted: add it to the plugin's functions"
                )));
            }
        }
        if let Some(field) = manifest.fields.iter().find(|field| !covers(&config.fields, field)) {
            return Err(Error::Denied(format!(
                "it needs to change {field}, which is not granted: add it to the plugin's fields"
            )));
        }
        let wants = |namespace: &&String| *namespace != "*" && !config.sees(namespace);
        if let Some(namespace) = manifest.namespaces.iter().find(wants) {
            return Err(Error::Denied(format!(
                "it needs the pods of namespace {namespace}, which is not granted: add it to the \
                 plugin's namespaces"
            )));
        }
        Ok(Self { fields: manifest.fields.clone(), namespaces: manifest.namespaces.clone() })
    }

    /// Whether it asked for the pods of a namespace.
    pub fn sees(&self, namespace: &str) -> bool {
        let mut asked = self.namespaces.iter();
        self.namespaces.is_empty() || asked.any(|asked| asked == "*" || asked == namespace)
    }

    /// Whether it may change a field, such as "resources.cpuset-cpus".
    pub fn field(&self, field: &str) -> bool {
        covers(&self.fields, field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn what_is_not_asked_for_or_not_granted_is_named() {
        let imports: BTreeSet<String> = [String::from("cpu.pin"), "kv.get".into()].into();
        let manifest = Manifest {
            functions: texts(&["cpu", "kv.get"]),
            fields: texts(&["env", "resources.cpuset-cpus"]),
            namespaces: texts(&["a"]),
        };
        let mut config = PluginConfig::default();
        let mut said = |functions: &[&str], fields: &[&str], namespaces: &[&str]| {
            config.functions = texts(functions);
            config.fields = texts(fields);
            config.namespaces = texts(namespaces);
            Grants::settle(&manifest, &imports, &config).map_err(|error| error.to_string())
        };
        assert!(said(&["kv"], &["*"], &["*"]).unwrap_err().contains("cpu.pin"));
        assert!(said(&["*"], &["env"], &["*"]).unwrap_err().contains("resources.cpuset-cpus"));
        assert!(said(&["*"], &["*"], &["b"]).unwrap_err().contains("namespace a"));
        let grants = said(&["cpu.pin", "kv"], &["env", "resources"], &["a"]).unwrap();
        assert!(grants.field("env") && grants.field("resources.cpuset-cpus"));
        assert!(!grants.field("args") && !grants.field("resources.memory-limit"));
    }

    #[test]
    fn a_manifest_is_in_the_component_or_beside_it() {
        let text =
            r#"(component (core module (@custom "wasmpod:plugin" "{\"fields\": [\"env\"]}")))"#;
        let wasm = wat::parse_str(text).unwrap();
        let found = Manifest::of(&wasm, Some("{}")).unwrap().unwrap();
        assert_eq!(found.fields, ["env"]);
        let bare = wat::parse_str("(component)").unwrap();
        assert_eq!(Manifest::of(&bare, None).unwrap(), None);
        assert_eq!(Manifest::of(&bare, Some("{}")).unwrap(), Some(Manifest::default()));
        let error = Manifest::of(&bare, Some("{\"field\": 1}")).unwrap_err().to_string();
        assert!(error.contains("field"), "{error}");
    }
}
