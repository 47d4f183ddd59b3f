//! Mirrors, credentials, tokens and headers.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use wasmpod::config::{RegistryHost, RegistryMirror};
use wasmpod::image::{Auth, ImageStore, Imported, Pull};

use super::fake::{Fake, Seen, reply};
use super::kit::*;
use crate::images::kit::{Kit, module};

async fn pull_as(store: &ImageStore, name: &str, auth: Auth) -> Result<(), String> {
    let wanted = Pull { name: name.to_owned(), auth: Some(auth), imported: Imported::Keep };
    store.pull(wanted).unwrap().done().await.map(drop).map_err(|error| error.to_string())
}

fn user(username: &str, password: &str) -> Auth {
    Auth { username: username.to_owned(), password: password.to_owned(), ..Auth::default() }
}

fn mirror(url: String) -> RegistryMirror {
    RegistryMirror { url, ..RegistryMirror::default() }
}

/// With an entry of the configuration for a host.
fn with(host: &str, entry: RegistryHost) -> Kit {
    let mut kit = quick();
    kit.config.registry.hosts.insert(host.to_owned(), entry);
    kit
}

/// A registry that wants "Basic dTpw", which is u:p.
fn locked() -> Fake {
    let fake = Fake::start();
    artifact(module(1)).put(&fake, "app", "1");
    fake.rule(|seen, _| {
        let challenge = [("www-authenticate", "Basic realm=\"r\"")];
        (seen.header("authorization") != "Basic dTpw").then(|| reply(401, &challenge, ""))
    });
    fake
}

#[tokio::test]
async fn a_name_is_redirected_to_mirrors_in_their_order() {
    let (first, second) = (Fake::start(), Fake::start());
    artifact(module(1)).put(&second, "team/app", "1");
    let entry = RegistryHost {
        server: Some("http://127.0.0.1:1".to_owned()),
        mirrors: vec![mirror(first.url()), mirror(second.url())],
        ..RegistryHost::default()
    };
    let kit = with("registry.example", entry);
    let store = kit.store().await;
    let image = pull(&store, "registry.example/team/app:1").await.unwrap();
    assert_eq!(image.tags, ["registry.example/team/app:1"]);
    assert_eq!(first.seen().len(), 1, "it is asked once, and then the one that answers");
    let seen = second.seen();
    assert!(seen.iter().all(|seen| seen.path.ends_with("?ns=registry.example")), "{seen:?}");
}

#[tokio::test]
async fn a_mirror_that_is_down_or_lies_does_not_matter() {
    let (lies, server) = (Fake::start(), Fake::start());
    let made = artifact(module(1));
    made.put(&lies, "app", "1");
    made.put(&server, "app", "1");
    let layer = made.layer().digest.clone();
    lies.rule(move |seen, _| seen.path.contains(&layer).then(|| reply(200, &[], module(2))));
    let entry = RegistryHost {
        server: Some(server.url()),
        mirrors: vec![mirror("http://127.0.0.1:1".to_owned()), mirror(lies.url())],
        ..RegistryHost::default()
    };
    let kit = with("registry.example", entry);
    let store = kit.store().await;
    pull(&store, "registry.example/app:1").await.unwrap();
    assert_eq!(server.count("GET", "/blobs/"), 1);
}

#[tokio::test]
async fn headers_and_credentials_of_the_configuration_are_sent() {
    let fake = locked();
    let kit = quick();
    let password = kit.file("password", "p\n");
    let mut config = kit.config.clone();
    config.registry.hosts.insert(
        fake.host(),
        RegistryHost {
            headers: BTreeMap::from([("X-Team".to_owned(), "blue".to_owned())]),
            username: Some("u".to_owned()),
            password_file: Some(password),
            ..RegistryHost::default()
        },
    );
    let store = ImageStore::open(&config).await.unwrap();
    pull(&store, &format!("{}/app:1", fake.host())).await.unwrap();
    assert!(fake.seen().iter().all(|seen| seen.header("x-team") == "blue"));
}

#[tokio::test]
async fn a_callers_credentials_are_for_the_registry_and_not_for_its_mirrors() {
    let (watching, fake) = (Fake::start(), locked());
    let entry = RegistryHost {
        server: Some(fake.url()),
        mirrors: vec![mirror(watching.url())],
        ..RegistryHost::default()
    };
    watching.rule(|_, _| Some(reply(401, &[("www-authenticate", "Basic realm=\"r\"")], "")));
    let kit = with("registry.example", entry);
    let store = kit.store().await;
    pull_as(&store, "registry.example/app:1", user("u", "p")).await.unwrap();
    assert!(watching.seen().iter().all(|seen| seen.header("authorization").is_empty()));
}

#[tokio::test]
async fn wrong_and_missing_credentials_are_told_apart() {
    let fake = locked();
    let kit = quick();
    let store = kit.store().await;
    let name = format!("{}/app:1", fake.host());
    let text = pull_as(&store, &name, Auth::default()).await.unwrap_err();
    let place = fake.host();
    let head = format!("registry {place} denies access to {name}: ");
    assert!(text.starts_with(&head) && text.contains("there are no credentials"), "{text}");
    let text = pull_as(&store, &name, user("u", "wrong")).await.unwrap_err();
    assert_eq!(text, format!("{head}it does not accept the password of user \"u\" for it"));
    let text = pull_as(&store, &name, Auth { auth: "!".to_owned(), ..Auth::default() }).await;
    assert!(text.unwrap_err().contains("not base64"));
    let elsewhere = Auth { server: "other.example".to_owned(), ..user("u", "p") };
    assert!(pull_as(&store, &name, elsewhere).await.is_err());
    pull_as(&store, &name, Auth { auth: "dTpw".to_owned(), ..Auth::default() }).await.unwrap();
    // What is there is not given to who may not have it.
    assert!(pull_as(&store, &name, user("u", "wrong")).await.is_err());
}

#[tokio::test]
async fn docker_login_is_known_with_its_helpers() {
    let fake = locked();
    let mut kit = quick();
    let name = format!("{}/app:1", fake.host());
    let helper = kit.file(
        "docker-credential-wasmpodtest",
        "#!/bin/sh\nread -r server\necho \"$server\" >\"${0%/*}/asked\"\n\
         echo '{\"ServerURL\": \"x\", \"Username\": \"u\", \"Secret\": \"p\"}'\n",
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let plain = serde_json::json!({ "auths": { fake.host(): { "auth": "dTpw" } } });
    kit.config.registry.docker_config = Some(kit.file("plain.json", plain.to_string()));
    pull(&kit.store().await, &name).await.unwrap();

    // PATH is the process's own: a daemon with another one is asked.
    let config = serde_json::json!({ "credHelpers": { fake.host(): "wasmpodtest" } });
    let file = kit.file("config.json", config.to_string());
    let root = kit.path("other");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wasmpod"))
        .args(["pull", "--root"])
        .arg(&root)
        .arg(&name)
        .env("DOCKER_CONFIG", file.parent().unwrap())
        .env("PATH", format!("{}:/usr/bin:/bin", kit.folder.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(std::fs::read_to_string(kit.path("asked")).unwrap().trim(), fake.host());
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.starts_with("sha256:") && printed.trim().ends_with(&name), "{printed}");
    assert!(said.contains("compiling"), "plain lines where there is no terminal: {said}");

    // One that is not there is told of before the denial.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wasmpod"))
        .args(["pull", "--root"])
        .arg(kit.path("third"))
        .arg(&name)
        .env("DOCKER_CONFIG", file.parent().unwrap())
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a credential helper failed helper=\"wasmpodtest\""), "{said}");
    assert!(said.lines().last().unwrap().contains("denies access to"), "{said}");
}

/// A registry whose tokens another one gives.
fn by_token(service: &Fake) -> Fake {
    let fake = Fake::start();
    artifact(module(1)).put(&fake, "team/app", "1");
    let realm = format!(
        "Bearer realm=\"{}/token?a=b\",service=\"it\",scope=\"repository:team/app:pull\"",
        service.url()
    );
    fake.rule(move |seen, _| {
        let granted = seen.header("authorization") == "Bearer granted";
        (!granted).then(|| reply(401, &[("www-authenticate", &realm)], ""))
    });
    fake
}

fn service(fits: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Fake {
    let fake = Fake::start();
    fake.rule(move |seen, _| {
        let granted = r#"{"access_token": "granted", "expires_in": 300}"#;
        Some(if fits(seen) { reply(200, &[], granted) } else { reply(401, &[], "") })
    });
    fake
}

#[tokio::test]
async fn tokens_are_asked_for_once_with_what_the_registry_says() {
    let service = service(|seen| seen.header("authorization") == "Basic dTpw");
    let fake = by_token(&service);
    let kit = quick();
    let store = kit.store().await;
    let name = format!("{}/team/app:1", fake.host());
    pull_as(&store, &name, user("u", "p")).await.unwrap();
    pull_as(&store, &name, user("u", "p")).await.unwrap();
    let asked = service.seen();
    assert_eq!(asked.len(), 1);
    let expected = "/token?a=b&scope=repository%3Ateam%2Fapp%3Apull&service=it&account=u";
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", expected));
    assert!(pull_as(&store, &name, user("u", "wrong")).await.is_err());
}

#[tokio::test]
async fn anonymous_identity_and_registry_tokens_are_used_as_they_are_meant() {
    let kit = quick();
    let store = kit.store().await;
    let anonymous = service(|seen| seen.header("authorization").is_empty());
    let fake = by_token(&anonymous);
    pull(&store, &format!("{}/team/app:1", fake.host())).await.unwrap();

    let oauth = service(|seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        seen.method == "POST"
            && body.contains("grant_type=refresh_token")
            && body.contains("refresh_token=it%26self")
    });
    let fake = by_token(&oauth);
    let auth = Auth { identity_token: "it&self".to_owned(), ..Auth::default() };
    pull_as(&store, &format!("{}/team/app:1", fake.host()), auth).await.unwrap();

    let nobody = service(|_| false);
    let fake = by_token(&nobody);
    let auth = Auth { registry_token: "granted".to_owned(), ..Auth::default() };
    pull_as(&store, &format!("{}/team/app:1", fake.host()), auth).await.unwrap();
    assert!(nobody.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_used_but_for_whom_they_are_not() {
    let (proxy, kit) = (Fake::start(), quick());
    proxy.rule(|_, _| Some(reply(403, &[], "")));
    let near = Fake::start();
    artifact(module(1)).put(&near, "app", "1");
    let pull = |image: &str, no_proxy: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_wasmpod"))
            .args(["pull", "--root"])
            .arg(kit.path("root"))
            .arg(image)
            .env("HTTPS_PROXY", proxy.url())
            .env("HTTP_PROXY", proxy.url())
            .env("NO_PROXY", no_proxy)
            .output()
            .unwrap()
    };
    assert!(!pull("registry.invalid/app:1", "other.invalid").status.success());
    let seen = proxy.seen();
    assert!(
        seen.iter()
            .all(|s| (s.method.as_str(), s.path.as_str()) == ("CONNECT", "registry.invalid:443"))
    );
    assert!(!seen.is_empty());
    assert!(!pull("registry.invalid/app:1", "registry.invalid").status.success());
    // What is on this machine is never asked for through another one.
    assert!(pull(&format!("{}/app:1", near.host()), "").status.success());
    assert_eq!(proxy.seen().len(), seen.len());
}
