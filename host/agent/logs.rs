//! Reads CRI log files: follows a growing file over its rotation and joins partial lines. Knows
//! the format and nothing of pods.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes taken in one go.
const CHUNK: usize = 64 << 10;
/// A guest's line longer than this is cut, so that a log without newlines costs no memory.
const LONGEST: usize = 1 << 20;
/// What a termination message takes of a log.
const TAIL_LINES: usize = 80;
const TAIL_BYTES: usize = 2048;

/// One line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since the Unix epoch.
    pub time: i64,
    pub stream: Stream,
    /// Without its newline.
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more.
    More,
    /// Everything that is there now was read.
    CaughtUp,
}

/// A log file, wherever it has got to.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    open: Option<(File, u64)>,
    /// Bytes of a record that is not whole yet.
    rest: Vec<u8>,
    /// Beginnings of lines, of stdout and of stderr.
    partial: [Option<Line>; 2],
}

impl LogReader {
    /// The file may not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), open: None, rest: Vec::new(), partial: [None, None] }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads on and adds whole lines to `lines`. A file that was replaced is read to its end,
    /// then its successor.
    pub fn read(&mut self, lines: &mut Vec<Line>) -> io::Result<Progress> {
        if self.open.is_none() && !self.reopen()? {
            return Ok(Progress::CaughtUp);
        }
        let successor = self.has_successor();
        let mut chunk = vec![0; CHUNK];
        let count = match &mut self.open {
            Some((file, _)) => file.read(&mut chunk)?,
            None => 0,
        };
        if count > 0 {
            self.take(chunk.get(..count).unwrap_or_default(), lines);
            return Ok(Progress::More);
        }
        if successor && self.reopen()? {
            return Ok(Progress::More);
        }
        Ok(Progress::CaughtUp)
    }

    /// Hands out what is left when no newline will come any more.
    pub fn finish(&mut self, lines: &mut Vec<Line>) {
        lines.extend(self.partial.iter_mut().filter_map(Option::take));
    }

    fn reopen(&mut self) -> io::Result<bool> {
        match File::open(&self.path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                self.open = Some((file, inode));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether another file stands at the path: looked at before the read that finds the end, so
    /// that everything written before the rotation is read first.
    fn has_successor(&self) -> bool {
        let now = std::fs::metadata(&self.path).map(|metadata| metadata.ino()).ok();
        let own = self.open.as_ref().map(|(_, inode)| *inode);
        now.is_some() && now != own
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut records = rest.split(|byte| *byte == b'\n').peekable();
        while let Some(record) = records.next() {
            if records.peek().is_none() {
                self.rest = record.to_vec();
            } else if let Some((line, is_whole)) = parse(record) {
                self.join(line, is_whole, lines);
            }
        }
    }

    fn join(&mut self, line: Line, is_whole: bool, lines: &mut Vec<Line>) {
        let [out, err] = &mut self.partial;
        let slot = match line.stream {
            Stream::Stdout => out,
            Stream::Stderr => err,
        };
        let joined = match slot.take() {
            Some(mut before) => {
                before.text.extend_from_slice(&line.text);
                before
            }
            None => line,
        };
        if is_whole || joined.text.len() >= LONGEST {
            lines.push(joined);
        } else {
            *slot = Some(joined);
        }
    }
}

/// "time stream tags text": the line, and whether it ends here. `None` for a record that is none.
fn parse(record: &[u8]) -> Option<(Line, bool)> {
    let mut parts = record.splitn(4, |byte| *byte == b' ');
    let mut word = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let time: jiff::Timestamp = word()?.parse().ok()?;
    let stream = match word()? {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let is_whole = word()?.split(':').next() != Some("P");
    let text = parts.next().unwrap_or_default().to_vec();
    let time = i64::try_from(time.as_nanosecond()).ok()?;
    Some((Line { time, stream, text }, is_whole))
}

/// The last lines of a log, as much of it as the kubelet takes for a termination message: at most
/// 80 lines and 2048 bytes.
pub fn tail(path: &str) -> Vec<u8> {
    let mut reader = LogReader::new(path);
    let mut lines = Vec::new();
    while let Ok(Progress::More) = reader.read(&mut lines) {
        lines.drain(..lines.len().saturating_sub(TAIL_LINES));
    }
    reader.finish(&mut lines);
    lines.drain(..lines.len().saturating_sub(TAIL_LINES));
    let mut text = lines.iter().map(|line| line.text.as_slice()).collect::<Vec<_>>().join(&b'\n');
    text.drain(..text.len().saturating_sub(TAIL_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn drain(reader: &mut LogReader) -> Vec<String> {
        let mut lines = Vec::new();
        while reader.read(&mut lines).unwrap() == Progress::More {}
        lines
            .iter()
            .map(|l| format!("{:?} {}", l.stream, String::from_utf8_lossy(&l.text)))
            .collect()
    }

    fn append(path: &Path, text: &str) {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    const T: &str = "2016-10-06T00:17:09.669794202Z";

    #[test]
    fn partial_records_of_both_streams_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut reader = LogReader::new(&path);
        assert_eq!(drain(&mut reader), Vec::<String>::new());
        append(&path, &format!("{T} stdout P ab\n{T} stderr F err or\n{T} stdout P:x c\n{T} std"));
        assert_eq!(drain(&mut reader), ["Stderr err or"]);
        append(&path, &format!("out F \n{T} stdout F \nnonsense\n{T} stderr P tail\n"));
        assert_eq!(drain(&mut reader), ["Stdout abc", "Stdout "]);
        let mut lines = Vec::new();
        reader.finish(&mut lines);
        assert_eq!(lines[0].text, b"tail");
        assert_eq!(lines[0].time, 1_475_713_029_669_794_202);
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_before_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        append(&path, &format!("{T} stdout F one\n"));
        let mut reader = LogReader::new(&path);
        assert_eq!(drain(&mut reader), ["Stdout one"]);
        let old = folder.path().join("0.log.1");
        std::fs::rename(&path, &old).unwrap();
        append(&old, &format!("{T} stdout F two\n"));
        append(&path, &format!("{T} stdout F three\n"));
        assert_eq!(drain(&mut reader), ["Stdout two", "Stdout three"]);
    }
}
