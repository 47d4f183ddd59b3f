use super::*;
use tar::{Builder, EntryType, Header};

fn entry(builder: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, to: &str, body: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header.set_size(body.len() as u64);
    if kind == EntryType::Symlink {
        builder.append_link(&mut header, name, to).unwrap();
    } else {
        builder.append_data(&mut header, name, body).unwrap();
    }
}

fn unpack(folder: &Path, limits: Limits, tar: &[u8]) -> Result<()> {
    let mut limits = limits;
    let mut root = Root::new(folder, Below::Nothing)?;
    root.apply(tar, &mut limits)?;
    root.finish()
}

#[test]
fn limits_on_bytes_and_entries_hold() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(Vec::new());
    for number in 0..20 {
        entry(&mut builder, &format!("f{number}"), EntryType::Regular, "", &[0; 1000]);
    }
    let tar = builder.into_inner().unwrap();
    let limited = |bytes, entries| {
        let error = unpack(folder.path(), Limits { bytes, entries }, &tar).unwrap_err();
        error.to_string()
    };
    let error = limited(1 << 20, 10);
    assert!(error.contains("more than 10 entries"), "{error}");
    let error = limited(5000, 100);
    assert!(error.contains("unpacks to more than"), "{error}");
    unpack(folder.path(), Limits::default(), &tar).unwrap();
}

#[test]
fn long_names_and_pax_headers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(150), "n".repeat(200));
    let target = format!("{}/x", "t".repeat(140));
    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, &long, EntryType::Regular, "", b"long");
    entry(&mut builder, "link", EntryType::Symlink, &target, b"");
    let (path, mtime) = (format!("pax/{}", "p".repeat(180)), "1234.5");
    let records = [("path", path.as_bytes()), ("mtime", mtime.as_bytes())];
    builder.append_pax_extensions(records).unwrap();
    entry(&mut builder, "short", EntryType::Regular, "", b"pax");
    let tar = builder.into_inner().unwrap();
    unpack(folder.path(), Limits::default(), &tar).unwrap();
    let read = |path: &str| std::fs::read(folder.path().join(path)).unwrap();
    assert_eq!(read(&long), b"long");
    assert_eq!(read(&path), b"pax");
    assert_eq!(std::fs::read_link(folder.path().join("link")).unwrap(), Path::new(&target));
    let found = std::fs::metadata(folder.path().join(&path)).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&found), 1234);
    assert!(!folder.path().join("short").exists());
}

#[test]
fn an_endless_long_name_is_not_kept_in_memory() {
    let mut builder = Builder::new(Vec::new());
    let name = vec![b'a'; 3 << 20];
    entry(&mut builder, "x", EntryType::GNULongName, "", &name);
    let folder = tempfile::tempdir().unwrap();
    let tar = builder.into_inner().unwrap();
    let error = unpack(folder.path(), Limits::default(), &tar).unwrap_err().to_string();
    assert!(error.contains("longer than 1 MiB"), "{error}");
}

#[test]
fn links_do_not_make_folders_deeper_than_paths_can_name() {
    let mut builder = Builder::new(Vec::new());
    let deep = vec!["d"; 45].join("/");
    let mut link = String::new();
    for number in 0..8 {
        let below = if link.is_empty() { deep.clone() } else { format!("{link}/{deep}") };
        entry(&mut builder, &format!("{below}/f"), EntryType::Regular, "", b"");
        link = format!("l{number}");
        entry(&mut builder, &link, EntryType::Symlink, &below, b"");
    }
    let folder = tempfile::tempdir().unwrap();
    let tar = builder.into_inner().unwrap();
    let error = unpack(folder.path(), Limits::default(), &tar).unwrap_err().to_string();
    assert!(error.contains("lies too deep"), "{error}");
}
