//! Reads a manifest's document into a Kubernetes type, strictly: a field that Kubernetes does
//! not know and a field that wasmpod cannot honour are errors that name it. Knows the lists of
//! honoured fields; what their values may be is `validate`'s.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// Fields of a Pod that are honoured, or that are about other nodes, schedulers and servers and
/// so change nothing here. What lies below a listed field is honoured whole.
const POD: &[&str] = &[
    "apiVersion",
    "kind",
    "status",
    "metadata.name",
    "metadata.generateName",
    "metadata.namespace",
    "metadata.labels",
    "metadata.annotations",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.selfLink",
    "spec.activeDeadlineSeconds",
    "spec.automountServiceAccountToken",
    "spec.dnsConfig",
    "spec.dnsPolicy",
    "spec.enableServiceLinks",
    "spec.hostAliases",
    "spec.hostNetwork",
    "spec.hostname",
    "spec.imagePullSecrets",
    "spec.nodeName",
    "spec.os",
    "spec.preemptionPolicy",
    "spec.priority",
    "spec.priorityClassName",
    "spec.restartPolicy",
    "spec.runtimeClassName",
    "spec.schedulerName",
    "spec.securityContext.appArmorProfile",
    "spec.securityContext.fsGroup",
    "spec.securityContext.fsGroupChangePolicy",
    "spec.securityContext.runAsGroup",
    "spec.securityContext.runAsNonRoot",
    "spec.securityContext.runAsUser",
    "spec.securityContext.seccompProfile",
    "spec.securityContext.supplementalGroups",
    "spec.securityContext.supplementalGroupsPolicy",
    "spec.subdomain",
    "spec.terminationGracePeriodSeconds",
    "spec.tolerations",
    "spec.volumes.name",
    "spec.volumes.configMap",
    "spec.volumes.emptyDir",
    "spec.volumes.hostPath",
    "spec.volumes.secret",
];

/// Fields of each container and init container.
const CONTAINER: &[&str] = &[
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "env.name",
    "env.value",
    "env.valueFrom.configMapKeyRef",
    "env.valueFrom.secretKeyRef",
    "env.valueFrom.fieldRef",
    "envFrom",
    "lifecycle.postStart.exec",
    "lifecycle.postStart.sleep",
    "lifecycle.preStop.exec",
    "lifecycle.preStop.sleep",
    "ports",
    "resources.limits",
    "resources.requests",
    "restartPolicy",
    "securityContext.allowPrivilegeEscalation",
    "securityContext.appArmorProfile",
    "securityContext.capabilities.drop",
    "securityContext.privileged",
    "securityContext.procMount",
    "securityContext.readOnlyRootFilesystem",
    "securityContext.runAsGroup",
    "securityContext.runAsNonRoot",
    "securityContext.runAsUser",
    "securityContext.seccompProfile",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

const CONTAINER_LISTS: &[&str] = &["spec.containers", "spec.initContainers"];

/// Fields whose `false` asks for something: here a user namespace of the pod's own.
const FALSE_ASKS: &[&str] = &["spec.hostUsers"];

/// ConfigMaps and Secrets are honoured whole.
const WHOLE: &[&str] =
    &["apiVersion", "kind", "metadata", "data", "binaryData", "stringData", "immutable", "type"];

/// Which list a document is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honoured {
    Pod,
    Whole,
}

/// Reads `document`. The error is one line with the path of the field at fault.
pub fn read<T: DeserializeOwned>(document: &Value, honoured: Honoured) -> Result<T> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(document, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown.push(render(&path));
    });
    if let Some(path) = unknown.first() {
        return Err(Error::Invalid(format!("unknown field {path}{}", hint(path))));
    }
    let value = read.map_err(|error| {
        let path = track.path().to_string();
        let at = if path == "." { String::new() } else { format!("{path}: ") };
        Error::Invalid(format!("{at}{error}"))
    })?;
    walk(document, &Place::default(), honoured)?;
    Ok(value)
}

/// "spec.containers[0].nmae", as serde_path_to_error writes it.
fn render(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent, key } => {
            let parent = render(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => render(parent),
    }
}

/// A field of a similar name, for typing errors.
fn hint(path: &str) -> String {
    let (parent, wrong) = path.rsplit_once('.').unwrap_or(("", path));
    let pattern = without_indices(parent);
    let candidates = patterns(Honoured::Pod).filter_map(|known| {
        let below = if pattern.is_empty() {
            Some(known.as_str())
        } else {
            known.strip_prefix(pattern.as_str())?.strip_prefix('.')
        };
        below.and_then(|rest| rest.split('.').next()).map(str::to_owned)
    });
    candidates
        .map(|known| (distance(&known, wrong), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map_or(String::new(), |(_, known)| format!(" (is {known} meant?)"))
}

/// Single-letter changes and swaps of neighbours from one word to the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let at = |row: &[usize], k: usize| row.get(k).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (at(&row, j) + usize::from(a != b)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped =
                i > 0 && j > 0 && left.get(i - 1) == Some(b) && right.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

fn patterns(honoured: Honoured) -> impl Iterator<Item = String> {
    let (fields, lists) = match honoured {
        Honoured::Pod => (POD, CONTAINER_LISTS),
        Honoured::Whole => (WHOLE, &[][..]),
    };
    fields.iter().map(|field| (*field).to_owned()).chain(
        lists.iter().flat_map(|list| CONTAINER.iter().map(move |field| format!("{list}.{field}"))),
    )
}

fn without_indices(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => out.push(letter),
            _ => {}
        }
    }
    out
}

/// Where the walk is: as shown to people, and without indices.
#[derive(Clone, Debug, Default)]
struct Place {
    shown: String,
    pattern: String,
}

impl Place {
    fn field(&self, key: &str) -> Self {
        let join = |path: &str| {
            if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
        };
        Self { shown: join(&self.shown), pattern: join(&self.pattern) }
    }

    fn item(&self, index: usize) -> Self {
        Self { shown: format!("{}[{index}]", self.shown), pattern: self.pattern.clone() }
    }
}

enum Standing {
    /// Listed: everything below is honoured.
    Honoured,
    /// On the way to something listed.
    Above,
    Unlisted,
}

fn standing(pattern: &str, honoured: Honoured) -> Standing {
    if pattern.is_empty() {
        return Standing::Above;
    }
    let mut standing = Standing::Unlisted;
    for known in patterns(honoured) {
        if known == pattern {
            return Standing::Honoured;
        }
        if known.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.')) {
            standing = Standing::Above;
        }
    }
    standing
}

fn walk(value: &Value, place: &Place, honoured: Honoured) -> Result<()> {
    match standing(&place.pattern, honoured) {
        Standing::Honoured => return Ok(()),
        Standing::Unlisted if FALSE_ASKS.contains(&place.pattern.as_str()) => {
            if *value == Value::Bool(false) {
                return Err(Error::Refused(format!("{}: false is not supported yet", place.shown)));
            }
            return Ok(());
        }
        Standing::Unlisted if asks_for_something(value) => {
            return Err(Error::Refused(format!("{} is not supported yet", place.shown)));
        }
        Standing::Unlisted => return Ok(()),
        Standing::Above => {}
    }
    match value {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, value)| walk(value, &place.field(key), honoured))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| walk(value, &place.item(index), honoured)),
        _ => Ok(()),
    }
}

/// Empty and false ask for nothing, so that `securityContext: {}` and `hostPID: false` pass.
fn asks_for_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => items.iter().any(asks_for_something),
        Value::Object(fields) => fields.values().any(asks_for_something),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn error_of(spec: Value) -> String {
        let document = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
        read::<Pod>(&document, Honoured::Pod).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_place_and_the_right_word() {
        assert_eq!(
            error_of(json!({"contianers": []})),
            "unknown field spec.contianers (is containers meant?)"
        );
        assert_eq!(
            error_of(json!({"containers": [{"name": "a"}, {"name": "b", "comand": ["x"]}]})),
            "unknown field spec.containers[1].comand (is command meant?)"
        );
        assert_eq!(error_of(json!({"quux": 1})), "unknown field spec.quux");
    }

    #[test]
    fn a_field_that_cannot_be_honoured_is_named() {
        assert_eq!(
            error_of(json!({"containers": [{"name": "a", "livenessProbe": {"periodSeconds": 1}}]})),
            "spec.containers[0].livenessProbe is not supported yet"
        );
        assert_eq!(
            error_of(json!({"initContainers": [{"name": "a", "securityContext":
                    {"runAsUser": 0, "seLinuxOptions": {"type": "t"}}}]})),
            "spec.initContainers[0].securityContext.seLinuxOptions is not supported yet"
        );
        assert_eq!(
            error_of(json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]})),
            "spec.volumes[0].nfs is not supported yet"
        );
        assert_eq!(
            error_of(json!({"containers": [{"name": "a", "tty": true}]})),
            "spec.containers[0].tty is not supported yet"
        );
        assert_eq!(
            error_of(json!({"containers": [{"name": "a", "securityContext":
                {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}]})),
            "spec.containers[0].securityContext.capabilities.add is not supported yet"
        );
    }

    #[test]
    fn a_user_namespace_is_asked_for_by_a_false_and_refused() {
        assert_eq!(
            error_of(json!({"hostUsers": false})),
            "spec.hostUsers: false is not supported yet"
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let says =
            error_of(json!({"containers": [{"name": "a", "env": [{"name": "X", "value": 5}]}]}));
        assert!(says.starts_with("spec.containers[0].env[0].value: invalid type"), "{says}");
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        let document = json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "securityContext": {}, "hostPID": false, "hostUsers": true, "affinity": null,
            "containers": [{"name": "a", "livenessProbe": null, "resources": {}}]}});
        read::<Pod>(&document, Honoured::Pod).unwrap();
    }
}
