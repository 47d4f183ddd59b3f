//! All pods of the agent: takes them on, finds them again after a restart, and gives each its
//! worker. Knows the daemon only through its socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tonic::transport::Channel;

use super::configs::POD_UID;
use super::events;
use super::manifest::Manifest;
use super::pod::Pod;
use super::ports;
use super::record::{Mode, Record};
use super::remote::Remote;
use super::store::Store;
use super::validate;
use super::worker::{Tools, Worker};
use crate::config::Config;
use crate::cri::client;
use crate::error::{Error, Result};
use crate::proto::pod as wire;
use crate::proto::pod::images_client::ImagesClient;

/// Between two tries to reach the daemon's own socket.
const RECONNECT: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    store: Store,
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// Held while a pod is taken on, so that a name is given once.
    taking: tokio::sync::Mutex<()>,
    channel: OnceCell<Channel>,
    /// Whether CRI's event stream rings the pods.
    told: watch::Sender<bool>,
    /// Pods and calls that keep a private daemon alive.
    busy: watch::Sender<usize>,
    /// True once the daemon is ending.
    ending: watch::Sender<bool>,
}

/// Counts as business for as long as it lives.
#[derive(Debug)]
pub struct Busy(Arc<Agent>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Agent {
    /// Opens the agent's folder below the root; every pod of it is known when this returns, and
    /// played once [`Agent::start`] is called.
    pub fn open(config: &Config) -> Result<(Arc<Self>, Vec<Record>)> {
        let store = Store::open(&config.root)?;
        let mut records = store.load()?;
        records.retain(|record| Pod::new(record, store.dirs(&record.uid)).is_ok());
        let agent = Arc::new(Self {
            config: config.clone(),
            store,
            pods: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
            channel: OnceCell::new(),
            told: watch::Sender::new(false),
            busy: watch::Sender::new(0),
            ending: watch::Sender::new(false),
        });
        Ok((agent, records))
    }

    /// Plays the pods of an earlier life and listens for what happens to containers. The socket
    /// need not answer yet.
    pub async fn start(self: &Arc<Self>, records: Vec<Record>) {
        for record in records {
            if let Err(error) = self.play(record).await {
                tracing::error!(%error, "a pod of the agent cannot be played");
            }
        }
        let (agent, mut ending) = (self.clone(), self.ending());
        tokio::spawn(async move {
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => {}
                () = agent.listen() => {}
            }
        });
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many pods and calls there are.
    pub fn business(&self) -> watch::Receiver<usize> {
        self.busy.subscribe()
    }

    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.send_modify(|count| *count += 1);
        Busy(self.clone())
    }

    /// Ends what would otherwise keep the daemon's connections open; pods live on.
    pub fn end_streams(&self) {
        self.ending.send_replace(true);
    }

    /// Becomes true when streams have to end.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    async fn channel(&self) -> Channel {
        let socket = self.config.agent_socket();
        self.channel
            .get_or_init(|| async {
                loop {
                    match client::connect(&socket).await {
                        Ok(channel) => break channel,
                        Err(error) => tracing::debug!(%error, "the daemon does not answer yet"),
                    }
                    tokio::time::sleep(RECONNECT).await;
                }
            })
            .await
            .clone()
    }

    /// Hears what happens to containers and rings their pods; where CRI does not tell, the
    /// workers look themselves.
    async fn listen(&self) {
        let remote = Remote::new(self.channel().await);
        loop {
            match remote.events().await {
                Ok(mut stream) => {
                    self.told.send_replace(true);
                    self.ring_all();
                    while let Ok(Some(event)) = stream.message().await {
                        let labels = event.pod_sandbox_status.map(|status| status.labels);
                        match labels.as_ref().and_then(|labels| labels.get(POD_UID)) {
                            Some(uid) => self.ring(uid),
                            None => self.ring_all(),
                        }
                    }
                    self.told.send_replace(false);
                    self.ring_all();
                }
                Err(Error::Unimplemented(_)) => return,
                Err(error) => tracing::debug!(%error, "container events are not heard"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn ring(&self, uid: &str) {
        if let Some(pod) = self.lock().get(uid) {
            pod.wake.notify_one();
        }
    }

    fn ring_all(&self) {
        self.lock().values().for_each(|pod| pod.wake.notify_one());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a pod on; durable when it returns.
    pub async fn run(self: &Arc<Self>, request: wire::RunRequest) -> Result<Arc<Pod>> {
        let _busy = self.busy();
        let mut manifest = Manifest::parse(&request.manifest)?;
        ports::publish(&mut manifest, &request.publish)?;
        validate::validate(&manifest)?;
        let base_dir = PathBuf::from(&request.base_dir);
        if !base_dir.is_absolute() {
            return Err(Error::Invalid(format!("base_dir {:?} is not absolute", request.base_dir)));
        }
        let images = self.import_images(&manifest, &base_dir).await?;
        let _taking = self.taking.lock().await;
        let (namespace, name) = (manifest.namespace(), manifest.name());
        if let Some(other) = self.pods().iter().find(|p| p.namespace == namespace && p.name == name)
        {
            let state = if other.has_ended() { "has ended" } else { "is running" };
            return Err(Error::Precondition(format!(
                "pod {namespace}/{name} already exists and {state}: remove it with `wasmpod rm{} \
                 {name}`",
                if other.has_ended() { "" } else { " -f" }
            )));
        }
        let mode = match request.mode() {
            wire::run_request::Mode::Attached => Mode::Attached,
            wire::run_request::Mode::Detached => Mode::Detached,
        };
        let record = Record {
            version: Record::VERSION,
            uid: uid(),
            created_at: events::now(),
            mode,
            base_dir,
            manifest,
            images,
            post_started: Vec::new(),
            stop: None,
            ending: None,
        };
        self.store.save(&record).await?;
        self.play(record).await
    }

    /// Gives a pod its folder and its worker.
    async fn play(self: &Arc<Self>, record: Record) -> Result<Arc<Pod>> {
        let dirs = self.store.dirs(&record.uid);
        std::fs::create_dir_all(dirs.root())
            .map_err(Error::io(format!("making {}", dirs.root().display())))?;
        let pod = Pod::new(&record, dirs)?;
        self.lock().insert(pod.uid.clone(), pod.clone());
        let (agent, busy, shared) = (self.clone(), self.busy(), pod.clone());
        tokio::spawn(async move {
            let tools = Tools {
                remote: Remote::new(agent.channel().await),
                store: agent.store.clone(),
                first_wait: agent.config.agent.first_wait(),
                longest_wait: agent.config.agent.longest_wait(),
                told: agent.told.subscribe(),
            };
            let uid = shared.uid.clone();
            Worker::new(shared, record, tools).run().await;
            agent.lock().remove(&uid);
            drop(busy);
        });
        Ok(pod)
    }

    /// Every pod, the newest first.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let mut pods: Vec<_> = self.lock().values().cloned().collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        pods
    }

    /// The pod of that name, namespace/name, uid or unique prefix of a uid.
    pub fn find(&self, reference: &str) -> Result<Arc<Pod>> {
        let pods = self.pods();
        let named = |pod: &&Arc<Pod>| match reference.split_once('/') {
            Some((namespace, name)) => pod.namespace == namespace && pod.name == name,
            None => pod.name == reference,
        };
        let by_name: Vec<_> = pods.iter().filter(named).collect();
        let by_uid: Vec<_> = pods
            .iter()
            .filter(|pod| !reference.is_empty() && pod.uid.starts_with(reference))
            .collect();
        let found = if by_name.is_empty() { by_uid } else { by_name };
        match found.as_slice() {
            [pod] => Ok(Arc::clone(pod)),
            [] => Err(Error::not_found("pod", reference)),
            several => Err(Error::Ambiguous {
                what: "pod",
                id: reference.to_owned(),
                count: several.len(),
            }),
        }
    }

    /// Imports the .wasm files that stand for images; their names by what the manifest says.
    async fn import_images(
        &self,
        manifest: &Manifest,
        base_dir: &Path,
    ) -> Result<BTreeMap<String, String>> {
        let mut images = BTreeMap::new();
        for (path, container) in manifest.containers() {
            let asked = container.image.as_deref().unwrap_or_default().trim();
            let Some(file) = wasm_file(asked, base_dir) else { continue };
            if images.contains_key(asked) {
                continue;
            }
            let doing = format!("{path}.image: importing {}", file.display());
            let name = import_name(&file).await.map_err(Error::io(doing.clone()))?;
            let request = wire::ImportRequest {
                path: file.to_string_lossy().into_owned(),
                name: name.clone(),
            };
            let channel = self.channel().await;
            let answer = ImagesClient::new(channel)
                .import(request)
                .await
                .map_err(|status| Error::Precondition(format!("{doing}: {}", status.message())))?;
            let full = answer.into_inner().name;
            images.insert(asked.to_owned(), if full.is_empty() { name } else { full });
        }
        Ok(images)
    }
}

/// The file that an image stands for: a path by its look, or any name of an existing .wasm file.
fn wasm_file(image: &str, base_dir: &Path) -> Option<PathBuf> {
    let is_path = ["./", "../", "/"].iter().any(|start| image.starts_with(start));
    let file = base_dir.join(image);
    (is_path || (image.ends_with(".wasm") && file.is_file())).then_some(file)
}

/// `localhost/<file stem>:<start of its digest>`: another file, another name.
async fn import_name(file: &Path) -> std::io::Result<String> {
    use sha2::Digest;
    let bytes = tokio::fs::read(file).await?;
    let digest = tokio::task::spawn_blocking(move || hex::encode(sha2::Sha256::digest(&bytes)))
        .await
        .map_err(std::io::Error::other)?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let stem: String = stem
        .unwrap_or_default()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    let stem = stem.trim_matches('-');
    let stem = if stem.is_empty() { "app" } else { stem };
    Ok(format!("localhost/{stem}:{}", digest.get(..12).unwrap_or_default()))
}

/// A random UUID, version 4.
fn uid() -> String {
    let id = crate::model::ids::SandboxId::random();
    let hex = id.as_str();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_looks_like_one_and_differs_from_the_next() {
        let id = uid();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_ne!(id, uid());
    }

    #[test]
    fn paths_are_told_from_image_names() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("app.wasm"), "").unwrap();
        let file = |image: &str| wasm_file(image, base.path());
        assert_eq!(file("./x.wasm"), Some(base.path().join("./x.wasm")));
        assert_eq!(file("/x"), Some(PathBuf::from("/x")));
        assert_eq!(file("app.wasm"), Some(base.path().join("app.wasm")));
        assert_eq!(file("reg.io/app.wasm"), None);
        assert_eq!(file("hello:1"), None);
    }

    #[tokio::test]
    async fn an_imports_name_is_a_valid_reference() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("My App_.wasm");
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(import_name(&file).await.unwrap(), "localhost/my-app:ba7816bf8f01");
    }
}
