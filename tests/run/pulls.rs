//! Pods whose images are not there yet.

use super::kit::*;
use crate::registry::fake::{Fake, reply};
use crate::registry::kit::artifact;
use crate::support::guest;

/// The probe as an artifact "team/app:TAG" in a registry of our own.
fn registry(tag: &str) -> Fake {
    let fake = Fake::start();
    artifact(std::fs::read(guest("probe")).unwrap()).put(&fake, "team/app", tag);
    fake
}

fn says_hello(image: &str, more: &str) -> String {
    format!(
        "restartPolicy: Never, containers: [{{name: a, image: {image}, args: [say, hello]{more}}}]"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_pulled_and_told_of_as_by_a_kubelet() {
    let (daemon, fake) = (quick_daemon().await, registry("1"));
    let image = format!("{}/team/app:1", fake.host());
    let ran = run(&daemon, &pod("first", &says_hello(&image, ""))).await;
    assert_eq!(ran.code(), 0, "{:?}", ran.0);
    ran.told_in_order(&[
        &format!("Normal Pulling container a: Pulling image \"{image}\""),
        &format!("Normal Pulled container a: Successfully pulled image \"{image}\" in "),
        " including waiting). Image size: ",
        "Normal Created",
    ]);
    let asked = fake.seen().len();
    let ran = run(&daemon, &pod("second", &says_hello(&image, ""))).await;
    ran.told_in_order(&[&format!("Container image \"{image}\" already present on machine")]);
    assert_eq!(fake.seen().len(), asked, "IfNotPresent asks nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_asked_for_always_and_never_is_never() {
    let (daemon, fake) = (quick_daemon().await, registry("latest"));
    let image = format!("{}/team/app", fake.host());
    for name in ["first", "second"] {
        let ran = run(&daemon, &pod(name, &says_hello(&image, ""))).await;
        ran.told_in_order(&["Normal Pulling", "Successfully pulled"]);
    }
    assert_eq!(fake.count("HEAD", "manifests/latest"), 1);
    let present = says_hello(&image, ", imagePullPolicy: IfNotPresent");
    run(&daemon, &pod("third", &present)).await.told_in_order(&["already present"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_fails_backs_off_and_comes_right_with_the_registry() {
    let (daemon, fake) = (quick_daemon().await, Fake::start());
    let image = format!("{}/team/app:1", fake.host());
    let running = start(&daemon, &pod("waits", &says_hello(&image, "")));
    running.until_told("Normal BackOff").await;
    let told = running.told();
    for line in [
        format!(
            "Warning Failed container a: Failed to pull image \"{image}\": registry {} has no image \
             {image}",
            fake.host()
        ),
        "Warning Failed container a: Error: ErrImagePull".to_owned(),
        format!("Normal BackOff container a: Back-off pulling image \"{image}\""),
        "Warning Failed container a: Error: ImagePullBackOff".to_owned(),
    ] {
        assert!(told.contains(&line), "{line}\nnot in\n{told}");
    }
    artifact(std::fs::read(guest("probe")).unwrap()).put(&fake, "team/app", "1");
    let (code, told) = running.ended().await;
    assert!(code == 0 && told.contains("Successfully pulled"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_pull_secrets_open_its_registry() {
    let (daemon, fake) = (quick_daemon().await, registry("1"));
    fake.rule(|seen, _| {
        let challenge = [("www-authenticate", "Basic realm=\"r\"")];
        (seen.header("authorization") != "Basic dTpw").then(|| reply(401, &challenge, ""))
    });
    let host = fake.host();
    let spec = says_hello(&format!("{host}/team/app:1"), "");
    let config = format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"dTpw\"}}}}}}");
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\ntype: \
         kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{config}'}}\n"
    );
    let with = pod("opens", &format!("{spec}, imagePullSecrets: [{{name: login}}]")) + &secret;
    assert_eq!(run(&daemon, &with).await.code(), 0);
    let lost = pod("lost", &format!("{spec}, imagePullSecrets: [{{name: other}}]")) + &secret;
    let ran = run(&daemon, &lost).await;
    let said = String::from_utf8_lossy(&ran.0.stderr).into_owned();
    assert!(said.contains("spec.imagePullSecrets[0]: Secret \"other\" not found"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_stopped_gives_its_pull_up() {
    use crate::registry::fake::{Body, broken};
    let (daemon, fake) = (quick_daemon().await, registry("1"));
    fake.rule(|seen, _| seen.path.contains("/blobs/").then(|| broken(Body::Silence)));
    let image = format!("{}/team/app:1", fake.host());
    let running = start(&daemon, &pod("silent", &says_hello(&image, "")));
    running.until_told("Pulling image").await;
    running.signal(rustix::process::Signal::INT);
    let (code, told) = running.ended().await;
    assert_eq!(code, 1, "{told}");
}
