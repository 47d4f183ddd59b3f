//! Tests of `mounts`.

use super::*;
use std::fs;

/// Runs `test` on a thread with a mount namespace of its own; needs root.
pub(super) fn in_namespace(test: impl FnOnce(&Path, RootSpec) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let run = move || {
        crate::shim::namespace::enter().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["layer/etc", "upper", "work", "dev", "root", "volume/sub"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("layer/etc/motd"), "image").unwrap();
        fs::write(dir.path().join("dev/null"), "").unwrap();
        let spec = RootSpec {
            layers: vec![dir.path().join("layer")],
            upper: dir.path().join("upper"),
            work: dir.path().join("work"),
            access: RootAccess::ReadWrite,
            dev: dir.path().join("dev"),
            mounts: Vec::new(),
            covers: Covers::default(),
            privilege: Privilege::Root,
        };
        test(dir.path(), spec);
    };
    std::thread::spawn(run).join().unwrap();
}

pub(super) fn mount(host: &Path, container: &str, access: MountAccess) -> MountSpec {
    MountSpec {
        container_path: container.to_owned(),
        host_path: host.to_owned(),
        image: None,
        access,
        propagation: MountPropagation::Private,
    }
}

/// A mount in the host's namespace, which must not stay there when a test fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = in_host(|| {
            rustix::mount::unmount(&self.0, UnmountFlags::DETACH).map_err(Error::sys("unmounting"))
        });
        assert!(unmounted.is_ok() || std::thread::panicking());
    }
}

pub(super) fn is_read_only(result: io::Result<()>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::EROFS))
}

#[test]
fn nested_mounts_lie_over_each_other_whatever_their_order() {
    in_namespace(|dir, mut spec| {
        fs::write(dir.join("hosts"), "kubelet").unwrap();
        spec.mounts = vec![
            mount(&dir.join("hosts"), "/data/sub/hosts", MountAccess::ReadOnly),
            mount(&dir.join("volume"), "/data", MountAccess::ReadWrite),
            mount(&dir.join("hosts"), "/etc/hosts", MountAccess::ReadWrite),
            mount(&dir.join("hosts"), "/dev/termination-log", MountAccess::ReadWrite),
        ];
        let at = dir.join("root");
        let tree = assemble(&at, &spec).unwrap();
        for path in ["data/sub/hosts", "etc/hosts", "dev/termination-log"] {
            assert_eq!(fs::read_to_string(at.join(path)).unwrap(), "kubelet", "{path}");
        }
        assert_eq!(fs::read_to_string(at.join("etc/motd")).unwrap(), "image");
        assert!(is_read_only(fs::write(at.join("data/sub/hosts"), "x")));
        assert!(is_read_only(fs::write(at.join("dev/new"), "x")));
        fs::write(at.join("etc/motd"), "changed").unwrap();
        tree.take_down().unwrap();
        tree.take_down().unwrap();
        assert!(!at.exists());
        assert_eq!(fs::read_to_string(dir.join("layer/etc/motd")).unwrap(), "image");
    });
}

#[test]
fn read_only_reaches_as_far_as_it_says() {
    in_namespace(|dir, mut spec| {
        let sub = dir.join("volume/sub");
        in_host(|| mount_tmpfs(&sub)).unwrap();
        let _mounted = Mounted(sub);
        spec.access = RootAccess::ReadOnly;
        spec.mounts = vec![
            mount(&dir.join("volume"), "/flat", MountAccess::ReadOnly),
            mount(&dir.join("volume"), "/deep", MountAccess::RecursiveReadOnly),
            mount(&dir.join("volume"), "/open", MountAccess::ReadWrite),
        ];
        let at = dir.join("root");
        let tree = assemble(&at, &spec).unwrap();
        assert!(is_read_only(fs::write(at.join("file"), "x")));
        assert!(is_read_only(fs::write(at.join("flat/file"), "x")));
        fs::write(at.join("flat/sub/file"), "x").unwrap();
        assert!(is_read_only(fs::write(at.join("deep/sub/file"), "x")));
        fs::write(at.join("open/file"), "x").unwrap();
        tree.take_down().unwrap();
    });
}

#[test]
fn a_link_in_the_image_does_not_lead_a_mount_out_of_the_root() {
    in_namespace(|dir, mut spec| {
        let outside = dir.join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("layer/link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("layer/inside")).unwrap();
        spec.mounts = vec![mount(&dir.join("volume"), "/inside/volume", MountAccess::ReadWrite)];
        let tree = assemble(&dir.join("root"), &spec).unwrap();
        assert!(dir.join("root/etc/volume/sub").is_dir());
        tree.take_down().unwrap();

        fs::create_dir(dir.join("root")).unwrap();
        spec.mounts = vec![mount(&dir.join("volume"), "/link/volume", MountAccess::ReadWrite)];
        let error = assemble(&dir.join("root"), &spec).unwrap_err();
        assert!(error.to_string().contains("/link/volume"), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    });
}

#[test]
fn what_cannot_be_mounted_is_named_and_nothing_stays() {
    in_namespace(|dir, mut spec| {
        spec.mounts = vec![mount(&dir.join("absent"), "/data", MountAccess::ReadWrite)];
        let error = assemble(&dir.join("root"), &spec).unwrap_err();
        assert!(error.to_string().contains("absent at /data"), "{error}");
        assert!(!dir.join("root").exists());
    });
}
