//! Which CPUs plugins have taken out of the shared pool, for which container. Kept in a file of
//! the state folder, which goes with the containers when the machine reboots.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::lock;
use crate::error::{Error, Result};
use crate::model::cpuset::CpuSet;
use crate::model::ids::SandboxId;
use crate::model::sandbox::Realm;

/// Who took what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub plugin: String,
    pub cpus: CpuSet,
}

/// A container that is being created.
#[derive(Clone, Debug)]
pub struct Coming {
    pub realm: Realm,
    pub namespace: String,
    pub sandbox: SandboxId,
}

pub struct Claims {
    file: PathBuf,
    /// By container id.
    held: Mutex<BTreeMap<String, Claim>>,
    /// Those that no record has yet, by id.
    coming: Mutex<BTreeMap<String, Coming>>,
}

impl Claims {
    /// Reads the file, keeping the claims of containers that `is_there`.
    pub fn open(file: PathBuf, is_there: impl Fn(&str) -> bool) -> Result<Self> {
        let mut held: BTreeMap<String, Claim> = match std::fs::read(&file) {
            // Written whole or not at all; what cannot be read claims nothing.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(Error::io(format!("reading {}", file.display()))(error));
            }
        };
        held.retain(|id, _| is_there(id));
        Ok(Self { file, held: Mutex::new(held), coming: Mutex::default() })
    }

    /// A container is about to be created, or, with `None`, it is or never will be.
    pub fn expect(&self, id: &str, coming: Option<Coming>) {
        let mut all = lock(&self.coming);
        match coming {
            Some(coming) => all.insert(id.to_owned(), coming),
            None => all.remove(id),
        };
    }

    pub fn pending(&self, id: &str) -> Option<Coming> {
        lock(&self.coming).get(id).cloned()
    }

    /// Takes `cpus`, all of them within `pool`, in place of what the container had, which it gives.
    pub fn take(&self, container: &str, claim: Claim, pool: &CpuSet) -> Result<Option<Claim>> {
        let mut held = lock(&self.held);
        if let Some(cpu) = claim.cpus.iter().find(|&cpu| !pool.contains(cpu)) {
            return Err(Error::Invalid(format!("CPU {cpu} is none of the pool's {pool}")));
        }
        if let Some(other) = held.get(container).filter(|other| other.plugin != claim.plugin) {
            return Err(of_other(container, other));
        }
        let others = held.iter().filter(|(id, _)| *id != container);
        let taken = others.flat_map(|(id, other)| {
            other
                .cpus
                .iter()
                .filter(|&cpu| claim.cpus.contains(cpu))
                .map(move |cpu| (cpu, id, other))
        });
        if let Some((cpu, id, other)) = taken.into_iter().next() {
            return Err(Error::Precondition(format!(
                "CPU {cpu} was allocated to container {id} by plugin {}",
                other.plugin
            )));
        }
        let before = held.insert(container.to_owned(), claim);
        if let Err(error) = self.save(&held) {
            match before {
                Some(before) => held.insert(container.to_owned(), before),
                None => held.remove(container),
            };
            return Err(error);
        }
        Ok(before)
    }

    /// What the container has.
    pub fn of(&self, container: &str) -> Option<Claim> {
        lock(&self.held).get(container).cloned()
    }

    /// Gives back what the container had; true where that was something.
    pub fn give_back(&self, container: &str) -> bool {
        let mut held = lock(&self.held);
        let Some(_) = held.remove(container) else { return false };
        if let Err(error) = self.save(&held) {
            // The next opening finds the container gone.
            tracing::warn!(%error, "CPUs that were given back are not recorded so");
        }
        true
    }

    /// Gives back what this plugin took for the container.
    pub fn give_back_of(&self, plugin: &str, container: &str) {
        if self.of(container).is_some_and(|claim| claim.plugin == plugin) {
            self.give_back(container);
        }
    }

    pub fn all(&self) -> BTreeMap<String, Claim> {
        lock(&self.held).clone()
    }

    /// `of` without what anybody took.
    pub fn rest(&self, of: &CpuSet) -> CpuSet {
        let held = lock(&self.held);
        of.iter().filter(|&cpu| !held.values().any(|claim| claim.cpus.contains(cpu))).collect()
    }

    /// Gives back what the plugin took for the container; nothing is not wrong.
    pub fn release(&self, plugin: &str, container: &str) -> Result<()> {
        match self.of(container) {
            Some(other) if other.plugin != plugin => Err(of_other(container, &other)),
            _ => {
                self.give_back(container);
                Ok(())
            }
        }
    }

    fn save(&self, held: &BTreeMap<String, Claim>) -> Result<()> {
        let doing = || Error::io(format!("writing {}", self.file.display()));
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(held).unwrap_or_default()).map_err(doing())?;
        std::fs::rename(&new, &self.file).map_err(doing())
    }
}

fn of_other(container: &str, claim: &Claim) -> Error {
    Error::Precondition(format!(
        "the CPUs of container {container} were allocated by plugin {}",
        claim.plugin
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(plugin: &str, cpus: &str) -> Claim {
        Claim { plugin: plugin.to_owned(), cpus: CpuSet::parse(cpus).unwrap() }
    }

    #[test]
    fn a_cpu_has_one_holder_and_claims_outlive_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cpus.json");
        let pool = CpuSet::parse("0-3").unwrap();
        let claims = Claims::open(file.clone(), |_| true).unwrap();
        claims.take("a", claim("p", "1-2"), &pool).unwrap();
        let error = claims.take("b", claim("q", "2-3"), &pool).unwrap_err().to_string();
        assert_eq!(error, "CPU 2 was allocated to container a by plugin p");
        let error = claims.take("b", claim("q", "7"), &pool).unwrap_err().to_string();
        assert_eq!(error, "CPU 7 is none of the pool's 0-3");
        let error = claims.take("a", claim("q", "3"), &pool).unwrap_err().to_string();
        assert_eq!(error, "the CPUs of container a were allocated by plugin p");
        assert_eq!(claims.release("q", "a").unwrap_err().to_string(), error);
        claims.take("b", claim("q", "3"), &pool).unwrap();
        assert_eq!(claims.rest(&pool).to_string(), "0");
        let claims = Claims::open(file.clone(), |id| id == "a").unwrap();
        assert_eq!(claims.rest(&pool).to_string(), "0,3");
        claims.take("a", claim("p", "1"), &pool).unwrap();
        assert!(claims.give_back("a") && !claims.give_back("a"));
        let claims = Claims::open(file, |_| true).unwrap();
        assert_eq!(claims.rest(&pool), pool);
    }
}
