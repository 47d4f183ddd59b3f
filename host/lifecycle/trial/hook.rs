//! The hooks by name, and how the chain asks each.

use crate::error::{Error, Result};
use crate::lifecycle::hooks::{Ended, Step};

/// What is asked of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Of every plugin, whatever else it is asked.
    Life,
    Pod(Step),
    UpdatePod,
    Adjust,
    Validate,
    Container(Step),
    Update,
    Ended(Ended),
    ImagePulled,
}

const ALL: [(&str, Hook); 20] = [
    ("configure", Hook::Life),
    ("synchronize", Hook::Life),
    ("shutdown", Hook::Life),
    ("run-pod-sandbox", Hook::Pod(Step::RunSandbox)),
    ("stop-pod-sandbox", Hook::Pod(Step::StopSandbox)),
    ("remove-pod-sandbox", Hook::Pod(Step::RemoveSandbox)),
    ("update-pod-sandbox", Hook::UpdatePod),
    ("post-update-pod-sandbox", Hook::Pod(Step::UpdatedSandbox)),
    ("pre-create-container", Hook::Adjust),
    ("post-create-container", Hook::Container(Step::CreatedContainer)),
    ("pre-start-container", Hook::Container(Step::StartContainer)),
    ("post-start-container", Hook::Container(Step::StartedContainer)),
    ("update-container", Hook::Update),
    ("post-update-container", Hook::Container(Step::UpdatedContainer)),
    ("pre-stop-container", Hook::Container(Step::StopContainer)),
    ("post-stop-container", Hook::Ended(Ended::Stopped)),
    ("remove-container", Hook::Container(Step::RemoveContainer)),
    ("container-exited", Hook::Ended(Ended::Exited)),
    ("image-pulled", Hook::ImagePulled),
    ("validate-container", Hook::Validate),
];

impl Hook {
    /// The error names all that there are.
    pub fn parse(name: &str) -> Result<(&'static str, Self)> {
        let found = ALL.into_iter().find(|(known, _)| *known == name);
        found.ok_or_else(|| {
            let names = ALL.map(|(name, _)| name).join(", ");
            Error::Invalid(format!("there is no hook {name:?}; there are {names}"))
        })
    }

    pub fn names() -> [&'static str; 20] {
        ALL.map(|(name, _)| name)
    }

    /// Whether the pod is on the node while it is asked: it is not before it is ready, nor after
    /// it was removed.
    pub fn has_pod(self) -> bool {
        !matches!(
            self,
            Self::Life | Self::ImagePulled | Self::Pod(Step::RunSandbox | Step::RemoveSandbox)
        )
    }

    /// Whether the container is among the node's while it is asked.
    pub fn has_container(self) -> bool {
        match self {
            Self::Container(step) => step != Step::RemoveContainer,
            Self::Update | Self::Ended(_) => true,
            _ => false,
        }
    }

    /// Whether it is of a container.
    pub fn is_containers(self) -> bool {
        matches!(self, Self::Adjust | Self::Validate) || self.has_container() || self.is_over()
    }

    /// Whether its container runs, where the fixture does not say.
    pub fn is_running(self) -> bool {
        matches!(
            self,
            Self::Update
                | Self::Container(
                    Step::StartedContainer | Step::UpdatedContainer | Step::StopContainer
                )
        )
    }

    /// Whether its container has exited, where the fixture does not say.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ended(_) | Self::Container(Step::RemoveContainer))
    }
}
