//! What happens to sandboxes and containers, told to whoever listens: what a change of records
//! means to the outside. Knows nothing of who listens.

use std::sync::Arc;

use super::change::Edit;
use crate::model::container::{Container, ContainerState};
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
    Running,
    Exited,
}

impl Stage {
    fn of(state: &ContainerState) -> Self {
        match state {
            ContainerState::Creating | ContainerState::Removing { .. } => Self::Hidden,
            ContainerState::Created | ContainerState::Starting => Self::Created,
            ContainerState::Running { .. } => Self::Running,
            ContainerState::Exited { .. } => Self::Exited,
        }
    }
}

fn of_container(old: Option<Stage>, new: Option<Stage>) -> &'static [Happening] {
    match (old, new) {
        (None, None) => &[],
        (_, None) => &[Happening::Deleted],
        (old, new) if old == new => &[],
        (_, Some(Stage::Created)) => &[Happening::Created],
        (_, Some(Stage::Running)) => &[Happening::Started],
        (_, Some(Stage::Exited)) => &[Happening::Stopped],
        (_, Some(Stage::Hidden)) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_told_step_by_step_and_each_step_once() {
        use Stage::{Created, Exited, Hidden, Running};
        let life = [None, Some(Hidden), Some(Created), Some(Created), Some(Running), Some(Exited)];
        let told: Vec<Happening> =
            life.windows(2).flat_map(|step| of_container(step[0], step[1])).cloned().collect();
        assert_eq!(told, [Happening::Created, Happening::Started, Happening::Stopped]);
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
