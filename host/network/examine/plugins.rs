//! The plugins that a configuration names: there, executable, and of a version that fits.

use serde_json::Value;

use super::super::conf::{NetworkList, PluginConf};
use super::super::plugin::Plugins;
use super::super::version::Version;
use super::super::{capabilities, chain};
use super::{is_program, joined};
use crate::model::finding::Finding;

/// Plugins that do nothing for pods which they are not told of.
const TOLD: [(&str, &str, &str); 2] = [
    ("portmap", "portMappings", "wasmpod serves pods' host ports by a proxy instead"),
    ("bandwidth", "bandwidth", "pods' bandwidth annotations limit nothing"),
];

pub async fn examine(plugins: &Plugins, network: &NetworkList) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut all_fit = true;
    for kind in kinds(network) {
        let examined = one(plugins, network, kind).await;
        all_fit &= examined.is_ok();
        findings.push(examined.unwrap_or_else(|fault| fault));
    }
    // Each fits, and yet all together may not; and one of 1.1 tells whether it would work.
    if all_fit && let Err(error) = chain::status(plugins, network).await {
        let finding = Finding::error(format!("network {}", network.name), error.to_string());
        findings.push(finding.mend("do what the plugin says; look at its own log"));
    }
    findings.extend(network.plugins.iter().filter_map(untold));
    findings
}

/// The plugins of the list and the ones that those delegate to, each once.
fn kinds(network: &NetworkList) -> Vec<&str> {
    let mut kinds: Vec<&str> = Vec::new();
    for plugin in &network.plugins {
        let ipam = plugin.keys.get("ipam").and_then(|ipam| ipam.get("type"));
        for kind in [Some(plugin.kind.as_str()), ipam.and_then(Value::as_str)].into_iter().flatten()
        {
            if !kind.is_empty() && !kind.contains('/') && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    kinds
}

async fn one(plugins: &Plugins, network: &NetworkList, kind: &str) -> Result<Finding, Finding> {
    let subject = format!("plugin {kind}");
    let path = plugins.find(&network.name, kind).map_err(|_| {
        Finding::error(&subject, format!("is in none of {}", joined(plugins.folders()))).mend(
            "install it (Debian: apt-get install containernetworking-plugins), or name its folder \
             in network.bin_dirs",
        )
    })?;
    let shown = path.display();
    if !is_program(&path) {
        let finding = Finding::error(&subject, format!("{shown} is not executable"));
        return Err(finding.mend(format!("chmod 755 {shown}")));
    }
    let spoken = plugins.versions(&network.name, kind).await.map_err(|error| {
        Finding::error(&subject, error.to_string())
            .mend(format!("install it anew; `CNI_COMMAND=VERSION {shown}` asks it by hand"))
    })?;
    if !network.versions.iter().any(|version| spoken.contains(version)) {
        let (spoken, wanted) = (texts(&spoken), texts(&network.versions));
        let what = format!("{shown} speaks {spoken}, the configuration wants {wanted}");
        return Err(Finding::error(&subject, what)
            .mend("change \"cniVersion\" in the configuration, or update the plugin"));
    }
    Ok(Finding::fine(subject, format!("{shown} speaks {}", texts(&spoken))))
}

fn texts(versions: &[Version]) -> String {
    match versions {
        [] => "none of wasmpod's versions".to_owned(),
        versions => versions.iter().map(|v| v.text()).collect::<Vec<_>>().join(", "),
    }
}

fn untold(plugin: &PluginConf) -> Option<Finding> {
    let (_, capability, means) = TOLD.iter().find(|(kind, ..)| *kind == plugin.kind)?;
    let asked = [((*capability).to_owned(), Value::Null)].into_iter().collect();
    capabilities::for_plugin(&asked, &plugin.keys).is_empty().then(|| {
        let subject = format!("plugin {}", plugin.kind);
        Finding::warning(subject, format!("has not the capability {capability}: {means}"))
            .mend(format!("write \"capabilities\": {{\"{capability}\": true}} in its entry"))
    })
}
