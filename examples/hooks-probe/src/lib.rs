//! Hooks of a pod's own that do what a test tells them: their settings are hooks' names and what
//! each does, words with spaces between them. Every hook that is called is noted in the log.

use wasmpod_guest::*;

#[derive(Default)]
struct Probe {
    held: Vec<Vec<u8>>,
}

impl Probe {
    fn hook(&mut self, name: &str, pod: &Pod, container: &Container) -> Result<Adjustment> {
        log::write(log::Level::Info, &format!("probe {name} {}", container.name));
        let settings = config::settings()?;
        let thing: String = settings.get(name)?.unwrap_or_default();
        let words: Vec<&str> = thing.split(' ').collect();
        let adjustment = Adjustment::new();
        match *words.as_slice() {
            [""] => Ok(adjustment),
            ["spin"] => loop {
                std::hint::spin_loop();
            },
            ["sleep"] => loop {
                std::thread::sleep(std::time::Duration::from_secs(3600));
            },
            ["eat"] => loop {
                self.held.push(vec![1; 1 << 20]);
            },
            ["trap"] => panic!("as asked in {name}"),
            ["refuse", ..] => bail!("{}", words[1..].join(" ")),
            ["env", variable, value] => Ok(adjustment.env(variable, value)),
            ["cpus", cpus] => Ok(adjustment.cpuset_cpus(cpus.parse()?)),
            ["pin", cpus] => {
                cpu::pin(&container.id, &cpus.parse()?)?;
                Ok(adjustment)
            }
            ["mount", path] => Ok(adjustment.mount(Mount {
                container_path: "/mnt".to_owned(),
                host_path: path.to_owned(),
                access: MountAccess::ReadOnly,
            })),
            // What the node lets it see, as the container's environment.
            ["see", other] => {
                let pods: Vec<_> = pods::list().into_iter().map(|pod| pod.name).collect();
                let containers = containers::list().len();
                let other = containers::get(other).is_some() || pods::get(other).is_some();
                Ok(adjustment
                    .env("SEES", format!("{} {containers} {other}", pods.join(",")))
                    .env("CPUS", cpu::topology().cpus.len().to_string()))
            }
            // How often it was asked, in a state that outlives it.
            ["count"] => {
                let count: u32 = kv::get("count")?.unwrap_or_default();
                kv::set("count", &(count + 1))?;
                Ok(adjustment.env("COUNT", (count + 1).to_string()))
            }
            ["tell", reason] => {
                events::emit(&pod.id, events::Severity::Normal, reason, "as asked")?;
                Ok(adjustment)
            }
            _ => bail!("no such thing: {thing}"),
        }
    }
}

impl PodHooks for Probe {
    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        self.hook("pre-create-container", pod, container)
    }

    fn post_create_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        self.hook("post-create-container", pod, container).map(drop)
    }

    fn pre_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        self.hook("pre-start-container", pod, container).map(drop)
    }

    fn post_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        self.hook("post-start-container", pod, container).map(drop)
    }

    fn update_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        _: &Resources,
    ) -> Result<ResourceChange> {
        let made = self.hook("update-container", pod, container)?;
        Ok(made.resources.unwrap_or_default())
    }

    fn pre_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        self.hook("pre-stop-container", pod, container).map(drop)
    }

    fn post_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        self.hook("post-stop-container", pod, container).map(drop)
    }

    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        self.hook("container-exited", pod, container).map(drop)
    }
}

pod_hooks!(
    Probe,
    functions: ["pods", "containers", "cpu", "events", "kv"],
    fields: ["env", "mounts", "resources.cpuset-cpus"],
);
