//! Tests of `plugin`.

use super::*;
use crate::wait;

struct Kit {
    folder: tempfile::TempDir,
    plugins: Plugins,
}

/// A plugin "p" that is this shell script, given a second.
fn kit(script: &str) -> Kit {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Not written by this process: another test's child could hold it open and keep it "busy".
    let mut install = std::process::Command::new("install");
    let installed = install.args(["-m", "755"]).arg(&text).arg(folder.path().join("p")).status();
    assert!(installed.unwrap().success());
    let config = NetworkConfig {
        bin_dirs: vec!["/nowhere".into(), folder.path().into()],
        plugin_seconds: 1,
        status_seconds: 1,
        ..NetworkConfig::default()
    };
    Kit { folder, plugins: Plugins::new(&config, Owner::new("/n".into())) }
}

impl Kit {
    async fn call(&self, kind: &str) -> Result<String> {
        let call = Call {
            verb: Verb::Add,
            network: "n",
            kind,
            environment: vec![("CNI_CONTAINERID", "abc".to_owned())],
            input: b"{\"a\": 1}".to_vec(),
        };
        self.plugins.call(&call).await.map(|out| String::from_utf8(out).unwrap())
    }

    async fn fails(&self) -> String {
        self.call("p").await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn a_plugin_has_its_environment_and_its_input() {
    let kit = kit("echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_PATH $(cat)\"; echo no >&2");
    let said = kit.call("p").await.unwrap();
    let folders = format!("/nowhere:{}", kit.folder.path().display());
    assert_eq!(said, format!("ADD abc {folders} {{\"a\": 1}}\n"));
}

#[tokio::test]
async fn every_failure_is_a_sentence_that_names_plugin_and_network() {
    let begin = "CNI plugin p of network n: ADD ";
    let failed = kit("cat; echo '{\"code\": 7, \"msg\": \"no bridge\"}'; exit 1").fails().await;
    assert!(failed.starts_with(&format!("{begin}failed: ended with exit status: 1")), "{failed}");
    let failed = kit("echo '{\"code\": 7, \"msg\": \"no bridge\"}'; exit 1").fails().await;
    assert_eq!(failed, format!("{begin}failed: no bridge (code 7)"));
    let failed = kit("exit 1").fails().await;
    assert_eq!(failed, format!("{begin}failed: ended with exit status: 1 and said nothing"));
    let failed = kit("kill -9 $$").fails().await;
    assert!(failed.contains("signal: 9"), "{failed}");
    let failed = kit("cat /dev/zero").fails().await;
    assert!(failed.contains("printed more than 1048576 bytes"), "{failed}");
    let failed = kit("").call("q").await.unwrap_err().to_string();
    assert!(failed.contains("CNI plugin q of network n is in none of /nowhere, "), "{failed}");
}

const HANGS: &str = "sleep 1000 & echo $! > \"$(dirname \"$0\")/new\"\n\
     mv \"$(dirname \"$0\")/new\" \"$(dirname \"$0\")/child\"; wait";

impl Kit {
    /// /proc's line about what the plugin [`HANGS`] began; `None` when that has ended.
    fn child(&self) -> Option<String> {
        let child = std::fs::read_to_string(self.folder.path().join("child")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).ok()?;
        Some(stat).filter(|stat| !stat.contains(") Z "))
    }

    async fn until(&self, is_there: impl Fn(Option<String>) -> bool) {
        let what = "what the plugin began comes and goes";
        wait::eventually(what, || is_there(self.child()).then_some(())).await;
    }
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_what_it_began() {
    let kit = kit(HANGS);
    let failed = kit.fails().await;
    assert!(failed.contains("ADD took longer than 1 s and was killed"), "{failed}");
    kit.until(|child| child.is_none()).await;
}

#[tokio::test]
async fn a_call_that_is_given_up_and_the_daemons_end_take_the_plugin_along() {
    let mut kit = kit(HANGS);
    kit.plugins.limit = Duration::from_secs(1000);
    tokio::select! {
        _ = kit.fails() => panic!("it hangs"),
        () = kit.until(|child| child.is_some()) => {}
    }
    kit.until(|child| child.is_none()).await;
    let (failed, ()) = tokio::join!(kit.fails(), async {
        kit.until(|child| child.is_some()).await;
        kit.plugins.end();
    });
    assert!(failed.contains("signal: 9"), "{failed}");
    kit.until(|child| child.is_none()).await;
    let failed = kit.fails().await;
    assert!(failed.contains("the daemon is ending"), "{failed}");
}

#[tokio::test]
async fn versions_are_asked_once() {
    let kit = kit("echo x >> \"$(dirname \"$0\")/calls\"\n\
         echo '{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"0.1.0\", \"0.4.0\", \"1.1.0\"]}'");
    let _ = kit.call("p").await;
    for _ in 0..3 {
        let versions = kit.plugins.versions("n", "p").await.unwrap();
        assert_eq!(versions, [Version::V040, Version::V110]);
    }
    let calls = std::fs::read_to_string(kit.folder.path().join("calls")).unwrap();
    assert_eq!(calls.lines().count(), 2);
}
