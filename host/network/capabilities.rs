//! What a pod asks of its network besides an address: CNI_ARGS and the capabilities' arguments
//! (CNI's CONVENTIONS.md). Pure.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::sandbox::{PortMapping, Sandbox};

use super::conf::{NetworkList, PluginConf};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Addresses with their prefixes, separated by commas.
const IPS: &str = "wasmpod.dev/ips";
const MAC: &str = "wasmpod.dev/mac";

/// Bits per second that the kubelet's own check allows.
const RATES: std::ops::RangeInclusive<f64> = 1e3..=1e15;

const PORTS: &str = "portMappings";

/// See [`ports_keeper`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortsKeeper {
    Plugin,
    Nobody,
}

/// The capabilities that a pod must not go without when it asks for them.
const NEEDED: [(&str, &str); 2] = [("ips", IPS), ("mac", MAC)];

/// As containerd and CRI-O set them.
pub fn args(sandbox: &Sandbox) -> Result<String> {
    let name = &sandbox.config.name;
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &name.namespace),
        ("K8S_POD_NAME", &name.name),
        ("K8S_POD_INFRA_CONTAINER_ID", sandbox.id.as_str()),
        ("K8S_POD_UID", &name.uid),
    ];
    if let Some((_, value)) = pairs.iter().find(|(_, value)| value.contains([';', '=', '\0'])) {
        return Err(Error::Invalid(format!(
            "the sandbox's metadata: {value:?} cannot be told to a network plugin, \
             for it has a ';' or '=' in it"
        )));
    }
    Ok(pairs.map(|(key, value)| format!("{key}={value}")).join(";"))
}

/// Every capability's argument that the pod has one for.
pub fn of(sandbox: &Sandbox) -> Result<Map<String, Value>> {
    let config = &sandbox.config;
    let mut asked = Map::new();
    let ports: Vec<Value> =
        config.port_mappings.iter().filter(|port| port.host_port > 0).map(port).collect();
    if !ports.is_empty() {
        asked.insert(PORTS.to_owned(), ports.into());
    }
    let note = |key: &str| config.annotations.get(key).map(|text| text.trim());
    let bandwidth = bandwidth(note(INGRESS), note(EGRESS))?;
    if !bandwidth.is_empty() {
        asked.insert("bandwidth".to_owned(), bandwidth.into());
    }
    if let Some(dns) = &config.dns {
        asked.insert(
            "dns".to_owned(),
            json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}),
        );
    }
    if let Some(text) = note(IPS) {
        let ips: Vec<&str> = text.split(',').map(str::trim).collect();
        if let Some(wrong) = ips.iter().find(|ip| !is_with_prefix(ip)) {
            return Err(Error::Invalid(format!(
                "annotation {IPS}: {wrong:?} is no address with its prefix, like 10.1.2.3/24"
            )));
        }
        asked.insert("ips".to_owned(), json!(ips));
    }
    if let Some(mac) = note(MAC) {
        let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
        if mac.split(':').count() != 6 || !mac.split(':').all(is_pair) {
            return Err(Error::Invalid(format!(
                "annotation {MAC}: {mac:?} is no hardware address, like 02:00:00:00:00:01"
            )));
        }
        asked.insert("mac".to_owned(), mac.into());
    }
    if !config.cgroup_parent.is_empty() {
        asked.insert("cgroupPath".to_owned(), config.cgroup_parent.as_str().into());
    }
    Ok(asked)
}

fn port(port: &PortMapping) -> Value {
    json!({
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": port.protocol,
        "hostIP": port.host_ip,
    })
}

/// Of the asked ones, those that a plugin's `capabilities` switches on: its `runtimeConfig`.
pub fn for_plugin(asked: &Map<String, Value>, keys: &Map<String, Value>) -> Map<String, Value> {
    let switched = keys.get("capabilities").and_then(Value::as_object);
    let is_on = |name: &String| {
        switched.is_some_and(|switched| switched.get(name) == Some(&Value::Bool(true)))
    };
    asked
        .iter()
        .filter(|(name, _)| is_on(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Refuses a pod whose own address nobody would set; names in the log what else nobody takes.
pub fn check(asked: &Map<String, Value>, network: &NetworkList) -> Result<()> {
    let is_taken = |name: &str| {
        let one = Map::from_iter(asked.get_key_value(name).map(|(k, v)| (k.clone(), v.clone())));
        network.plugins.iter().any(|plugin| !for_plugin(&one, &plugin.keys).is_empty())
    };
    for (name, annotation) in NEEDED {
        if asked.contains_key(name) && !is_taken(name) {
            return Err(Error::Precondition(format!(
                "annotation {annotation}: no plugin of network {} has the capability {name}",
                network.name
            )));
        }
    }
    if asked.contains_key("bandwidth") && !is_taken("bandwidth") {
        // Some networks read it from the cluster instead, so this is no error.
        tracing::warn!(network = network.name, "no plugin has the capability bandwidth");
    }
    Ok(())
}

/// Who leads ports of the host to a pod of that network.
pub fn ports_keeper(network: &NetworkList) -> PortsKeeper {
    let is_on = |plugin: &PluginConf| {
        let switched = plugin.keys.get("capabilities").and_then(Value::as_object);
        switched.is_some_and(|switched| switched.get(PORTS) == Some(&Value::Bool(true)))
    };
    match network.plugins.iter().any(is_on) {
        true => PortsKeeper::Plugin,
        false => PortsKeeper::Nobody,
    }
}

fn is_with_prefix(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        let most = address.parse().map(|ip: std::net::IpAddr| if ip.is_ipv4() { 32 } else { 128 });
        prefix.parse::<u8>().is_ok_and(|prefix| most.is_ok_and(|most| prefix <= most))
    })
}

/// The bandwidth plugin's rates in bits per second; bursts as containerd sets them.
fn bandwidth(ingress: Option<&str>, egress: Option<&str>) -> Result<Map<String, Value>> {
    let mut rates = Map::new();
    for (key, way, text) in [(INGRESS, "ingress", ingress), (EGRESS, "egress", egress)] {
        let Some(text) = text else { continue };
        let rate = quantity(text).filter(|rate| RATES.contains(rate)).ok_or_else(|| {
            Error::Invalid(format!(
                "annotation {key}: {text:?} is no rate between 1k and 1P bits per second, \
                 like 10M"
            ))
        })?;
        // Within RATES, so exact.
        rates.insert(format!("{way}Rate"), (rate.round() as u64).into());
        rates.insert(format!("{way}Burst"), u32::MAX.into());
    }
    Ok(rates)
}

/// Kubernetes' quantities: a decimal number, and a suffix or an exponent.
fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1048576.0),
        ("Gi", 1073741824.0),
        ("Ti", 1099511627776.0),
        ("Pi", 1125899906842624.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let (number, unit) =
        SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    let exponent = unit == 1.0 && number.contains(['e', 'E']);
    if !exponent && !number.chars().all(plain) {
        return None;
    }
    number.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::SandboxId;
    use crate::model::sandbox::{Dns, Realm, SandboxConfig, SandboxName, SandboxState};

    fn sandbox(notes: &[(&str, &str)]) -> Sandbox {
        let name = SandboxName {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "prod".into(),
            attempt: 0,
        };
        let annotations = notes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Sandbox {
            id: SandboxId::random(),
            realm: Realm::Kubelet,
            handler: String::new(),
            config: SandboxConfig { name, annotations, ..SandboxConfig::default() },
            created_at: 1,
            state: SandboxState::Creating,
            shim: None,
            addresses: Vec::new(),
            hooks: None,
        }
    }

    #[test]
    fn the_arguments_are_containerds() {
        let mut pod = sandbox(&[]);
        assert_eq!(
            args(&pod).unwrap(),
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web;\
                 K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=u-1",
                pod.id
            )
        );
        pod.config.name.name = "a;K8S_POD_NAME=b".to_owned();
        assert!(args(&pod).unwrap_err().to_string().contains("cannot be told"));
    }

    #[test]
    fn a_plugin_gets_what_it_switches_on_and_nothing_else() {
        let mut pod = sandbox(&[
            (INGRESS, "10M"),
            (EGRESS, "1.5Gi"),
            (IPS, "10.1.2.3/24, fd00::3/64"),
            (MAC, "02:00:00:00:00:01"),
        ]);
        pod.config.port_mappings = vec![
            PortMapping {
                protocol: "tcp".into(),
                container_port: 80,
                host_port: 8080,
                host_ip: String::new(),
            },
            PortMapping {
                protocol: "udp".into(),
                container_port: 53,
                host_port: 0,
                host_ip: String::new(),
            },
        ];
        pod.config.dns = Some(Dns { servers: vec!["10.0.0.10".into()], ..Dns::default() });
        let asked = of(&pod).unwrap();
        assert_eq!(
            asked["portMappings"],
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}])
        );
        assert_eq!(asked["bandwidth"]["ingressRate"], 10_000_000);
        assert_eq!(asked["bandwidth"]["egressRate"], 1_610_612_736u64);
        assert_eq!(asked["ips"], json!(["10.1.2.3/24", "fd00::3/64"]));
        let keys = json!({"capabilities": {"portMappings": true, "dns": true, "ips": false}});
        let given = for_plugin(&asked, keys.as_object().unwrap());
        assert_eq!(given.keys().collect::<Vec<_>>(), ["dns", "portMappings"]);
        assert!(for_plugin(&asked, &Map::new()).is_empty());
        assert!(of(&sandbox(&[])).unwrap().is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_annotation() {
        for (key, value) in [
            (INGRESS, "fast"),
            (INGRESS, "10"),
            (EGRESS, "2000P"),
            (EGRESS, "-5M"),
            (IPS, "10.1.2.3"),
            (IPS, "10.1.2.3/24,"),
            (MAC, "02:00:00:00:00"),
            (MAC, "02:00:00:00:00:0g"),
        ] {
            let error = of(&sandbox(&[(key, value)])).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert_eq!(quantity("1e6"), Some(1e6));
        assert_eq!(quantity("12E"), None);
        assert_eq!(quantity("inf"), None);
    }
}
