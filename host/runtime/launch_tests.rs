use super::*;
use crate::model::container::Mount;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn image(entrypoint: &str, cmd: &str, programs: &[&str]) -> Image {
    let program = |path: &&str| ImageProgram {
        path: (*path).to_owned(),
        digest: format!("sha256:{path}"),
        form: crate::image::CodeForm::Module,
        file: PathBuf::from("/layers").join(path.trim_start_matches('/')),
    };
    Image {
        id: "sha256:1".to_owned(),
        tags: Vec::new(),
        digests: Vec::new(),
        size: 1,
        pinned: true,
        config: ImageConfig {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..ImageConfig::default()
        },
        layers: Vec::new(),
        programs: programs.iter().map(program).collect(),
    }
}

fn asks(command: &str, args: &str) -> ContainerConfig {
    ContainerConfig { command: words(command), args: words(args), ..ContainerConfig::default() }
}

#[test]
fn command_and_args_replace_entrypoint_and_cmd_as_kubernetes_says() {
    let image = image("/app.wasm", "serve", &[]);
    for (command, args, expected) in [
        ("", "", "/app.wasm serve"),
        ("", "check", "/app.wasm check"),
        ("/other", "", "/other"),
        ("/other x", "check", "/other x check"),
    ] {
        assert_eq!(argv(&asks(command, args), &image.config).unwrap(), words(expected));
    }
}

#[test]
fn nothing_to_run_is_said_in_one_sentence() {
    let mut config = asks("", "");
    config.image.user_specified_image = "app:1".to_owned();
    let error = argv(&config, &image("", "", &[]).config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "image app:1 has no entrypoint and the container names no command"
    );
    config.command = vec![String::new()];
    let error = argv(&config, &image("/app.wasm", "", &[]).config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the command begins with an empty word: name a program there, or nothing at all"
    );
}

#[test]
fn an_unknown_program_is_told_with_what_can_be_run() {
    let image = image("", "", &["/app.wasm", "/bin/tool.wasm"]);
    let error = program("sh", Search::default(), &image).unwrap_err().to_string();
    let expected = "no program \"sh\" in the image; it can run /app.wasm, /bin/tool.wasm";
    assert_eq!(error, expected);
}

#[test]
fn a_bare_name_is_looked_for_in_the_containers_own_path() {
    let image = image("", "", &["/a/app.wasm", "/b/app.wasm"]);
    let mut config = asks("app", "");
    config.env = vec![("PATH".to_owned(), "/b:/a".to_owned())];
    assert_eq!(Launch::plan(&config, &image, "host").unwrap().program.path, "/b/app.wasm");
}

#[test]
fn the_requests_environment_wins_over_the_images() {
    let mut image = image("/a", "", &[]);
    image.config.env = ["A=1", "B=2", "PATH=/x"].map(str::to_owned).to_vec();
    let mut config = asks("", "");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    config.env = vec![pair("B", "3"), pair("C", "x=y"), pair("C", "z")];
    let env = environment(&config, &image.config, "host-1").unwrap();
    assert_eq!(env, ["PATH=/x", "HOSTNAME=host-1", "A=1", "B=3", "C=z"]);
    config.env = vec![pair("A=B", "")];
    assert!(environment(&config, &image.config, "h").is_err());
}

#[test]
fn the_working_directory_is_the_requests_then_the_images_then_the_root() {
    let mut image = image("/a", "", &[]).config;
    let mut config = asks("", "");
    assert_eq!(working_dir(&config, &image).unwrap(), "/");
    image.working_dir = "data".to_owned();
    assert_eq!(working_dir(&config, &image).unwrap(), "/data");
    config.working_dir = "/srv/".to_owned();
    assert_eq!(working_dir(&config, &image).unwrap(), "/srv");
}

#[test]
fn the_stop_signal_is_the_requests_then_the_images_then_term() {
    let mut image = image("/a", "", &[]).config;
    let mut config = asks("", "");
    assert_eq!(stop_signal(&config, &image).unwrap(), 15);
    image.stop_signal = "SIGQUIT".to_owned();
    assert_eq!(stop_signal(&config, &image).unwrap(), 3);
    config.stop_signal = 8;
    assert_eq!(stop_signal(&config, &image).unwrap(), 1);
    config.stop_signal = 99;
    assert!(stop_signal(&config, &image).is_err());
}

#[test]
fn an_image_s_user_has_to_be_one() {
    let mut image = image("/app.wasm", "", &["/app.wasm"]);
    assert_eq!(Launch::plan(&asks("", ""), &image, "h").unwrap().user.name, "root");
    image.config.user = "app:app".to_owned();
    let error = Launch::plan(&asks("", ""), &image, "h").unwrap_err().to_string();
    assert!(error.contains("no user \"app\""), "{error}");
}

fn mount(host: &str, inside: &str) -> Mount {
    Mount { host_path: host.to_owned(), container_path: inside.to_owned(), ..Mount::default() }
}

#[test]
fn mounts_that_cannot_be_are_refused() {
    let with = |mounts: Vec<Mount>| {
        let config = ContainerConfig { mounts, ..ContainerConfig::default() };
        super::mounts(&config)
    };
    let good = with(vec![mount("/h", "/a//b/"), mount("/h", "c")]).unwrap();
    assert_eq!(good[0].container_path, "/a/b");
    assert_eq!(good[1].container_path, "/c");
    for bad in [
        vec![mount("h", "/a")],
        vec![mount("", "/a")],
        vec![mount("/h", "/")],
        vec![mount("/h", "")],
        vec![mount("/h", "/a/../b")],
        vec![mount("/h", "/a"), mount("/i", "/a/")],
    ] {
        assert!(with(bad.clone()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_missing_host_path_becomes_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    let planned = PlannedMount {
        container_path: "/x".to_owned(),
        host_path: path.clone(),
        access: MountAccess::ReadWrite,
    };
    host_paths(std::slice::from_ref(&planned)).unwrap();
    assert!(path.is_dir());

    std::fs::write(folder.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join("dangling")).unwrap();
    for bad in ["file/below", "dangling"] {
        let host_path = folder.path().join(bad);
        let error = host_paths(&[PlannedMount { host_path, ..planned.clone() }]).unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains(bad)), "{error:?}");
    }
}

#[test]
fn a_memory_node_that_the_machine_lacks_is_named() {
    check_memory_nodes("").unwrap();
    check_memory_nodes("0").unwrap();
    let error = check_memory_nodes("0,4097").unwrap_err().to_string();
    assert!(error.contains("memory node 4097"), "{error}");
    assert!(check_memory_nodes("x").unwrap_err().to_string().contains("memory nodes"));
}

#[test]
fn a_log_path_stays_in_the_pods_log_directory() {
    let at = |folder: &str, file: &str| {
        let sandbox =
            SandboxConfig { log_directory: folder.to_owned(), ..SandboxConfig::default() };
        let config = ContainerConfig { log_path: file.to_owned(), ..ContainerConfig::default() };
        log_path(&sandbox, &config)
    };
    assert_eq!(at("/var/log/pods/p", "c/0.log").unwrap(), "/var/log/pods/p/c/0.log");
    assert_eq!(at("", "c/0.log").unwrap(), "");
    assert_eq!(at("/var/log", "").unwrap(), "");
    for (folder, file) in
        [("/var/log", "../x"), ("/var/log", "/etc/x"), ("log", "x"), ("/a/..", "x")]
    {
        assert!(at(folder, file).is_err(), "{folder} {file}");
    }
}

#[test]
fn only_what_is_applied_is_kept_of_resources() {
    let asked = Resources {
        memory_limit: 1 << 20,
        cpu_shares: 100,
        oom_score_adj: 5,
        cpuset_cpus: "0-1".to_owned(),
        ..Resources::default()
    };
    let kept = applied(&asked).unwrap();
    assert_eq!((kept.memory_limit, kept.cpu_shares), (1 << 20, 100));
    assert_eq!(kept.oom_score_adj, 0);
    assert_eq!(kept.cpuset_cpus, "0-1");
    assert!(applied(&Resources { memory_limit: -1, ..asked.clone() }).is_err());
    assert!(applied(&Resources { cpuset_mems: "4097".to_owned(), ..asked.clone() }).is_err());
    assert!(applied(&Resources { cpu_quota: 999, ..asked.clone() }).is_err());
    assert!(applied(&Resources { cpuset_cpus: "x".to_owned(), ..asked }).is_err());
}
