//! A plugin's file: the manifest beside it, and another that takes its place.

use super::kit::{File, Plugin, pod, probe, rewritten, shows, told, wasm};
use crate::support::{Daemon, container, eventually, eventually_async};

#[tokio::test]
async fn a_manifest_beside_the_file_does_and_without_any_nothing_may_be_changed() {
    let bare = rewritten("env-inject", (b"wasmpod:plugin", b"unknown:plugin"));
    let file = File::new(&bare);
    let settings = "env = { REGION = \"north\" }";
    let plugin = Plugin { name: "bare", guest: "env-inject", settings, ..Plugin::default() };
    let daemon = Daemon::start_with(&file.configuration(plugin)).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let error = pod.try_create(container("main", &image)).await.unwrap_err();
    let wanted = "plugin bare: container main: changes env, which it did not ask for or was not \
                  granted";
    assert_eq!(error.message(), wanted);
    std::fs::write(file.path().with_extension("wasm.json"), r#"{"fields": ["env"]}"#).unwrap();
    // It is read with the file, which is another one now.
    file.replace(&bare);
    let mut config = container("main", &image);
    config.args = vec!["dump".to_owned()];
    let main = eventually_async("it may", || async { pod.try_create(config.clone()).await.ok() });
    let main = main.await;
    main.start().await.unwrap();
    main.says("environment REGION=north").await;
}

#[tokio::test]
async fn a_plugin_hears_of_its_end_and_who_takes_its_place_is_configured_and_asked() {
    let file = File::new(&wasm("plugin-probe"));
    let settings = "do = { pre-create-container = \"env BY probe\" }\nenv = { BY = \"other\" }";
    let daemon = Daemon::start_with(&file.configuration(probe("probe", 1, settings))).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    // It does not end, which would be told some time.
    let first = shows(&pod, &image, &["dump", "--", "idle"]).await;
    first.says("environment BY=probe").await;
    let begun = |times: usize| {
        let (what, daemon) = (format!("it begins, {times} times in all"), &daemon);
        async move {
            eventually(&what, || {
                let ready = daemon.own_log().matches("a plugin is ready").count();
                (ready == times).then_some(())
            })
            .await;
        }
    };
    file.replace(&wasm("env-inject"));
    begun(2).await;
    assert_eq!(told(&daemon).last().unwrap(), "shutdown");
    let said = pod.output_of("second", &image, &["dump"]).await;
    assert!(said.contains("environment BY=other"), "{said}");
    file.replace(&wasm("plugin-probe"));
    begun(3).await;
    let all = told(&daemon);
    let since = all.rsplit(|told| told == "shutdown").next().unwrap();
    assert_eq!(since, ["configure", "synchronize 1 pods, 2 containers"], "{all:?}");
    let said = pod.output_of("third", &image, &["dump"]).await;
    assert!(said.contains("environment BY=probe"), "{said}");
}
