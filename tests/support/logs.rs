//! Reads CRI log files: `TIME STREAM TAG TEXT`.

use std::path::{Path, PathBuf};

/// One line of a log file, which is a whole line of the guest's when `full`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// RFC 3339 with nanoseconds, as written.
    pub time: String,
    /// stdout or stderr.
    pub stream: String,
    /// F; P is a part that the next line of the stream goes on from.
    pub full: bool,
    pub text: String,
}

/// A log file, read whole. A file that is not there is an empty log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub lines: Vec<Line>,
}

impl Log {
    /// Reads what is complete so far; a torn line (one in the wrong form) is a failure.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // What follows the last newline is still being written.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        Self { lines: complete.lines().map(Line::parse).collect() }
    }

    /// What a guest wrote to a stream, parts joined, lines ended by newlines.
    pub fn text(&self, stream: &str) -> String {
        let mut text = String::new();
        for line in self.lines.iter().filter(|line| line.stream == stream) {
            text.push_str(&line.text);
            if line.full {
                text.push('\n');
            }
        }
        text
    }

    pub fn contains(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.text.contains(text))
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let (time, stream, tag) = (words.next(), words.next(), words.next());
        let (Some(time), Some(stream @ ("stdout" | "stderr")), Some(tag @ ("F" | "P"))) =
            (time, stream, tag)
        else {
            panic!("torn log line {line:?}");
        };
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "no time in log line {line:?}");
        Self {
            time: time.to_owned(),
            stream: stream.to_owned(),
            full: tag == "F",
            text: words.next().unwrap_or_default().to_owned(),
        }
    }
}

/// The file that a container's log is in.
pub fn path(directory: &str, log_path: &str) -> PathBuf {
    Path::new(directory).join(log_path)
}
