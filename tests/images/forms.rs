//! Every form an image may have, names, tags that move, and removal.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::json;
use wasmpod::error::Error;
use wasmpod::image::CodeForm;

use super::kit::*;

#[tokio::test]
async fn a_plain_file_becomes_an_artifact_that_can_be_found_by_every_name() {
    let kit = Kit::new();
    let store = kit.store().await;
    let wasm = module(1);
    let file = kit.file("My App.wasm", &wasm);
    let image = store.import(&file, "app:1").await.unwrap();

    assert_eq!(image.tags, ["docker.io/library/app:1"]);
    assert!(image.pinned && image.size > wasm.len() as u64);
    assert_eq!(image.config.entrypoint, ["/My_App.wasm"]);
    assert_eq!(image.programs.len(), 1);
    let program = &image.programs[0];
    assert_eq!((program.path.as_str(), program.form), ("/My_App.wasm", CodeForm::Module));
    assert_eq!(program.digest, digest(&wasm));
    assert_eq!(std::fs::read(&program.file).unwrap(), wasm);
    let skeleton = image.layers.last().unwrap();
    let tmp = std::fs::metadata(skeleton.join("tmp")).unwrap();
    assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
    assert!(skeleton.join("etc").is_dir() && skeleton.join("dev").is_dir());

    let manifest = image.digests[0].clone();
    let bare = image.id.trim_start_matches("sha256:").to_owned();
    let by_digest = manifest.split_once('@').unwrap().1.to_owned();
    let short = format!("app@{by_digest}");
    for name in [
        "app:1",
        "library/app:1",
        "docker.io/library/app:1",
        &image.id,
        &bare,
        &bare[..12],
        &manifest,
        &by_digest,
        &short,
    ] {
        assert_eq!(store.get(name).map(|found| found.id.clone()), Some(image.id.clone()), "{name}");
    }
    for name in ["app", "app:2", "other:1", "", "zz", "sha256:", &"0".repeat(64)] {
        assert!(store.get(name).is_none(), "{name}");
    }

    // Everything is found again, and the same file is the same image elsewhere.
    drop(store);
    let again = kit.store().await;
    assert_eq!(again.get("app:1").unwrap().programs, image.programs);
    assert_eq!(again.list().len(), 1);
    let other = Kit::new();
    let elsewhere = other.file("My App.wasm", &wasm);
    let there = other.store().await.import(&elsewhere, "b").await.unwrap();
    assert_eq!(
        (&there.id, by_digest.as_str()),
        (&image.id, there.digests[0].split_once('@').unwrap().1)
    );
}

#[tokio::test]
async fn a_component_is_told_from_a_module() {
    let kit = Kit::new();
    let file = kit.file("c.wasm", component());
    let store = kit.store().await;
    let image = store.import(&file, "c").await.unwrap();
    assert_eq!(image.programs[0].form, CodeForm::Component);
    let code = store.code(&image.programs[0].digest, &image.programs[0].file).await.unwrap();
    assert_eq!(code.form, CodeForm::Component);
}

#[tokio::test]
async fn an_artifact_in_a_layout_keeps_its_title() {
    let kit = Kit::new();
    let layout = kit.layout("layout");
    let wasm = module(2);
    let mut layer = layout.blob("application/wasm", &wasm);
    layer["annotations"] = json!({ "org.opencontainers.image.title": "tool.wasm" });
    let config = json!({ "architecture": "wasm", "os": "wasip1", "layerDigests": [digest(&wasm)] });
    let config = layout.blob("application/vnd.wasm.config.v0+json", config.to_string().as_bytes());
    let manifest = layout.manifest(config, &[layer]);
    let folder = layout.of(manifest);

    let store = kit.store().await;
    let image = store.import(&folder, "ghcr.io/o/tool:v1").await.unwrap();
    assert_eq!(image.config.entrypoint, ["/tool.wasm"]);
    assert_eq!(image.digests.len(), 1);

    // A tar of it, plain and compressed, is the same image.
    let tar = pack(&folder);
    let compressed = kit.file("layout.tgz", gzip(&tar));
    let tar = kit.file("layout.tar", tar);
    for file in [tar, compressed] {
        assert_eq!(store.import(&file, "ghcr.io/o/tool:v1").await.unwrap().id, image.id);
    }
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn a_classic_images_layers_are_merged_as_oci_says() {
    let kit = Kit::new();
    let layout = kit.layout("layout");
    let app = module(3);
    let lower = layer(&[
        Entry::Folder("app/", 0o750),
        Entry::File("app/app.wasm", &app),
        Entry::HardLink("app/same.wasm", "app/app.wasm"),
        Entry::Symlink("bin", "app"),
        Entry::Symlink("abs.wasm", "/app/app.wasm"),
        Entry::File("etc/gone", b"x"),
        Entry::File("etc/kept", b"x"),
        Entry::File("data/old", b"x"),
        Entry::File("data/deep/old", b"x"),
        Entry::File("was-file", b"x"),
        Entry::Owned("etc/theirs", 4711),
    ]);
    let upper = layer(&[
        Entry::File("etc/.wh.gone", b""),
        Entry::File("data/new", b"y"),
        Entry::File("data/.wh..wh..opq", b""),
        Entry::File("data/deep/new", b"y"),
        Entry::File("bin/through-link", b"y"),
        Entry::Folder("was-file", 0o1777),
    ]);
    let diff_ids = [digest(&lower), digest(&upper)];
    let layers = [
        layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&lower)),
        layout.blob(
            "application/vnd.oci.image.layer.v1.tar+zstd",
            &zstd::encode_all(&upper[..], 3).unwrap(),
        ),
    ];
    let manifest = layout.image(("linux", "arm64"), &["app/app.wasm"], (&layers, &diff_ids));
    let folder = layout.of(manifest);
    let store = kit.store().await;
    let image = store.import(&folder, "classic").await.unwrap();

    for gone in ["etc/gone", "data/old", "data/deep/old", "etc/.wh.gone", "data/.wh..wh..opq"] {
        assert!(!in_root(&image, gone).exists(), "{gone}");
    }
    for there in ["etc/kept", "data/new", "data/deep/new", "app/through-link"] {
        assert!(in_root(&image, there).is_file(), "{there}");
    }
    let metadata = |path| std::fs::symlink_metadata(in_root(&image, path)).unwrap();
    assert_eq!(metadata("app").mode() & 0o7777, 0o750);
    assert_eq!(metadata("was-file").mode() & 0o7777, 0o1777);
    assert_eq!(metadata("app/app.wasm").ino(), metadata("app/same.wasm").ino());
    assert_eq!(metadata("app/app.wasm").mtime(), 1_000_000);
    assert_eq!(image.config.env, ["A=b"]);
    let paths: Vec<&str> = image.programs.iter().map(|program| program.path.as_str()).collect();
    assert_eq!(paths, ["/abs.wasm", "/app/app.wasm", "/app/same.wasm"]);

    // The overlay says so, too, where this user may mount one and give files away.
    if rustix::process::geteuid().is_root() {
        assert_eq!((metadata("etc/theirs").uid(), metadata("etc/theirs").gid()), (4711, 4711));
        let mounted = Overlay::mount(&kit, &image);
        let there = files(&mounted.at);
        let expected = [
            "abs.wasm",
            "app/app.wasm",
            "app/same.wasm",
            "app/through-link",
            "bin",
            "data/deep/new",
            "data/new",
            "etc/kept",
            "etc/theirs",
        ];
        assert_eq!(there, expected);
        assert_eq!(std::fs::read_to_string(mounted.at.join("bin/through-link")).unwrap(), "y");
        assert_eq!(std::fs::metadata(mounted.at.join("app")).unwrap().mode() & 0o7777, 0o750);
    }

    // What starts is found as an exec would find it.
    for (number, (entry, working_dir, path)) in [
        ("./app.wasm", "/app", "/bin"),
        ("app.wasm", "/", "/usr/bin:/bin"),
        ("../abs.wasm", "/app", "/bin"),
        ("bin/app.wasm", "", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = kit.layout(&format!("entry{number}"));
        let layers =
            [&lower, &upper].map(|tar| layout.blob("application/vnd.oci.image.layer.v1.tar", tar));
        let config = json!({
            "os": "wasi", "architecture": "wasm",
            "config": {
                "Entrypoint": [entry], "WorkingDir": working_dir, "Env": [format!("PATH={path}")],
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config =
            layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = layout.manifest(config, &layers);
        let other = store.import(&layout.of(manifest), &format!("entry:{number}")).await.unwrap();
        // However a layer is compressed, it is stored once.
        assert_eq!(other.layers, image.layers, "{entry}");
    }
}

#[tokio::test]
async fn an_index_gives_wasi_first_then_the_wasm_entrypoint() {
    let kit = Kit::new();
    let mut layout = kit.layout("both");
    let (one, two) = (module(4), module(5));
    let linux = layer(&[Entry::File("a.wasm", &one)]);
    let wasi = layer(&[Entry::File("b.wasm", &two)]);
    let shell = layout.classic(("linux", "amd64"), &["/bin/sh"], &[layer(&[])]);
    let linux = layout.classic(("linux", "amd64"), &["/a.wasm"], &[linux]);
    let wasi = layout.classic(("wasi", "wasm"), &["/b.wasm"], &[wasi]);
    layout.manifests = vec![shell.clone(), linux.clone(), wasi];
    layout.write_index();
    let store = kit.store().await;
    let image = store.import(&layout.folder, "x").await.unwrap();
    assert_eq!(image.config.entrypoint, ["/b.wasm"]);

    // One index below another, the wasi image left out.
    let mut outer = kit.layout("nested");
    let inner = json!({ "schemaVersion": 2, "manifests": [shell, linux] }).to_string();
    for name in std::fs::read_dir(layout.folder.join("blobs/sha256")).unwrap().flatten() {
        std::fs::copy(name.path(), outer.folder.join("blobs/sha256").join(name.file_name()))
            .unwrap();
    }
    let inner = outer.blob("application/vnd.oci.image.index.v1+json", inner.as_bytes());
    outer.manifests.push(inner);
    outer.write_index();
    let image = store.import(&outer.folder, "y").await.unwrap();
    assert_eq!(image.config.entrypoint, ["/a.wasm"]);
}

#[tokio::test]
async fn what_docker_saved_before_it_knew_layouts_is_taken() {
    let kit = Kit::new();
    let app = module(6);
    let tar = layer(&[Entry::File("app.wasm", &app)]);
    let config = json!({
        "os": "wasi", "architecture": "wasm", "config": { "Entrypoint": ["/app.wasm"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&tar)] },
    })
    .to_string();
    let manifest =
        json!([{ "Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"] }]).to_string();
    let archive = layer(&[
        Entry::File("c.json", config.as_bytes()),
        Entry::File("l/layer.tar", &tar),
        Entry::File("manifest.json", manifest.as_bytes()),
    ]);
    let file = kit.file("saved.tar", archive);
    let image = kit.store().await.import(&file, "a:1").await.unwrap();
    assert_eq!(image.id, digest(config.as_bytes()));
}

#[tokio::test]
async fn a_tag_moves_and_the_old_image_stays_untagged_until_removed() {
    let kit = Kit::new();
    let store = kit.store().await;
    let old = store.import(&kit.file("a.wasm", module(7)), "app:1").await.unwrap();
    store.import(&kit.file("a.wasm", module(7)), "app:one").await.unwrap();
    let new = store.import(&kit.file("a.wasm", module(8)), "app:1").await.unwrap();
    store.import(&kit.file("a.wasm", module(8)), "app:one").await.unwrap();
    assert_eq!(store.get("app:1").unwrap().id, new.id);
    let old = store.get(&old.id).unwrap();
    assert!(old.tags.is_empty() && !old.pinned, "{old:?}");
    assert_eq!(store.get("app:one").unwrap().tags.len(), 2);

    store.remove(&old.id, |_| false).await.unwrap();
    store.remove(&old.id, |_| false).await.unwrap();
    let used = new.id.clone();
    let busy = store.remove("app:1", move |id| id == used).await.unwrap_err();
    assert!(matches!(busy, Error::Precondition(_)), "{busy}");
    store.remove("app:1", |_| false).await.unwrap();
    assert!(store.list().is_empty() && store.get("app:one").is_none());
    let left = files(&kit.config.root);
    assert_eq!(left, ["images/index.json", "images/lock"]);
}

#[tokio::test]
async fn images_share_what_they_have_in_common_and_removal_keeps_the_others() {
    let kit = Kit::new();
    let store = kit.store().await;
    let wasm = module(9);
    let a = store.import(&kit.file("a.wasm", &wasm), "a").await.unwrap();
    let b = store.import(&kit.file("b.wasm", &wasm), "b").await.unwrap();
    assert_ne!(a.id, b.id, "the entry's name is part of the image");
    assert_eq!(a.programs[0].digest, b.programs[0].digest);
    store.remove("a", |_| false).await.unwrap();
    let code = store.code(&b.programs[0].digest, &b.programs[0].file).await.unwrap();
    assert!(code.path.is_file() && b.programs[0].file.is_file());
}

#[tokio::test]
async fn usage_follows_what_is_there() {
    let kit = Kit::new();
    let store = kit.store().await;
    let empty = store.usage().await.unwrap();
    store.import(&kit.file("a.wasm", module(10)), "a").await.unwrap();
    let full = store.usage().await.unwrap();
    assert!(full.bytes > empty.bytes && full.inodes > empty.inodes);
    assert!(full.mountpoint.is_dir());
    store.remove("a", |_| false).await.unwrap();
    assert_eq!(store.usage().await.unwrap().inodes, empty.inodes);
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_store() {
    let kit = Kit::new();
    let _store = kit.store().await;
    // The lock belongs to an open file, so this process can play both.
    let error = wasmpod::image::ImageStore::open(&kit.config).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
}

#[tokio::test]
async fn imports_at_the_same_time_do_not_disturb_each_other_or_a_removal() {
    let kit = Kit::new();
    let store = std::sync::Arc::new(kit.store().await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8u32 {
        let file = kit.file(&format!("app{}.wasm", number % 4), module(100 + number % 4));
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("app:{number}");
            store.import(&file, &name).await.unwrap();
            if number % 2 == 1 {
                store.remove(&name, |_| false).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for image in store.list() {
        let program = &image.programs[0];
        assert_eq!(digest(&std::fs::read(&program.file).unwrap()), program.digest);
    }
    drop(store);
    let after = kit.store().await.list();
    assert!(after.iter().all(|image| image.programs[0].file.is_file()));
}

#[tokio::test]
async fn an_image_that_names_nothing_to_start_is_data_for_volumes() {
    let kit = Kit::new();
    let mut layout = kit.layout("data");
    let files = layer(&[Entry::File("model.bin", b"weights")]);
    let data = layout.classic(("linux", "amd64"), &[], &[files]);
    let shell = layout.classic(("linux", "arm64"), &["/bin/sh"], &[layer(&[])]);
    layout.manifests = vec![shell, data];
    layout.write_index();
    let store = kit.store().await;
    let image = store.import(&layout.folder, "data").await.unwrap();
    assert!(image.config.entrypoint.is_empty() && image.programs.is_empty());
    let file = image.layers.iter().map(|layer| layer.join("model.bin")).find(|file| file.exists());
    assert_eq!(std::fs::read(file.unwrap()).unwrap(), b"weights");

    // Where something can be run it is that.
    let program = layer(&[Entry::File("a.wasm", &module(6))]);
    let program = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[program]);
    layout.manifests.push(program);
    layout.write_index();
    let image = store.import(&layout.folder, "both").await.unwrap();
    assert_eq!(image.config.entrypoint, ["/a.wasm"]);
}
