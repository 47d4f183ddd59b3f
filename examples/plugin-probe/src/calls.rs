//! Host functions by their names, with whatever texts a test gives: also those that the SDK's
//! types do not let a plugin say.

use wasmpod_guest::private::bindings::plugin::wasmpod::lifecycle::{
    containers, cpu, events, memory, pods, types,
};
use wasmpod_guest::{Result, bail};

/// Calls one and tells its answer in one line.
pub fn call(function: &str, arguments: &[&str]) -> Result<String> {
    Ok(match (function, arguments) {
        ("cpu.topology", []) => {
            let told = cpu::topology();
            let cpu = |cpu: &cpu::Cpu| format!("{}:{}:{}", cpu.id, cpu.socket, cpu.node);
            let cpus: Vec<String> = told.cpus.iter().map(cpu).collect();
            format!("cpus {} caches {} nodes {:?}", cpus.join(","), told.caches.len(), told.nodes)
        }
        ("cpu.shared-pool", []) => cpu::shared_pool()?,
        ("cpu.allocate", [id, cpus]) => done(cpu::allocate(id, cpus))?,
        ("cpu.release", [id]) => done(cpu::release(id))?,
        ("cpu.allocations", []) => {
            let one = |(id, cpus): (String, String)| format!("{id} {cpus}");
            cpu::allocations().into_iter().map(one).collect::<Vec<_>>().join(", ")
        }
        ("cpu.pin", [id, cpus]) => done(cpu::pin(id, cpus))?,
        ("cpu.ran-on", [id]) => {
            let placed = cpu::ran_on(id)?;
            format!("allowed {} seen {}", placed.allowed, placed.seen)
        }
        ("memory.nodes", []) => {
            let node =
                |n: memory::Node| format!("{} {} {} {:?}", n.id, n.total, n.free, n.distances);
            memory::nodes().into_iter().map(node).collect::<Vec<_>>().join(", ")
        }
        ("memory.set-mems", [id, mems]) => done(memory::set_mems(id, mems))?,
        ("pods.list", []) => {
            pods::list().into_iter().map(|pod| pod.id).collect::<Vec<_>>().join(" ")
        }
        ("pods.get", [id]) => pods::get(id).map_or("none".to_owned(), |pod| pod.name),
        ("containers.list", of) => {
            let all = containers::list(of.first().copied());
            all.into_iter().map(|container| container.id).collect::<Vec<_>>().join(" ")
        }
        ("containers.get", [id]) => {
            containers::get(id).map_or("none".to_owned(), |container| container.name)
        }
        ("containers.stats", [id]) => {
            let usage = containers::stats(id)?;
            format!(
                "cpu {} memory {} writable {} threads {}",
                usage.cpu_nanoseconds, usage.memory_bytes, usage.writable_bytes, usage.threads
            )
        }
        ("containers.update", [id, changes @ ..]) => {
            let update = types::ContainerUpdate {
                container_id: (*id).to_owned(),
                change: change(changes)?,
                ignore_failure: false,
            };
            done(containers::update(&[update]))?
        }
        // As many as it says, all of one container.
        ("containers.updates", [count, id]) => {
            let update = types::ContainerUpdate {
                container_id: (*id).to_owned(),
                change: change(&["memory-limit", "1048576"])?,
                ignore_failure: true,
            };
            done(containers::update(&vec![update; count.parse()?]))?
        }
        ("events.emit", [id, reason, message @ ..]) => {
            done(events::emit(id, events::Severity::Normal, reason, &message.join(" ")))?
        }
        _ => bail!("no such call: {function} {arguments:?}"),
    })
}

fn done(outcome: std::result::Result<(), String>) -> Result<String> {
    outcome?;
    Ok("done".to_owned())
}

/// Fields and their values, one after the other.
fn change(words: &[&str]) -> Result<types::ResourceChange> {
    let mut change = types::ResourceChange {
        cpu_period: None,
        cpu_quota: None,
        cpu_shares: None,
        memory_limit: None,
        cpuset_cpus: None,
        cpuset_mems: None,
    };
    for pair in words.chunks(2) {
        match *pair {
            ["cpu-period", value] => change.cpu_period = Some(value.parse()?),
            ["cpu-quota", value] => change.cpu_quota = Some(value.parse()?),
            ["cpu-shares", value] => change.cpu_shares = Some(value.parse()?),
            ["memory-limit", value] => change.memory_limit = Some(value.parse()?),
            ["cpuset-cpus", value] => change.cpuset_cpus = Some(value.to_owned()),
            ["cpuset-mems", value] => change.cpuset_mems = Some(value.to_owned()),
            _ => bail!("no such change: {pair:?}"),
        }
    }
    Ok(change)
}
