//! What plugins answer: results of ADD (0.3.0 to 1.1.0), errors, supported versions. Untrusted
//! text: everything is bounded and checked. Runs nothing.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::version::Version;

/// Letters of a plugin's own words in an error.
const WORDS: usize = 400;

/// A result of ADD, in the form of one version; what wasmpod does not know is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub value: Value,
}

#[derive(Deserialize)]
struct Form {
    #[serde(default, rename = "cniVersion")]
    version: Option<String>,
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<Ip>>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: Option<String>,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    #[serde(default)]
    interface: Option<i64>,
}

/// What a pod has of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// In the plugin's order.
    pub addresses: Vec<IpAddr>,
    /// Whether the result says that the pod's interface is in its namespace, so that it can be
    /// looked for there.
    pub is_listed: bool,
}

impl Outcome {
    /// Takes a plugin's standard output. The error continues "ADD ...".
    pub fn parse(output: &[u8], version: Version) -> Result<Self, String> {
        if output.iter().all(u8::is_ascii_whitespace) {
            return Err("printed no result".to_owned());
        }
        let value: Value = serde_json::from_slice(output)
            .map_err(|error| format!("printed what is no result ({error}): {:?}", brief(output)))?;
        Self::of(value, version).map_err(|why| format!("printed what is no result: {why}"))
    }

    /// The same result in the form of `version`.
    pub fn of(mut value: Value, version: Version) -> Result<Self, String> {
        let form: Form = Form::deserialize(&value).map_err(|error| error.to_string())?;
        if let Some(told) = &form.version
            && Version::parse(told).is_none()
        {
            return Err(format!("it is of CNI {:?}", brief(told.as_bytes())));
        }
        for ip in form.ips.iter().flatten() {
            address(ip)?;
        }
        let keys = value.as_object_mut().ok_or("it is no object")?;
        keys.insert("cniVersion".to_owned(), version.text().into());
        if let Some(Value::Array(ips)) = keys.get_mut("ips") {
            ips.iter_mut().filter_map(Value::as_object_mut).for_each(|ip| family(ip, version));
        }
        Ok(Self { value })
    }

    /// What `interface` of the pod got. The error continues "network N ...".
    pub fn given(&self, interface: &str) -> Result<Given, String> {
        let form = Form::deserialize(&self.value).map_err(|error| error.to_string())?;
        let interfaces = form.interfaces.unwrap_or_default();
        let mut given = Given::default();
        for ip in form.ips.iter().flatten() {
            let of = match ip.interface {
                // Of the pod's interface, where the result names none.
                None => None,
                Some(index) => {
                    let named = usize::try_from(index).ok().and_then(|at| interfaces.get(at));
                    Some(named.ok_or_else(|| {
                        format!("gave an address to interface {index}, which it does not list")
                    })?)
                }
            };
            let is_ours = |of: &&Interface| {
                of.name == interface && of.sandbox.as_ref().is_some_and(|path| !path.is_empty())
            };
            if of.as_ref().is_none_or(is_ours) {
                given.addresses.push(address(ip)?);
            }
        }
        given.is_listed = interfaces.iter().any(|i| {
            i.name == interface && i.sandbox.as_ref().is_some_and(|path| !path.is_empty())
        });
        if given.addresses.is_empty() {
            return Err(format!("gave the pod no address at {interface}"));
        }
        Ok(given)
    }
}

fn address(ip: &Ip) -> Result<IpAddr, String> {
    let wrong = || format!("{:?} is no address with its prefix", brief(ip.address.as_bytes()));
    let (address, prefix) = ip.address.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if prefix > most { Err(wrong()) } else { Ok(address) }
}

/// Up to 0.4.0 an address carries its family.
fn family(ip: &mut Map<String, Value>, version: Version) {
    let is_six = ip.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':'));
    if version.names_families() {
        ip.insert("version".to_owned(), if is_six { "6" } else { "4" }.into());
    } else {
        ip.remove("version");
    }
}

#[derive(Deserialize)]
struct Failure {
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// Why a plugin failed, by what it printed: "MSG (code 7): DETAILS", or its last words.
pub fn failure(stdout: &[u8], stderr: &[u8], status: &str) -> String {
    if let Ok(Failure { code, msg, details }) = serde_json::from_slice(stdout) {
        let msg = if msg.is_empty() { "failed" } else { &msg };
        let details = if details.is_empty() { String::new() } else { format!(": {details}") };
        return brief(format!("{msg} (code {code}){details}").as_bytes());
    }
    let words = if stderr.iter().all(u8::is_ascii_whitespace) { stdout } else { stderr };
    match brief(words).as_str() {
        "" => format!("ended with {status} and said nothing"),
        words => format!("ended with {status} and said {words:?}"),
    }
}

#[derive(Deserialize)]
struct Supported {
    #[serde(default, rename = "supportedVersions")]
    versions: Vec<String>,
}

/// What VERSION answered. The error continues "VERSION ...".
pub fn supported(output: &[u8]) -> Result<Vec<Version>, String> {
    let supported: Supported = serde_json::from_slice(output)
        .map_err(|error| format!("printed no versions ({error}): {:?}", brief(output)))?;
    Ok(supported.versions.iter().filter_map(|text| Version::parse(text)).collect())
}

/// Foreign words in one line of bounded length.
pub fn brief(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words.get(..words.len().min(4 * WORDS)).unwrap_or(words));
    let line = text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bridge() -> Value {
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "br0"}, {"name": "veth1"},
                {"name": "eth0", "mac": "x", "sandbox": "/run/netns/a", "mtu": 1500},
            ],
            "ips": [
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 2},
                {"address": "fd00::2/64", "interface": 2},
                {"address": "192.0.2.1/24", "interface": 0},
            ],
            "dns": {},
        })
    }

    #[test]
    fn the_pods_interface_has_its_addresses_of_both_families_alone() {
        let outcome = Outcome::of(bridge(), Version::V100).unwrap();
        let given = outcome.given("eth0").unwrap();
        assert_eq!(
            given.addresses,
            ["10.0.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]
        );
        assert!(given.is_listed);
        let bare = json!({"ips": [{"address": "10.0.0.2/24"}]});
        let given = Outcome::of(bare, Version::V040).unwrap().given("eth0").unwrap();
        assert_eq!((given.addresses.len(), given.is_listed), (1, false));
    }

    #[test]
    fn results_change_their_form_with_the_version_and_lose_nothing() {
        let old = Outcome::of(bridge(), Version::V031).unwrap();
        assert_eq!(old.value["ips"][0]["version"], "4");
        assert_eq!(old.value["ips"][1]["version"], "6");
        assert_eq!(old.value["cniVersion"], "0.3.1");
        assert_eq!(old.value["interfaces"][2]["mtu"], 1500);
        let new = Outcome::of(old.value, Version::V100).unwrap();
        assert_eq!(new.value, bridge());
    }

    #[test]
    fn lies_are_named() {
        for (value, says) in [
            (json!({"ips": [{"address": "10.0.0.2"}]}), "\"10.0.0.2\" is no address"),
            (json!({"ips": [{"address": "10.0.0.2/33"}]}), "no address"),
            (json!({"ips": "none"}), "invalid type"),
            (json!({"cniVersion": "9.9.9"}), "CNI \"9.9.9\""),
            (json!([1]), "no result"),
        ] {
            let error = Outcome::parse(value.to_string().as_bytes(), Version::V100).unwrap_err();
            assert!(error.contains(says), "{value}: {error}");
        }
        let far = json!({"ips": [{"address": "10.0.0.2/8", "interface": 7}]});
        let error = Outcome::of(far, Version::V100).unwrap().given("eth0").unwrap_err();
        assert!(error.contains("interface 7, which it does not list"), "{error}");
        let none = Outcome::of(json!({}), Version::V100).unwrap().given("eth0").unwrap_err();
        assert!(none.contains("no address at eth0"), "{none}");
        assert!(Outcome::parse(b"  \n", Version::V100).unwrap_err().contains("no result"));
        assert!(
            Outcome::parse(b"Hello\nyou", Version::V100).unwrap_err().contains("\"Hello you\"")
        );
    }

    #[test]
    fn a_failure_is_the_plugins_own_words_in_one_line() {
        let told = br#"{"cniVersion": "1.0.0", "code": 11, "msg": "no more\naddresses", "details": "in 10.0.0.0/30"}"#;
        assert_eq!(
            failure(told, b"", "exit status: 1"),
            "no more addresses (code 11): in 10.0.0.0/30"
        );
        assert_eq!(
            failure(b"", b"panic:\n  boo", "exit status: 2"),
            "ended with exit status: 2 and said \"panic: boo\""
        );
        assert!(failure(b"", b"", "signal: 9").ends_with("and said nothing"));
        assert!(failure(&[b'x'; 100_000], b"", "exit status: 1").len() < 2 * WORDS);
    }
}
