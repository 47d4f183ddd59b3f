//! A real registry, Debian's docker-registry, on loopback: plain, or behind TLS and a password.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::kit::Made;
use crate::support::{self, eventually};

/// Where an image is put, and the folder that several registries may share.
pub struct Server {
    child: Child,
    pub host: String,
    scheme: &'static str,
    guard: Guard,
    folder: PathBuf,
}

/// What a registry asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Nothing,
    /// https, and user u with password p.
    TlsAndPassword,
    /// https, and a certificate of its CA: client.pem with client.key.
    ClientCertificate,
}

/// Whether there is one to test with; says loudly if not.
pub fn is_there() -> bool {
    let there = |program: &str, argument: &str| {
        Command::new(program)
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    let all = there("docker-registry", "--version")
        && there("htpasswd", "-h")
        && there("openssl", "version");
    if !all {
        support::skipped("no docker-registry, htpasswd and openssl (scripts/setup.sh)");
    }
    all
}

fn run(program: &str, arguments: &[&str], folder: &Path) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// A CA, and a certificate of it for 127.0.0.1.
fn certificates(folder: &Path) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let ca = format!("{new} -subj /CN=test -keyout ca.key -out ca.pem");
    run("openssl", &ca.split(' ').collect::<Vec<_>>(), folder);
    let own = format!(
        "{new} -subj /CN=registry -keyout own.key -out own.pem -CA ca.pem -CAkey ca.key -addext \
         subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    );
    run("openssl", &own.split(' ').collect::<Vec<_>>(), folder);
    let client = format!(
        "{new} -subj /CN=client -keyout client.key -out client.pem -CA ca.pem -CAkey ca.key \
         -addext basicConstraints=critical,CA:FALSE"
    );
    run("openssl", &client.split(' ').collect::<Vec<_>>(), folder);
}

impl Server {
    /// Its storage lies in `folder`, its certificate's CA at ca.pem there.
    pub async fn start(folder: &Path, guard: Guard) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": folder.join("storage") } },
            "http": { "addr": host },
        });
        if guard != Guard::Nothing {
            certificates(folder);
            config["http"]["tls"] = serde_json::json!({
                "certificate": folder.join("own.pem"), "key": folder.join("own.key"),
            });
        }
        if guard == Guard::ClientCertificate {
            config["http"]["tls"]["clientcas"] = serde_json::json!([folder.join("ca.pem")]);
        }
        if guard == Guard::TlsAndPassword {
            run("htpasswd", &["-Bbc", "htpasswd", "u", "p"], folder);
            let auth = serde_json::json!({ "realm": "r", "path": folder.join("htpasswd") });
            config["auth"] = serde_json::json!({ "htpasswd": auth });
        }
        // JSON is YAML.
        let file = folder.join(format!("{port}.yml"));
        std::fs::write(&file, config.to_string()).unwrap();
        let log = std::fs::File::create(folder.join(format!("{port}.log"))).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let scheme = if guard == Guard::Nothing { "http" } else { "https" };
        let server = Self { child, host, scheme, guard, folder: folder.to_path_buf() };
        eventually("the registry listens", || std::net::TcpStream::connect(&server.host).ok())
            .await;
        server
    }

    /// Pushes an image with curl.
    pub fn push(&self, made: &Made, repository: &str, tag: &str) {
        let base = format!("{}://{}/v2/{repository}", self.scheme, self.host);
        for part in &made.parts {
            let answer = self.curl(&["-i", "-X", "POST", &format!("{base}/blobs/uploads/")], b"");
            let answer = String::from_utf8_lossy(&answer);
            let line = answer.lines().find(|line| line.to_lowercase().starts_with("location:"));
            let place = line.unwrap_or_else(|| panic!("{answer}")).split_once(' ').unwrap().1;
            let url = format!("{}&digest={}", place.trim(), part.digest);
            let kind = "content-type: application/octet-stream";
            self.curl(&["-X", "PUT", "-H", kind, "--data-binary", "@-", &url], &part.bytes);
        }
        let kind = made.manifest.descriptor["mediaType"].as_str().unwrap();
        let (kind, url) = (format!("content-type: {kind}"), format!("{base}/manifests/{tag}"));
        let bytes = &made.manifest.bytes;
        self.curl(&["-X", "PUT", "-H", &kind, "--data-binary", "@-", &url], bytes);
    }

    /// A blob as the registry gives it out.
    pub fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        self.curl(
            &[&format!("{}://{}/v2/{repository}/blobs/{digest}", self.scheme, self.host)],
            b"",
        )
    }

    /// A manifest, by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> serde_json::Value {
        let url = format!("{}://{}/v2/{repository}/manifests/{reference}", self.scheme, self.host);
        let accept = format!("accept: {}", super::kit::MANIFEST);
        serde_json::from_slice(&self.curl(&["-H", &accept, &url], b"")).unwrap()
    }

    fn curl(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut command = Command::new("curl");
        command
            .args(["-sSf", "--noproxy", "*", "-u", "u:p"])
            .arg("--cacert")
            .arg(self.folder.join("ca.pem"));
        if self.guard == Guard::ClientCertificate {
            let own = |name: &str| self.folder.join(name);
            command.arg("--cert").arg(own("client.pem")).arg("--key").arg(own("client.key"));
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that reads no input closes it early.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "curl {arguments:?}: {said}");
        output.stdout
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wpreg").tempdir().unwrap()
}
