//! Registries that lie, stammer, stall and send us away. What comes of each is a sentence, and
//! nothing in the store.

use std::time::Duration;

use serde_json::json;
use wasmpod::image::Stage;

use super::fake::{Body, Fake, Reply, Seen, broken, reply};
use super::kit::*;
use crate::images::kit::{digest, module};

/// A registry that has app:1, and answers as `rule` says where it says something.
pub(super) fn with(
    made: &Made,
    rule: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Fake {
    let fake = Fake::start();
    made.put(&fake, "app", "1");
    fake.rule(rule);
    fake
}

pub(super) fn name(fake: &Fake) -> String {
    format!("{}/app:1", fake.host())
}

/// What `rule` does to a pull of an artifact.
pub(super) async fn said(
    rule: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
) -> String {
    let kit = quick();
    let store = kit.store().await;
    let fake = with(&artifact(large(1, 100_000)), rule);
    refusal(&kit, &store, &name(&fake)).await
}

fn is_blob(seen: &Seen) -> bool {
    seen.path.contains("/blobs/")
}

pub(super) fn is_layer(seen: &Seen) -> bool {
    seen.path.contains(&digest(&large(1, 100_000)))
}

fn is_manifest(seen: &Seen) -> bool {
    seen.path.contains("/manifests/")
}

#[tokio::test]
async fn a_layer_with_other_content_is_refused() {
    let text = said(|seen, _| is_layer(seen).then(|| reply(200, &[], large(2, 100_000)))).await;
    assert!(text.contains("is damaged: its content has the digest sha256:"), "{text}");
    let text = said(|seen, _| is_layer(seen).then(|| reply(200, &[], large(2, 200_000)))).await;
    assert!(text.contains("is longer than the"), "{text}");
    let text = said(|seen, _| is_layer(seen).then(|| reply(200, &[], "short"))).await;
    assert!(text.contains("is truncated: 5 of"), "{text}");
    let text = said(|seen, _| is_layer(seen).then(|| reply(404, &[], ""))).await;
    assert!(text.contains("has its manifest, but not its blob"), "{text}");
}

#[tokio::test]
async fn a_configuration_with_other_content_is_refused() {
    let text =
        said(|seen, _| (is_blob(seen) && !is_layer(seen)).then(|| reply(200, &[], "{}"))).await;
    assert!(text.contains("its configuration") && text.contains("is damaged"), "{text}");
}

#[tokio::test]
async fn endless_bodies_are_cut() {
    let text = said(|seen, _| is_layer(seen).then(|| broken(Body::Endless))).await;
    assert!(text.contains("is longer than the"), "{text}");
    let text =
        said(|seen, _| (is_blob(seen) && !is_layer(seen)).then(|| broken(Body::Endless))).await;
    assert!(text.contains("sends more than 4194304 bytes"), "{text}");
    let text = said(|seen, _| is_manifest(seen).then(|| broken(Body::Endless))).await;
    assert!(text.contains("sends more than 4194304 bytes"), "{text}");
}

#[tokio::test]
async fn a_manifest_of_100_mb_is_not_read() {
    let text = said(|seen, _| {
        is_manifest(seen).then(|| broken(Body::Cut(vec![b' '; 1 << 20], 100 << 20)))
    })
    .await;
    assert!(text.contains("sends more than 4194304 bytes"), "{text}");
}

#[tokio::test]
async fn garbage_for_a_manifest_is_refused_by_what_it_is() {
    for (body, kind, part) in [
        ("<html>login</html>", "text/html", "(content type text/html)"),
        ("{}", "application/json", "missing field"),
        ("[1]", MANIFEST, "is not one"),
        (r#"{"schemaVersion": 1, "fsLayers": []}"#, MANIFEST, "schema 1"),
        (
            r#"{"schemaVersion": 2, "manifests": [], "layers": []}"#,
            INDEX,
            "a manifest and as an index",
        ),
        (r#"{"schemaVersion": 2, "manifests": []}"#, INDEX, "it holds no image"),
        (r#"{"schemaVersion": 2, "mediaType": "text/x"}"#, "text/x", "unknown type text/x"),
        (
            r#"{"schemaVersion": 2, "config": {"mediaType": "x", "digest": "md5:00", "size": 1}, "layers": []}"#,
            MANIFEST,
            "md5",
        ),
        (
            r#"{"schemaVersion": 2, "config": {"mediaType": "x", "digest": "sha256:../../x", "size": 1}, "layers": []}"#,
            MANIFEST,
            "../../x",
        ),
    ] {
        let text = said(move |seen, _| {
            is_manifest(seen).then(|| reply(200, &[("content-type", kind)], body))
        })
        .await;
        assert!(text.contains(part), "{body}: {text}");
    }
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_and_its_header_say() {
    let lie = digest(b"something else");
    let text = said(move |seen, _| {
        let headers = [("content-type", MANIFEST), ("docker-content-digest", lie.as_str())];
        is_manifest(seen).then(|| reply(200, &headers, artifact(module(3)).manifest.bytes))
    })
    .await;
    assert!(text.contains("is not what was asked for"), "{text}");

    let kit = quick();
    let store = kit.store().await;
    let fake = with(&artifact(module(1)), |seen, _| {
        let other = artifact(module(3)).manifest.bytes;
        is_manifest(seen).then(|| reply(200, &[("content-type", MANIFEST)], other))
    });
    let by_digest = format!("{}/app@{}", fake.host(), artifact(module(1)).manifest.digest);
    let text = refusal(&kit, &store, &by_digest).await;
    assert!(text.contains("is not what was asked for"), "{text}");
}

#[tokio::test]
async fn sizes_that_manifests_lie_about_are_found_out() {
    let kit = quick();
    let store = kit.store().await;
    let fake = Fake::start();
    for (repository, size, part) in [
        ("small", json!(10), "is longer than the 10 bytes"),
        ("huge", json!(u64::MAX / 4), "more than"),
        ("negative", json!(-1), "is not valid JSON of its kind"),
    ] {
        let honest = artifact(module(1));
        let mut layer = Part::new("application/wasm", module(1));
        layer.descriptor["size"] = size;
        let config =
            Part::new("application/vnd.wasm.config.v0+json", honest.parts[0].bytes.clone());
        manifest(config, vec![layer]).put(&fake, repository, "1");
        let text = refusal(&kit, &store, &format!("{}/{repository}:1", fake.host())).await;
        assert!(text.contains(part), "{repository}: {text}");
    }
}

#[tokio::test]
async fn an_image_without_wasm_is_refused_with_what_it_is() {
    let kit = quick();
    let store = kit.store().await;
    let fake = Fake::start();
    let made = artifact(b"#!/bin/sh\n".to_vec());
    made.put(&fake, "app", "1");
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("not a WebAssembly file"), "{text}");
    let config = Part::new("application/vnd.unknown+json", "{}");
    manifest(config, vec![Part::new("text/plain", "hello")]).put(&fake, "app", "1");
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("layer type \"text/plain\""), "{text}");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let kit = quick();
    let store = kit.store().await;
    let wasm = large(1, 1_000_000);
    let (whole, id) = (wasm.clone(), digest(&wasm));
    let fake = with(&artifact(wasm), move |seen, before| {
        let cut = |from: usize, to: usize| {
            let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
            let body = Body::Cut(whole[from..to].to_vec(), whole.len() - from);
            let status = if from == 0 { 200 } else { 206 };
            Some(Reply { status, headers: vec![("content-range".to_owned(), range)], body })
        };
        match (seen.path.contains(&id), before) {
            (true, 0) => cut(0, 300_000),
            (true, 1) => cut(300_000, 600_000),
            _ => None,
        }
    });
    pull(&store, &name(&fake)).await.unwrap();
    let layer = fake.seen().into_iter().filter(|s| s.path.contains("/blobs/"));
    let ranges: Vec<String> = layer.map(|seen| seen.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "", "bytes=300000-", "bytes=600000-"]);
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_sends_all_again() {
    let kit = quick();
    let store = kit.store().await;
    let wasm = large(1, 1_000_000);
    let (whole, id) = (wasm.clone(), digest(&wasm));
    let fake = with(&artifact(wasm), move |seen, before| {
        seen.path.contains(&id).then(|| match before {
            0 => broken(Body::Cut(whole[..300_000].to_vec(), whole.len())),
            _ => broken(Body::Whole(whole.clone())),
        })
    });
    pull(&store, &name(&fake)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_range_is_refused() {
    let wasm = large(1, 100_000);
    let text = said(move |seen, before| {
        is_layer(seen).then(|| match before {
            0 => broken(Body::Cut(wasm[..50_000].to_vec(), wasm.len())),
            _ => reply(206, &[("content-range", "bytes 7-9/10")], "abc"),
        })
    })
    .await;
    assert!(text.contains("when asked for what follows byte"), "{text}");
}

#[tokio::test]
async fn a_download_that_always_breaks_is_given_up() {
    let text = said(|seen, _| is_layer(seen).then(|| broken(Body::Cut(vec![0], 100_000)))).await;
    assert!(text.starts_with("RegistryUnavailable: registry 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let kit = quick();
    let store = kit.store().await;
    let fake = with(&artifact(module(1)), |_, before| {
        let again = [("retry-after", "0")];
        match before {
            0 => Some(reply(503, &[], "")),
            1 => Some(reply(429, &again, "")),
            2 => Some(broken(Body::Cut(Vec::new(), 10))),
            _ => None,
        }
    });
    pull(&store, &name(&fake)).await.unwrap();
}

#[tokio::test]
async fn what_does_not_pass_is_the_registrys_fault_by_the_kubelets_word() {
    let kit = quick();
    let store = kit.store().await;
    let fake = with(&artifact(module(1)), |_, _| {
        Some(reply(503, &[], r#"{"errors": [{"message": "upgrading\nnow"}]}"#))
    });
    let text = refusal(&kit, &store, &name(&fake)).await;
    let place = fake.host();
    let head = format!("RegistryUnavailable: registry {place} answers 503 Service Unavailable");
    assert_eq!(text, format!("{head}: upgradingnow"));
    assert_eq!(fake.seen().len(), 6, "five more tries");
    let fake = with(&artifact(module(1)), |_, _| Some(reply(429, &[("retry-after", "9999")], "")));
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("429 Too Many Requests"), "{text}");
    assert_eq!(fake.seen().len(), 1, "nobody waits for hours");
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_named() {
    let mut kit = quick();
    kit.config.registry.retries = 1;
    let store = kit.store().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    drop(listener);
    let text = refusal(&kit, &store, &format!("{place}/app:1")).await;
    let said =
        format!("RegistryUnavailable: registry {place} cannot be reached: Connection refused");
    assert_eq!(text, said);
    let text = refusal(&kit, &store, "registry.invalid/app:1").await;
    assert!(text.starts_with("RegistryUnavailable: registry registry.invalid cannot be"), "{text}");
}

#[tokio::test]
async fn a_silent_or_dripping_registry_is_given_up() {
    let mut kit = quick();
    kit.config.registry.stall_seconds = 1;
    kit.config.registry.retries = 0;
    let store = kit.store().await;
    let made = artifact(large(1, 100_000));
    let fake = with(&made, |seen, _| is_layer(seen).then(|| broken(Body::Silence)));
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("does not answer"), "{text}");
    let fake = with(&made, |seen, _| {
        let drip = Body::Dripping(large(1, 100_000), Duration::from_millis(100));
        is_layer(seen).then(|| broken(drip))
    });
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("sends too slowly"), "{text}");
    // A manifest, a refusal's reason and a token are no different.
    for status in [200, 503] {
        let fake = with(&made, move |seen, _| {
            let body = Body::Dripping(vec![b' '; 100_000], Duration::from_millis(100));
            is_manifest(seen).then(|| Reply { status, ..broken(body) })
        });
        let text = refusal(&kit, &store, &name(&fake)).await;
        assert!(
            text.contains("too slowly") || text.ends_with("answers 503 Service Unavailable"),
            "{text}"
        );
    }
    let fake = with(&made, |seen, _| {
        if seen.path.starts_with("/token") {
            return Some(broken(Body::Dripping(vec![b' '; 100_000], Duration::from_millis(100))));
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", seen.header("host"));
        Some(reply(401, &[("www-authenticate", &challenge)], ""))
    });
    let text = refusal(&kit, &store, &name(&fake)).await;
    assert!(text.contains("too slowly"), "{text}");
}

#[tokio::test]
async fn progress_goes_through_its_stages() {
    let kit = quick();
    let store = kit.store().await;
    let fake = with(&artifact(large(1, 2_000_000)), |_, _| None);
    let wanted = wasmpod::image::Pull {
        name: name(&fake),
        auth: None,
        imported: wasmpod::image::Imported::Keep,
    };
    let pulling = store.pull(wanted).unwrap();
    let mut progress = pulling.progress();
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while progress.changed().await.is_ok() {
            seen.push(progress.borrow_and_update().clone());
        }
        seen
    });
    pulling.done().await.unwrap();
    let seen = watching.await.unwrap();
    let last = seen.last().unwrap();
    assert!(matches!(last.stage, Stage::Compiling { done, of } if done == of && of == 1));
    assert_eq!(last.layers.len(), 1);
    assert_eq!(last.layers[0].done, last.layers[0].size);
}
