//! The exits journal: the file in a shim's folder that tells how its containers ended even when
//! the shim itself is gone. The shim appends, the daemon reads. Pure text, no file is opened here.

use serde::{Deserialize, Serialize};

use super::container::Exit;

/// The journal's name in a shim's folder.
pub const JOURNAL: &str = "exits";

/// One container's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub container: String,
    pub sandbox: String,
    /// Nanoseconds since the Unix epoch, 0 when it never ran.
    pub started_at: i64,
    pub exit: Exit,
}

impl ExitRecord {
    /// The record as one line, newline included: to be appended by a single write.
    pub fn to_line(&self) -> String {
        // Serializing strings and numbers to memory does not fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Reads a journal, oldest exit first. A line that was torn by the shim's death is left out.
pub fn parse(journal: &[u8]) -> Vec<ExitRecord> {
    journal
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Reason;
    use proptest::prelude::*;

    fn record(container: String, message: String, code: i32) -> ExitRecord {
        let exit = Exit { code, reason: Reason::Error, message, finished_at: 2 };
        ExitRecord { container, sandbox: "s".to_owned(), started_at: 1, exit }
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        let whole = record("a".to_owned(), "trap\nbacktrace".to_owned(), 134);
        let torn = record("b".to_owned(), String::new(), 0).to_line();
        let journal = format!("{}{}", whole.to_line(), &torn[..torn.len() / 2]);
        assert_eq!(parse(journal.as_bytes()), vec![whole]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in proptest::collection::vec(".*", 0..5)) {
            let records: Vec<_> = messages
                .into_iter()
                .enumerate()
                .map(|(at, message)| record(at.to_string(), message, at as i32))
                .collect();
            let journal: String = records.iter().map(ExitRecord::to_line).collect();
            prop_assert_eq!(parse(journal.as_bytes()), records);
        }
    }
}
