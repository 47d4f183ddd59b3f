//! What can be pulled, and what names then mean.

use super::fake::Fake;
use super::kit::*;
use crate::images::kit::{Entry, gzip, in_root, layer, module};

#[tokio::test]
async fn an_artifact_is_pulled_by_tag_and_by_digest() {
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    let made = artifact(module(1));
    made.put(&fake, "app", "1");
    let host = fake.host();

    let by_digest = format!("{host}/app@{}", made.manifest.digest);
    let image = pull(&store, &by_digest).await.unwrap();
    assert_eq!(image.id, made.parts[0].digest);
    assert!(image.tags.is_empty() && !image.pinned);
    assert_eq!(image.digests, [by_digest.as_str()]);
    // A name with both is no tag either, as containerd has it.
    let both = format!("{host}/app:7@{}", made.manifest.digest);
    assert!(pull(&store, &both).await.unwrap().tags.is_empty());

    let image = pull(&store, &format!("{host}/app:1")).await.unwrap();
    assert_eq!(image.tags, [format!("{host}/app:1")]);
    assert_eq!(image.digests, [by_digest.as_str()]);
    assert!(!image.pinned && image.size > 0);
    assert_eq!(fake.count("GET", &made.layer().digest), 1, "the layer came once");
    for reference in [&image.id, &image.tags[0], &by_digest, &made.manifest.digest] {
        assert_eq!(store.get(reference).unwrap().id, image.id, "{reference}");
        pull(&store, reference).await.unwrap_or_else(|error| panic!("{reference}: {error}"));
    }
    let program = &image.programs[0];
    assert!(store.code(&program.digest, &program.file).await.is_ok());
    drop(store);
    assert_eq!(kit.store().await.list().len(), 1, "it is there after a restart");
}

#[tokio::test]
async fn a_tag_that_moves_is_followed_and_one_that_stays_costs_one_question() {
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    artifact(module(1)).put(&fake, "app", "latest");
    let name = format!("{}/app", fake.host());
    let first = pull(&store, &name).await.unwrap();
    let asked = fake.seen().len();
    assert_eq!(pull(&store, &name).await.unwrap().id, first.id);
    let seen = fake.seen();
    assert_eq!(seen.len(), asked + 1);
    assert_eq!(seen[asked].method, "HEAD");

    artifact(module(2)).put(&fake, "app", "latest");
    let second = pull(&store, &name).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(store.get(&name).unwrap().id, second.id);
    assert!(store.get(&first.id).unwrap().tags.is_empty());
}

#[tokio::test]
async fn classic_images_have_layers_of_every_compression_for_any_platform() {
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    let base = layer(&[Entry::File("app.wasm", &module(1)), Entry::File("data", b"old")]);
    let middle = layer(&[Entry::File("data", b"new")]);
    let top = layer(&[Entry::File("more", b"more")]);
    let made = classic(
        ("linux", "amd64"),
        &["/app.wasm"],
        &[
            ("tar", base.clone(), base),
            ("tar+gzip", gzip(&middle), middle),
            ("tar+zstd", zstd::encode_all(top.as_slice(), 3).unwrap(), top),
        ],
    );
    made.put(&fake, "me/app", "v1");
    let image = pull(&store, &format!("{}/me/app:v1", fake.host())).await.unwrap();
    assert_eq!(image.config.entrypoint, ["/app.wasm"]);
    let find = |path: &str| {
        let found = image.layers.iter().map(|layer| layer.join(path)).find(|file| file.exists());
        std::fs::read(found.unwrap()).unwrap()
    };
    assert_eq!((find("data"), find("more")), (b"new".to_vec(), b"more".to_vec()));
    let _ = in_root(&image, "more");
}

#[tokio::test]
async fn an_index_gives_its_wasi_image_then_one_with_a_wasm_entrypoint() {
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    let tar = |mark: u32| layer(&[Entry::File("a.wasm", &module(mark))]);
    let image = |platform: (&str, &str), entry: &str, mark: u32| {
        classic(platform, &[entry], &[("tar", tar(mark), tar(mark))])
    };
    let native = image(("linux", "amd64"), "/bin/sh", 1);
    let linux_wasm = image(("linux", "arm64"), "a.wasm", 2);
    let wasi = image(("wasi", "wasm"), "a.wasm", 3);
    let all = [("linux/amd64", &native), ("linux/arm64", &linux_wasm), ("wasi/wasm", &wasi)];
    let index = put_index(&fake, ("app", "all"), &all);
    put_index(&fake, ("app", "linux"), &all[..2]);
    put_index(&fake, ("app", "native"), &all[..1]);
    let host = fake.host();

    let found = pull(&store, &format!("{host}/app:all")).await.unwrap();
    assert_eq!(found.id, wasi.parts[0].digest);
    assert_eq!(found.digests, [format!("{host}/app@{}", index.digest)]);
    assert_eq!(fake.count("GET", &native.manifest.digest), 0, "others are not looked at");
    let name = format!("{host}/app@{}", index.digest);
    assert_eq!(store.get(&name).unwrap().id, found.id);
    let found = pull(&store, &format!("{host}/app:linux")).await.unwrap();
    assert_eq!(found.id, linux_wasm.parts[0].digest);

    let refused = pull(&store, &format!("{host}/app:native")).await.unwrap_err().to_string();
    let why = "it holds a linux/amd64 image whose entrypoint is /bin/sh: not a wasm program";
    assert_eq!(refused, format!("{host}/app:native: {why}"));
}

#[tokio::test]
async fn an_image_pulled_through_an_index_can_be_made_anew_from_its_blobs() {
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    let tar = layer(&[Entry::File("a.wasm", &module(1))]);
    let made = classic(("wasi", "wasm"), &["a.wasm"], &[("tar", tar.clone(), tar)]);
    put_index(&fake, ("app", "1"), &[("wasi/wasm", &made)]);
    let image = pull(&store, &format!("{}/app:1", fake.host())).await.unwrap();
    // What people are shown is the image's manifest, not the index that its digest names.
    let shown = store.describe(&image.id).await.unwrap();
    assert_eq!(shown["mediaType"], MANIFEST);
    assert_eq!(shown["layers"][0]["digest"], made.parts[1].digest.as_str());
    drop(store);
    std::fs::remove_dir_all(&image.layers[0]).unwrap();
    let store = kit.store().await;
    assert_eq!(store.describe(&image.id).await.unwrap()["mediaType"], MANIFEST);
    assert!(store.get(&image.id).unwrap().layers[0].join("a.wasm").exists());
}

#[tokio::test]
async fn an_imported_name_stays_what_it_is_until_it_is_pulled_on_purpose() {
    use wasmpod::image::{Imported, Pull};
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    let name = format!("{}/app:1", fake.host());
    let file = kit.file("app.wasm", module(9));
    let imported = store.import(&file, &name).await.unwrap();
    artifact(module(1)).put(&fake, "app", "1");
    assert_eq!(pull(&store, &name).await.unwrap().id, imported.id);
    assert!(fake.seen().is_empty(), "no registry is asked for it");
    let wanted = Pull { name: name.clone(), auth: None, imported: Imported::Replace };
    let pulled = store.pull(wanted).unwrap().done().await.unwrap();
    assert_ne!(pulled.id, imported.id);
    assert!(!store.get(&name).unwrap().pinned);
}

#[tokio::test]
async fn names_that_people_give_pin_an_image_and_no_others_do() {
    use wasmpod::image::{Imported, Pull};
    let (kit, fake) = (quick(), Fake::start());
    let store = kit.store().await;
    artifact(module(1)).put(&fake, "app", "1");
    let name = format!("{}/app:1", fake.host());
    pull(&store, &name).await.unwrap();
    assert!(store.tag(&name, "mine:1").await.unwrap().pinned);
    // The registry's name is still the registry's.
    let asked = fake.seen().len();
    assert!(pull(&store, &name).await.unwrap().pinned);
    assert_eq!(fake.seen().len(), asked + 1);
    pull(&store, "mine:1").await.unwrap();
    assert_eq!(fake.seen().len(), asked + 1);
    drop(store);
    let store = kit.store().await;
    assert!(store.get(&name).unwrap().pinned);
    store.release("mine:1", |_| false).await.unwrap();
    assert!(!store.get(&name).unwrap().pinned);

    // What was imported and pushed is the registry's from the next pull on.
    let file = kit.file("other.wasm", module(2));
    let (other, again) = (format!("{}/other:1", fake.host()), Imported::Replace);
    let image = store.import(&file, &other).await.unwrap();
    let digest = image.digests[0].split_once('@').unwrap().1;
    let blobs = kit.config.root.join("images/blobs/sha256");
    let manifest = std::fs::read(blobs.join(&digest[7..])).unwrap();
    for reference in ["1", digest] {
        fake.put(format!("/v2/other/manifests/{reference}"), MANIFEST, manifest.clone());
    }
    assert!(pull(&store, &other).await.unwrap().pinned);
    let wanted = Pull { name: other.clone(), auth: None, imported: again };
    let pulled = store.pull(wanted).unwrap().done().await.unwrap();
    assert_eq!((&pulled.id, pulled.pinned), (&image.id, false));
}
