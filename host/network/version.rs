//! Versions of the CNI specification that wasmpod speaks, and what each knows.

use serde::{Deserialize, Serialize};

/// 0.1.0 and 0.2.0 have results of another form and are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    #[serde(rename = "0.3.0")]
    V030,
    #[serde(rename = "0.3.1")]
    V031,
    #[serde(rename = "0.4.0")]
    V040,
    #[serde(rename = "1.0.0")]
    V100,
    #[serde(rename = "1.1.0")]
    V110,
}

impl Version {
    pub const ALL: [Self; 5] = [Self::V030, Self::V031, Self::V040, Self::V100, Self::V110];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.text() == text)
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// CHECK, and `prevResult` for DEL.
    pub fn checks(self) -> bool {
        self >= Self::V040
    }

    /// GC and STATUS.
    pub fn tells_status(self) -> bool {
        self >= Self::V110
    }

    /// Whether an address in a result carries its family as "version".
    pub fn names_families(self) -> bool {
        self < Self::V100
    }
}
