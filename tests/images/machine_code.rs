//! The cache of machine code: made once, checked, made anew when it is not what it was.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::kit::*;

#[tokio::test]
async fn machine_code_is_made_at_import_and_protected() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = store.import(&kit.file("a.wasm", module(1)), "a").await.unwrap();
    let program = &image.programs[0];
    let code = store.code(&program.digest, &program.file).await.unwrap();
    let bytes = std::fs::read(&code.path).unwrap();
    assert_eq!(digest(&bytes), format!("sha256:{}", code.sha256));
    assert_eq!(code.module, program.digest);
    let mode = std::fs::metadata(&code.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
    assert_eq!(wasmtime::Engine::detect_precompiled(&bytes), Some(wasmtime::Precompiled::Module));
    // No compiler is asked again, by this process or the next.
    drop(store);
    let mut config = kit.config.clone();
    config.compile.program = Some("/nowhere".into());
    let store = wasmpod::image::ImageStore::open(&config).await.unwrap();
    assert_eq!(store.code(&program.digest, &program.file).await.unwrap(), code);
}

#[tokio::test]
async fn damaged_machine_code_is_found_out_and_rebuilt() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = store.import(&kit.file("a.wasm", module(2)), "a").await.unwrap();
    let program = &image.programs[0];
    let code = store.code(&program.digest, &program.file).await.unwrap();
    let whole = std::fs::read(&code.path).unwrap();
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::remove_file(&code.path).unwrap();
        std::fs::write(&code.path, bytes).unwrap();
    };

    // As a shim tells it.
    damage(&|bytes| bytes[100] ^= 1);
    let rebuilt = store.rebuild(&program.digest, &program.file).await.unwrap();
    let bytes = std::fs::read(&rebuilt.path).unwrap();
    assert_eq!(digest(&bytes), format!("sha256:{}", rebuilt.sha256));

    // As the next daemon finds it: one bit, and a part.
    drop(store);
    damage(&|bytes| bytes[200] ^= 1);
    let store = kit.store().await;
    let again = store.code(&program.digest, &program.file).await.unwrap();
    assert_eq!(digest(&std::fs::read(&again.path).unwrap()), format!("sha256:{}", again.sha256));
    drop(store);
    damage(&|bytes| bytes.truncate(50));
    let store = kit.store().await;
    let again = store.code(&program.digest, &program.file).await.unwrap();
    assert!(std::fs::metadata(&again.path).unwrap().len() > 50);

    // Code without a record is not kept; that of another engine for as long as a shim maps it.
    drop(store);
    std::fs::remove_file(code.path.with_extension("json")).unwrap();
    let foreign = kit.config.root.join("code/0123456789abcdef");
    std::fs::create_dir(&foreign).unwrap();
    let store = kit.store().await;
    assert!(!code.path.exists());
    store.retain_engines(["0123456789abcdef".to_owned()].into()).await.unwrap();
    assert!(foreign.exists());
    store.retain_engines([].into()).await.unwrap();
    assert!(!foreign.exists());
    store.code(&program.digest, &program.file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_for_one_module_share_one_child() {
    let mut kit = Kit::new();
    // A compiler that counts how often it is run.
    let count = kit.path("count");
    let script = format!("echo x >> {}\nexec {} \"$@\"", count.display(), Kit::PROGRAM);
    kit.config.compile.program = Some(kit.script("compiler", &script));
    let store = Arc::new(kit.store().await);
    let wasm = module(3);
    let file = kit.file("a.wasm", &wasm);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, file, digest) = (store.clone(), file.clone(), digest(&wasm));
        tasks.spawn(async move { store.code(&digest, &file).await.unwrap() });
    }
    let mut codes = Vec::new();
    while let Some(code) = tasks.join_next().await {
        codes.push(code.unwrap());
    }
    assert!(codes.iter().all(|code| *code == codes[0]));
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_children_as_cpus_work_at_a_time() {
    let mut kit = Kit::new();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let log = kit.file("log", "");
    // Nobody ends before as many have begun as may; a file shorter than a block is one write.
    let script = format!(
        "echo begin >> {log}\n\
         until [ $(grep -c begin {log}) -ge {cpus} ]; do sleep 0.01; done\n\
         {} \"$@\"\nstatus=$?\necho end >> {log}\nexit $status",
        Kit::PROGRAM,
        log = log.display()
    );
    kit.config.compile.program = Some(kit.script("compiler", &script));
    let store = kit.store().await;
    let layout = kit.layout("many");
    let names: Vec<String> = (0..cpus * 3).map(|number| format!("{number}.wasm")).collect();
    let modules: Vec<Vec<u8>> = (0..cpus * 3).map(|number| module(number as u32)).collect();
    let entries: Vec<Entry<'_>> =
        names.iter().zip(&modules).map(|(name, wasm)| Entry::File(name, wasm)).collect();
    let manifest = layout.classic(("wasi", "wasm"), &["/0.wasm"], &[layer(&entries)]);
    store.import(&layout.of(manifest), "many").await.unwrap();
    let (mut now, mut most) = (0, 0);
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        now = if line == "begin" { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    assert_eq!(most, cpus);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_makes_way_for_whatever_else_the_node_does() {
    let kit = Kit::new();
    let store = kit.store().await;
    let body = "(local.set 0 (i32.add (local.get 0) (i32.load (local.get 0))))".repeat(200_000);
    let text = format!("(module (memory 1) (func (param i32) {body}))");
    let wasm = wat::parse_str(text).unwrap();
    let (file, digest) = (kit.file("long.wasm", &wasm), digest(&wasm));
    let work = tokio::spawn({
        let digest = digest.clone();
        async move { store.code(&digest, &file).await }
    });
    crate::support::eventually("a compile child is nice", || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let of_ours = |process: &std::fs::DirEntry| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&digest)
        };
        let stat = processes
            .filter(of_ours)
            .find_map(|process| std::fs::read_to_string(process.path().join("stat")).ok())?;
        // What follows the name in parentheses; nice is field 19 of all.
        let nice = stat.rsplit_once(") ")?.1.split(' ').nth(16)?.to_owned();
        (nice == "10").then_some(())
    })
    .await;
    work.abort();
}

#[tokio::test]
async fn a_child_is_killed_when_nobody_waits_for_it() {
    let mut kit = Kit::new();
    let pid_file = kit.path("pid");
    let script = format!("echo $$ > {}\nexec sleep 1000", pid_file.display());
    kit.config.compile.program = Some(kit.script("compiler", &script));
    let store = kit.store().await;
    let wasm = module(4);
    let file = kit.file("a.wasm", &wasm);
    let digest = digest(&wasm);
    let pid = {
        let work = store.code(&digest, &file);
        tokio::pin!(work);
        let started = async {
            loop {
                let text = tokio::fs::read_to_string(&pid_file).await.unwrap_or_default();
                if let Ok(pid) = text.trim().parse::<i32>() {
                    return pid;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = &mut work => panic!("{result:?}"),
            pid = started => pid,
        }
    };
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the child lives on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn machine_code_of_what_became_no_image_goes_again() {
    let mut kit = Kit::new();
    let bad =
        wat::parse_str("(module (func (export \"_start\") (result i32) i64.const 1))").unwrap();
    let layout = kit.layout("bad");
    let tar = layer(&[Entry::File("a.wasm", &bad), Entry::File("b.wasm", &module(1))]);
    let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[tar]);
    let folder = layout.of(manifest);
    // The bad one is compiled when the good one has been.
    let made = kit.config.root.join("code/*/*.json").display().to_string();
    let script = format!(
        "case \"$*\" in *{}*) until ls {made} >/dev/null 2>&1; do sleep 0.01; done;; esac\n\
         exec {} \"$@\"",
        digest(&bad),
        Kit::PROGRAM
    );
    kit.config.compile.program = Some(kit.script("compiler", &script));
    let store = kit.store().await;
    let error = store.import(&folder, "bad").await.unwrap_err().to_string();
    assert!(error.contains("not valid WebAssembly"), "{error}");
    assert!(files(&kit.config.root.join("code")).is_empty());
}

#[tokio::test]
async fn a_compiler_that_somebody_killed_is_not_the_files_fault() {
    let mut kit = Kit::new();
    kit.config.compile.program = Some(kit.script("compiler", "kill -9 $$"));
    let store = kit.store().await;
    let wasm = module(7);
    let error = store.code(&digest(&wasm), &kit.file("a.wasm", &wasm)).await.unwrap_err();
    assert!(matches!(error, wasmpod::error::Error::Internal(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("was killed, as the kernel does when memory runs out"), "{text}");
}

#[tokio::test]
async fn a_file_that_is_not_what_its_digest_says_is_not_compiled() {
    let kit = Kit::new();
    let store = kit.store().await;
    let file = kit.file("a.wasm", module(5));
    let error = store.code(&digest(&module(6)), &file).await.unwrap_err().to_string();
    assert!(error.contains("a.wasm") && error.contains("its content changed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_collects_code_that_no_shim_of_its_engine_can_map() {
    let mut daemon = crate::support::Daemon::start().await;
    daemon.import("hello").await;
    let codes = daemon.root().join("code");
    let own = files(&codes);
    assert_eq!(own.len(), 2, "code and its record: {own:?}");
    daemon.kill();
    std::fs::create_dir(codes.join("0123456789abcdef")).unwrap();
    std::fs::write(codes.join("0123456789abcdef/x.cwasm"), "x").unwrap();
    daemon.restart().await;
    assert_eq!(files(&codes), own);
}
