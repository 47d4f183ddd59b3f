//! A container's image by its pull policy, as a kubelet gets it: what is there, what is pulled
//! and with which credentials, how far that is, and what is told of it all.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Container;

use super::events::Event;
use super::pod::Pulling;
use super::remote::Wanted;
use super::status::Waiting;
use super::worker::Worker;

/// Keys of Secrets that hold docker's config.json, and its `auths` alone (the API's types
/// kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg).
const CONFIG_JSON: &str = ".dockerconfigjson";
const CONFIG: &str = ".dockercfg";

/// Reasons that begin an error's text (cri-api/pkg/errors).
const TOLD_BY_RUNTIME: [&str; 2] = ["RegistryUnavailable", "SignatureValidationFailed"];
const BACK_OFF: &str = "ImagePullBackOff";
const FAILED: &str = "ErrImagePull";

impl Worker {
    /// (name, id) of the container's image, present.
    pub(super) async fn image(&self, container: &Container) -> Result<(String, String), Waiting> {
        let asked = container.image.as_deref().unwrap_or_default().trim();
        let imported = self.record.images.get(asked);
        let image = imported.map_or(asked, String::as_str);
        let add = |event: Event| self.pod.events.add(event.of(&container.name, ""));
        let wait = |reason: &'static str, message: String| {
            add(Event::warning("Failed", message.clone()));
            add(Event::warning("Failed", format!("Error: {reason}")));
            Waiting { reason, message }
        };
        let present = self.tools.remote.image(image).await.map_err(|error| {
            wait("ImageInspectError", format!("Failed to inspect image {image:?}: {error}"))
        })?;
        let policy = match container.image_pull_policy.as_deref() {
            Some(policy) => policy,
            None if imported.is_some() || !is_latest(image) => "IfNotPresent",
            None => "Always",
        };
        match (policy, present) {
            ("Never", None) => {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                add(Event::warning("ErrImageNeverPull", message.clone()));
                return Err(Waiting { reason: "ErrImageNeverPull", message });
            }
            ("Never" | "IfNotPresent", Some(present)) => {
                let text = format!("Container image {image:?} already present on machine");
                add(Event::normal("Pulled", text));
                return Ok((image.to_owned(), present.id));
            }
            _ => {}
        }
        add(Event::normal("Pulling", format!("Pulling image {image:?}")));
        let began = Instant::now();
        let _over = Over(self);
        let tell = |progress| {
            let (container, image) = (container.name.clone(), image.to_owned());
            self.pod.pulling.send_replace(Some(Pulling { container, image, progress }));
        };
        let wanted = Wanted { image: image.to_owned(), docker_configs: self.secrets() };
        let pulled = self.tools.remote.pull(wanted, tell).await.map_err(|error| {
            let error = error.to_string();
            let told = TOLD_BY_RUNTIME.iter().find(|word| error.starts_with(*word));
            wait(told.unwrap_or(&FAILED), format!("Failed to pull image {image:?}: {error}"))
        })?;
        let took = shown(began.elapsed());
        add(Event::normal(
            "Pulled",
            format!(
                "Successfully pulled image {image:?} in {took} ({took} including waiting). Image \
                 size: {} bytes.",
                pulled.size
            ),
        ));
        Ok((image.to_owned(), pulled.id))
    }

    /// Contents of the pod's imagePullSecrets, in their order, each as a config.json.
    fn secrets(&self) -> Vec<String> {
        let manifest = &self.record.manifest;
        let named = manifest.pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter());
        let secrets = named.flatten().filter_map(|secret| manifest.secrets.get(&secret.name));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        secrets
            .filter_map(|entries| match (entries.get(CONFIG_JSON), entries.get(CONFIG)) {
                (Some(config), _) => Some(text(&config.0)),
                (None, Some(auths)) => Some(format!("{{\"auths\": {}}}", text(&auths.0))),
                (None, None) => None,
            })
            .collect()
    }

    /// Once for each failed pull: that the next one is waited for.
    pub(super) fn tell_of_pull_back_off(&mut self, name: &str) {
        let Some(waiting) = self.waiting.get(name) else { return };
        if waiting.reason != FAILED && !TOLD_BY_RUNTIME.contains(&waiting.reason) {
            return;
        }
        let container = self.record.manifest.container(name);
        let image = container.and_then(|container| container.image.clone()).unwrap_or_default();
        let text = format!("Back-off pulling image {:?}", image.trim());
        let message = format!("{text}: {}: {}", waiting.reason, waiting.message);
        self.pod.events.add(Event::normal("BackOff", text).of(name, ""));
        let failed = Event::warning("Failed", format!("Error: {BACK_OFF}"));
        self.pod.events.add(failed.of(name, ""));
        self.waiting.insert(name.to_owned(), Waiting { reason: BACK_OFF, message });
    }
}

/// Takes the progress away from watchers, however the pull ends.
struct Over<'a>(&'a Worker);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.pod.pulling.send_replace(None);
    }
}

/// As Go prints a duration that was cut to milliseconds.
fn shown(took: Duration) -> String {
    let millis = took.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let text = format!("{:.3}", took.as_secs_f64());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Whether the kubelet would always pull it: tagged latest or not at all, and without digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_what_has_no_other_tag() {
        for image in ["a", "a:latest", "reg:5000/a", "reg/a:latest"] {
            assert!(is_latest(image), "{image}");
        }
        for image in ["a:1", "reg:5000/a:1", "a@sha256:00"] {
            assert!(!is_latest(image), "{image}");
        }
    }

    #[test]
    fn durations_look_as_a_kubelets() {
        for (millis, text) in [(7, "7ms"), (1000, "1s"), (1230, "1.23s"), (61_005, "61.005s")] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
