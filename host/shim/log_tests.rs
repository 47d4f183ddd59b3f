//! Tests of `log`.

use super::*;
use proptest::prelude::*;

/// The texts of one stream, parts joined, as a kubelet's reader sees them.
fn read(path: &Path, stream: &str) -> (Vec<u8>, usize) {
    let text = std::fs::read(path).unwrap();
    let mut joined = Vec::new();
    let mut longest = 0;
    for entry in text.split(|&b| b == b'\n').filter(|entry| !entry.is_empty()) {
        let mut fields = entry.splitn(4, |&b| b == b' ');
        let time = String::from_utf8(fields.next().unwrap().to_vec()).unwrap();
        assert_eq!(time.len(), "2016-10-06T00:17:09.669794202Z".len(), "{time}");
        time.parse::<jiff::Timestamp>().unwrap();
        let (name, tag, rest) =
            (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        if name == stream.as_bytes() {
            longest = longest.max(rest.len());
            joined.extend_from_slice(rest);
            if tag == b"F" {
                joined.push(b'\n');
            }
        }
    }
    (joined, longest)
}

#[test]
fn reopening_after_a_rename_loses_and_tears_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let log = LogFile::open(&path).unwrap();
    let writer = {
        let out = log.output(Stream::Stdout);
        std::thread::spawn(move || {
            for number in 0..20_000 {
                out.write(format!("line {number}\n").as_bytes()).unwrap();
            }
        })
    };
    let mut parts = Vec::new();
    while !writer.is_finished() {
        let old = dir.path().join(format!("0.log.{}", parts.len()));
        std::fs::rename(&path, &old).unwrap();
        log.reopen().unwrap();
        parts.push(old);
    }
    writer.join().unwrap();
    log.finish();
    parts.push(path);
    let all: Vec<u8> = parts.iter().flat_map(|part| read(part, "stdout").0).collect();
    let expected: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(all, expected.as_bytes());
}

#[test]
fn a_torn_entry_is_ended_in_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let log = LogFile::open(&path).unwrap();
    let out = log.output(Stream::Stdout);
    lock(&log.sink).torn = true;
    log.reopen().unwrap();
    out.write(b"in the same file\n").unwrap();
    assert_eq!(std::fs::read(&path).unwrap().first(), Some(&b'\n'));

    lock(&log.sink).torn = true;
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    log.reopen().unwrap();
    out.write(b"in a new one\n").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(" stdout F in a new one\n") && !text.starts_with('\n'), "{text:?}");
}

#[test]
fn a_fifo_is_no_log_and_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = LogFile::open(&path).err().unwrap().to_string();
    assert!(error.contains("fifo") && error.ends_with("it is no regular file"), "{error}");
    let _reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .unwrap();
    assert!(LogFile::open(&path).is_err());
}

#[test]
fn reopening_where_it_cannot_be_opened_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("logs");
    std::fs::create_dir(&folder).unwrap();
    let log = LogFile::open(&folder.join("0.log")).unwrap();
    let moved = dir.path().join("moved");
    std::fs::rename(&folder, &moved).unwrap();
    assert!(log.reopen().is_err());
    log.output(Stream::Stderr).write(b"still here\n").unwrap();
    assert_eq!(read(&moved.join("0.log"), "stderr").0, b"still here\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_the_pieces_the_text_is_whole(
        pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(
            prop_oneof![9 => Just(b'x'), 1 => Just(b'\n')], 0..40_000)), 1..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = LogFile::open(&path).unwrap();
        let outputs = [log.output(Stream::Stdout), log.output(Stream::Stderr)];
        let mut expected = [Vec::new(), Vec::new()];
        for (second, bytes) in &pieces {
            outputs[usize::from(*second)].write(bytes).unwrap();
            expected[usize::from(*second)].extend_from_slice(bytes);
        }
        log.finish();
        for (name, expected) in ["stdout", "stderr"].into_iter().zip(expected) {
            let (text, longest) = read(&path, name);
            prop_assert_eq!(text, expected);
            prop_assert!(longest <= MAX_LINE);
        }
    }
}
