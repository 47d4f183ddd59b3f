//! A container: what was asked for, what is recorded, and how its state may change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::adjusted::Adjusted;
use super::ids::{ContainerId, SandboxId};
pub use super::mount::{Covers, ImageMount, Mount, MountAccess, Propagation};
use super::resources::Resources;
use super::sandbox::Realm;
use super::user::{User, UserConfig};

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0-255: a trap is 134, TERM 143, KILL and out of memory 137, a failed start 128, a lost
    /// state 255.
    pub code: i32,
    pub reason: Reason,
    /// One line for people; with a trap, the backtrace follows it.
    pub message: String,
    /// Nanoseconds since the Unix epoch.
    pub finished_at: i64,
}

impl Exit {
    /// What became of a container whose shim is gone: nobody can know (containerd's word and
    /// number for it).
    pub fn lost(finished_at: i64, message: impl Into<String>) -> Self {
        Self { code: 255, reason: Reason::Unknown, message: message.into(), finished_at }
    }
}

/// The reasons that a kubelet passes on to `containerStatuses[].state.terminated.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Completed,
    Error,
    #[serde(rename = "OOMKilled")]
    OomKilled,
    StartError,
    Unknown,
}

impl Reason {
    pub const ALL: [Self; 5] =
        [Self::Completed, Self::Error, Self::OomKilled, Self::StartError, Self::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        }
    }

    /// The reason of that name; `Unknown` for a name that is none.
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Being made; invisible to lists, and gone when the daemon starts anew.
    Creating,
    Created,
    /// The shim has been or is being asked to start it; shown as created. Settled by asking the
    /// shim when the daemon starts anew.
    Starting,
    Running {
        started_at: i64,
    },
    Exited {
        /// 0 when it never ran.
        started_at: i64,
        exit: Exit,
    },
    /// Being removed; finished when the daemon finds it at its start. Shown as what it was before,
    /// as containerd does: it is there until it is gone.
    Removing {
        started_at: i64,
        exit: Option<Exit>,
    },
}

impl ContainerState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
            Self::Removing { .. } => "removing",
        }
    }

    /// Whether it has run, or never will.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Removing { .. })
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerVerb {
    /// The shim holds it, ready to start.
    Create,
    /// The shim is about to be asked to run it.
    Start,
    /// It runs since `started_at`.
    Run {
        started_at: i64,
    },
    Exit(Exit),
    Remove,
}

impl ContainerState {
    /// The state after `verb`. The error is the state that the verb expects. News from a shim
    /// may come twice and in either order (the end of a guest overtakes the answer to its
    /// start), so these repeat without harm, and the first exit stands.
    pub fn after(&self, verb: &ContainerVerb) -> Result<Self, &'static str> {
        use ContainerVerb as Verb;
        match (self, verb) {
            (_, Verb::Remove) => {
                Ok(Self::Removing { started_at: self.started_at(), exit: self.exit().cloned() })
            }

            // From starting: the shim never heard of the start.
            (Self::Creating | Self::Starting, Verb::Create) => Ok(Self::Created),
            (_, Verb::Create) => Err("creating"),

            (Self::Created, Verb::Start) => Ok(Self::Starting),
            (_, Verb::Start) => Err("created"),

            (Self::Starting | Self::Created, &Verb::Run { started_at }) => {
                Ok(Self::Running { started_at })
            }
            (Self::Exited { started_at: 0, exit }, &Verb::Run { started_at })
                if exit.reason != Reason::StartError =>
            {
                Ok(Self::Exited { started_at, exit: exit.clone() })
            }
            (
                Self::Running { .. } | Self::Exited { .. } | Self::Removing { .. },
                Verb::Run { .. },
            ) => Ok(self.clone()),
            (Self::Creating, Verb::Run { .. }) => Err("starting"),

            (Self::Created | Self::Starting, Verb::Exit(exit)) => {
                Ok(Self::Exited { started_at: 0, exit: exit.clone() })
            }
            (&Self::Running { started_at }, Verb::Exit(exit)) => {
                Ok(Self::Exited { started_at, exit: exit.clone() })
            }
            (Self::Exited { .. } | Self::Removing { .. }, Verb::Exit(_)) => Ok(self.clone()),
            (Self::Creating, Verb::Exit(_)) => Err("running"),
        }
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited { exit, .. } => Some(exit),
            Self::Removing { exit, .. } => exit.as_ref(),
            _ => None,
        }
    }

    /// When it began to run; 0 when it never did.
    pub fn started_at(&self) -> i64 {
        match self {
            Self::Running { started_at }
            | Self::Exited { started_at, .. }
            | Self::Removing { started_at, .. } => *started_at,
            Self::Creating | Self::Created | Self::Starting => 0,
        }
    }
}

/// CRI's ContainerMetadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerName {
    pub name: String,
    pub attempt: u32,
}

/// CRI's ImageSpec, echoed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    pub image: String,
    pub annotations: BTreeMap<String, String>,
    pub user_specified_image: String,
    pub runtime_handler: String,
    #[serde(default)]
    pub image_ref: String,
}

/// What CreateContainer asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub name: ContainerName,
    pub image: ImageSpec,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log directory; empty discards output.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: Resources,
    pub readonly_rootfs: bool,
    #[serde(default)]
    pub user: Box<UserConfig>,
    /// Absolute paths inside.
    #[serde(default)]
    pub covers: Box<Covers>,
    /// CRI's enum number; 0 leaves it to the image.
    pub stop_signal: i32,
    #[serde(default)]
    pub adjusted: Box<Adjusted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub realm: Realm,
    pub config: ContainerConfig,
    /// The image's id (CRI 1.36: the same string as Image.id).
    pub image_id: String,
    /// A repo digest of the image, else its id.
    pub image_ref: String,
    /// Nanoseconds since the Unix epoch, never 0.
    pub created_at: i64,
    pub state: ContainerState,
    /// What is applied now: the config's, then each update's.
    pub resources: Resources,
    /// Absolute, or empty.
    pub log_path: String,
    /// Who it is.
    #[serde(default)]
    pub user: Arc<User>,
    /// Linux number of the signal that StopContainer says it ended by (15 unless told).
    pub stop_signal: u32,
}

impl Container {
    /// Whether it runs the image of that id, or has it as a volume.
    pub fn needs_image(&self, id: &str) -> bool {
        let volumes = self.config.mounts.iter().filter_map(|mount| mount.image.as_ref());
        self.image_id == id || volumes.into_iter().any(|image| image.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exit(code: i32) -> Exit {
        Exit { code, reason: Reason::Error, message: String::new(), finished_at: 9 }
    }

    #[test]
    fn each_verb_leads_where_the_table_says() {
        use ContainerState as S;
        use ContainerVerb as V;
        let run = V::Run { started_at: 5 };
        let states = [
            S::Creating,
            S::Created,
            S::Starting,
            S::Running { started_at: 5 },
            S::Exited { started_at: 5, exit: exit(1) },
            S::Removing { started_at: 5, exit: Some(exit(1)) },
        ];
        let table: [(V, [&str; 6]); 5] = [
            (V::Create, ["created", "-", "created", "-", "-", "-"]),
            (V::Start, ["-", "starting", "-", "-", "-", "-"]),
            (run, ["-", "running", "running", "running", "exited", "removing"]),
            (V::Exit(exit(2)), ["-", "exited", "exited", "exited", "exited", "removing"]),
            (V::Remove, ["removing"; 6]),
        ];
        for (verb, row) in table {
            for (state, says) in states.iter().zip(row) {
                let after = state.after(&verb).map_or("-", |state| state.name());
                assert_eq!(after, says, "{state} {verb:?}");
            }
        }
    }

    #[test]
    fn an_exit_that_overtakes_the_start_still_learns_when_it_started() {
        let state = ContainerState::Starting.after(&ContainerVerb::Exit(exit(3))).unwrap();
        let state = state.after(&ContainerVerb::Run { started_at: 7 }).unwrap();
        assert_eq!(state, ContainerState::Exited { started_at: 7, exit: exit(3) });
    }

    #[test]
    fn what_is_being_removed_keeps_how_it_ended() {
        let exited = ContainerState::Exited { started_at: 5, exit: exit(3) };
        let removing = exited.after(&ContainerVerb::Remove).unwrap();
        assert_eq!((removing.started_at(), removing.exit()), (5, Some(&exit(3))));
        assert_eq!(removing.after(&ContainerVerb::Remove), Ok(removing));
    }

    #[test]
    fn a_failed_start_never_ran() {
        let failed = Exit { reason: Reason::StartError, ..exit(128) };
        let state = ContainerState::Exited { started_at: 0, exit: failed };
        assert_eq!(state.after(&ContainerVerb::Run { started_at: 7 }), Ok(state));
    }

    fn verb() -> impl Strategy<Value = ContainerVerb> {
        prop_oneof![
            Just(ContainerVerb::Create),
            Just(ContainerVerb::Start),
            (1i64..9).prop_map(|started_at| ContainerVerb::Run { started_at }),
            (0i32..256).prop_map(|code| ContainerVerb::Exit(exit(code))),
            Just(ContainerVerb::Remove),
        ]
    }

    proptest! {
        #[test]
        fn the_first_exit_stands_and_removal_is_final(verbs in proptest::collection::vec(verb(), 0..30)) {
            let mut state = ContainerState::Creating;
            let mut first: Option<Exit> = None;
            let mut removed = false;
            for verb in verbs {
                let Ok(next) = state.after(&verb) else { continue };
                removed |= verb == ContainerVerb::Remove;
                prop_assert_eq!(removed, matches!(next, ContainerState::Removing { .. }));
                if let Some(exit) = next.exit() {
                    prop_assert_eq!(first.get_or_insert_with(|| exit.clone()), exit);
                } else {
                    prop_assert!(first.is_none() || removed);
                }
                state = next;
            }
        }
    }
}
