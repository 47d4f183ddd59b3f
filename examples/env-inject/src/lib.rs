//! Gives every container the variables of its settings' table `env`, and those of its pod's
//! annotations `env-inject.example/NAME`. What the container sets itself stays.

use std::collections::BTreeMap;

use wasmpod_guest::*;

const PREFIX: &str = "env-inject.example/";

#[derive(Default)]
struct EnvInject {
    everywhere: BTreeMap<String, String>,
}

impl Plugin for EnvInject {
    const HOOKS: Hooks = Hooks::PRE_CREATE_CONTAINER;

    fn configure(&mut self, _: &RuntimeInfo, settings: &Settings) -> Result<()> {
        self.everywhere = settings.get("env")?.unwrap_or_default();
        Ok(())
    }

    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        let mut wanted = self.everywhere.clone();
        for (key, value) in &pod.annotations {
            if let Some(name) = key.strip_prefix(PREFIX) {
                wanted.insert(name.to_owned(), value.clone());
            }
        }
        wanted.retain(|name, _| container.variable(name).is_none());
        Ok(wanted.into_iter().fold(Adjustment::new(), |made, (name, value)| made.env(name, value)))
    }
}

plugin!(EnvInject, fields: ["env"]);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pods_annotation_wins_and_the_containers_own_variable_stays() {
        let settings = json!({ "env": { "REGION": "north", "TIER": "gold", "HOME": "/" } });
        let mut plugin: EnvInject = testing::configured(settings).unwrap();
        let pod = testing::pod("web").with_annotation("env-inject.example/TIER", "silver");
        let container = testing::container(&pod, "app").with_env("HOME", "/app");

        let made = plugin.pre_create_container(&pod, &container).unwrap();
        assert_eq!(made, Adjustment::new().env("REGION", "north").env("TIER", "silver"));
    }

    #[test]
    fn settings_of_another_shape_are_refused() {
        let error = testing::configured::<EnvInject>(json!({ "env": ["A"] })).err().unwrap();
        assert!(error.message().starts_with("settings.env: "), "{error}");
    }
}
