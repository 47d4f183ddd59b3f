//! Many who want the same, and those who leave early.

use std::sync::Arc;
use std::time::Duration;

use super::fake::{Body, Fake, broken, reply};
use super::kit::*;
use crate::images::kit::{Entry, files, layer, module};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn one_image_wanted_by_many_comes_once() {
    let (kit, fake) = (quick(), Fake::start());
    let store = Arc::new(kit.store().await);
    let made = artifact(large(1, 3_000_000));
    made.put(&fake, "app", "1");
    let name = format!("{}/app:1", fake.host());
    let pulls = (0..20).map(|_| {
        let (store, name) = (store.clone(), name.clone());
        tokio::spawn(async move { pull(&store, &name).await.unwrap().id.clone() })
    });
    let ids: Vec<String> =
        futures::future::join_all(pulls).await.into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(fake.count("GET", &made.layer().digest), 1);
    assert_eq!(fake.count("GET", "manifests/1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_layer_of_two_images_comes_once() {
    let (kit, fake) = (quick(), Fake::start());
    let store = Arc::new(kit.store().await);
    let noise = large(5, 2_000_000);
    let base = layer(&[Entry::File("data", &noise)]);
    let image = |mark: u32| {
        let top = layer(&[Entry::File("a.wasm", &module(mark))]);
        classic(
            ("wasi", "wasm"),
            &["a.wasm"],
            &[("tar", base.clone(), base.clone()), ("tar", top.clone(), top)],
        )
    };
    let (one, two) = (image(1), image(2));
    one.put(&fake, "one", "1");
    two.put(&fake, "two", "1");
    let get = |repository: &str| {
        let (store, name) = (store.clone(), format!("{}/{repository}:1", fake.host()));
        tokio::spawn(async move { pull(&store, &name).await.unwrap() })
    };
    let (one, two) = tokio::join!(get("one"), get("two"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.id, two.id);
    assert_eq!(fake.count("GET", &crate::images::kit::digest(&base)), 1);
    assert!(one.layers.iter().any(|layer| two.layers.contains(layer)), "and is unpacked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_nothing_from_who_stays_and_the_last_ends_the_work() {
    let (kit, fake) = (quick(), Fake::start());
    let store = Arc::new(kit.store().await);
    let made = artifact(large(1, 200_000));
    made.put(&fake, "app", "1");
    let gate = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (open, wasm, id) = (gate.clone(), made.layer().bytes.clone(), made.layer().digest.clone());
    fake.rule(move |seen, _| {
        if !seen.path.contains(&id) || open.load(std::sync::atomic::Ordering::SeqCst) {
            return None;
        }
        Some(broken(Body::Dripping(wasm.clone(), Duration::from_millis(1))))
    });
    let name = format!("{}/app:1", fake.host());
    let begin = || {
        let (store, name) = (store.clone(), name.clone());
        tokio::spawn(async move { pull(&store, &name).await })
    };
    let leaves = begin();
    eventually("the layer is on its way", || {
        (fake.count("GET", &made.layer().digest) == 1).then_some(())
    })
    .await;
    let stays = begin();
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    tokio::task::yield_now().await;
    assert!(!stays.is_finished());
    stays.abort();
    assert!(stays.await.unwrap_err().is_cancelled());
    eventually("nothing is left of a pull that was given up", || {
        let left = |folder: &str| files(&kit.config.root.join("images").join(folder));
        (left("tmp").is_empty() && left("blobs").is_empty()).then_some(())
    })
    .await;
    gate.store(true, std::sync::atomic::Ordering::SeqCst);
    pull(&store, &name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_bad_registrys_download_tries_its_own() {
    let kit = quick();
    let store = Arc::new(kit.store().await);
    let made = artifact(large(1, 500_000));
    let (bad, good) = (Fake::start(), Fake::start());
    made.put(&bad, "app", "1");
    made.put(&good, "app", "1");
    let id = made.layer().digest.clone();
    let other = large(2, 500_000);
    bad.rule(move |seen, _| seen.path.contains(&id).then(|| reply(200, &[], other.clone())));
    let get = |fake: &Fake| {
        let (store, name) = (store.clone(), format!("{}/app:1", fake.host()));
        tokio::spawn(async move { pull(&store, &name).await })
    };
    let (first, second) = tokio::join!(get(&bad), get(&good));
    // The bad one may have found the layer there already.
    drop(first.unwrap());
    second.unwrap().unwrap();
}
