//! What happens to sandboxes and containers, told to whoever listens: what a change of records
//! means to the outside. Knows nothing of who listens.

use std::sync::Arc;

use super::change::Edit;
use crate::model::container::{Container, ContainerState, Reason};
use crate::model::sandbox::{Sandbox, SandboxState};

/// News that a slow listener may be behind by; one that is further behind has to look anew.
pub(super) const BACKLOG: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Created,
    Started,
    Stopped,
    Deleted,
    /// A plugin says something of it; it is as it was.
    Told(Arc<Word>),
}

/// What a plugin tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub by: String,
    pub is_warning: bool,
    pub reason: String,
    pub message: String,
}

/// The sandbox or container it happened to, as it is now; a deleted one as it was last.
#[derive(Clone, Debug)]
pub enum Subject {
    Sandbox(Arc<Sandbox>),
    Container(Arc<Container>),
}

#[derive(Clone, Debug)]
pub struct News {
    pub happening: Happening,
    pub subject: Subject,
    /// Nanoseconds since the Unix epoch.
    pub at: i64,
}

/// What an edit of the records tells at `at`.
pub(super) fn of(edit: &Edit, at: i64) -> Vec<News> {
    let (happenings, subject) = match edit {
        Edit::Sandbox { old, new, .. } => {
            let state = |sandbox: &Option<Arc<Sandbox>>| sandbox.as_ref().map(|s| s.state);
            let Some(subject) = new.as_ref().or(old.as_ref()) else { return Vec::new() };
            (of_sandbox(state(old), state(new)), Subject::Sandbox(subject.clone()))
        }
        Edit::Container { old, new, .. } => {
            let Some(subject) = new.as_ref().or(old.as_ref()) else { return Vec::new() };
            let stage = |container: &Option<Arc<Container>>| {
                container.as_ref().map(|container| Stage::of(&container.state))
            };
            (of_container(stage(old), stage(new)), Subject::Container(subject.clone()))
        }
        Edit::Shim { .. } | Edit::PodCidr { .. } => return Vec::new(),
    };
    let news =
        |happening: &Happening| News { happening: happening.clone(), subject: subject.clone(), at };
    happenings.iter().map(news).collect()
}

fn of_sandbox(old: Option<SandboxState>, new: Option<SandboxState>) -> &'static [Happening] {
    match (old, new) {
        // One that nobody ever saw goes as quietly as it came.
        (Some(SandboxState::Creating) | None, None) => &[],
        (_, None) => &[Happening::Deleted],
        (old, Some(SandboxState::Ready)) if old != Some(SandboxState::Ready) => {
            &[Happening::Created, Happening::Started]
        }
        (Some(SandboxState::Ready), Some(SandboxState::NotReady)) => &[Happening::Stopped],
        _ => &[],
    }
}

/// A container's state as lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Hidden,
    Created,
    /// Asked to start.
    Starting,
    Running,
    Exited,
    /// Ended, and whether it ever ran is not certain.
    Failed,
}

impl Stage {
    fn of(state: &ContainerState) -> Self {
        match state {
            ContainerState::Creating | ContainerState::Removing { .. } => Self::Hidden,
            ContainerState::Created => Self::Created,
            ContainerState::Starting => Self::Starting,
            ContainerState::Running { .. } => Self::Running,
            ContainerState::Exited { exit, .. } => match exit.reason {
                Reason::StartError | Reason::Unknown => Self::Failed,
                _ => Self::Exited,
            },
        }
    }
}

fn of_container(old: Option<Stage>, new: Option<Stage>) -> &'static [Happening] {
    match (old, new) {
        (None, None) => &[],
        (_, None) => &[Happening::Deleted],
        (old, new) if old == new => &[],
        // The shim never heard of the start.
        (Some(Stage::Starting), Some(Stage::Created)) => &[],
        (_, Some(Stage::Created)) => &[Happening::Created],
        (_, Some(Stage::Running)) => &[Happening::Started],
        // One that ends at once may be heard of before the answer to its start.
        (Some(Stage::Starting), Some(Stage::Exited)) => &[Happening::Started, Happening::Stopped],
        (_, Some(Stage::Exited | Stage::Failed)) => &[Happening::Stopped],
        (_, Some(Stage::Hidden | Stage::Starting)) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_told_step_by_step_and_each_step_once() {
        use Stage::{Created, Exited, Failed, Hidden, Running, Starting};
        let begun = [None, Some(Hidden), Some(Created), Some(Created), Some(Starting)];
        let told = |rest: &[Stage]| -> Vec<Happening> {
            let life: Vec<_> =
                begun.into_iter().chain(rest.iter().copied().map(Option::Some)).collect();
            life.windows(2).flat_map(|step| of_container(step[0], step[1])).cloned().collect()
        };
        let whole = [Happening::Created, Happening::Started, Happening::Stopped];
        assert_eq!(told(&[Running, Exited]), whole);
        assert_eq!(told(&[Exited]), whole, "its end was heard of first");
        assert_eq!(told(&[Created, Starting, Running, Exited]), whole);
        assert_eq!(told(&[Failed]), [Happening::Created, Happening::Stopped]);
        assert_eq!(of_container(Some(Exited), Some(Hidden)), []);
        assert_eq!(of_container(Some(Hidden), None), [Happening::Deleted]);
    }

    #[test]
    fn a_sandbox_that_failed_to_be_made_is_not_told_of() {
        use SandboxState::{Creating, NotReady, Ready};
        assert_eq!(of_sandbox(None, Some(Creating)), []);
        assert_eq!(of_sandbox(Some(Creating), None), []);
        let made = of_sandbox(Some(Creating), Some(Ready));
        assert_eq!(made, [Happening::Created, Happening::Started]);
        assert_eq!(of_sandbox(Some(Ready), Some(NotReady)), [Happening::Stopped]);
        assert_eq!(of_sandbox(Some(NotReady), None), [Happening::Deleted]);
    }
}
