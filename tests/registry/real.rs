//! Pulls from a real registry by a daemon: through CRI and `wasmpod pull`, with and without TLS and
//! a password.

use wasmpod::proto::cri;

use super::kit::*;
use super::server::{Guard, Server, folder, is_there};
use crate::images::kit::module;
use crate::support::{Daemon, eventually};

fn spec(image: &str) -> Option<cri::ImageSpec> {
    Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() })
}

fn request(image: &str, user: Option<(&str, &str)>) -> cri::PullImageRequest {
    let auth = user.map(|(username, password)| cri::AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    });
    cri::PullImageRequest { image: spec(image), auth, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_pulls_lists_inspects_and_removes() {
    if !is_there() {
        return;
    }
    let folder = folder();
    let real = Server::start(folder.path(), Guard::Nothing).await;
    real.push(&artifact(module(1)), "team/app", "1");
    let daemon = Daemon::start().await;
    let mut images = daemon.images();
    let name = format!("{}/team/app:1", real.host);
    let id = images.pull_image(request(&name, None)).await.unwrap().into_inner().image_ref;
    let status = cri::ImageStatusRequest { image: spec(&name), verbose: true };
    let image = images.image_status(status).await.unwrap().into_inner().image.unwrap();
    assert_eq!((&image.id, image.pinned), (&id, false));
    assert_eq!(image.repo_tags, [name.as_str()]);
    assert!(image.size > 0 && image.repo_digests.len() == 1);
    // The handler that a kubelet asks for it with is one of ours, and comes back.
    let mut with_handler = request(&name, None);
    with_handler.image.as_mut().unwrap().runtime_handler = "wasm".to_owned();
    let handled = cri::ImageStatusRequest { image: with_handler.image.clone(), verbose: false };
    assert_eq!(images.pull_image(with_handler).await.unwrap().into_inner().image_ref, id);
    let shown = images.image_status(handled).await.unwrap().into_inner().image.unwrap();
    assert_eq!(shown.spec.unwrap().runtime_handler, "wasm");
    // By its digest it is the same one, and has no other name.
    let digest = image.repo_digests[0].clone();
    let same = images.pull_image(request(&digest, None)).await.unwrap().into_inner().image_ref;
    assert_eq!(same, id);
    let remove = cri::RemoveImageRequest { image: spec(&name) };
    images.remove_image(remove).await.unwrap();
    let list = images.list_images(cri::ListImagesRequest { filter: None }).await.unwrap();
    assert!(list.into_inner().images.is_empty());

    let absent = format!("{}/team/none:1", real.host);
    let status = images.pull_image(request(&absent, None)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
    assert_eq!(status.message(), format!("registry {} has no image {absent}", real.host));
    let mut unknown = request(&name, None);
    unknown.image.as_mut().unwrap().runtime_handler = "runc".to_owned();
    let status = images.pull_image(unknown).await.unwrap_err();
    assert!(status.message().contains("runtime handler \"runc\""), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_a_password_are_wanted_and_given() {
    if !is_there() {
        return;
    }
    let folder = folder();
    let real = Server::start(folder.path(), Guard::TlsAndPassword).await;
    real.push(&artifact(module(1)), "app", "1");
    let name = format!("{}/app:1", real.host);
    let table = format!(
        "[registry]\nretries = 1\n[registry.hosts.\"{host}\"]\nserver = \"https://{host}\"\n",
        host = real.host
    );
    let daemon = Daemon::start_with(&table).await;
    let status = daemon.images().pull_image(request(&name, None)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unknown);
    let said = status.message();
    assert!(said.starts_with("RegistryUnavailable: ") && said.contains("certificate"), "{said}");

    let trusting = format!("{table}ca = [{:?}]\n", folder.path().join("ca.pem"));
    let daemon = Daemon::start_with(&trusting).await;
    let mut images = daemon.images();
    let status = images.pull_image(request(&name, None)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
    let status = images.pull_image(request(&name, Some(("u", "wrong")))).await.unwrap_err();
    assert!(status.message().contains("password of user \"u\""), "{status}");
    let id = images.pull_image(request(&name, Some(("u", "p")))).await.unwrap().into_inner();
    assert!(id.image_ref.starts_with("sha256:"));

    // `docker login` of the user who asks, not of the daemon.
    let login = serde_json::json!({ "auths": { &real.host: { "auth": "dTpw" } } });
    std::fs::write(folder.path().join("config.json"), login.to_string()).unwrap();
    daemon.cli(&["rmi", &name]).await;
    let output =
        daemon.command(&["pull", &name]).env("DOCKER_CONFIG", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.trim(), format!("{} {name}", id.image_ref));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_wanted_and_shown() {
    if !is_there() {
        return;
    }
    let folder = folder();
    let real = Server::start(folder.path(), Guard::ClientCertificate).await;
    real.push(&artifact(module(1)), "app", "1");
    let name = format!("{}/app:1", real.host);
    let file = |name: &str| folder.path().join(name);
    let kit = crate::registry::kit::quick();
    let mut config = kit.config.clone();
    let mut entry =
        wasmpod::config::RegistryHost { ca: vec![file("ca.pem")], ..Default::default() };
    config.registry.retries = 0;
    config.registry.hosts.insert(real.host.clone(), entry.clone());
    let store = wasmpod::image::ImageStore::open(&config).await.unwrap();
    let text = refusal(&kit, &store, &name).await;
    assert!(
        text.starts_with("RegistryUnavailable: ") && text.contains("client_certificate in"),
        "{text}"
    );
    drop(store);

    // The files are read again when they change: certificates are renewed.
    entry.client_certificate = Some(file("node.pem"));
    entry.client_key = Some(file("node.key"));
    config.registry.hosts.insert(real.host.clone(), entry);
    let store = wasmpod::image::ImageStore::open(&config).await.unwrap();
    for (certificate, key, part) in [
        ("htpasswd", "client.key", "node.pem cannot be used: it holds no certificate"),
        ("client.pem", "htpasswd", "client key"),
        ("client.pem", "own.key", "client certificate"),
    ] {
        std::fs::write(file("htpasswd"), "nothing").unwrap();
        std::fs::copy(file(certificate), file("node.pem")).unwrap();
        std::fs::copy(file(key), file("node.key")).unwrap();
        let text = refusal(&kit, &store, &name).await;
        assert!(text.contains(part) && text.contains("cannot be used"), "{text}");
    }
    std::fs::copy(file("client.key"), file("node.key")).unwrap();
    pull(&store, &name).await.unwrap();
}

/// What `wasmpod push` sends is an artifact as other tools make and read it, and comes back as
/// the image that it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_a_wasm_artifact_and_comes_back() {
    if !is_there() {
        return;
    }
    let folder = folder();
    let real = Server::start(folder.path(), Guard::TlsAndPassword).await;
    let table = format!(
        "[registry.hosts.\"{host}\"]\nserver = \"https://{host}\"\nca = [{ca:?}]\n",
        host = real.host,
        ca = folder.path().join("ca.pem")
    );
    let daemon = Daemon::start_with(&table).await;
    let image = daemon.import("hello-p2").await;
    let name = format!("{}/team/hello:1", real.host);
    let push = |config: &std::path::Path| {
        daemon.command(&["push", &image, &name]).env("DOCKER_CONFIG", config).output().unwrap()
    };
    let refused = push(&folder.path().join("nowhere"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.trim().lines().count() == 1, "{said}");

    let login = serde_json::json!({ "auths": { &real.host: { "auth": "dTpw" } } });
    std::fs::write(folder.path().join("config.json"), login.to_string()).unwrap();
    let pushed = push(folder.path());
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let printed = String::from_utf8_lossy(&pushed.stdout).into_owned();
    let digest = printed.trim().strip_prefix(&format!("{name} ")).unwrap();

    let manifest = real.manifest("team/hello", digest);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config = real.blob("team/hello", manifest["config"]["digest"].as_str().unwrap());
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip2".into()));
    assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
    let exports = config["component"]["exports"].as_array().unwrap();
    assert!(exports.iter().any(|name| name.as_str().unwrap().starts_with("wasi:cli/run@")));
    let wasm = real.blob("team/hello", manifest["layers"][0]["digest"].as_str().unwrap());
    assert_eq!(wasm, std::fs::read(crate::support::guest("hello-p2")).unwrap());

    let other = Daemon::start_with(&table).await;
    let back = other.images().pull_image(request(&name, Some(("u", "p")))).await.unwrap();
    assert!(back.into_inner().image_ref.starts_with("sha256:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_honoured_and_nothing_is_left() {
    use super::fake::{Body, Fake, broken};
    let daemon = Daemon::start().await;
    let fake = Fake::start();
    let made = artifact(large(1, 300_000));
    made.put(&fake, "app", "1");
    let layer = made.layer().digest.clone();
    fake.rule(move |seen, _| seen.path.contains(&layer).then(|| broken(Body::Silence)));
    let mut request = tonic::Request::new(request(&format!("{}/app:1", fake.host()), None));
    // As a Go client says it: tonic's own would cut the call on its side.
    request.metadata_mut().insert("grpc-timeout", "500m".parse().unwrap());
    let status = daemon.images().pull_image(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("pulling image"), "{status}");
    eventually("nothing is left of it", || {
        let left = |folder: &str| {
            crate::images::kit::files(&daemon.root().join("images").join(folder)).len()
        };
        (left("tmp") + left("blobs") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_takes_its_pull_along() {
    use super::fake::{Body, Fake, broken};
    let daemon = Daemon::start().await;
    let fake = Fake::start();
    let made = artifact(large(1, 300_000));
    made.put(&fake, "app", "1");
    let layer = made.layer().digest.clone();
    fake.rule(move |seen, _| {
        let drip = Body::Dripping(vec![0; 300_000], std::time::Duration::from_millis(1));
        seen.path.contains(&layer).then(|| broken(drip))
    });
    let (mut images, name) = (daemon.images(), format!("{}/app:1", fake.host()));
    let call = tokio::spawn(async move { images.pull_image(request(&name, None)).await });
    let left =
        |folder: &str| crate::images::kit::files(&daemon.root().join("images").join(folder)).len();
    eventually("the layer is on its way", || (left("tmp") > 0).then_some(())).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    eventually("nothing is left of it", || (left("tmp") + left("blobs") == 0).then_some(())).await;
}
