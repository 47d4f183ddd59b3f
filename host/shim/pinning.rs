//! Which CPUs a pod's threads have: a container's own, else the pod's, else the shim's. Both are
//! chosen under one lock, so that a thread which pins itself and a change of the pod's CPUs find
//! each other. Knows nothing of whose threads they are.

use std::collections::HashMap;
use std::sync::Mutex;

use super::lock;
use crate::error::Result;
use crate::model::cpuset::CpuSet;
use crate::model::ids::ContainerId;

pub struct Pinning(Mutex<Chosen>);

struct Chosen {
    /// `None`: as the shim's threads are born.
    pod: Option<CpuSet>,
    own: HashMap<ContainerId, CpuSet>,
}

impl Pinning {
    pub fn new(pod: Option<CpuSet>) -> Self {
        Self(Mutex::new(Chosen { pod, own: HashMap::new() }))
    }

    /// What a container asks for when it is made.
    pub fn choose(&self, container: &ContainerId, cpus: Option<CpuSet>) {
        if let Some(cpus) = cpus {
            lock(&self.0).own.insert(container.clone(), cpus);
        }
    }

    /// A container's own CPUs; `None` where it has the pod's.
    pub fn own(&self, container: &ContainerId) -> Option<CpuSet> {
        lock(&self.0).own.get(container).cloned()
    }

    pub fn forget(&self, container: &ContainerId) {
        lock(&self.0).own.remove(container);
    }

    /// Gives `work` the pod's CPUs, which do not change meanwhile.
    pub fn with_pods<T>(&self, work: impl FnOnce(Option<&CpuSet>) -> T) -> T {
        work(lock(&self.0).pod.as_ref())
    }

    /// Gives `work` a container's CPUs, which do not change meanwhile.
    pub fn with<T>(&self, container: &ContainerId, work: impl FnOnce(Option<&CpuSet>) -> T) -> T {
        let chosen = lock(&self.0);
        work(chosen.own.get(container).or(chosen.pod.as_ref()))
    }

    /// Chooses a container's own CPUs anew, once `pin` has put its threads there.
    pub fn change_own(
        &self,
        container: &ContainerId,
        cpus: Option<CpuSet>,
        pin: impl FnOnce(Option<&CpuSet>) -> Result<()>,
    ) -> Result<()> {
        let mut chosen = lock(&self.0);
        if chosen.own.get(container) == cpus.as_ref() {
            return Ok(());
        }
        pin(cpus.as_ref().or(chosen.pod.as_ref()))?;
        match cpus {
            Some(cpus) => chosen.own.insert(container.clone(), cpus),
            None => chosen.own.remove(container),
        };
        Ok(())
    }

    /// Chooses the pod's CPUs anew, once `pin` has put there the threads of the pod and of the
    /// containers without CPUs of their own, which it is told by a function.
    pub fn change_pods(
        &self,
        cpus: Option<CpuSet>,
        pin: impl FnOnce(Option<&CpuSet>, &dyn Fn(&ContainerId) -> bool) -> Result<()>,
    ) -> Result<()> {
        let mut chosen = lock(&self.0);
        if chosen.pod == cpus {
            return Ok(());
        }
        pin(cpus.as_ref(), &|container| !chosen.own.contains_key(container))?;
        chosen.pod = cpus;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn set(text: &str) -> Option<CpuSet> {
        Some(CpuSet::parse(text).expect("a cpuset"))
    }

    #[test]
    fn a_container_has_its_own_cpus_else_the_pods() {
        let (pinning, one, two) =
            (Pinning::new(set("0-3")), ContainerId::random(), ContainerId::random());
        pinning.choose(&one, set("1"));
        pinning.choose(&two, None);
        let has = |id: &ContainerId| pinning.with(id, |cpus| cpus.cloned());
        assert_eq!((has(&one), has(&two)), (set("1"), set("0-3")));
        let mut followed = Vec::new();
        pinning
            .change_pods(set("2"), |_, follows| {
                followed = [&one, &two].map(follows).to_vec();
                Ok(())
            })
            .expect("changes");
        assert_eq!(followed, [false, true]);
        assert_eq!((has(&one), has(&two)), (set("1"), set("2")));
        pinning
            .change_own(&one, None, |cpus| {
                assert_eq!(cpus.cloned(), set("2"));
                Ok(())
            })
            .expect("changes");
        assert_eq!(has(&one), set("2"));
    }

    #[test]
    fn what_cannot_be_pinned_is_not_chosen() {
        let (pinning, one) = (Pinning::new(None), ContainerId::random());
        let refuse = || Err(Error::Invalid("no such CPU".to_owned()));
        pinning.change_pods(set("9"), |_, _| refuse()).expect_err("refused");
        pinning.change_own(&one, set("9"), |_| refuse()).expect_err("refused");
        assert_eq!(pinning.with(&one, |cpus| cpus.cloned()), None);
    }
}
