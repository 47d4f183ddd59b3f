//! A container's environment and command line: `env`, `envFrom`, and `$(NAME)` by Kubernetes'
//! rules. Pure: knows the manifest and the pod's identity, no file and no RPC.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::manifest::{Entries, Manifest};
use crate::error::{Error, Result};

/// What `fieldRef` may ask of the pod beyond its manifest.
#[derive(Clone, Debug, Default)]
pub struct PodFacts<'a> {
    pub uid: &'a str,
    pub node_name: &'a str,
    /// The first is the pod's own; empty where it has none of its own.
    pub pod_ips: &'a [String],
    /// This machine's.
    pub host_ips: &'a [String],
}

/// Environment variables in the order of their first definition; each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// The text with `$(NAME)` replaced where the name is known; `$$` is a dollar.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name))
    }
}

/// The environment that the kubelet would give `container`: `envFrom` first, `env` over it.
/// Missing required keys are an error in the kubelet's words.
pub fn environment(
    manifest: &Manifest,
    container: &Container,
    facts: &PodFacts<'_>,
) -> Result<Environment> {
    let mut environment = Environment::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let entries = if let Some(from) = &source.config_map_ref {
            object(manifest, Object::ConfigMap, &from.name, from.optional)?
        } else if let Some(from) = &source.secret_ref {
            object(manifest, Object::Secret, &from.name, from.optional)?
        } else {
            None
        };
        for (key, value) in entries.into_iter().flatten() {
            environment.set(format!("{prefix}{key}"), text(&value.0));
        }
    }
    for variable in container.env.iter().flatten() {
        let given = variable.value.as_deref().unwrap_or_default();
        let value = match &variable.value_from {
            Some(source) if given.is_empty() => match from_source(manifest, source, facts)? {
                Some(value) => value,
                None => continue,
            },
            _ => environment.expand(given),
        };
        environment.set(variable.name.clone(), value);
    }
    Ok(environment)
}

/// `None` for an optional key that is not there: the variable stays undefined.
fn from_source(
    manifest: &Manifest,
    source: &EnvVarSource,
    facts: &PodFacts<'_>,
) -> Result<Option<String>> {
    if let Some(from) = &source.field_ref {
        return field(manifest, &from.field_path, facts).map(Some);
    }
    let (kind, name, key, optional) = if let Some(from) = &source.config_map_key_ref {
        (Object::ConfigMap, &from.name, &from.key, from.optional)
    } else if let Some(from) = &source.secret_key_ref {
        (Object::Secret, &from.name, &from.key, from.optional)
    } else {
        return Err(Error::Invalid("env.valueFrom names no source".to_owned()));
    };
    let Some(entries) = object(manifest, kind, name, optional)? else { return Ok(None) };
    match entries.get(key) {
        Some(value) => Ok(Some(text(&value.0))),
        None if optional == Some(true) => Ok(None),
        None => Err(Error::Invalid(format!(
            "couldn't find key {key} in {} {}/{name}",
            kind.name(),
            manifest.namespace()
        ))),
    }
}

/// A ConfigMap or a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    ConfigMap,
    Secret,
}

impl Object {
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// The object's entries; `None` for an optional one that is not in the manifest.
pub fn object<'a>(
    manifest: &'a Manifest,
    kind: Object,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Entries>> {
    let entries = match kind {
        Object::ConfigMap => manifest.config_maps.get(name),
        Object::Secret => manifest.secrets.get(name),
    };
    if entries.is_none() && optional != Some(true) {
        let kind = kind.name();
        return Err(Error::Invalid(format!(
            "{kind} {name:?} not found: put it beside the Pod in the manifest"
        )));
    }
    Ok(entries)
}

/// The downward API's field paths.
fn field(manifest: &Manifest, path: &str, facts: &PodFacts<'_>) -> Result<String> {
    let metadata = &manifest.pod.metadata;
    let spec = manifest.pod.spec.as_ref();
    let own = |text: Option<&String>| text.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => manifest.name().to_owned(),
        "metadata.namespace" => manifest.namespace().to_owned(),
        "metadata.uid" => facts.uid.to_owned(),
        "metadata.labels" => map_text(metadata.labels.as_ref()),
        "metadata.annotations" => map_text(metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.to_owned(),
        "spec.serviceAccountName" => own(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" => own(facts.pod_ips.first()),
        "status.podIPs" => facts.pod_ips.join(","),
        "status.hostIP" => own(facts.host_ips.first()),
        "status.hostIPs" => facts.host_ips.join(","),
        other => {
            let part =
                |start: &str| other.strip_prefix(start).and_then(|rest| rest.strip_suffix("']"));
            let from = if let Some(key) = part("metadata.labels['") {
                (key, metadata.labels.as_ref())
            } else if let Some(key) = part("metadata.annotations['") {
                (key, metadata.annotations.as_ref())
            } else {
                return Err(Error::Invalid(format!("fieldRef {other:?} is not supported")));
            };
            own(from.1.and_then(|map| map.get(from.0)))
        }
    })
}

/// Kubernetes' fieldpath.FormatMap: one `key="value"` per line, sorted.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Kubernetes' `expansion.Expand`: unknown names stay as they are written.
fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) =
            after.strip_prefix('(').and_then(|inside| inside.split_once(')'))
        {
            match value(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of Kubernetes' own expansion_test.go, by behaviour.
    #[test]
    fn dollar_parentheses_expand_as_in_kubernetes() {
        let known = |name: &str| match name {
            "VAR_A" => Some("A"),
            "VAR_B" => Some("B"),
            "VAR_REF" => Some("$(VAR_A)"),
            "VAR_EMPTY" => Some(""),
            _ => None,
        };
        for (text, expanded) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("$(VAR_A)-1-$(VAR_B)", "A-1-B"),
            ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
            ("$$$(VAR_A)", "$A"),
            ("$$$$$$$(VAR_A)", "$$$A"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("$(VAR_EMPTY)x", "x"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$VAR_A", "$VAR_A"),
            ("$(VAR_A", "$(VAR_A"),
            ("$($(VAR_A)", "$($(VAR_A)"),
            ("foo$", "foo$"),
            ("\n$(VAR_A)é", "\nAé"),
        ] {
            assert_eq!(expand(text, known), expanded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_dollars_stays(text in "[^$]{0,40}") {
            prop_assert_eq!(expand(&text, |_| None), text);
        }

        #[test]
        fn an_escaped_text_expands_to_itself(text in ".{0,40}") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), |_| Some("?")), text);
        }
    }

    fn manifest(containers: &str) -> Manifest {
        Manifest::parse(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{b: '2', a: '1'}}}}\nspec: \
             {{containers: [{containers}]}}\n---\nkind: ConfigMap\napiVersion: v1\nmetadata: \
             {{name: c}}\ndata: {{k: v, HOST: db}}\n---\nkind: Secret\napiVersion: \
             v1\nmetadata: {{name: s}}\nstringData: {{p: secret}}\n"
        ))
        .unwrap()
    }

    fn pairs(containers: &str) -> Result<Vec<(String, String)>> {
        let manifest = manifest(containers);
        let container = manifest.containers().next().unwrap().1;
        let facts = PodFacts { uid: "u-1", ..PodFacts::default() };
        environment(&manifest, container, &facts).map(Environment::into_pairs)
    }

    #[test]
    fn variables_come_from_every_source_and_later_ones_may_use_earlier_ones() {
        let pairs = pairs(
            "{name: a, envFrom: [{prefix: CM_, configMapRef: {name: c}}], env: [{name: X, value: \
             '$(CM_HOST):1'}, {name: Y, valueFrom: {secretKeyRef: {name: s, key: p}}}, {name: \
             CM_k, value: over}, {name: U, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}, \
             {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}, {name: M, \
             valueFrom: {fieldRef: {fieldPath: metadata.labels}}}, {name: O, valueFrom: \
             {configMapKeyRef: {name: none, key: x, optional: true}}}, {name: Z, value: $(LATER)}]}",
        )
        .unwrap();
        let want = [
            ("CM_HOST", "db"),
            ("CM_k", "over"),
            ("X", "db:1"),
            ("Y", "secret"),
            ("U", "u-1"),
            ("L", "1"),
            ("M", "a=\"1\"\nb=\"2\""),
            ("Z", "$(LATER)"),
        ];
        let want: Vec<_> = want.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(pairs, want);
    }

    #[test]
    fn a_missing_required_key_is_named() {
        let error =
            pairs("{name: a, env: [{name: X, valueFrom: {configMapKeyRef: {name: c, key: q}}}]}");
        assert_eq!(error.unwrap_err().to_string(), "couldn't find key q in ConfigMap default/c");
        let error = pairs("{name: a, envFrom: [{secretRef: {name: q}}]}").unwrap_err().to_string();
        assert!(error.starts_with("Secret \"q\" not found"), "{error}");
    }
}
