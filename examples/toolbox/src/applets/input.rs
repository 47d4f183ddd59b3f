//! What tools read: files named or standard input, lines, numbers.

use std::io::Write;

use super::{Call, Failure, Outcome};
use crate::stream::Stream;

/// Reads lines, with their ends.
pub struct Lines {
    stream: Stream,
    bytes: Vec<u8>,
    at: usize,
}

/// Does something with every file named, or standard input. One that cannot be read is told of,
/// and the status says so.
pub fn each_file(
    call: &mut Call,
    names: &[String],
    mut act: impl FnMut(&mut Call, &str, Stream) -> Result<(), Failure>,
) -> Outcome {
    let mut status = 0;
    let own = ["-".to_owned()];
    let names = if names.is_empty() { own.as_slice() } else { names };
    for name in names {
        match call.open(name) {
            Ok(stream) => act(call, name, stream)?,
            Err(error) => {
                call.out.flush()?;
                call.blame(name, &error);
                status = 1;
            }
        }
    }
    Ok(status)
}

/// Whether a text says a number, else a sentence.
pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::Says(format!("invalid number '{text}'"), 1))
}

/// A number with a unit of dd's, head's and tail's kind: 512, 4k, 20M, 1G.
pub fn size(text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "c" => 1,
        "w" => 2,
        "b" => 512,
        "kB" | "KB" => 1000,
        "k" | "K" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "m" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "g" | "GiB" => 1 << 30,
        _ => return Err(Failure::Says(format!("invalid number '{text}'"), 1)),
    };
    number::<u64>(digits)?
        .checked_mul(unit)
        .ok_or_else(|| Failure::Says(format!("number {text} is too large"), 1))
}

impl Lines {
    pub fn new(stream: Stream) -> Self {
        Self { stream, bytes: Vec::new(), at: 0 }
    }

    /// `None` at the end; the last line may lack its newline.
    pub fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut looked = self.at;
        loop {
            let rest = self.bytes.get(looked..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes.get(self.at..looked + end + 1).unwrap_or_default().to_vec();
                self.at = looked + end + 1;
                return Ok(Some(line));
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            looked = self.bytes.len();
            self.bytes.resize(looked + (1 << 16), 0);
            let count = match self.bytes.get_mut(looked..) {
                Some(room) => self.stream.read(room),
                None => Ok(0),
            };
            self.bytes.truncate(looked + *count.as_ref().unwrap_or(&0));
            if count? == 0 {
                let rest = std::mem::take(&mut self.bytes);
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }
}
