//! What differs between two JSON values, field by field.

use serde::Serialize;
use serde_json::Value;

use crate::cli::output::Paint;

/// A field that is another than it was; `None`: it is not there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Keys with dots between them.
    pub field: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// In the order of the fields' names.
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", (Some(before), Some(after)), &mut found);
    found
}

/// One line for each that goes and each that comes.
pub fn lines(differences: &[Difference], paint: Paint) -> String {
    let mut text = String::new();
    for Difference { field, before, after } in differences {
        for (sign, value, color) in [("-", before, "31"), ("+", after, "32")] {
            if let Some(value) = value {
                text += &paint.text(&format!("{sign} {field} = {value}"), color);
                text.push('\n');
            }
        }
    }
    text
}

fn compare(
    field: &str,
    (before, after): (Option<&Value>, Option<&Value>),
    into: &mut Vec<Difference>,
) {
    if before == after {
        return;
    }
    let (old, new) = (before.and_then(fields), after.and_then(fields));
    if old.is_none() && new.is_none() {
        let (before, after) = (before.cloned(), after.cloned());
        into.push(Difference { field: field.to_owned(), before, after });
        return;
    }
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let get = |from: &[(String, &Value)], key: &str| -> Option<Value> {
        from.iter().find(|(known, _)| known == key).map(|(_, value)| (*value).clone())
    };
    let mut keys: Vec<&String> = old.iter().chain(&new).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = match field {
            "" => quoted(key),
            field => format!("{field}.{}", quoted(key)),
        };
        let (old, new) = (get(&old, key), get(&new, key));
        compare(&path, (old.as_ref(), new.as_ref()), into);
    }
}

/// What a value is compared by: an object's fields; mounts by their place in the container.
fn fields(value: &Value) -> Option<Vec<(String, &Value)>> {
    match value {
        Value::Object(fields) => Some(fields.iter().map(|(key, v)| (key.clone(), v)).collect()),
        Value::Array(items) if !items.is_empty() => {
            let path = |item: &Value| item.get("containerPath")?.as_str().map(str::to_owned);
            items.iter().map(|item| Some((path(item)?, item))).collect()
        }
        _ => None,
    }
}

/// As it is where a dot cannot be mistaken.
fn quoted(key: &str) -> String {
    let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_/".contains(c));
    if is_plain && !key.is_empty() { key.to_owned() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_that_differs_is_told_by_its_path() {
        let before = json!({
            "args": ["a"], "env": {"KEPT": "1", "GONE": "2"}, "memory": 1, "mounts": [],
            "annotations": {},
        });
        let after = json!({
            "args": ["a", "b"], "env": {"KEPT": "1"}, "memory": 1,
            "mounts": [{"containerPath": "/data", "hostPath": "/srv"}],
            "annotations": {"told.example/by": "x"},
        });
        let expected = "+ annotations.\"told.example/by\" = \"x\"\n\
                        - args = [\"a\"]\n\
                        + args = [\"a\",\"b\"]\n\
                        - env.GONE = \"2\"\n\
                        + mounts./data.containerPath = \"/data\"\n\
                        + mounts./data.hostPath = \"/srv\"\n";
        assert_eq!(lines(&differences(&before, &after), Paint::Plain), expected);
        let (red, green) = ("\x1b[31m- a = 1\x1b[0m\n", "\x1b[32m+ a = 2\x1b[0m\n");
        let found = differences(&json!({"a": 1}), &json!({"a": 2}));
        assert_eq!(lines(&found, Paint::Coloured), format!("{red}{green}"));
    }
}
