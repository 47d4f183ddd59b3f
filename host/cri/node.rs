//! RuntimeService's calls about the runtime itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use super::service::Service;
use crate::error::{Error, Result};
use crate::model::handler::Handler;
use crate::proto::cri;

/// The kubelet's own API version, which it asks for and expects back (its remote_runtime.go).
const KUBELET_API_VERSION: &str = "0.1.0";

impl Service {
    pub(super) async fn answer_version(
        &self,
        _: cri::VersionRequest,
    ) -> Result<cri::VersionResponse> {
        Ok(cri::VersionResponse {
            version: KUBELET_API_VERSION.to_owned(),
            runtime_name: "wasmpod".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    pub(super) async fn answer_status(
        &self,
        request: cri::StatusRequest,
    ) -> Result<cri::StatusResponse> {
        let condition = |kind: &str, reason: &str, message: &str| cri::RuntimeCondition {
            r#type: kind.to_owned(),
            status: true,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let network = self.runtime.network_readiness(self.realm).await;
        let conditions = vec![
            condition("RuntimeReady", "Serving", "the daemon serves pods"),
            cri::RuntimeCondition {
                r#type: "NetworkReady".to_owned(),
                status: network.is_ready,
                reason: network.reason.to_owned(),
                message: network.message,
            },
        ];
        let info = if request.verbose {
            [
                ("config".to_owned(), serde_json::json!(self.runtime.config()).to_string()),
                ("plugins".to_owned(), serde_json::json!(self.runtime.plugins()).to_string()),
            ]
            .into()
        } else {
            HashMap::new()
        };
        Ok(cri::StatusResponse {
            status: Some(cri::RuntimeStatus { conditions }),
            info,
            runtime_handlers: self.handlers(),
            features: Some(cri::RuntimeFeatures {
                supplemental_groups_policy: true,
                ..Default::default()
            }),
        })
    }

    /// Those that run today, the default one under both its names.
    fn handlers(&self) -> Vec<cri::RuntimeHandler> {
        let config = self.runtime.config();
        let runs = |name: &String| config.handler(name).is_some_and(Handler::is_available);
        let names = std::iter::once(String::new()).chain(config.handler_names());
        names
            .filter(runs)
            .map(|name| cri::RuntimeHandler {
                name,
                features: Some(cri::RuntimeHandlerFeatures {
                    recursive_read_only_mounts: true,
                    user_namespaces: false,
                }),
            })
            .collect()
    }

    pub(super) async fn answer_runtime_config(
        &self,
        _: cri::RuntimeConfigRequest,
    ) -> Result<cri::RuntimeConfigResponse> {
        // The kubelet forms pods' cgroup paths by this, so it has to be what manages them here.
        let driver = if Path::new("/run/systemd/system").exists() {
            cri::CgroupDriver::Systemd
        } else {
            cri::CgroupDriver::Cgroupfs
        };
        Ok(cri::RuntimeConfigResponse {
            linux: Some(cri::LinuxRuntimeConfiguration { cgroup_driver: driver.into() }),
        })
    }

    pub(super) async fn answer_update_runtime_config(
        &self,
        request: cri::UpdateRuntimeConfigRequest,
    ) -> Result<cri::UpdateRuntimeConfigResponse> {
        let network = request.runtime_config.and_then(|config| config.network_config);
        if let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) {
            check_pod_cidr(&network.pod_cidr)?;
            self.runtime.set_pod_cidr(&network.pod_cidr).await?;
        }
        Ok(cri::UpdateRuntimeConfigResponse {})
    }
}

/// One range for each family at most, separated by commas, as the kubelet joins a node's podCIDRs.
fn check_pod_cidr(text: &str) -> Result<()> {
    let is_range = |range: &str| {
        let (address, length) = range.split_once('/')?;
        let most = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        length.parse::<u8>().ok().filter(|length| *length <= most)
    };
    match text.split(',').find(|range| is_range(range).is_none()) {
        Some(range) => Err(Error::Invalid(format!(
            "pod_cidr {text:?}: {range:?} is no range of addresses like 10.244.0.0/24"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_cidr_is_one_range_or_several() {
        for good in ["10.244.1.0/24", "fd00::/64", "10.244.1.0/24,fd00:1::/64"] {
            check_pod_cidr(good).unwrap();
        }
        for bad in ["10.244.0.0", "10.244.0.0/33", "fd00::/129", "x/8", "10.0.0.0/8,", "10.0.0/8"] {
            let error = check_pod_cidr(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}
