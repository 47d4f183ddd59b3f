//! The table that is printed, and the numbers in it.

use std::fmt;
use std::time::Duration;

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    value: String,
    /// What the project promises, where it promises something, and whether it holds.
    promise: Option<(String, bool)>,
}

impl Table {
    pub fn add(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.push(what.into(), value.into(), None);
    }

    /// A value that should be at most `most`; `unit` goes behind both.
    pub fn at_most(&mut self, what: impl Into<String>, value: f64, most: f64, unit: &str) {
        let promise = (format!("<= {most} {unit}"), value <= most);
        self.push(what.into(), format!("{value:.2} {unit}"), Some(promise));
    }

    pub fn at_least(&mut self, what: impl Into<String>, value: f64, least: f64, unit: &str) {
        let promise = (format!(">= {least} {unit}"), value >= least);
        self.push(what.into(), format!("{value:.1} {unit}"), Some(promise));
    }

    fn push(&mut self, what: String, value: String, promise: Option<(String, bool)>) {
        // Seen at once, too: the whole takes minutes.
        eprintln!("  {what}: {value}");
        self.rows.push(Row { what, value, promise });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |cell: fn(&Row) -> &str| self.rows.iter().map(|row| cell(row).len()).max();
        let what = width(|row| &row.what).unwrap_or(0);
        let value = width(|row| &row.value).unwrap_or(0);
        for row in &self.rows {
            write!(f, "{:what$}  {:>value$}", row.what, row.value)?;
            if let Some((promise, holds)) = &row.promise {
                write!(f, "  {promise:>12}  {}", if *holds { "yes" } else { "NO" })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Durations of one thing done many times.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The time that `percent` of all stay within, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        millis(sorted[place])
    }

    pub fn summary(&self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms", self.percentile(50), self.percentile(99))
    }
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
