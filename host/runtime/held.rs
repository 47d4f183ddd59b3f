//! What a shim says that it holds.

use std::collections::BTreeMap;

use super::client::{Client, answer};
use crate::error::Result;
use crate::proto::shim as wire;

/// By id.
#[derive(Default)]
pub struct Held {
    pub sandboxes: BTreeMap<String, wire::SandboxState>,
    pub containers: BTreeMap<String, wire::ContainerState>,
}

impl Held {
    /// Asks page after page.
    pub async fn ask(client: &Client) -> Result<Self> {
        let (mut held, mut after) = (Self::default(), String::new());
        loop {
            let request = wire::StateRequest { after };
            let page = answer("asking a shim what it holds", client.wire().state(request)).await?;
            held.sandboxes.extend(page.sandboxes.into_iter().map(|s| (s.id.clone(), s)));
            held.containers.extend(page.containers.into_iter().map(|c| (c.id.clone(), c)));
            match held.containers.last_key_value() {
                Some((last, _)) if page.more => after = last.clone(),
                _ => return Ok(held),
            }
        }
    }
}
