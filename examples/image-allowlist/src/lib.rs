//! Refuses containers whose image begins with none of its settings' `prefixes`.

use wasmpod_guest::*;

#[derive(Default)]
struct ImageAllowlist {
    prefixes: Vec<String>,
}

impl Plugin for ImageAllowlist {
    const HOOKS: Hooks = Hooks::VALIDATE_CONTAINER;

    fn configure(&mut self, _: &RuntimeInfo, settings: &Settings) -> Result<()> {
        self.prefixes =
            settings.get("prefixes")?.context("settings.prefixes is missing: a list of texts")?;
        Ok(())
    }

    fn validate_container(&mut self, _: &Pod, container: &Container, _: &[String]) -> Result<()> {
        let image = &container.image;
        if !self.prefixes.iter().any(|prefix| image.starts_with(prefix)) {
            bail!("image \"{image}\" is not allowed: it begins with none of {:?}", self.prefixes);
        }
        Ok(())
    }
}

plugin!(ImageAllowlist);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn validate(image: &str) -> Result<()> {
        let settings = json!({ "prefixes": ["registry.example/", "app:"] });
        let mut plugin: ImageAllowlist = testing::configured(settings)?;
        let pod = testing::pod("web");
        let container = testing::container(&pod, "app").with_image(image);
        plugin.validate_container(&pod, &container, &[])
    }

    #[test]
    fn images_on_the_list_pass() {
        validate("registry.example/web:1").unwrap();
        validate("app:dev").unwrap();
    }

    #[test]
    fn another_is_refused_with_its_name_and_the_list() {
        assert_eq!(
            validate("elsewhere.example/web:1").unwrap_err().message(),
            "image \"elsewhere.example/web:1\" is not allowed: it begins with none of \
             [\"registry.example/\", \"app:\"]"
        );
    }

    #[test]
    fn without_a_list_it_does_not_begin() {
        let error = testing::configured::<ImageAllowlist>(json!({})).err().unwrap();
        assert_eq!(error.message(), "settings.prefixes is missing: a list of texts");
    }
}
