//! A container's state machine in the shim: one pure function over (phase, verb).
//!
//! ```text
//! CREATED --begin--> RUNNING --end--> EXITED
//!    '---------------end--------------^
//! ```

use crate::model::container::Exit;

/// Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Being built or built; nothing of the guest has run.
    Created,
    Running {
        started_at: i64,
    },
    /// `started_at` is 0 when it never ran.
    Exited {
        started_at: i64,
        exit: Exit,
    },
}

#[derive(Clone, Debug)]
pub enum Verb {
    Begin { at: i64 },
    End(Exit),
}

impl Phase {
    /// The phase after `verb`; `None` where the verb does not apply and nothing changes.
    pub fn after(&self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Created, Verb::Begin { at }) => Some(Self::Running { started_at: at }),
            (Self::Created, Verb::End(exit)) => Some(Self::Exited { started_at: 0, exit }),
            (Self::Running { started_at }, Verb::End(exit)) => {
                Some(Self::Exited { started_at: *started_at, exit })
            }
            (Self::Running { .. }, Verb::Begin { .. }) | (Self::Exited { .. }, _) => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
        }
    }

    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited { exit, .. } => Some(exit),
            Self::Created | Self::Running { .. } => None,
        }
    }

    /// 0 when it never ran.
    pub fn started_at(&self) -> i64 {
        match self {
            Self::Created => 0,
            Self::Running { started_at } | Self::Exited { started_at, .. } => *started_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Reason;
    use proptest::prelude::*;

    fn verb() -> impl Strategy<Value = Verb> {
        prop_oneof![
            (1i64..1000).prop_map(|at| Verb::Begin { at }),
            (0i32..256, 1i64..1000).prop_map(|(code, finished_at)| {
                let reason = Reason::Error;
                Verb::End(Exit { code, reason, message: String::new(), finished_at })
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_first_end_stays_whatever_follows(verbs in proptest::collection::vec(verb(), 0..12)) {
            let mut phase = Phase::Created;
            let mut first_end = None;
            let mut first_begin = None;
            for verb in verbs {
                let before = phase.clone();
                let after = phase.after(verb.clone());
                match (&before, &verb) {
                    (Phase::Created, Verb::Begin { at }) => first_begin = Some(*at),
                    (Phase::Exited { .. }, _) | (_, Verb::Begin { .. }) => prop_assert!(after.is_none()),
                    (_, Verb::End(exit)) => first_end = Some(exit.clone()),
                }
                phase = after.unwrap_or(before);
                prop_assert_eq!(phase.exit(), first_end.as_ref());
                prop_assert_eq!(phase.started_at(), first_begin.unwrap_or(0));
            }
        }
    }
}
