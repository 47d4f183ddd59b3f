//! A disk that is full or read-only is told of in one clear sentence, loses nothing, and images
//! can still be removed from a full one.

use wasmpod::error::Error;
use wasmpod::image::ImageStore;

use super::kit::*;

#[tokio::test]
async fn a_full_disk_refuses_what_comes_keeps_what_is_there_and_lets_it_go() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (kit, disk) = Kit::on_disk(24);
    let store = kit.store().await;
    let kept = store.import(&kit.file("a.wasm", module(1)), "kept").await.unwrap();

    // At every step the room ends somewhere else: in the blob, the layer, the machine code, the
    // index. The reserve may serve an index, so room for little is enough for nothing else.
    let tar = layer(&[
        Entry::File("a.wasm", &module(2)),
        Entry::File(
            "big",
            &(0..1_500_000u32).map(|n| (n.wrapping_mul(7919) >> 5) as u8).collect::<Vec<_>>(),
        ),
    ]);
    let layout = kit.layout("big");
    let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[tar]);
    let folder = layout.of(manifest);
    let mut failures = Vec::new();
    for room in [0, 64, 1400, 1600, 2900, 3000] {
        disk.fill(room);
        match store.import(&folder, "big").await {
            Err(error) => {
                assert!(!error.to_string().contains("tar archive"), "{error}");
                failures.push(error.to_string());
            }
            Ok(_) => store.remove("big", |_| false).await.unwrap(),
        }
        assert_eq!(*store.get("kept").unwrap(), *kept);
        disk.empty();
    }
    println!("{failures:#?}");
    assert!(failures.len() >= 4, "{failures:?}");
    assert!(failures.iter().all(|text| text.contains("No space left on device")), "{failures:?}");

    // What nothing was made of is gone again, so all of it fits now.
    store.import(&folder, "big").await.unwrap();
    disk.fill(0);
    store.remove("big", |_| false).await.unwrap();
    assert_eq!(store.list().len(), 1);
    disk.empty();
    drop(store);
    assert_eq!(*kit.store().await.get("kept").unwrap(), *kept);
}

#[tokio::test]
async fn a_read_only_disk_is_named_and_left_as_it_is() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (kit, disk) = Kit::on_disk(16);
    let store = kit.store().await;
    store.import(&kit.file("a.wasm", module(1)), "a").await.unwrap();
    // An open store keeps its disk writable: the kernel refuses to change it under our lock.
    drop(store);
    disk.remount(rustix::mount::MountFlags::RDONLY);
    let error = ImageStore::open(&kit.config).await.err().unwrap();
    let Error::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    disk.remount(rustix::mount::MountFlags::empty());
    assert_eq!(kit.store().await.list().len(), 1);
}
