//! The worker's doing: sandbox, images, containers, postStart hooks, and what it reports of
//! ends, each step an event in the kubelet's words.

use std::time::Duration;

use super::configs::{self, Making, TERMINATION_LOG};
use super::events::{self, Event};
use super::logs::tail;
use super::observe::{Attempt, Observation};
use super::ports::host_side;
use super::security::ImageUser;
use super::status::Waiting;
use super::stopping::Stopper;
use super::sync::{Actions, Phase, Role};
use super::worker::{Next, Worker, shortest};
use super::{hooks, store, volumes};
use crate::error::{Error, Result};

/// Bytes of a termination message that the kubelet reads from its file.
const MESSAGE: usize = 4096;

/// How starting a container went.
enum Started {
    Yes,
    /// Not now; perhaps after that time.
    Later(Duration),
}

impl Worker {
    /// Does what `sync` decided.
    pub(super) async fn act(
        &mut self,
        actions: Actions,
        observation: &Observation,
    ) -> Result<Next> {
        if actions.create.is_none() && actions.start.is_empty() {
            return Ok(Next::Wait(None));
        }
        if self.volumes.is_none()
            && let Err(wait) = self.make_volumes().await
        {
            return Ok(Next::Wait(Some(wait)));
        }
        for index in actions.kill {
            self.kill_unknown(index, observation).await?;
        }
        let sandbox = match actions.create {
            Some(attempt) => {
                if !observation.sandboxes.is_empty() {
                    self.kill(observation, None).await?;
                }
                match self.make_sandbox(attempt).await {
                    Ok(id) => id,
                    Err(wait) => return Ok(Next::Wait(Some(wait))),
                }
            }
            None => observation.sandbox().map_or(String::new(), |sandbox| sandbox.id.clone()),
        };
        let mut again = false;
        let mut waits = Vec::new();
        for index in actions.start {
            let Some(role) = self.pod.wanted.get(index).map(|wanted| wanted.role) else { continue };
            match self.start(index, &sandbox, observation).await? {
                Started::Yes => again = true,
                Started::Later(wait) => {
                    waits.push(Some(wait));
                    // An init container holds up all that follow; a sidecar is passed over.
                    if role == Role::Init {
                        break;
                    }
                }
            }
        }
        Ok(if again { Next::Again } else { Next::Wait(shortest(waits)) })
    }

    /// Notes a failure of `key` and says how long to wait for the next try.
    fn failed(&mut self, key: &str) -> Duration {
        let now = events::now();
        let before = self.failed_at.insert(key.to_owned(), now).unwrap_or(now);
        self.failures.again(key, before, now);
        self.failures.wait(key)
    }

    /// What is left to wait after the last failure of `key`.
    fn failure_left(&self, key: &str) -> Option<Duration> {
        self.failures.left(key, *self.failed_at.get(key)?, events::now())
    }

    pub(super) fn warn_once(&mut self, key: String, event: Event) {
        if self.told.insert(key) {
            self.pod.events.add(event);
        }
    }

    async fn make_volumes(&mut self) -> Result<(), Duration> {
        if let Some(left) = self.failure_left("volumes") {
            return Err(left);
        }
        let (record, dirs) = (self.record.clone(), self.pod.dirs.clone());
        match store::blocking(move || volumes::prepare(&record, &dirs)).await {
            Ok(volumes) => {
                self.volumes = Some(volumes);
                Ok(())
            }
            Err(error) => {
                self.pod.events.add(Event::warning("FailedMount", error.to_string()));
                Err(self.failed("volumes"))
            }
        }
    }

    async fn make_sandbox(&mut self, attempt: u32) -> Result<String, Duration> {
        if let Some(left) = self.failure_left("sandbox") {
            return Err(left);
        }
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.warn_once(format!("sandbox {attempt}"), Event::normal("SandboxChanged", text));
        }
        let (record, dirs) = (self.record.clone(), self.pod.dirs.clone());
        let made = async {
            let config = store::blocking(move || configs::sandbox(&record, &dirs, attempt)).await?;
            let spec = self.record.manifest.spec()?;
            let handler = spec.runtime_class_name.clone().unwrap_or_default();
            self.tools.remote.run_sandbox(config, &handler).await
        };
        match made.await {
            Ok(id) => {
                self.tell_of_ports();
                Ok(id)
            }
            Err(error) => {
                let text = format!("Failed to create pod sandbox: {error}");
                self.pod.events.add(Event::warning("FailedCreatePodSandBox", text));
                Err(self.failed("sandbox"))
            }
        }
    }

    /// Which ports of the host lead to the pod from now on.
    fn tell_of_ports(&self) {
        for port in &self.pod.ports {
            let text =
                format!("Host port {} leads to port {}", host_side(port), port.container_port);
            self.pod.events.add(Event::normal("Published", text));
        }
    }

    async fn kill_unknown(&mut self, index: usize, observation: &Observation) -> Result<()> {
        let name = self.pod.wanted.get(index).map(|wanted| wanted.name.as_str());
        let Some(attempt) = name.and_then(|name| observation.newest(name)) else { return Ok(()) };
        let text = "Container is in \"UNKNOWN\" state, try killing it before restart";
        self.stop_one(attempt, text).await
    }

    async fn stop_one(&mut self, attempt: &Attempt, message: &str) -> Result<()> {
        let stopper = Stopper {
            pod: &self.pod,
            manifest: &self.record.manifest,
            remote: &self.tools.remote,
            grace: None,
        };
        stopper.one(attempt, message, &mut self.told).await
    }

    async fn start(
        &mut self,
        index: usize,
        sandbox: &str,
        observation: &Observation,
    ) -> Result<Started> {
        let Some(wanted) = self.pod.wanted.get(index) else {
            return Err(Error::Internal(format!("the pod has no container {index}")));
        };
        let name = wanted.name.clone();
        if let Some(left) = self.failure_left(&name) {
            self.tell_of_pull_back_off(&name);
            return Ok(Started::Later(left));
        }
        let newest = observation.newest(&name);
        if let Some(left) = newest.and_then(|attempt| self.crash_left(attempt)) {
            return Ok(Started::Later(left));
        }
        let attempt = newest.map_or(0, |attempt| attempt.number() + 1);
        match self.make(&name, attempt, sandbox).await {
            Ok(id) => {
                self.waiting.remove(&name);
                self.failed_at.remove(&name);
                self.post_start(&name, &id).await?;
                Ok(Started::Yes)
            }
            Err(waiting) => {
                let wait = self.failed(&name);
                self.waiting.insert(name, waiting);
                Ok(Started::Later(wait))
            }
        }
    }

    /// The crash back-off: what is left of it, with its event; else the restart is counted.
    fn crash_left(&mut self, attempt: &Attempt) -> Option<Duration> {
        let Phase::Exited { finished_at, .. } = attempt.phase() else { return None };
        let name = attempt.name();
        let now = events::now();
        let Some(left) = self.restarts.left(name, finished_at, now) else {
            self.restarts.again(name, finished_at, now);
            return None;
        };
        let (pod, wait) = (self.record.title(), self.restarts.wait(name));
        let text = format!("Back-off restarting failed container {name} in pod {pod}");
        let event = Event::warning("BackOff", text).of(name, attempt.id());
        self.warn_once(format!("backoff {}", attempt.id()), event);
        let message = format!("back-off {wait:?} restarting failed container={name} pod={pod}");
        let reason = "CrashLoopBackOff";
        self.waiting.insert(name.to_owned(), Waiting { reason, message });
        Some(left)
    }

    /// Image, create, start. The error says what the container waits for; its event is out.
    async fn make(&mut self, name: &str, attempt: u32, sandbox: &str) -> Result<String, Waiting> {
        let events = &self.pod.events;
        let fail = |reason: &'static str, id: &str, error: Error| {
            let message = error.to_string();
            events.add(Event::warning("Failed", format!("Error: {message}")).of(name, id));
            Waiting { reason, message }
        };
        let config_error = |error| fail("CreateContainerConfigError", "", error);
        let container = self
            .record
            .manifest
            .container(name)
            .ok_or_else(|| config_error(Error::not_found("container", name)))?;
        let (image_name, image_id) = self.image(container).await?;
        let (record, dirs) = (self.record.clone(), self.pod.dirs.clone());
        let volumes = self.volumes.clone().unwrap_or_default();
        let addresses = self.tools.remote.addresses(sandbox).await.map_err(config_error)?;
        let known = self.tools.remote.image(&image_id).await.map_err(config_error)?;
        let image_user = known.map_or_else(ImageUser::default, |image| ImageUser {
            uid: image.uid.map(|uid| uid.value),
            name: image.username,
        });
        let making =
            Making { name: name.to_owned(), attempt, image_id, image_name, image_user, addresses };
        let (config, sandbox_config) = store::blocking(move || {
            let config = configs::container(&record, &dirs, &volumes, &making)?;
            Ok((config, configs::sandbox(&record, &dirs, 0)?))
        })
        .await
        .map_err(config_error)?;
        let id = self
            .tools
            .remote
            .create(sandbox, config, sandbox_config)
            .await
            .map_err(|error| fail("CreateContainerError", "", error))?;
        events.add(Event::normal("Created", "Container created").of(name, &id));
        self.tools
            .remote
            .start(&id)
            .await
            .map_err(|error| fail("RunContainerError", &id, error))?;
        events.add(Event::normal("Started", "Container started").of(name, &id));
        Ok(id)
    }

    /// Runs the postStart hooks of containers that a daemon's end kept from theirs; whether
    /// there were any.
    pub(super) async fn run_due_hooks(&mut self, observation: &Observation) -> Result<bool> {
        let mut any = false;
        for attempt in observation.attempts.iter().filter(|a| a.phase() == Phase::Running) {
            any |= self.post_start(attempt.name(), attempt.id()).await?;
        }
        Ok(any)
    }

    /// Runs the container's postStart hook unless it has begun before; whether it ran.
    async fn post_start(&mut self, name: &str, id: &str) -> Result<bool> {
        let container = self.record.manifest.container(name);
        let lifecycle = container.and_then(|container| container.lifecycle.as_ref());
        let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.post_start.clone()) else {
            return Ok(false);
        };
        if self.record.post_started.iter().any(|known| known == id) {
            return Ok(false);
        }
        self.record.post_started.push(id.to_owned());
        self.tools.store.save(&self.record).await?;
        match hooks::run(&self.tools.remote, id, &hook, None).await {
            Ok(()) => {
                let event = Event::normal("PostStartHook", "PostStartHook succeeded");
                self.pod.events.add(event.of(name, id));
            }
            Err(error) => {
                let text = format!("PostStartHook failed: {error}");
                self.pod
                    .events
                    .add(Event::warning("FailedPostStartHook", text.clone()).of(name, id));
                let waiting = Waiting { reason: "PostStartHookError", message: text };
                self.waiting.insert(name.to_owned(), waiting);
                let observation = self.observe().await?;
                let attempt = observation.attempts.iter().find(|attempt| attempt.id() == id);
                if let Some(attempt) = attempt.filter(|attempt| attempt.is_alive()) {
                    self.stop_one(attempt, "FailedPostStartHook").await?;
                }
            }
        }
        Ok(true)
    }

    /// Tells of each container's end once, with its last words.
    pub(super) async fn report_exits(&mut self, observation: &Observation) {
        for attempt in observation.attempts.iter().rev() {
            let Phase::Exited { code, .. } = attempt.phase() else { continue };
            let status = &attempt.status;
            // A failed start was told of as such.
            if status.reason == "StartError" || !self.told.insert(format!("exit {}", attempt.id()))
            {
                continue;
            }
            self.record.post_started.retain(|id| id != attempt.id());
            let words = self.last_words(attempt, code).await;
            let tail = if words.is_empty() { String::new() } else { format!(": {words}") };
            let text = format!("Container exited with code {code}{tail}");
            let reason = if status.reason.is_empty() { "Exited" } else { &status.reason };
            let event =
                if code == 0 { Event::normal(reason, text) } else { Event::warning(reason, text) };
            self.pod.events.add(event.of(attempt.name(), attempt.id()).exit(code));
        }
    }

    /// The termination message, else the first line of what the runtime says.
    async fn last_words(&self, attempt: &Attempt, code: i32) -> String {
        let container = self.record.manifest.container(attempt.name());
        let path = container.and_then(|c| c.termination_message_path.as_deref());
        let path = path.unwrap_or(TERMINATION_LOG);
        let policy = container.and_then(|c| c.termination_message_policy.as_deref());
        let fallback = policy == Some("FallbackToLogsOnError") && code != 0;
        let mount = attempt.status.mounts.iter().find(|mount| mount.container_path == path);
        let file = mount.map(|mount| mount.host_path.clone());
        let log = Some(attempt.status.log_path.clone()).filter(|log| fallback && !log.is_empty());
        let words = store::blocking(move || Ok(termination_message(file, log))).await;
        let words = words.unwrap_or_default();
        if !words.is_empty() {
            return words;
        }
        attempt.status.message.lines().next().unwrap_or_default().to_owned()
    }
}

fn termination_message(file: Option<String>, log: Option<String>) -> String {
    use std::io::Read;
    let mut words = Vec::new();
    if let Some(file) = file.and_then(|file| std::fs::File::open(file).ok()) {
        // What cannot be read was not said.
        let _ = file.take(MESSAGE as u64).read_to_end(&mut words);
    }
    if let Some(log) = log.filter(|_| words.is_empty()) {
        words = tail(&log);
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_come_from_the_file_then_from_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("t"), folder.path().join("0.log"));
        let text = |path: &std::path::Path| Some(path.to_string_lossy().into_owned());
        let record = |n: usize| format!("2016-10-06T00:17:09.669794202Z stdout F line {n}\n");
        std::fs::write(&log, (0..100).map(record).collect::<String>()).unwrap();
        std::fs::write(&file, "").unwrap();
        let words = termination_message(text(&file), text(&log));
        assert!(words.starts_with("line 20\n") && words.ends_with("line 99"), "{words}");
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert_eq!(termination_message(text(&file), text(&log)).len(), MESSAGE);
        assert_eq!(termination_message(None, None), "");
    }
}
