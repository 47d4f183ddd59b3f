//! A static CPU policy: a container whose pod asks for it gets so many CPUs that no other
//! container runs on, until it ends. The pod's annotation `exclusive-cpus.example/count` counts
//! for each of its containers, `exclusive-cpus.example/count.NAME` for one.
//!
//! Who has what is the daemon's to know (`cpu::allocations`), so that nothing is lost when this
//! plugin begins anew.

mod choice;

use wasmpod_guest::*;

const COUNT: &str = "exclusive-cpus.example/count";

#[derive(Default)]
struct ExclusiveCpus;

impl Plugin for ExclusiveCpus {
    const HOOKS: Hooks = Hooks::PRE_CREATE_CONTAINER
        .and(Hooks::UPDATE_CONTAINER)
        .and(Hooks::POST_STOP_CONTAINER)
        .and(Hooks::CONTAINER_EXITED);

    /// Takes again what its containers run on, and gives back what was of containers that ended
    /// while nobody saw.
    fn synchronize(&mut self, pods: &[Pod], containers: &[Container]) -> Result<Vec<Update>> {
        let alive = |id: &str| containers.iter().find(|known| known.id == id && !ended(known));
        for id in cpu::allocations().into_keys().filter(|id| alive(id).is_none()) {
            cpu::release(&id)?;
        }
        let owned = cpu::allocations();
        for container in containers.iter().filter(|known| !ended(known)) {
            let Some(pod) = pods.iter().find(|pod| pod.id == container.pod_id) else { continue };
            let cpus = &container.resources.cpuset_cpus;
            let wants = matches!(wanted(pod, container), Ok(Some(count)) if count == cpus.len());
            if wants
                && !owned.contains_key(&container.id)
                && let Err(error) = cpu::allocate(&container.id, cpus)
            {
                warn!("container {} of pod {} shares its CPUs: {error}", container.name, pod.name);
            }
        }
        let realm = pods.first().map_or(Realm::Kubelet, |pod| pod.realm);
        move_the_others(realm, pods, containers)
    }

    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        let Some(count) = wanted(pod, container)? else {
            return Ok(Adjustment::new().cpuset_cpus(cpu::shared_pool()?));
        };
        let free = cpu::shared_pool()?;
        // The last one stays for everybody else.
        let chosen = choice::choose(&cpu::topology(), &free, count)
            .filter(|chosen| chosen.len() < free.len())
            .context(format!(
                "no {count} exclusive CPUs: {} are shared yet ({free})",
                free.len()
            ))?;
        cpu::allocate(&container.id, &chosen)?;
        Ok(Adjustment::new().cpuset_cpus(chosen).updates(others_move(pod, container)?))
    }

    /// A kubelet may change what it likes, but not the CPUs.
    fn update_container(
        &mut self,
        _: &Pod,
        container: &Container,
        _: &Resources,
    ) -> Result<ResourceChange> {
        let own = cpu::allocations().remove(&container.id);
        Ok(ResourceChange::new().cpuset_cpus(own.map_or_else(cpu::shared_pool, Ok)?))
    }

    fn post_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        give_back(pod, container)
    }

    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        give_back(pod, container)
    }
}

plugin!(
    ExclusiveCpus,
    functions: ["cpu.topology", "cpu.shared-pool", "cpu.allocate", "cpu.release",
        "cpu.allocations", "containers.list", "pods.list"],
    fields: ["resources.cpuset-cpus", "updates"],
);

fn ended(container: &Container) -> bool {
    container.state == ContainerState::Exited
}

/// How many CPUs the container is to have for itself; none where nothing is said.
fn wanted(pod: &Pod, container: &Container) -> Result<Option<usize>> {
    let own = pod.annotation(&format!("{COUNT}.{}", container.name));
    let Some(text) = own.or_else(|| pod.annotation(COUNT)) else { return Ok(None) };
    match text.parse() {
        Ok(0) | Err(_) => bail!("{COUNT} is \"{text}\": it is a number of CPUs, 1 or more"),
        Ok(count) => Ok(Some(count)),
    }
}

fn give_back(pod: &Pod, container: &Container) -> Result<Vec<Update>> {
    if !cpu::allocations().contains_key(&container.id) {
        return Ok(Vec::new());
    }
    cpu::release(&container.id)?;
    others_move(pod, container)
}

fn others_move(pod: &Pod, container: &Container) -> Result<Vec<Update>> {
    let others = containers::list().into_iter().filter(|other| other.id != container.id);
    move_the_others(pod.realm, &pods::list(), &others.collect::<Vec<_>>())
}

/// Those of the realm that have no CPUs of their own run on what is left of it. One that ends
/// meanwhile is no failure.
fn move_the_others(realm: Realm, pods: &[Pod], containers: &[Container]) -> Result<Vec<Update>> {
    let (pool, owned) = (cpu::shared_pool()?, cpu::allocations());
    let is_elsewhere = |id: &str| pods.iter().any(|pod| pod.id == id && pod.realm != realm);
    let shares = |container: &&Container| {
        !ended(container)
            && !is_elsewhere(&container.pod_id)
            && !owned.contains_key(&container.id)
            && container.resources.cpuset_cpus != pool
    };
    let change = ResourceChange::new().cpuset_cpus(pool.clone());
    let update = |other: &Container| Update::new(&other.id, change.clone()).ignore_failure();
    Ok(containers.iter().filter(shares).map(update).collect())
}

#[cfg(test)]
mod tests;
