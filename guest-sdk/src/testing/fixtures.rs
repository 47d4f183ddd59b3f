//! Pods and containers for tests, complete in what every pod and container has.

use serde_json::Value;

use crate::{
    Container, ContainerState, Exit, Image, Plugin, Pod, Resources, Result, RuntimeInfo, Settings,
};

/// The same 64 digits for the same text.
fn id(of: &str) -> String {
    // FNV-1a, four times over.
    let digits = |salt: u8| {
        let hash = [salt].iter().chain(of.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{hash:016x}")
    };
    (0..4).map(digits).collect()
}

/// A ready pod of the namespace "default".
pub fn pod(name: &str) -> Pod {
    Pod {
        id: id(&format!("pod {name}")),
        name: name.to_owned(),
        namespace: "default".to_owned(),
        uid: id(&format!("uid {name}"))[..32].to_owned(),
        hostname: name.to_owned(),
        addresses: vec!["10.0.0.2".to_owned()],
        created_at: 1,
        ..Pod::default()
    }
}

/// A container of the pod that is about to be created.
pub fn container(pod: &Pod, name: &str) -> Container {
    Container {
        id: id(&format!("container {} {name}", pod.id)),
        pod_id: pod.id.clone(),
        name: name.to_owned(),
        image: format!("registry.example/{name}:1"),
        image_id: format!("sha256:{}", id(&format!("image {name}"))),
        args: vec![format!("/{name}.wasm")],
        working_dir: "/".to_owned(),
        created_at: 1,
        ..Container::default()
    }
}

pub fn image(tag: &str) -> Image {
    Image {
        id: format!("sha256:{}", id(&format!("image {tag}"))),
        tags: vec![tag.to_owned()],
        digests: Vec::new(),
        size: 100_000,
    }
}

/// A plugin after `configure` with these settings.
pub fn configured<P: Plugin>(settings: Value) -> Result<P> {
    let info = RuntimeInfo {
        name: "wasmpod".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        plugin: super::backend::PLUGIN.to_owned(),
        deadline_milliseconds: 2000,
    };
    let mut plugin = P::default();
    plugin.configure(&info, &Settings::from(settings))?;
    Ok(plugin)
}

impl Pod {
    pub fn with_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    pub fn with_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl Container {
    pub fn with_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn with_image(mut self, image: &str) -> Self {
        self.image = image.to_owned();
        self
    }

    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn with_resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    pub fn running(mut self) -> Self {
        self.state = ContainerState::Running;
        self.started_at = 2;
        self
    }

    pub fn exited(mut self, code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.state = ContainerState::Exited;
        self.exit =
            Some(Exit { code, reason: reason.to_owned(), message: String::new(), finished_at: 3 });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_digits_and_differ() {
        let (one, other) = (pod("one"), pod("other"));
        assert_eq!(one.id.len(), 64);
        assert_ne!(one.id, other.id);
        assert_eq!(one, pod("one"));
        assert_ne!(container(&one, "a").id, container(&other, "a").id);
    }
}
