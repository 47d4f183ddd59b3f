//! What listings print: columns, ages, JSON.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// Columns as wide as their widest cell, three blanks apart.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = lines().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Writes text to stdout; a closed pipe is an error like any other.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a value to stdout as indented JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(print(&text)?)
}

/// How long ago a time (nanoseconds since the Unix epoch) was, as kubectl shows it: "5s", "3m",
/// "2h", "4d".
pub fn age(time: i64) -> String {
    let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let seconds = now.saturating_sub(time).max(0) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time in nanoseconds since the Unix epoch, for programs.
pub fn rfc3339(nanos: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    format!("{time:.9}")
}

/// The time of day of what is shown as it happens.
#[derive(Debug)]
pub struct Clock(jiff::tz::TimeZone);

impl Clock {
    pub fn local() -> Self {
        Self(jiff::tz::TimeZone::system())
    }

    pub fn time(&self, nanos: i64) -> String {
        let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
        time.to_zoned(self.0.clone()).strftime("%H:%M:%S").to_string()
    }
}

/// Whether text is coloured: on a terminal whose user did not ask for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Coloured,
}

impl Paint {
    pub fn of(stream: &impl IsTerminal) -> Self {
        match stream.is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }

    /// In a colour by the terminal's number for it.
    pub fn text(self, text: &str, color: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{color}m{text}\x1b[0m"),
        }
    }
}

/// The first digits of an id.
pub fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     long\nbcd\n");
    }

    #[test]
    fn ages_are_short() {
        let ago = |seconds: i64| {
            let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
            age(now - seconds * 1_000_000_000)
        };
        assert_eq!(
            (ago(0), ago(150), ago(10_000), ago(400_000)),
            ("0s".into(), "2m".into(), "2h".into(), "4d".into())
        );
    }
}
