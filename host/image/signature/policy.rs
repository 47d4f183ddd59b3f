//! The policy file: which images need whose signature. The first rule with a pattern for an
//! image's repository counts.
//!
//!     default = "accept"                      # or "refuse": images that no rule is for
//!
//!     [[rule]]
//!     images = ["registry.example/prod/**"]   # * within one part of a path, ** across parts
//!     keys = ["prod.pub"]                     # PEM; one good signature by one of them is enough
//!
//!     [[rule]]
//!     images = ["docker.io/library/*"]
//!     verdict = "accept"                      # "signed" (the default), "accept" or "refuse"

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::keys::Key;
use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    default: Otherwise,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Otherwise {
    #[default]
    Accept,
    Refuse,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Patterns of full repositories.
    images: Vec<String>,
    #[serde(default)]
    verdict: Wanted,
    /// Files; relative ones lie beside the policy.
    #[serde(default)]
    keys: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    #[default]
    Signed,
    Accept,
    Refuse,
}

/// What becomes of an image.
#[derive(Debug)]
pub enum Verdict<'a> {
    Accept,
    Refuse,
    /// It needs a signature by a key of this rule.
    Signed(&'a Rule),
}

impl Policy {
    /// A rule that nothing can satisfy, and one that asks for nothing with keys, is a mistake and
    /// an error.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(Error::io(format!("reading the policy {shown}")))?;
        let policy: Self = toml::from_str(&text).map_err(|error| {
            let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            Error::Invalid(format!("policy {shown}: {line}"))
        })?;
        for rule in &policy.rule {
            let images = rule.images.join(", ");
            let fault = match (rule.verdict, rule.keys.is_empty()) {
                (Wanted::Signed, true) => "asks for a signature and names no keys",
                (Wanted::Accept | Wanted::Refuse, false) => "has keys and asks for no signature",
                _ if rule.images.is_empty() => "is for no images",
                _ => continue,
            };
            return Err(Error::Invalid(format!("policy {shown}: the rule for {images} {fault}")));
        }
        Ok(policy)
    }

    pub fn verdict(&self, repository: &str) -> Verdict<'_> {
        let matching =
            |rule: &&Rule| rule.images.iter().any(|pattern| matches(pattern, repository));
        match (self.rule.iter().find(matching), self.default) {
            (Some(rule), _) => match rule.verdict {
                Wanted::Signed => Verdict::Signed(rule),
                Wanted::Accept => Verdict::Accept,
                Wanted::Refuse => Verdict::Refuse,
            },
            (None, Otherwise::Accept) => Verdict::Accept,
            (None, Otherwise::Refuse) => Verdict::Refuse,
        }
    }
}

impl Rule {
    /// The keys of a policy that was read from `policy`.
    pub fn keys(&self, policy: &Path) -> Result<Vec<Key>> {
        let folder = policy.parent().unwrap_or(Path::new("/"));
        self.keys.iter().map(|key| Key::read(&folder.join(key))).collect()
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').collect(), text.split('/').collect());
    parts(&pattern, &text)
}

fn parts(pattern: &[&str], text: &[&str]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        // One part or more.
        (Some((&"**", rest)), Some(_)) => {
            (1..=text.len()).any(|count| text.get(count..).is_some_and(|text| parts(rest, text)))
        }
        (Some((first, rest)), Some((part, text))) => {
            part_matches(first.as_bytes(), part.as_bytes()) && parts(rest, text)
        }
        _ => false,
    }
}

/// Without going back to any but the last star, so that no pattern takes long.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(letter) if text.get(seen) == Some(letter) => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    at = place + 1;
                    seen = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_repositories() {
        for (pattern, text, expected) in [
            ("reg/a", "reg/a", true),
            ("reg/a", "reg/a/b", false),
            ("reg/*", "reg/a", true),
            ("reg/*", "reg/a/b", false),
            ("reg/**", "reg/a/b", true),
            ("reg/**", "reg", false),
            ("**", "reg/a/b", true),
            ("**/app", "reg/x/app", true),
            ("*.example/a*z", "reg.example/abcz", true),
            ("*.example/a*z", "reg.example/abc", false),
            ("reg.example/prod/**", "reg.example.evil/prod/a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_policy_that_cannot_be_meant_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        for (text, part) in [
            ("[[rule]]\nimages = [\"a\"]", "names no keys"),
            ("[[rule]]\nimages = []\nverdict = \"accept\"", "is for no images"),
            ("[[rule]]\nimages = [\"a\"]\nverdict = \"accept\"\nkeys = [\"k\"]", "has keys"),
            ("[[rules]]", "unknown field"),
            ("default = \"maybe\"", "maybe"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Policy::read(&path).unwrap_err().to_string();
            assert!(error.contains("p.toml") && error.contains(part), "{error}");
        }
        std::fs::write(&path, "default = \"refuse\"").unwrap();
        assert!(matches!(Policy::read(&path).unwrap().verdict("a/b"), Verdict::Refuse));
    }
}
