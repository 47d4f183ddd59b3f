//! What tests of plugins share: a node with plugins, what they told of.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use support::{Container, Daemon, Pod, container, eventually, sandbox};
use wasmpod::proto::cri;

use crate::support;

/// One plugin of the configuration: its name, its guest, its index, more lines of its table, its
/// settings.
pub struct Plugin<'a> {
    pub name: &'a str,
    pub guest: &'a str,
    pub index: u32,
    pub more: &'a str,
    pub settings: &'a str,
}

impl Default for Plugin<'_> {
    fn default() -> Self {
        Self { name: "probe", guest: "plugin-probe", index: 10, more: "", settings: "" }
    }
}

/// A probe that does these things.
pub fn probe<'a>(name: &'a str, index: u32, settings: &'a str) -> Plugin<'a> {
    Plugin { name, index, settings, ..Plugin::default() }
}

pub fn configuration(plugins: &[Plugin<'_>]) -> String {
    let mut text = String::new();
    for plugin in plugins {
        let Plugin { name, index, more, settings, .. } = plugin;
        let path = support::guest(plugin.guest);
        let path = path.display();
        write!(
            text,
            "[plugins.{name}]\npath = \"{path}\"\nindex = {index}\nfunctions = [\"*\"]\n\
             fields = [\"*\"]\n{more}\n[plugins.{name}.settings]\n{settings}\n"
        )
        .unwrap();
    }
    text
}

/// A plugin's file in a folder of the test's own: another may take its place.
pub struct File(tempfile::TempDir);

impl File {
    pub fn new(content: &[u8]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        fs::write(file.path(), content).unwrap();
        file
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("plugin.wasm")
    }

    /// Renamed in, so that it is seen whole or not at all.
    pub fn replace(&self, content: &[u8]) {
        let new = self.0.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, self.path()).unwrap();
    }

    /// Of a node that has this plugin from here.
    pub fn configuration(&self, plugin: Plugin<'_>) -> String {
        let guest = support::guest(plugin.guest).display().to_string();
        configuration(&[plugin]).replace(&guest, &self.path().display().to_string())
    }
}

pub fn wasm(name: &str) -> Vec<u8> {
    fs::read(support::guest(name)).unwrap()
}

/// A guest in which one text stands for another. Both are as long, so that nothing else changes.
pub fn rewritten(name: &str, (old, new): (&[u8], &[u8])) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut wasm = wasm(name);
    // Once for each library that the linker found it in.
    while let Some(at) = wasm.windows(old.len()).position(|part| part == old) {
        wasm[at..at + new.len()].copy_from_slice(new);
    }
    wasm
}

pub async fn start(plugins: &[Plugin<'_>]) -> Daemon {
    Daemon::start_with(&configuration(plugins)).await
}

/// What plugins told the daemon's log, "HOOK OF" each.
pub fn told(daemon: &Daemon) -> Vec<String> {
    let log = daemon.own_log();
    let lines = log.lines().filter_map(|line| line.split_once("probe "));
    lines.map(|(_, told)| told.split(" plugin").next().unwrap().trim().to_owned()).collect()
}

/// The hooks that were called for a thing, in order.
pub fn hooks(daemon: &Daemon, of: &str) -> Vec<String> {
    let told = told(daemon);
    let own = told.iter().filter_map(|line| line.split_once(' '));
    own.filter(|(_, rest)| rest.starts_with(of)).map(|(hook, _)| hook.to_owned()).collect()
}

/// A pod and what happens when a probe is to be created in it.
pub async fn pod(daemon: &Daemon) -> Pod {
    daemon.run_pod(sandbox("plugged")).await
}

/// A pod's configuration, in this namespace.
pub fn sandbox_in(namespace: &str, name: &str) -> cri::PodSandboxConfig {
    let mut config = sandbox(name);
    config.metadata.as_mut().unwrap().namespace = namespace.to_owned();
    config
}

/// Has an image come from a registry; false where this machine has none.
pub async fn pull(daemon: &Daemon) -> bool {
    use crate::registry::kit::artifact;
    use crate::registry::server::{Guard, Server, folder, is_there};
    if !is_there() {
        return false;
    }
    let folder = folder();
    let server = Server::start(folder.path(), Guard::Nothing).await;
    server.push(&artifact(wasm("hello")), "team/hello", "1");
    daemon.cli(&["pull", &format!("{}/team/hello:1", server.host)]).await;
    true
}

/// A container of the probe guest that shows its environment.
pub async fn shows(pod: &Pod, image: &str, words: &[&str]) -> Container {
    let mut config = container("main", image);
    config.args = words.iter().map(|&word| word.to_owned()).collect();
    pod.run(config).await
}

/// A container of the probe guest at whose hook the plugin does something.
pub fn asks(name: &str, image: &str, (hook, what): (&str, &str)) -> cri::ContainerConfig {
    let mut config = container(name, image);
    config.annotations.insert(format!("plugin-probe.example/{hook}"), what.to_owned());
    config
}

/// What plugins answered to calls, in order.
pub fn answers(daemon: &Daemon) -> Vec<String> {
    let log = daemon.own_log();
    let answers = log.lines().filter_map(|line| {
        let (_, answer) = line.split_once("probe answered ")?.1.split_once(':')?;
        let (answer, plugin) = answer.rsplit_once(" plugin=\"")?;
        let (answer, plugin) = (answer.trim_start(), plugin.trim_end_matches('"'));
        Some(if plugin == "probe" { answer.to_owned() } else { format!("{plugin}: {answer}") })
    });
    answers.collect()
}

/// What the plugins answer to these calls, with `;` between them.
pub async fn said(daemon: &Daemon, pod: &Pod, image: &str, calls: &str) -> Vec<String> {
    let before = answers(daemon).len();
    let name = format!("asks-{before}");
    let what = format!("calls {calls}");
    pod.create(asks(&name, image, ("post-create-container", &what))).await;
    let count = calls.split(';').count();
    eventually("all is answered", || {
        let told = answers(daemon).split_off(before);
        (told.len() >= count).then_some(told)
    })
    .await
}
