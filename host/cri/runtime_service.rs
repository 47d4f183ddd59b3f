//! CRI's RuntimeService: finds out whose pods each call means and hands it to `sandboxes`,
//! `containers` or `node`. RPCs that wasmpod does not give answer UNIMPLEMENTED with their name.

use std::future::Future;

use tonic::{Request, Response, Status};

use super::chunks::{Chunks, chunks};
use super::convert::metrics;
use super::events::Events;
use super::service::{Service, answer};
use crate::error::Result as Outcome;
use crate::model::sandbox::Realm;
use crate::proto::cri::runtime_service_server::RuntimeService;
use crate::proto::cri::*;

type Answer<T> = Result<Response<T>, Status>;

fn not_given<T>(rpc: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("{rpc} is not implemented by wasmpod")))
}

impl Service {
    async fn scoped<Q, A, F>(
        &self,
        request: Request<Q>,
        call: impl FnOnce(Option<Realm>, Q) -> F,
    ) -> Answer<A>
    where
        F: Future<Output = Outcome<A>>,
    {
        answer(match self.scope(request.metadata()) {
            Ok(scope) => call(scope, request.into_inner()).await,
            Err(error) => Err(error),
        })
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, request: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(self.answer_version(request.into_inner()).await)
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        answer(self.answer_status(request.into_inner()).await)
    }

    async fn runtime_config(
        &self,
        request: Request<RuntimeConfigRequest>,
    ) -> Answer<RuntimeConfigResponse> {
        answer(self.answer_runtime_config(request.into_inner()).await)
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        answer(self.answer_update_runtime_config(request.into_inner()).await)
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        self.scoped(request, |scope, request| self.answer_run_pod_sandbox(scope, request)).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        self.scoped(request, |scope, request| self.answer_stop_pod_sandbox(scope, request)).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        self.scoped(request, |scope, request| self.answer_remove_pod_sandbox(scope, request)).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        self.scoped(request, |scope, request| self.answer_pod_sandbox_status(scope, request)).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        self.scoped(request, |scope, request| self.answer_list_pod_sandbox(scope, request)).await
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        self.scoped(request, |scope, request| self.answer_create_container(scope, request)).await
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        self.scoped(request, |scope, request| self.answer_start_container(scope, request)).await
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        self.scoped(request, |scope, request| self.answer_stop_container(scope, request)).await
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        self.scoped(request, |scope, request| self.answer_remove_container(scope, request)).await
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        self.scoped(request, |scope, request| self.answer_list_containers(scope, request)).await
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        self.scoped(request, |scope, request| self.answer_container_status(scope, request)).await
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        self.scoped(request, |scope, request| {
            self.answer_update_container_resources(scope, request)
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        self.scoped(request, |scope, request| self.answer_reopen_container_log(scope, request))
            .await
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        self.scoped(request, |scope, request| self.answer_exec_sync(scope, request)).await
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        self.scoped(request, |scope, request| self.answer_container_stats(scope, request)).await
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        self.scoped(request, |scope, request| self.answer_list_container_stats(scope, request))
            .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        self.scoped(request, |scope, request| self.answer_pod_sandbox_stats(scope, request)).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        self.scoped(request, |scope, request| self.answer_list_pod_sandbox_stats(scope, request))
            .await
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        self.scoped(request, async |scope, request| self.answer_exec(scope, request)).await
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        self.scoped(request, async |scope, request| self.answer_attach(scope, request)).await
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        self.scoped(request, async |scope, request| self.answer_port_forward(scope, request)).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        self.scoped(request, |scope, request| self.answer_checkpoint_container(scope, request))
            .await
    }

    async fn checkpoint_pod(
        &self,
        request: Request<CheckpointPodRequest>,
    ) -> Answer<CheckpointPodResponse> {
        self.scoped(request, |scope, request| self.answer_checkpoint_pod(scope, request)).await
    }

    async fn restore_pod(&self, _: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        not_given("RestorePod")
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        let descriptors = metrics::descriptors();
        answer(Ok(ListMetricDescriptorsResponse { descriptors }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        self.scoped(request, |scope, request| self.answer_list_pod_sandbox_metrics(scope, request))
            .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        self.scoped(request, |scope, request| {
            self.answer_update_pod_sandbox_resources(scope, request)
        })
        .await
    }

    type StreamPodSandboxesStream = Chunks<StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        self.scoped(request, async |scope, request| {
            let request = ListPodSandboxRequest { filter: request.filter };
            let list = self.answer_list_pod_sandbox(scope, request).await?;
            Ok(chunks(list.items, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
        })
        .await
    }

    type StreamContainersStream = Chunks<StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        self.scoped(request, async |scope, request| {
            let request = ListContainersRequest { filter: request.filter };
            let list = self.answer_list_containers(scope, request).await?;
            Ok(chunks(list.containers, |containers| StreamContainersResponse { containers }))
        })
        .await
    }

    type StreamContainerStatsStream = Chunks<StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        self.scoped(request, async |scope, request| {
            let request = ListContainerStatsRequest { filter: request.filter };
            let list = self.answer_list_container_stats(scope, request).await?;
            Ok(chunks(list.stats, |container_stats| StreamContainerStatsResponse {
                container_stats,
            }))
        })
        .await
    }

    type StreamPodSandboxStatsStream = Chunks<StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        self.scoped(request, async |scope, request| {
            let request = ListPodSandboxStatsRequest { filter: request.filter };
            let list = self.answer_list_pod_sandbox_stats(scope, request).await?;
            Ok(chunks(list.stats, |pod_sandbox_stats| StreamPodSandboxStatsResponse {
                pod_sandbox_stats,
            }))
        })
        .await
    }

    type GetContainerEventsStream = Events;

    async fn get_container_events(
        &self,
        request: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        answer(self.scope(request.metadata()).map(|scope| self.events(scope)))
    }

    type StreamPodSandboxMetricsStream = Chunks<StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        self.scoped(request, async |scope, _| {
            let wrap =
                |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
            Ok(chunks(self.pod_metrics(scope).await?, wrap))
        })
        .await
    }
}
