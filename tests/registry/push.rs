//! Images to a registry: what arrives there is what other tools read, and can be pulled again.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::fake::{Fake, Seen, reply};
use super::kit::*;
use crate::images::kit::{component, digest, module};

/// Takes what is sent, asking for a token with the right to write where `token` says so.
fn accepting(fake: &Fake, token: Option<&'static str>) -> Arc<Mutex<Vec<Seen>>> {
    let taken: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (url, kept) = (fake.url(), taken.clone());
    fake.rule(move |seen, _| {
        if seen.path.starts_with("/token") {
            let scope = if seen.path.contains("pull%2Cpush") { "write" } else { "read" };
            return Some(reply(200, &[], format!("{{\"token\": \"{scope}\"}}")));
        }
        if let Some(token) = token {
            let wanted = if seen.method == "HEAD" { "pull" } else { "pull,push" };
            let has = seen.header("authorization");
            let fine = has == format!("Bearer {token}") || (wanted == "pull" && !has.is_empty());
            if !fine {
                let challenge = format!(
                    "Bearer realm=\"{url}/token\",service=\"s\",scope=\"repository:o/app:{wanted}\""
                );
                return Some(reply(401, &[("www-authenticate", challenge.as_str())], ""));
            }
        }
        match seen.method.as_str() {
            "POST" => Some(reply(202, &[("location", "/v2/o/app/blobs/uploads/7?state=x")], "")),
            "PUT" => {
                kept.lock().unwrap().push(seen.clone());
                Some(reply(201, &[], ""))
            }
            _ => None,
        }
    });
    taken
}

#[tokio::test]
async fn an_imported_component_arrives_as_an_artifact_and_comes_back_the_same() {
    let fake = Fake::start();
    let taken = accepting(&fake, Some("write"));
    let kit = quick();
    let store = kit.store().await;
    let wasm = component();
    let image = store.import(&kit.file("app.wasm", &wasm), "app:1").await.unwrap();
    let target = format!("{}/o/app:v1", fake.host());
    let pushed = store.push("app:1", &target, None).await.unwrap();
    assert_eq!((pushed.sent, pushed.had, pushed.name.as_str()), (2, 0, target.as_str()));

    let taken = taken.lock().unwrap().clone();
    let (manifest, blobs) = taken.split_last().unwrap();
    for blob in blobs {
        assert_eq!(blob.header("content-length"), blob.body.len().to_string());
        let named = digest(&blob.body).replace(':', "%3A");
        let path = format!("/v2/o/app/blobs/uploads/7?state=x&digest={named}");
        assert_eq!(blob.path, path);
        fake.put(format!("/v2/o/app/blobs/{}", digest(&blob.body)), "x", blob.body.clone());
    }
    assert_eq!(manifest.path, "/v2/o/app/manifests/v1");
    assert_eq!(manifest.header("content-type"), MANIFEST);
    assert_eq!(digest(&manifest.body), pushed.digest);
    let document: Value = serde_json::from_slice(&manifest.body).unwrap();
    assert_eq!(document["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(document["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(document["layers"][0]["digest"], digest(&wasm).as_str());
    let config = document["config"]["digest"].as_str().unwrap();
    let config = blobs.iter().find(|blob| digest(&blob.body) == config).unwrap();
    let config: Value = serde_json::from_slice(&config.body).unwrap();
    assert_eq!((&config["os"], &config["architecture"]), (&"wasip2".into(), &"wasm".into()));
    assert_eq!(config["layerDigests"][0], digest(&wasm).as_str());
    assert!(config["component"]["exports"].is_array() && config["created"].is_string());

    // What is there is not sent again.
    let again = store.push("app:1", &target, None).await.unwrap();
    assert_eq!((again.sent, again.had), (0, 2));
    for reference in ["v1", &pushed.digest] {
        fake.put(format!("/v2/o/app/manifests/{reference}"), MANIFEST, manifest.body.clone());
    }
    let elsewhere = quick();
    let pulled = pull(&elsewhere.store().await, &target).await.unwrap();
    assert_eq!(pulled.id, image.id);
}

#[tokio::test]
async fn what_cannot_be_pushed_is_told_in_a_sentence() {
    let fake = Fake::start();
    let kit = quick();
    let store = kit.store().await;
    store.import(&kit.file("a.wasm", module(1)), "app:1").await.unwrap();
    let target = format!("{}/o/app:v1", fake.host());
    for (image, target, part) in [
        ("none", target.as_str(), "image \"none\" not found"),
        ("app:1", "App", "lower case"),
        ("app:1", target.as_str(), "answers 405"),
    ] {
        fake.rule(|seen, _| (seen.method == "POST").then(|| reply(405, &[], "")));
        let error = store.push(image, target, None).await.unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
    fake.rule(|seen, _| (seen.method == "POST").then(|| reply(404, &[], "")));
    let error = store.push("app:1", &target, None).await.unwrap_err().to_string();
    let place = fake.host();
    assert_eq!(error, format!("registry {place} has no repository o/app that can be pushed to"));
    fake.rule(|seen, _| (seen.method == "POST").then(|| reply(202, &[], "")));
    let error = store.push("app:1", &target, None).await.unwrap_err().to_string();
    assert!(error.contains("does not say where"), "{error}");
    fake.rule(|_, _| Some(reply(403, &[], "")));
    let error = store.push("app:1", &target, None).await.unwrap_err().to_string();
    assert!(error.contains("denies access"), "{error}");
}

#[tokio::test]
async fn an_image_that_the_policy_wants_signed_is_not_pulled_without() {
    let fake = Fake::start();
    artifact(module(1)).put(&fake, "app", "1");
    let mut kit = quick();
    let key = "-----BEGIN PUBLIC KEY-----\n\
               MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
               -----END PUBLIC KEY-----\n";
    kit.file("key.pub", key);
    let text = "[[rule]]\nimages = [\"**\"]\nkeys = [\"key.pub\"]\n";
    let policy = kit.file("policy.toml", text);
    kit.config.signature_policy = Some(policy.clone());
    let store = kit.store().await;
    let name = format!("{}/app:1", fake.host());
    let error = refusal(&kit, &store, &name).await;
    assert!(error.starts_with("SignatureValidationFailed: image "), "{error}");
    assert!(error.contains("is not signed: there is no sha256-"), "{error}");
    // Nothing of the image itself was asked for.
    assert_eq!(fake.count("GET", "/blobs/"), 0);

    // A change of the policy counts at once, for what is here already too.
    std::fs::write(&policy, "default = \"accept\"").unwrap();
    pull(&store, &name).await.unwrap();
    std::fs::write(&policy, "default = \"refuse\"").unwrap();
    assert!(pull(&store, &name).await.unwrap_err().to_string().contains("refuses it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_takes_its_time_is_told_of_and_not_given_up() {
    let fake = Fake::start();
    let _taken = accepting(&fake, None);
    // Three times as long as a registry may be silent.
    fake.reads_for(std::time::Duration::from_secs(3));
    let mut kit = quick();
    (kit.config.registry.stall_seconds, kit.config.registry.retries) = (1, 0);
    let store = kit.store().await;
    let wasm = large(1, 40_000_000);
    store.import(&kit.file("a.wasm", &wasm), "app:1").await.unwrap();
    let (sender, mut told) = tokio::sync::watch::channel(wasmpod::image::Arrival::default());
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while told.changed().await.is_ok() {
            seen.extend(told.borrow_and_update().layers.first().map(|layer| layer.done));
        }
        seen
    });
    let target = format!("{}/o/app:v1", fake.host());
    store.push_with(("app:1", &target), None, sender).await.unwrap();
    let seen = watching.await.unwrap();
    assert!(seen.iter().any(|done| *done > 0 && *done < wasm.len() as u64), "{seen:?}");
    assert_eq!(seen.last(), Some(&(wasm.len() as u64)));

    // One that takes nothing is given up.
    fake.reads_for(std::time::Duration::from_secs(3600));
    store.import(&kit.file("b.wasm", large(2, 40_000_000)), "app:2").await.unwrap();
    let error = store.push("app:2", &target, None).await.unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
}

/// As `cosign sign --key` writes it since version 3, where a registry lists what refers to an image
/// and where it does not.
#[tokio::test]
async fn an_image_that_a_bundle_signs_is_pulled() {
    use base64::Engine;
    use ring::signature::KeyPair;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let random = ring::rand::SystemRandom::new();
    let secret = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = ring::signature::Ed25519KeyPair::from_pkcs8(secret.as_ref()).unwrap();
    let mut der = hex::decode("302a300506032b6570032100").unwrap();
    der.extend(pair.public_key().as_ref());
    let kit_key =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", encode(&der));
    let made = artifact(module(1));
    let hex = made.manifest.digest.trim_start_matches("sha256:").to_owned();
    let statement = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": hex } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
    })
    .to_string();
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let bundle = serde_json::json!({ "dsseEnvelope": {
        "payload": encode(statement.as_bytes()), "payloadType": kind,
        "signatures": [{ "sig": encode(pair.sign(message.as_bytes()).as_ref()) }],
    }});
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let empty = Part::new("application/vnd.oci.empty.v1+json", "{}");
    let mut signature = manifest(empty, vec![Part::new(kind, bundle.to_string())]);
    signature.manifest.descriptor["artifactType"] = kind.into();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [signature.manifest.descriptor],
    });
    for place in [format!("referrers/sha256:{hex}"), format!("manifests/sha256-{hex}")] {
        let fake = Fake::start();
        made.put(&fake, "app", "1");
        let mut kit = quick();
        kit.file("key.pub", &kit_key);
        let policy = kit.file("policy.toml", "[[rule]]\nimages = [\"**\"]\nkeys = [\"key.pub\"]");
        kit.config.signature_policy = Some(policy);
        let store = kit.store().await;
        let name = format!("{}/app:1", fake.host());
        let error = refusal(&kit, &store, &name).await;
        assert!(error.contains("and no bundle refers to it"), "{error}");
        signature.put(&fake, "app", "signature");
        fake.put(format!("/v2/app/{place}"), INDEX, index.to_string());
        pull(&store, &name).await.unwrap();
    }
}
