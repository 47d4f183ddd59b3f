//! A daemon whose pods are on a network of the test's own: a bridge, a subnet and plugins that
//! no other test has.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use wasmpod::proto::cri;

use crate::support::{self, Daemon, Pod};

/// Where Debian has them. CNI_PLUGINS names other ones, as scripts/test.sh does with the current
/// ones that tests/conformance/build-cni-plugins.sh makes.
const PLUGINS: &str = "/usr/lib/cni";

pub fn plugins() -> PathBuf {
    std::env::var_os("CNI_PLUGINS").map_or_else(|| PLUGINS.into(), PathBuf::from)
}

/// False, and says so, where CNI plugins cannot be run.
pub fn possible() -> bool {
    if !support::root_for("CNI") {
        return false;
    }
    let there = plugins().join("bridge").exists();
    if !there {
        eprintln!("SKIPPED: CNI needs the plugins in {}: scripts/setup.sh", plugins().display());
    }
    there
}

/// A network of one test; what it leaves on the host goes with it.
pub struct Net {
    pub folder: TempDir,
    pub bridge: String,
    /// 10.X.Y, for a /24; fd00:X:Y::/64 too.
    pub subnet: (u8, u8),
}

impl Net {
    pub fn new() -> Self {
        // A folder's random name makes the bridge's; the kernel would refuse a second one.
        let folder = tempfile::Builder::new().prefix("wpcni").tempdir().unwrap();
        let mut random = [0u8; 4];
        getrandom(&mut random);
        for name in ["net.d", "bin", "data"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let bridge = format!("wpt{:02x}{:02x}{:02x}", random[0], random[1], random[2]);
        Self { folder, bridge, subnet: (100 + random[2] % 100, random[3]) }
    }

    pub fn name(&self) -> &str {
        &self.bridge
    }

    pub fn conf_dir(&self) -> PathBuf {
        self.folder.path().join("net.d")
    }

    pub fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    pub fn bridge_plugin(&self) -> Value {
        let (a, b) = self.subnet;
        json!({
            "type": "bridge", "bridge": self.bridge, "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.folder.path().join("data"),
                "ranges": [
                    [{"subnet": format!("10.{a}.{b}.0/24")}],
                    [{"subnet": format!("fd00:{a:x}:{b:x}::/64")}],
                ],
            },
        })
    }

    /// Writes the configuration: these plugins as one list.
    pub fn write(&self, plugins: &[Value]) {
        self.write_as("10-test.conflist", "1.0.0", plugins);
    }

    pub fn write_as(&self, file: &str, version: &str, plugins: &[Value]) {
        let list = json!({"cniVersion": version, "name": self.name(), "plugins": plugins});
        fs::write(self.conf_dir().join(file), list.to_string()).unwrap();
    }

    /// A plugin that is a shell script.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.bin().join(name);
        // Renamed in, so that nobody runs it while it is open for writing.
        let new = self.folder.path().join(name);
        fs::write(&new, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub fn configuration(&self) -> String {
        format!(
            "[network]\nconf_dir = {:?}\nbin_dirs = [{:?}, {:?}]\nplugin_seconds = 20\n",
            self.conf_dir(),
            self.bin(),
            plugins()
        )
    }

    /// The addresses that host-local gave away.
    pub fn reserved(&self) -> Vec<IpAddr> {
        let folder = self.folder.path().join("data").join(self.name());
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let mut found: Vec<IpAddr> =
            entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
        found.sort();
        found
    }

    /// Interfaces of the host on the bridge.
    pub fn ports(&self) -> Vec<String> {
        let folder = format!("/sys/class/net/{}/brif", self.bridge);
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if Path::new("/sys/class/net").join(&self.bridge).exists() {
            let _ = Command::new("ip").args(["link", "del", &self.bridge]).status();
        }
    }
}

fn getrandom(bytes: &mut [u8]) {
    use std::io::Read;
    fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
}

/// A sandbox that wants a network of its own.
pub fn networked(name: &str) -> cri::PodSandboxConfig {
    let mut config = support::sandbox(name);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(cri::NamespaceOption::default());
    config
}

/// A pod's addresses, the first first.
pub async fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let network = pod.status().await.unwrap().network.expect("the pod has a network");
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    std::iter::once(network.ip).chain(more).map(|ip| ip.parse().unwrap()).collect()
}

/// A pod's bound namespace.
pub fn namespace(daemon: &Daemon, pod: &Pod) -> PathBuf {
    daemon.state().join("netns").join(&pod.id)
}

/// Runs `work` on a thread in a namespace.
pub fn within<T: Send + 'static>(namespace: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.to_path_buf();
    std::thread::spawn(move || {
        wasmpod::netns::enter(&namespace).unwrap();
        work()
    })
    .join()
    .unwrap()
}

/// What a daemon's network left: namespaces, journal entries.
pub fn remains(daemon: &Daemon) -> Vec<PathBuf> {
    [daemon.state().join("netns"), daemon.root().join("network")]
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect()
}
