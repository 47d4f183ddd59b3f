//! Image names as docker and containerd read them: `app:1` is `docker.io/library/app:1`. Pure
//! text; knows nothing of what the store holds.

use std::fmt;

use crate::error::{Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Of domain and path together (distribution's reference grammar).
const MAX_REPOSITORY: usize = 255;

/// A normalized name: repository, tag and digest, at least one of the last two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// With its domain: "docker.io/library/app".
    pub repository: String,
    pub tag: Option<String>,
    /// "sha256:..." after an `@`.
    pub digest: Option<String>,
}

impl Name {
    /// Reads a name and fills in what docker would: the domain, `library/` and `:latest`. The
    /// error is one sentence.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Err(Error::Invalid(format!("image name {text:?}: {why}")));
        if text.is_empty() {
            return Err(Error::Invalid("the image name is empty".to_owned()));
        }
        if is_hex(text) && text.len() == 64 {
            return bad("64 hex digits are an image's id, not a name");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return bad("what follows @ must be sha256: and 64 lower-case hex digits");
        }
        let (path, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return bad(
                "a tag has 1 to 128 letters, digits, '_', '.' and '-', and begins with none of the last two",
            );
        }
        let (domain, path) = match path.split_once('/') {
            Some((first, rest)) if is_domain_like(first) => (first, rest.to_owned()),
            _ => (DEFAULT_DOMAIN, path.to_owned()),
        };
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        if !is_domain(domain) {
            return bad("its registry is not a host name");
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return bad("a repository is written in lower case");
        }
        if !path.split('/').all(is_component) {
            return bad(
                "a repository consists of lower-case letters and digits, with single '.', '_', '-' or '__' between them",
            );
        }
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        let repository = format!("{domain}/{path}");
        if repository.len() > MAX_REPOSITORY {
            return bad("it is longer than 255 characters");
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { repository, tag, digest: digest.map(str::to_owned) })
    }

    /// As [`Name::parse`], for a name that an image is to bear: a digest is refused.
    pub fn parse_tag(text: &str) -> Result<Self> {
        let name = Self::parse(text)?;
        if name.digest.is_some() {
            return Err(Error::Invalid(format!(
                "image name {text:?}: an image cannot be given a digest, only a tag"
            )));
        }
        Ok(name)
    }

    /// The registry's host, and the repository without it.
    pub fn split(&self) -> (&str, &str) {
        self.repository.split_once('/').unwrap_or((DEFAULT_DOMAIN, &self.repository))
    }

    /// Whether it comes to mean another image by custom.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref().is_none_or(|tag| tag == DEFAULT_TAG)
    }

    /// `repository:tag`, without a digest.
    pub fn tagged(&self) -> String {
        format!("{}:{}", self.repository, self.tag.as_deref().unwrap_or(DEFAULT_TAG))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` is "sha256:" and 64 lower-case hex digits: safe to make a path of.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && is_hex(hex))
}

/// Whether `text` is one or more lower-case hex digits.
pub fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// What sets a registry apart from the first part of a path (docker's rule).
fn is_domain_like(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    port.is_none_or(|port| port.parse::<u16>().is_ok()) && (address || host.split('.').all(label))
}

/// `[a-z0-9]+` with `.`, `_`, `__` or any number of `-` between.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |mut bytes: std::str::Bytes<'_>| bytes.next().is_some_and(alphanumeric);
    ends(text.bytes())
        && text.bytes().next_back().is_some_and(alphanumeric)
        && text.bytes().all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || is_dashes(between))
}

fn is_dashes(text: &str) -> bool {
    text.bytes().all(|b| b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_what_docker_makes_of_them() {
        for (short, full) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("me/app:1.2-rc_3", "docker.io/me/app:1.2-rc_3"),
            ("index.docker.io/app", "docker.io/library/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("ghcr.io/o/a__b-c--d.e:v", "ghcr.io/o/a__b-c--d.e:v"),
            ("[::1]:5000/app:x", "[::1]:5000/app:x"),
        ] {
            let name = Name::parse(short).unwrap();
            assert_eq!(name.to_string(), full);
            assert_eq!(Name::parse(full).unwrap(), name);
        }
    }

    #[test]
    fn a_digest_stands_beside_or_instead_of_a_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name = Name::parse(&format!("app@{digest}")).unwrap();
        assert_eq!((name.tag, name.digest.as_deref()), (None, Some(digest.as_str())));
        let name = Name::parse(&format!("app:1@{digest}")).unwrap();
        assert_eq!(name.tag.as_deref(), Some("1"));
        assert!(Name::parse_tag(&format!("app@{digest}")).is_err());
    }

    #[test]
    fn a_bad_name_gets_one_sentence_that_quotes_it() {
        let long = "a".repeat(300);
        let tag = format!("app:{}", "t".repeat(129));
        let id = "a".repeat(64);
        for bad in [
            "App",
            "app:",
            "app:-x",
            "app:.x",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "/app",
            "app/",
            "a//b",
            "a b",
            "app@sha256:12",
            "app@md5:00",
            "ho_st.x/app",
            "host:99999/app",
            "../etc:1",
            "app:1\n2",
            &long,
            &tag,
            &id,
        ] {
            let message = Name::parse(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("{bad:?}")), "{message}");
            assert!(!message.contains('\n'));
        }
        assert_eq!(Name::parse("").unwrap_err().to_string(), "the image name is empty");
    }
}
