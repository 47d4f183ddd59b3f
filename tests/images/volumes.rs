//! Images as volumes of containers.

use tonic::Code;
use wasmpod::proto::cri;

use super::super::support::{Daemon, container, sandbox};
use super::kit::*;

fn volume(image: &str, path: &str, sub_path: &str) -> cri::Mount {
    cri::Mount {
        container_path: path.to_owned(),
        image: Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() }),
        image_sub_path: sub_path.to_owned(),
        readonly: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn an_image_is_mounted_read_only_whole_or_in_part_and_stays_while_it_is() {
    let daemon = Daemon::start().await;
    let kit = Kit::new();
    let layout = kit.layout("data");
    let lower = layer(&[Entry::File("model.bin", b"old"), Entry::File("sub/deep", b"deep")]);
    let upper = layer(&[Entry::File("model.bin", b"weights")]);
    let manifest = layout.classic(("linux", "amd64"), &[], &[lower, upper]);
    let data = daemon.import_file(&layout.of(manifest), "data").await;
    let probe = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("volumes")).await;
    let mut config = container("main", &probe);
    config.mounts = vec![volume(&data, "/all", ""), volume(&data, "/part", "sub")];
    let things = "read /all/model.bin -- read /all/sub/deep -- read /part/deep -- \
                  write /all/model.bin x -- write /part/new x -- ls /all -- say settled -- idle";
    config.args = things.split(' ').map(str::to_owned).collect();
    let main = pod.run(config.clone()).await;
    let printed = main.says("settled").await.text("stdout");
    for line in [
        "read /all/model.bin: ok weights",
        "read /all/sub/deep: ok deep",
        "read /part/deep: ok deep",
        "write /all/model.bin: ROFS",
        "write /part/new: ROFS",
        "ls /all: ok model.bin sub",
    ] {
        assert!(printed.contains(line), "{line:?} is missing:\n{printed}");
    }
    let status = main.status().await.unwrap();
    let mounted = status.mounts.iter().find(|mount| mount.container_path == "/part").unwrap();
    let image = mounted.image.as_ref().unwrap();
    assert_eq!((image.image.as_str(), mounted.image_sub_path.as_str()), (data.as_str(), "sub"));
    assert!(image.image_ref.starts_with("sha256:"), "{image:?}");
    let remove = || cri::RemoveImageRequest {
        image: Some(cri::ImageSpec { image: data.clone(), ..Default::default() }),
    };
    let used = daemon.images().remove_image(remove()).await.unwrap_err();
    assert!(used.message().contains("is used by container"), "{used:?}");
    main.stop(0).await;
    daemon.images().remove_image(remove()).await.unwrap();

    for (mount, code, says) in [
        (volume(&data, "/all", ""), Code::NotFound, data.as_str()),
        (volume(&probe, "/all", "none"), Code::InvalidArgument, "the image has no \"none\""),
        (
            cri::Mount { readonly: false, ..volume(&probe, "/all", "") },
            Code::InvalidArgument,
            "an image is mounted with readonly alone",
        ),
        (
            cri::Mount { host_path: "/tmp".to_owned(), ..volume(&probe, "/all", "") },
            Code::InvalidArgument,
            "both image and host_path",
        ),
    ] {
        config.mounts = vec![mount];
        config.metadata = Some(cri::ContainerMetadata { name: "other".to_owned(), attempt: 0 });
        let refused = pod.try_create(config.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
}
