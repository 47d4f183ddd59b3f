//! RuntimeService's calls about metrics: what pods use, by cAdvisor's names.

use prost::Message;

use super::client::MAX_MESSAGE;
use super::convert::metrics;
use super::service::Service;
use crate::error::{Error, Result};
use crate::model::sandbox::Realm;
use crate::proto::cri;
use crate::runtime::{Depth, Filter};

impl Service {
    /// Of the pods that are ready; each shim is asked once for all of its.
    pub(super) async fn pod_metrics(
        &self,
        scope: Option<Realm>,
    ) -> Result<Vec<cri::PodSandboxMetrics>> {
        let disk = self.runtime.disk_of_roots().await?;
        let filter = Filter { realm: scope, ..Filter::default() };
        let usages = self.runtime.sandbox_usage(&filter, Depth::Work).await?;
        Ok(usages.iter().map(|usage| metrics::of_sandbox(usage, disk)).collect())
    }

    pub(super) async fn answer_list_pod_sandbox_metrics(
        &self,
        scope: Option<Realm>,
        _: cri::ListPodSandboxMetricsRequest,
    ) -> Result<cri::ListPodSandboxMetricsResponse> {
        let answer =
            cri::ListPodSandboxMetricsResponse { pod_metrics: self.pod_metrics(scope).await? };
        match answer.encoded_len() {
            size if size > MAX_MESSAGE => Err(Error::Exhausted(format!(
                "the metrics of {} pods are {size} bytes, a message has {MAX_MESSAGE} at most: \
                 use StreamPodSandboxMetrics",
                answer.pod_metrics.len()
            ))),
            _ => Ok(answer),
        }
    }
}
