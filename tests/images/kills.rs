//! A process that imports and removes is killed at random moments; what the next opening finds
//! is whole.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasmpod::image::Prune;
use wasmpod::model::finding::Severity;

use super::kit::*;

const ROUNDS: u32 = 60;
const CHILD: &str = "WASMPOD_TEST_KILL_ROOT";

/// Not a test of its own: what the killed process does.
#[tokio::test]
async fn import_and_remove_for_ever_when_told_to() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let mut kit = Kit::new();
    kit.config.root = root.into();
    let store = kit.store().await;
    println!("ready");
    for number in 0u32.. {
        // Every other image begins with a layer that all share, and hides a part of it.
        let base = layer(&[
            Entry::File("base/x", &[1; 20_000]),
            Entry::File("base/y", b"y"),
            Entry::File("a.wasm", &module(1000)),
        ]);
        let tar = layer(&[
            Entry::File("a.wasm", &module(number % 7)),
            Entry::File("b.wasm", &module(100 + number % 5)),
            Entry::File("base/.wh.y", b""),
            Entry::File("data/x", &[number as u8; 30_000]),
        ]);
        let layout = kit.layout(&format!("layout{number}"));
        let tars = if number % 2 == 0 { vec![base, tar] } else { vec![tar] };
        let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &tars);
        store.import(&layout.of(manifest), &format!("app:{}", number % 3)).await.unwrap();
        match number % 6 {
            1 => store.remove(&format!("app:{}", (number + 1) % 3), |_| false).await.unwrap(),
            3 => drop(store.tag(&format!("app:{}", number % 3), "other").await.unwrap()),
            4 => drop(store.prune(Prune::Unpinned, |_| false).await.unwrap()),
            5 => {
                let image = store.get(&format!("app:{}", number % 3)).unwrap();
                let program = &image.programs[0];
                store.rebuild(&program.digest, &program.file).await.unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_only_whole_images() {
    let kit = Kit::new();
    let mut seen = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["images::kills::import_and_remove_for_ever", "--nocapture"])
            .env(CHILD, &kit.config.root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_ready(&mut child);
        // Spread over the first imports, another moment each round.
        let moment = Instant::now() + Duration::from_micros(u64::from(round) * 9_700 % 400_000);
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen += check(&kit).await;
    }
    assert!(seen > 0, "no round ever saw an image");
}

fn wait_for_ready(child: &mut std::process::Child) {
    use std::io::BufRead;
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    assert!(stdout.lines().map_while(Result::ok).any(|line| line.contains("ready")));
}

/// Opens the store and checks every invariant; gives how many images there are.
async fn check(kit: &Kit) -> usize {
    let store = kit.store().await;
    let images = store.list();
    let root = &kit.config.root;
    for image in &images {
        for program in &image.programs {
            let wasm = std::fs::read(&program.file).unwrap();
            assert_eq!(digest(&wasm), program.digest);
            let code = store.code(&program.digest, &program.file).await.unwrap();
            let bytes = std::fs::read(&code.path).unwrap();
            assert_eq!(digest(&bytes), format!("sha256:{}", code.sha256));
        }
        assert_eq!(std::fs::metadata(in_root(image, "data/x")).unwrap().len(), 30_000);
        assert!(!in_root(image, "base/y").exists());
        let based = image.layers.len() == 3;
        assert_eq!(in_root(image, "base/x").exists(), based, "{image:?}");
        for tag in &image.tags {
            assert_eq!(store.get(tag).unwrap().id, image.id);
        }
    }
    // Nothing but what belongs to an image: manifest, configuration and layer of each at most.
    assert!(files(&root.join("images/tmp")).is_empty());
    let blobs = files(&root.join("images/blobs/sha256"));
    // The shared layer counts once.
    assert!(blobs.len() <= images.len() * 3 + 1, "{} blobs, {} images", blobs.len(), images.len());
    for blob in blobs {
        let bytes = std::fs::read(root.join("images/blobs/sha256").join(&blob)).unwrap();
        assert_eq!(digest(&bytes), format!("sha256:{blob}"));
    }
    let layers = std::fs::read_dir(root.join("images/layers")).unwrap().count();
    assert!(layers <= images.len() + 2, "{layers} layers, {} images", images.len());
    let found = store.check().await.unwrap();
    for finding in found.images.iter().chain(&found.code) {
        assert_eq!(finding.severity, Severity::Fine, "{finding:?}");
    }
    images.len()
}
