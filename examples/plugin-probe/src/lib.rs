//! A plugin that does what a test tells it: its setting `do` is a table of hooks and what each does,
//! words with spaces between them. An annotation `plugin-probe.example/HOOK` of the pod or container
//! stands over it. Every hook that is called is noted in the log and, where `kv` is set, in its state.

mod calls;
mod garbage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasmpod_guest::*;

#[derive(Default)]
struct Probe {
    things: BTreeMap<String, String>,
    has_state: bool,
    held: Vec<Vec<u8>>,
    validated: Validated,
}

/// What validate-container was last shown.
#[derive(Default)]
struct Validated {
    env: Vec<(String, String)>,
    by: String,
}

impl Probe {
    fn hook(&mut self, name: &str, of: &str) -> Result<Adjustment> {
        self.hook_of(name, of, None)
    }

    fn pod(&mut self, name: &str, pod: &Pod) -> Result<()> {
        self.pod_of(name, pod, &pod.id)
    }

    fn pod_of(&mut self, name: &str, pod: &Pod, of: &str) -> Result<()> {
        self.hook_of(name, of, pod.annotation(&key(name))).map(drop)
    }

    fn container(&mut self, name: &str, container: &Container) -> Result<Adjustment> {
        self.hook_of(name, &container.id, container.annotation(&key(name)))
    }

    fn hook_of(&mut self, name: &str, of: &str, asked: Option<&str>) -> Result<Adjustment> {
        log::write(log::Level::Info, &format!("probe {name} {of}"));
        if self.has_state {
            let key = format!("calls/{name}");
            let calls: u32 = kv::get(&key)?.unwrap_or_default();
            kv::set(&key, &(calls + 1))?;
        }
        let thing = asked.map(str::to_owned).or_else(|| self.things.get(name).cloned());
        let Some(thing) = thing else { return Ok(Adjustment::new()) };
        let words: Vec<&str> = thing.split(' ').collect();
        match *words.as_slice() {
            ["spin"] => loop {
                std::hint::spin_loop();
            },
            ["sleep"] => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            ["work", millis] => {
                let (begun, time) = (Instant::now(), Duration::from_millis(millis.parse()?));
                while begun.elapsed() < time {
                    pods::list();
                }
                Ok(Adjustment::new())
            }
            ["recurse"] => Ok(Adjustment::new().env("DEPTH", deeper(1).to_string())),
            ["eat"] => loop {
                self.held.push(vec![1; 1 << 20]);
            },
            ["trap"] => panic!("as asked in {name}"),
            ["garbage", what] => Ok(garbage::of(what)),
            ["refuse", ..] => bail!("{}", words[1..].join(" ")),
            ["env", variable, value] => Ok(Adjustment::new().env(variable, value)),
            ["unset", variable] => Ok(Adjustment::new().without_env(variable)),
            ["expect-env", variable, value, "by", plugins] => {
                let Validated { env, by } = &self.validated;
                let found = env.iter().rev().find(|(name, _)| name == variable);
                let found = found.map_or("unset", |(_, value)| value.as_str());
                if (found, by.as_str()) != (value, plugins) {
                    bail!("{variable} is {found} by {by}");
                }
                Ok(Adjustment::new())
            }
            ["args", ..] => Ok(Adjustment::new().args(words[1..].iter().copied())),
            ["cpus", cpus] => Ok(Adjustment::new().cpuset_cpus(cpus.parse()?)),
            ["memory", bytes] => Ok(Adjustment::new().memory_limit(bytes.parse().unwrap_or(-1))),
            ["descriptors", most] => {
                let most = most.parse().unwrap_or(0);
                Ok(Adjustment::new().rlimit(RlimitKind::Descriptors, most))
            }
            ["annotate", key, value] => Ok(Adjustment::new().annotation(key, value)),
            ["take", cpus] => {
                let cpus: CpuSet = cpus.parse()?;
                cpu::allocate(of, &cpus)?;
                Ok(Adjustment::new().cpuset_cpus(cpus))
            }
            ["take-and-trap", cpus] => {
                cpu::allocate(of, &cpus.parse()?)?;
                panic!("as asked in {name}")
            }
            ["other-container", id] => {
                let change = ResourceChange::new().memory_limit(1 << 20);
                containers::update(&[Update::new(id, change)])?;
                Ok(Adjustment::new())
            }
            ["adjust", ..] => Ok(serde_json::from_str(&words[1..].join(" "))?),
            ["calls", ..] => {
                for call in words[1..].split(|word| *word == ";") {
                    let said = self.call(call, of).unwrap_or_else(|error| format!("error {error}"));
                    log::write(log::Level::Info, &format!("probe answered {}: {said}", call[0]));
                }
                Ok(Adjustment::new())
            }
            ["needs", ..] => self.call(&words[1..], of).map(|_| Adjustment::new()),
            ["many-env", count, length] => {
                let value = "x".repeat(length.parse()?);
                let set = |made: Adjustment, n| made.env(format!("V{n}"), value.as_str());
                Ok((0..count.parse::<u32>()?).fold(Adjustment::new(), set))
            }
            ["tell", reason] => {
                events::emit(of, events::Severity::Warning, reason, "as asked")?;
                Ok(Adjustment::new())
            }
            _ => bail!("no such thing: {thing}"),
        }
    }

    fn call(&self, words: &[&str], of: &str) -> Result<String> {
        let own = |word: &&str| if *word == "$own" { of.to_owned() } else { (*word).to_owned() };
        let arguments: Vec<String> = words.iter().skip(1).map(own).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        calls::call(words.first().copied().unwrap_or_default(), &arguments)
    }
}

fn key(hook: &str) -> String {
    format!("plugin-probe.example/{hook}")
}

/// Some of them, in one line.
fn told(resources: Option<&Resources>) -> String {
    resources.map_or("none".to_owned(), |told| {
        let Resources { cpu_shares, memory_limit, cpuset_cpus, .. } = told;
        format!("shares {cpu_shares} memory {memory_limit} cpus [{cpuset_cpus}]")
    })
}

#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    let wide = std::hint::black_box([depth; 64]);
    deeper(depth + 1) + wide[(depth % 64) as usize]
}

impl Plugin for Probe {
    const HOOKS: Hooks = Hooks::ALL;

    fn configure(&mut self, _: &RuntimeInfo, settings: &Settings) -> Result<()> {
        self.things = settings.get("do")?.unwrap_or_default();
        self.has_state = settings.get("kv")?.unwrap_or_default();
        self.hook("configure", "").map(drop)
    }

    fn synchronize(&mut self, pods: &[Pod], containers: &[Container]) -> Result<Vec<Update>> {
        let of = format!("{} pods, {} containers", pods.len(), containers.len());
        self.hook("synchronize", &of).map(|_| Vec::new())
    }

    fn shutdown(&mut self) {
        let _ = self.hook("shutdown", "");
    }

    fn run_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        self.pod("run-pod-sandbox", pod)
    }

    fn stop_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        self.pod("stop-pod-sandbox", pod)
    }

    fn remove_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        self.pod("remove-pod-sandbox", pod)
    }

    fn update_pod_sandbox(
        &mut self,
        pod: &Pod,
        overhead: Option<&Resources>,
        wanted: Option<&Resources>,
    ) -> Result<()> {
        let of = format!("{} overhead {}, wanted {}", pod.id, told(overhead), told(wanted));
        self.pod_of("update-pod-sandbox", pod, &of)
    }

    fn post_update_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        self.pod("post-update-pod-sandbox", pod)
    }

    fn pre_create_container(&mut self, _: &Pod, container: &Container) -> Result<Adjustment> {
        self.container("pre-create-container", container)
    }

    fn post_create_container(&mut self, _: &Pod, container: &Container) -> Result<()> {
        self.container("post-create-container", container).map(drop)
    }

    fn pre_start_container(&mut self, _: &Pod, container: &Container) -> Result<()> {
        self.container("pre-start-container", container).map(drop)
    }

    fn post_start_container(&mut self, _: &Pod, container: &Container) -> Result<()> {
        self.container("post-start-container", container).map(drop)
    }

    fn update_container(
        &mut self,
        _: &Pod,
        container: &Container,
        _: &Resources,
    ) -> Result<ResourceChange> {
        let made = self.container("update-container", container)?;
        Ok(made.resources.unwrap_or_default())
    }

    fn post_update_container(&mut self, _: &Pod, container: &Container) -> Result<()> {
        self.container("post-update-container", container).map(drop)
    }

    fn pre_stop_container(&mut self, _: &Pod, container: &Container) -> Result<()> {
        self.container("pre-stop-container", container).map(drop)
    }

    fn post_stop_container(&mut self, _: &Pod, container: &Container) -> Result<Vec<Update>> {
        self.container("post-stop-container", container).map(|_| Vec::new())
    }

    fn remove_container(&mut self, _: &Pod, container: &Container) -> Result<()> {
        self.container("remove-container", container).map(drop)
    }

    fn container_exited(&mut self, _: &Pod, container: &Container) -> Result<Vec<Update>> {
        let code = container.exit.as_ref().map_or(-1, |exit| exit.code);
        let (name, of) = ("container-exited", format!("{} {code}", container.id));
        self.hook_of(name, &of, container.annotation(&key(name))).map(|_| Vec::new())
    }

    fn image_pulled(&mut self, image: &Image) -> Result<()> {
        self.hook("image-pulled", &image.id).map(drop)
    }

    fn validate_container(
        &mut self,
        _: &Pod,
        container: &Container,
        adjusted_by: &[String],
    ) -> Result<()> {
        self.validated = Validated { env: container.env.clone(), by: adjusted_by.join(",") };
        self.container("validate-container", container).map(drop)
    }
}

plugin!(
    Probe,
    functions: ["kv", "cpu", "memory", "pods", "containers", "events"],
    fields: [
        "env",
        "args",
        "annotations",
        "rlimits",
        "mounts",
        "resources",
        "updates",
    ],
    namespaces: ["*"],
);
