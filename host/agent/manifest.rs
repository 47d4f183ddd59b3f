//! What `wasmpod run` is given: one Pod with the ConfigMaps and Secrets beside it, as YAML or
//! JSON documents. Knows the file's shape; the fields are `strict`'s and `validate`'s.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::strict::{self, Honoured};
use crate::error::{Error, Result};

/// Keys and contents of a ConfigMap or Secret.
pub type Entries = BTreeMap<String, ByteString>;

/// A pod and what it refers to. The pod has a spec, a name and a namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub pod: Pod,
    /// By name; all in the pod's namespace.
    pub config_maps: BTreeMap<String, Entries>,
    pub secrets: BTreeMap<String, Entries>,
}

impl Manifest {
    /// Reads the documents. The error is one line naming the document and field at fault.
    pub fn parse(text: &str) -> Result<Self> {
        // As the API server reads YAML: 0644 is octal; "yes" and "y" stay words, since a name
        // or a value is more often meant than a truth.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            legacy_octal_numbers: true,
            with_snippet: false,
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| Error::Invalid(format!("manifest: {}", fault(&error))))?;
        let mut items = Vec::new();
        documents.into_iter().for_each(|document| flatten(document, &mut items));
        let mut pods = Vec::new();
        let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            let kind = item.get("kind").and_then(Value::as_str).unwrap_or_default();
            let version = item.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
            match (version, kind) {
                ("v1", "Pod") => pods.push(strict::read::<Pod>(item, Honoured::Pod)?),
                ("v1", "ConfigMap") => {
                    config_maps.push(strict::read::<ConfigMap>(item, Honoured::Whole)?);
                }
                ("v1", "Secret") => secrets.push(strict::read::<Secret>(item, Honoured::Whole)?),
                (_, "") => {
                    return Err(Error::Invalid(format!("document {} has no kind", index + 1)));
                }
                (version, kind) => {
                    return Err(Error::Refused(format!(
                        "document {} is a {kind} of {version:?}: a v1 Pod is wanted, with v1 \
                         ConfigMaps and Secrets beside it",
                        index + 1
                    )));
                }
            }
        }
        let count = pods.len();
        let (Some(mut pod), 1) = (pods.pop(), count) else {
            return Err(Error::Invalid(match count {
                0 => "the manifest has no Pod".to_owned(),
                more => format!("the manifest has {more} Pods: run them one file at a time"),
            }));
        };
        name(&mut pod);
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let maps = config_maps.into_iter().map(|map| (map.metadata.clone(), map_entries(map)));
        let secrets = secrets.into_iter().map(|map| (map.metadata.clone(), secret_entries(map)));
        Ok(Self {
            config_maps: by_name("ConfigMap", &namespace, maps)?,
            secrets: by_name("Secret", &namespace, secrets)?,
            pod,
        })
    }

    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn spec(&self) -> Result<&PodSpec> {
        self.pod.spec.as_ref().ok_or_else(|| Error::Invalid("spec is missing".to_owned()))
    }

    /// Init containers in their order, then app containers, each with its field's path.
    pub fn containers(&self) -> impl Iterator<Item = (String, &Container)> {
        let spec = self.pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let app = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let named = |list: &'static str| {
            move |(index, container)| (format!("spec.{list}[{index}]"), container)
        };
        let init = init.iter().enumerate().map(named("initContainers"));
        init.chain(app.iter().enumerate().map(named("containers")))
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers().map(|(_, container)| container).find(|c| c.name == name)
    }
}

/// Takes `kind: List` apart and leaves empty documents out.
fn flatten(document: Value, into: &mut Vec<Value>) {
    let is_list = document.get("kind").and_then(Value::as_str) == Some("List");
    match document {
        Value::Null => {}
        Value::Object(mut fields) if is_list => {
            if let Some(Value::Array(items)) = fields.remove("items") {
                items.into_iter().for_each(|item| flatten(item, into));
            }
        }
        other => into.push(other),
    }
}

/// Fills in the namespace, and a name made from generateName.
fn name(pod: &mut Pod) {
    let metadata = &mut pod.metadata;
    if metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        metadata.namespace = Some("default".to_owned());
    }
    let unnamed = metadata.name.as_deref().unwrap_or_default().is_empty();
    if let (true, Some(stem)) = (unnamed, metadata.generate_name.clone()) {
        let id = crate::model::ids::ShimId::random();
        metadata.name = Some(format!("{stem}{}", id.as_str().get(..5).unwrap_or_default()));
    }
}

fn map_entries(map: ConfigMap) -> Entries {
    let text = map.data.unwrap_or_default().into_iter();
    let mut entries = map.binary_data.unwrap_or_default();
    entries.extend(text.map(|(key, value)| (key, ByteString(value.into_bytes()))));
    entries
}

/// `stringData` wins over `data`, as in the API server.
fn secret_entries(secret: Secret) -> Entries {
    let text = secret.string_data.unwrap_or_default().into_iter();
    let mut entries = secret.data.unwrap_or_default();
    entries.extend(text.map(|(key, value)| (key, ByteString(value.into_bytes()))));
    entries
}

type Named = (k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, Entries);

fn by_name(
    kind: &str,
    namespace: &str,
    objects: impl Iterator<Item = Named>,
) -> Result<BTreeMap<String, Entries>> {
    let mut found = BTreeMap::new();
    for (metadata, entries) in objects {
        let name = metadata.name.filter(|name| !name.is_empty()).ok_or_else(|| {
            Error::Invalid(format!("a {kind} of the manifest has no metadata.name"))
        })?;
        let other = metadata.namespace.filter(|other| !other.is_empty() && other != namespace);
        if let Some(other) = other {
            return Err(Error::Invalid(format!(
                "{kind} {name} is in namespace {other}, the pod in {namespace}"
            )));
        }
        if let Some(key) = entries.keys().find(|key| !is_key(key)) {
            return Err(Error::Invalid(format!(
                "{kind} {name}: key {key:?} is not made of letters, digits, '-', '_' and '.'"
            )));
        }
        if found.insert(name.clone(), entries).is_some() {
            return Err(Error::Invalid(format!("{kind} {name} is in the manifest twice")));
        }
    }
    Ok(found)
}

/// Kubernetes' rule for ConfigMap and Secret keys, which become file names.
fn is_key(key: &str) -> bool {
    let letters = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    letters && !key.is_empty() && key.len() <= 253 && key != "." && !key.starts_with("..")
}

/// What is wrong with the YAML, in one line.
fn fault(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::DuplicateMappingKey { key, location } = error.without_snippet() {
        let key = key.as_ref().map_or("a key".to_owned(), |key| format!("the key {key}"));
        let (line, column) = (location.line(), location.column());
        return format!("line {line} column {column}: {key} is there twice");
    }
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n";

    #[test]
    fn documents_of_one_file_are_put_together() {
        let text = format!(
            "---\n{POD}---\n---\nkind: Secret\napiVersion: v1\nmetadata: {{name: s}}\ndata: \
             {{k: b2xk, l: aQ==}}\nstringData: {{k: new}}\n---\n{{\"kind\": \"ConfigMap\", \
             \"apiVersion\": \"v1\", \"metadata\": {{\"name\": \"c\"}}, \"data\": {{\"x\": \"y\"}}}}\n"
        );
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!((manifest.namespace(), manifest.name()), ("default", "a"));
        assert_eq!(manifest.secrets["s"]["k"].0, b"new");
        assert_eq!(manifest.secrets["s"]["l"].0, b"i");
        assert_eq!(manifest.config_maps["c"]["x"].0, b"y");
        let copy: Manifest =
            serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
        assert_eq!(copy, manifest);
    }

    #[test]
    fn modes_are_octal_and_words_are_words() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: y, \
                    env: [{name: N, value: no}], resources: {limits: {cpu: 0.5, memory: 1}}}], \
                    volumes: [{name: v, secret: {secretName: s, defaultMode: 0440}}]}\n";
        let manifest = Manifest::parse(text).unwrap();
        let spec = manifest.spec().unwrap();
        let secret = spec.volumes.as_ref().unwrap()[0].secret.as_ref().unwrap();
        assert_eq!(secret.default_mode, Some(0o440));
        assert_eq!(spec.containers[0].name, "y");
        let limits = spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
        assert_eq!(limits["cpu"].0, "0.5");
    }

    #[test]
    fn other_kinds_several_pods_and_none_are_refused() {
        for (text, says) in [
            (format!("{POD}---\n{POD}"), "2 Pods"),
            ("kind: ConfigMap\napiVersion: v1\nmetadata: {name: c}\n".to_owned(), "no Pod"),
            ("kind: Deployment\napiVersion: apps/v1\n".to_owned(), "is a Deployment"),
            ("a: [".to_owned(), "manifest:"),
            (
                "kind: Pod\nspec:\n  containers: []\n  containers: []\n".to_owned(),
                "manifest: line 4 column 3: the key containers is there twice",
            ),
            ("x: 1\n".to_owned(), "has no kind"),
            (
                format!(
                    "{POD}---\nkind: ConfigMap\napiVersion: v1\nmetadata: {{name: c}}\ndata: {{\"a/b\": x}}\n"
                ),
                "a/b",
            ),
        ] {
            let error = Manifest::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
