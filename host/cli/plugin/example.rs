//! Fixtures to begin with: `wasmpod plugin run --example HOOK`.

use crate::error::Result;
use crate::lifecycle::trial::Hook;

const POD: &str = r#""pod": {
    "name": "web",
    "namespace": "default",
    "labels": { "app": "web" },
    "annotations": {}
  }"#;
const CONTAINER: &str = r#""container": {
    "name": "app",
    "image": "registry.example/app:1",
    "args": ["/app.wasm"],
    "env": { "HOME": "/" },
    "mounts": [],
    "annotations": {},
    "resources": { "cpuShares": 1024, "memoryLimit": 67108864 }
  }"#;
const EXITED: &str = r#""container": {
    "name": "app",
    "image": "registry.example/app:1",
    "args": ["/app.wasm"],
    "exit": { "code": 0 }
  }"#;
const IMAGE: &str = r#""image": {
    "tags": ["registry.example/app:1"],
    "digests": [],
    "size": 100000
  }"#;
const WANTED: &str = r#""wanted": { "memoryLimit": 134217728 }"#;
const PRESENT: &str = r#""pods": [{ "name": "db" }],
  "containers": [{ "name": "main", "pod": "db" }]"#;
const SETTINGS: &str = r#""settings": {}"#;

/// A fixture for the hook of this name.
pub fn text(hook: &str) -> Result<String> {
    let (name, hook) = Hook::parse(hook)?;
    let parts: &[&str] = match hook {
        Hook::Life => &[PRESENT],
        Hook::ImagePulled => &[IMAGE],
        Hook::Pod(_) => &[POD],
        Hook::UpdatePod => &[POD, WANTED],
        Hook::Update => &[POD, CONTAINER, WANTED],
        _ if hook.is_over() => &[POD, EXITED],
        _ => &[POD, CONTAINER],
    };
    let mut text = format!("{{\n  \"hook\": \"{name}\",\n  {SETTINGS}");
    for part in parts {
        text += &format!(",\n  {part}");
    }
    Ok(text + "\n}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::trial::Fixture;

    #[test]
    fn every_example_is_a_fixture() {
        for name in Hook::names() {
            assert_eq!(Fixture::parse(&text(name).unwrap()).unwrap().hook, name);
        }
        let error = text("x").unwrap_err().to_string();
        assert!(error.starts_with("there is no hook \"x\"; there are configure, "), "{error}");
    }
}
