//! What CRI lacks about the node itself, on both realms' sockets.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::stored;
use crate::proto::pod::node_server::{Node, NodeServer};
use crate::proto::pod::{CheckNetworkRequest, CheckNetworkResponse};
use crate::runtime::Runtime;

struct Service {
    runtime: Arc<Runtime>,
}

/// The service for one socket.
pub fn service(runtime: Arc<Runtime>) -> NodeServer<impl Node> {
    NodeServer::new(Service { runtime })
}

#[tonic::async_trait]
impl Node for Service {
    async fn check_network(
        &self,
        _: Request<CheckNetworkRequest>,
    ) -> Result<Response<CheckNetworkResponse>, Status> {
        let found = self.runtime.examine_network().await;
        let findings = found.into_iter().map(stored::finding).collect();
        Ok(Response::new(CheckNetworkResponse { findings }))
    }
}
