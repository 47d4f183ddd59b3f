//! Who we are to a registry: what a caller gives, what the configuration says, what docker's
//! config.json and its credential helpers know. Knows nothing of how credentials are sent.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::hosts::Login;
use crate::error::{Error, Result};
use crate::image::name::Name;

/// Bytes of a config.json, a password file or a helper's answer.
const MAX_TEXT: u64 = 1 << 20;
/// How long a helper may take: some ask a service.
const HELPER: Duration = Duration::from_secs(30);

#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Credentials {
    #[default]
    Anonymous,
    Basic {
        username: String,
        password: String,
    },
    /// A refresh token, exchanged for others (OAuth 2).
    Identity(String),
    /// A token that is sent as it is.
    Bearer(String),
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Basic { username, .. } => write!(f, "user {username:?}"),
            Self::Identity(_) => f.write_str("an identity token"),
            Self::Bearer(_) => f.write_str("a token"),
        }
    }
}

/// Credentials as CRI's AuthConfig and docker's config.json write them.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Auth {
    pub username: String,
    pub password: String,
    /// "username:password" in base64.
    pub auth: String,
    /// The registry that they are for; empty is any.
    #[serde(skip)]
    pub server: String,
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Auth {
    /// The first credentials that these texts of docker's config.json have for an image's
    /// registry. Their helpers are not asked: they come from somebody else's machine.
    pub fn of_docker(configs: &[String], image: &str) -> Result<Option<Self>> {
        let name = Name::parse(image)?;
        let host = name.split().0;
        for text in configs {
            let config: DockerConfig = serde_json::from_str(text).map_err(|error| {
                Error::Invalid(format!("credentials for image {image}: no config.json: {error}"))
            })?;
            let found = config.auths.iter().find(|(key, _)| registry(key) == registry(host));
            if let Some((_, auth)) = found {
                return Ok(Some(auth.clone()));
            }
        }
        Ok(None)
    }

    /// What they say for a host; anonymous when they say nothing or are for another one.
    pub fn credentials(&self, host: &str) -> Result<Credentials> {
        if !self.server.is_empty() && registry(&self.server) != registry(host) {
            return Ok(Credentials::Anonymous);
        }
        if !self.registry_token.is_empty() {
            return Ok(Credentials::Bearer(self.registry_token.clone()));
        }
        if !self.identity_token.is_empty() {
            return Ok(Credentials::Identity(self.identity_token.clone()));
        }
        if !self.username.is_empty() {
            let (username, password) = (self.username.clone(), self.password.clone());
            return Ok(Credentials::Basic { username, password });
        }
        if self.auth.is_empty() { Ok(Credentials::Anonymous) } else { decode(&self.auth) }
    }
}

fn decode(auth: &str) -> Result<Credentials> {
    let bad = || Error::Invalid("credentials: auth is not base64 of username:password".to_owned());
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let bytes = engine.decode(auth.trim()).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let (username, password) = text.split_once(':').ok_or_else(bad)?;
    // Old versions of docker pad with zero bytes.
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Credentials::Basic { username: username.to_owned(), password })
}

/// The credentials of the configuration for one place.
pub async fn configured(login: &Login) -> Result<Option<Credentials>> {
    let Some(file) = &login.password_file else { return Ok(None) };
    let text = read(file).await?.ok_or_else(|| {
        Error::Invalid(format!("password file {} does not exist", file.display()))
    })?;
    let secret = text.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Some(match &login.username {
        Some(username) => Credentials::Basic { username: username.clone(), password: secret },
        None => Credentials::Bearer(secret),
    }))
}

/// Docker's config.json.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: HashMap<String, Auth>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// What docker's configuration knows of a host. A configuration that cannot be read is an error;
/// a helper that fails is logged and passed over, as docker does.
pub async fn docker(file: Option<&Path>, host: &str) -> Result<Option<Credentials>> {
    let (file, given) = match file {
        Some(file) => (file.to_path_buf(), true),
        None => match docker_file() {
            Some(file) => (file, false),
            None => return Ok(None),
        },
    };
    let Some(text) = read(&file).await? else {
        let shown = file.display();
        return if given {
            Err(Error::Invalid(format!("docker configuration {shown} does not exist")))
        } else {
            Ok(None)
        };
    };
    let config: DockerConfig = serde_json::from_str(&text).map_err(|error| {
        Error::Invalid(format!("docker configuration {}: {error}", file.display()))
    })?;
    let same = |key: &&String| registry(key) == registry(host);
    if let Some((_, helper)) = config.cred_helpers.iter().find(|(key, _)| same(key))
        && let Some(found) = ask(helper, host).await
    {
        return Ok(Some(found));
    }
    if let Some(key) = config.auths.keys().find(same)
        && let Some(auth) = config.auths.get(key)
    {
        let found = auth.credentials(host)?;
        if found != Credentials::Anonymous {
            return Ok(Some(found));
        }
    }
    if config.creds_store.is_empty() {
        return Ok(None);
    }
    Ok(ask(&config.creds_store, host).await)
}

fn docker_file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    Some(folder.or_else(home)?.join("config.json"))
}

/// Asks docker-credential-HELPER.
async fn ask(helper: &str, host: &str) -> Option<Credentials> {
    let server = if registry(host) == "docker.io" { "https://index.docker.io/v1/" } else { host };
    match tokio::time::timeout(HELPER, get(helper, server)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => {
            tracing::warn!(helper, host, why, "a credential helper failed");
            None
        }
        Err(_) => {
            tracing::warn!(helper, host, "a credential helper does not answer");
            None
        }
    }
}

async fn get(helper: &str, server: &str) -> std::result::Result<Option<Credentials>, String> {
    if helper.contains('/') {
        return Err("its name is a path".to_owned());
    }
    let mut child = tokio::process::Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why by its status.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_TEXT).read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if !status.success() {
        let said = text.lines().next().unwrap_or_default().to_owned();
        return if said.contains("credentials not found") { Ok(None) } else { Err(said) };
    }
    let HelperAnswer { username, secret } =
        serde_json::from_str(&text).map_err(|error| format!("its answer: {error}"))?;
    Ok(Some(match username.as_str() {
        "<token>" => Credentials::Identity(secret),
        "" => return Ok(None),
        _ => Credentials::Basic { username, password: secret },
    }))
}

/// A small text file; `None` when there is none.
async fn read(file: &Path) -> Result<Option<String>> {
    let doing = || format!("reading {}", file.display());
    let open = match tokio::fs::File::open(file).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io(doing()))?,
    };
    let mut text = String::new();
    open.take(MAX_TEXT).read_to_string(&mut text).await.map_err(Error::io(doing()))?;
    Ok(Some(text))
}

/// The host in what people write for a registry, with docker's many names made one.
fn registry(text: &str) -> &str {
    let bare = text.strip_prefix("https://").or(text.strip_prefix("http://")).unwrap_or(text);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn what_a_caller_gives_is_read_as_a_kubelet_means_it() {
        let auth = |auth: Auth| auth.credentials("r.example:5000").unwrap();
        let text = |text: &str| text.to_owned();
        assert_eq!(auth(Auth::default()), Credentials::Anonymous);
        let both = Auth { username: text("u"), password: text("p"), ..Auth::default() };
        assert_eq!(auth(both.clone()), basic("u", "p"));
        assert_eq!(auth(Auth { auth: text("dTpwOnE="), ..Auth::default() }), basic("u", "p:q"));
        assert_eq!(auth(Auth { auth: text("dTpwOnE"), ..Auth::default() }), basic("u", "p:q"));
        let identity = Auth { identity_token: text("i"), ..both.clone() };
        assert_eq!(auth(identity), Credentials::Identity(text("i")));
        let bearer = Auth { registry_token: text("t"), ..Auth::default() };
        assert_eq!(auth(bearer), Credentials::Bearer(text("t")));
        let here = Auth { server: text("https://r.example:5000/v1/"), ..both.clone() };
        assert_eq!(auth(here), basic("u", "p"));
        let other = Auth { server: text("other.example"), ..both };
        assert_eq!(auth(other), Credentials::Anonymous);
        for bad in ["!!", "dXA="] {
            let bad = Auth { auth: text(bad), ..Auth::default() };
            assert!(bad.credentials("r").unwrap_err().to_string().contains("base64"));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown =
            format!("{:?} {:?}", basic("u", "hidden"), Credentials::Bearer("hidden".into()));
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[tokio::test]
    async fn dockers_configuration_knows_a_host_by_many_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
            "r.example": {"username": "a", "password": "b"}, "empty.example": {}}}"#;
        std::fs::write(&file, text).unwrap();
        for (host, expected) in [
            ("docker.io", Some(basic("u", "p"))),
            ("r.example", Some(basic("a", "b"))),
            ("empty.example", None),
            ("r.example:5000", None),
        ] {
            assert_eq!(docker(Some(&file), host).await.unwrap(), expected, "{host}");
        }
        std::fs::write(&file, "{").unwrap();
        let error = docker(Some(&file), "r").await.unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains('\n'), "{error}");
    }
}
