//! One attachment's plugins, in the order that the specification says: ADD and CHECK forward,
//! DEL backward; the version that all of them speak. Knows nothing of namespaces or journals.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::capabilities;
use super::conf::{NetworkList, PluginConf};
use super::journal::Attachment;
use super::plugin::{Call, Plugins, Verb};
use super::result::Outcome;
use super::version::Version;
use crate::error::{Error, Result};

/// The highest version that the configuration is written for and every plugin speaks.
pub async fn negotiate(plugins: &Plugins, network: &NetworkList) -> Result<Version> {
    let mut common = network.versions.clone();
    for plugin in &network.plugins {
        let spoken = plugins.versions(&network.name, &plugin.kind).await?;
        let before = names(&common);
        common.retain(|version| spoken.contains(version));
        if common.is_empty() {
            return Err(Error::Network(format!(
                "CNI plugin {} of network {} speaks {}, not {before}: change \"cniVersion\" or \
                 update the plugin",
                plugin.kind,
                network.name,
                names(&spoken)
            )));
        }
    }
    common
        .first()
        .copied()
        .ok_or_else(|| Error::Internal(format!("network {} has no version", network.name)))
}

fn names(versions: &[Version]) -> String {
    match versions {
        [] => "none of wasmpod's versions".to_owned(),
        versions => versions.iter().map(|v| v.text()).collect::<Vec<_>>().join(", "),
    }
}

/// What the plugins of one attachment are run with.
pub struct Chain<'a> {
    pub plugins: &'a Plugins,
    pub attachment: &'a Attachment,
    /// CNI_NETNS; absent when the namespace is gone.
    pub namespace: Option<&'a Path>,
}

impl Chain<'_> {
    /// ADD of every plugin, each with the result of the one before; the last one's result.
    /// When it fails, what was added is the caller's to delete.
    pub async fn add(&self) -> Result<Outcome> {
        let mut outcome: Option<Outcome> = None;
        for plugin in &self.attachment.network.plugins {
            let call = self.call(Verb::Add, plugin, outcome.as_ref().map(|o| &o.value));
            let output = self.plugins.call(&call).await?;
            let next = Outcome::parse(&output, self.attachment.version).map_err(|why| {
                let Attachment { network, .. } = self.attachment;
                let (kind, name) = (&plugin.kind, &network.name);
                Error::Network(format!("CNI plugin {kind} of network {name}: ADD {why}"))
            })?;
            outcome = Some(next);
        }
        outcome.ok_or_else(|| Error::Internal("a network without a plugin".to_owned()))
    }

    /// CHECK of every plugin, where version and configuration have it; stops at a failure.
    pub async fn check(&self, result: &Value) -> Result<()> {
        if !self.attachment.version.checks() || self.attachment.network.disable_check {
            return Ok(());
        }
        for plugin in &self.attachment.network.plugins {
            self.plugins.call(&self.call(Verb::Check, plugin, Some(result))).await?;
        }
        Ok(())
    }

    /// DEL of every plugin, last first, also of those behind one that fails; the first failure.
    pub async fn del(&self, result: Option<&Value>) -> Result<()> {
        let result = result.filter(|_| self.attachment.version.checks());
        let mut outcome = Ok(());
        for plugin in self.attachment.network.plugins.iter().rev() {
            let call = self.call(Verb::Del, plugin, result);
            if let Err(error) = self.plugins.call(&call).await {
                if outcome.is_ok() {
                    outcome = Err(error);
                } else {
                    tracing::warn!(%error, "another plugin's DEL failed too");
                }
            }
        }
        outcome
    }

    fn call<'b>(&'b self, verb: Verb, plugin: &'b PluginConf, result: Option<&Value>) -> Call<'b> {
        let Attachment { id, network, version, interface, args, capabilities } = self.attachment;
        let mut keys = config(plugin, &network.name, *version);
        let asked = capabilities::for_plugin(capabilities, &plugin.keys);
        if !asked.is_empty() {
            keys.insert("runtimeConfig".to_owned(), asked.into());
        }
        if let Some(result) = result {
            keys.insert("prevResult".to_owned(), result.clone());
        }
        let namespace = self.namespace.map_or(String::new(), |path| path.display().to_string());
        Call {
            verb,
            network: &network.name,
            kind: &plugin.kind,
            environment: vec![
                ("CNI_CONTAINERID", id.to_string()),
                ("CNI_NETNS", namespace),
                ("CNI_IFNAME", interface.clone()),
                ("CNI_ARGS", args.clone()),
            ],
            input: Value::Object(keys).to_string().into_bytes(),
        }
    }
}

/// A plugin's configuration as it is told to the plugin.
fn config(plugin: &PluginConf, network: &str, version: Version) -> Map<String, Value> {
    let mut keys = plugin.keys.clone();
    // Of a file that is one plugin alone.
    keys.remove("cniVersions");
    keys.insert("cniVersion".to_owned(), version.text().into());
    keys.insert("name".to_owned(), network.into());
    keys
}

/// STATUS of every plugin, where the version has it: whether an ADD would work now.
pub async fn status(plugins: &Plugins, network: &NetworkList) -> Result<()> {
    let version = negotiate(plugins, network).await?;
    if version.tells_status() {
        for plugin in &network.plugins {
            plugins.call(&over_all(Verb::Status, plugin, (network, version), Map::new())).await?;
        }
    }
    Ok(())
}

/// GC of every plugin, where version and configuration have it: what belongs to none of `valid`
/// is given back. The first failure, after all were asked.
pub async fn collect(
    plugins: &Plugins,
    network: &NetworkList,
    valid: &[(String, String)],
) -> Result<()> {
    let version = negotiate(plugins, network).await?;
    if !version.tells_status() || network.disable_gc {
        return Ok(());
    }
    let valid: Vec<Value> = valid
        .iter()
        .map(|(id, interface)| json!({"containerID": id, "ifname": interface}))
        .collect();
    let mut outcome = Ok(());
    for plugin in &network.plugins {
        // The second is what a draft of the specification called it, and the first plugins read.
        let more = ["cni.dev/valid-attachments", "cni.dev/attachments"]
            .map(|key| (key.to_owned(), Value::from(valid.clone())));
        let call = over_all(Verb::Gc, plugin, (network, version), Map::from_iter(more));
        outcome = outcome.and(plugins.call(&call).await.map(drop));
    }
    outcome
}

/// A call that is about no pod.
fn over_all<'a>(
    verb: Verb,
    plugin: &'a PluginConf,
    (network, version): (&'a NetworkList, Version),
    more: Map<String, Value>,
) -> Call<'a> {
    let mut keys = config(plugin, &network.name, version);
    keys.extend(more);
    Call {
        verb,
        network: &network.name,
        kind: &plugin.kind,
        environment: Vec::new(),
        input: Value::Object(keys).to_string().into_bytes(),
    }
}
