//! How much one object may carry. What is asked for here is kept in memory, written to the
//! database, sent to a shim and, in part, listed every second: it is bounded before any of that.
//! How much all objects together may carry is `runtime`'s (index.rs).

use std::collections::HashMap;

use prost::Message;

use crate::error::{Error, Result};
use crate::model::weight::{self, ANNOTATIONS, FRAME, MOUNTS, PATH, WORDS};
use crate::proto::cri;

const KIB: usize = 1 << 10;

const LABELS: usize = 64 * KIB;
/// Names, paths, name servers, ports: everything else of one object.
const REST: usize = 128 * KIB;

/// RunPodSandbox's config.
pub fn sandbox(config: &cri::PodSandboxConfig) -> Result<()> {
    let (annotations, labels) = (map(&config.annotations), map(&config.labels));
    at_most("config.annotations", annotations, ANNOTATIONS)?;
    at_most("config.labels", labels, LABELS)?;
    at_most("config.log_directory", config.log_directory.len(), PATH)?;
    rest(config.encoded_len(), annotations + labels)
}

/// CreateContainer's config.
pub fn container(config: &cri::ContainerConfig) -> Result<()> {
    let image = config.image.as_ref().map_or(0, |image| map(&image.annotations));
    let (annotations, labels) = (map(&config.annotations), map(&config.labels));
    at_most("config.annotations and config.image.annotations", annotations + image, ANNOTATIONS)?;
    at_most("config.labels", labels, LABELS)?;
    at_most("config.log_path", config.log_path.len(), PATH)?;
    at_most("config.working_dir", config.working_dir.len(), PATH)?;
    let envs = config.envs.iter().map(|pair| pair.key.len() + pair.value.len() + FRAME);
    let words = weight::of(config.command.iter().chain(&config.args)) + envs.sum::<usize>();
    at_most("config.command, args and envs together", words, WORDS)?;
    for mount in &config.mounts {
        at_most("a mount's host_path", mount.host_path.len(), PATH)?;
        at_most("a mount's container_path", mount.container_path.len(), PATH)?;
    }
    let mounts = config.mounts.iter().map(|mount| mount.encoded_len() + FRAME).sum();
    at_most("config.mounts", mounts, MOUNTS)?;
    rest(config.encoded_len(), annotations + image + labels + words + mounts)
}

/// UpdatePodSandboxResources.
pub fn pod_resources(request: &cri::UpdatePodSandboxResourcesRequest) -> Result<()> {
    at_most("overhead and resources together", request.encoded_len(), REST)
}

fn map(map: &HashMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + FRAME).sum()
}

fn rest(whole: usize, counted: usize) -> Result<()> {
    at_most("config without what is limited by itself", whole.saturating_sub(counted), REST)
}

fn at_most(what: &str, bytes: usize, most: usize) -> Result<()> {
    weight::at_most(what, bytes, most).map_err(Error::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kib: usize) -> String {
        "x".repeat(kib * KIB)
    }

    fn pair(kib: usize) -> HashMap<String, String> {
        [("key".to_owned(), text(kib))].into()
    }

    #[test]
    fn a_pod_as_large_as_kubernetes_lets_it_be_passes() {
        let config = cri::PodSandboxConfig {
            annotations: pair(256),
            labels: (0..200).map(|n| (format!("{n}"), "x".repeat(63))).collect(),
            ..Default::default()
        };
        sandbox(&config).unwrap();
        let config = cri::ContainerConfig {
            annotations: pair(256),
            envs: vec![cri::KeyValue { key: "E".into(), value: text(1024).into_bytes() }],
            args: vec![text(512)],
            mounts: vec![cri::Mount { host_path: text(3), ..Default::default() }; 100],
            ..Default::default()
        };
        container(&config).unwrap();
    }

    #[test]
    fn what_is_over_a_limit_is_named_with_both_numbers() {
        type Pod = cri::PodSandboxConfig;
        type One = cri::ContainerConfig;
        let dns = cri::DnsConfig { searches: vec![text(200)], ..Default::default() };
        for (says, config) in [
            ("config.annotations", Pod { annotations: pair(320), ..Pod::default() }),
            ("config.labels", Pod { labels: pair(64), ..Pod::default() }),
            ("config.log_directory", Pod { log_directory: text(5), ..Pod::default() }),
            ("limited by itself", Pod { hostname: text(129), ..Pod::default() }),
            ("limited by itself", Pod { dns_config: Some(dns), ..Pod::default() }),
        ] {
            let error = sandbox(&config).unwrap_err();
            let right = |text: &str| text.contains(says) && text.contains("over the limit of");
            assert!(matches!(&error, Error::Invalid(text) if right(text)), "{says}: {error}");
        }
        let image = cri::ImageSpec { annotations: pair(320), ..Default::default() };
        let mount =
            cri::Mount { host_path: text(4), container_path: text(4), ..Default::default() };
        let envs = vec![cri::KeyValue { key: text(1024), value: text(1024).into_bytes() }];
        for (says, config) in [
            ("image.annotations", One { image: Some(image), ..One::default() }),
            ("config.labels", One { labels: pair(64), ..One::default() }),
            ("config.log_path", One { log_path: text(5), ..One::default() }),
            ("config.working_dir", One { working_dir: text(5), ..One::default() }),
            ("command, args and envs", One { envs, ..One::default() }),
            ("command, args and envs", One { args: vec![text(1); 2048], ..One::default() }),
            ("config.mounts", One { mounts: vec![mount; 65], ..One::default() }),
        ] {
            let error = container(&config).unwrap_err();
            let right = |text: &str| text.contains(says) && text.contains("over the limit of");
            assert!(matches!(&error, Error::Invalid(text) if right(text)), "{says}: {error}");
        }
    }
}
