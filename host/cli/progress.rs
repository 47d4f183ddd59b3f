//! How far a pull or a push is, on stderr: lines that are drawn over on a terminal, a line for each thing
//! that is done anywhere else.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::images::size;
use crate::proto::pod::pull_progress::Stage;
use crate::proto::pod::{PullLayer, PullProgress};

/// Layers that are drawn; of more, only their number.
const MAX_LAYERS: usize = 10;
/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    /// Lines on the terminal that the next drawing goes over.
    drawn: usize,
    /// What was told of once.
    told: BTreeSet<String>,
    last: Option<Instant>,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Terminal,
    Lines,
    Nothing,
}

impl Style {
    /// What fits stderr.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Terminal } else { Self::Lines }
    }

    /// As [`Style::of_stderr`], where something else tells of pulls in lines.
    pub fn terminal_only() -> Self {
        if std::io::stderr().is_terminal() { Self::Terminal } else { Self::Nothing }
    }
}

impl Progress {
    pub fn new(style: Style) -> Self {
        Self { style, drawn: 0, told: BTreeSet::new(), last: None }
    }

    pub fn show(&mut self, now: &PullProgress) -> std::io::Result<()> {
        match self.style {
            Style::Nothing => Ok(()),
            // What comes too soon after another is seen with the next, or not needed any more.
            Style::Terminal if self.last.is_some_and(|last| last.elapsed() < PAUSE) => Ok(()),
            Style::Terminal => {
                self.last = Some(Instant::now());
                self.draw(&lines(now))
            }
            Style::Lines => {
                let mut err = std::io::stderr().lock();
                for line in news(now) {
                    if self.told.insert(line.clone()) {
                        writeln!(err, "{line}")?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Takes what was drawn off the terminal.
    pub fn clear(&mut self) -> std::io::Result<()> {
        self.draw(&[])
    }

    fn draw(&mut self, lines: &[String]) -> std::io::Result<()> {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        if text.is_empty() {
            return Ok(());
        }
        let mut err = std::io::stderr().lock();
        err.write_all(text.as_bytes())?;
        err.flush()
    }
}

fn short(digest: &str) -> &str {
    let bare = digest.strip_prefix("sha256:").unwrap_or(digest);
    bare.get(..12).unwrap_or(bare)
}

fn layer(layer: &PullLayer) -> String {
    let (name, whole) = (short(&layer.digest), size(layer.size));
    if layer.done >= layer.size {
        return format!("{name}  {whole}");
    }
    let percent = layer.done.saturating_mul(100).checked_div(layer.size).unwrap_or(100);
    format!("{name}  {} of {whole}  {percent}%", size(layer.done))
}

fn stage(now: &PullProgress) -> Option<String> {
    match now.stage() {
        Stage::Resolving | Stage::Downloading | Stage::Uploading => None,
        Stage::Unpacking => Some(format!("unpacking layer {} of {}", now.done, now.of)),
        Stage::Compiling => Some(format!("compiling, {} of {} done", now.done, now.of)),
    }
}

fn lines(now: &PullProgress) -> Vec<String> {
    if now.layers.is_empty() {
        return vec!["resolving".to_owned()];
    }
    let mut lines: Vec<String> = now.layers.iter().take(MAX_LAYERS).map(layer).collect();
    if now.layers.len() > MAX_LAYERS {
        lines.push(format!("and {} more layers", now.layers.len() - MAX_LAYERS));
    }
    lines.extend(stage(now));
    lines
}

/// What is complete, and what has begun.
fn news(now: &PullProgress) -> Vec<String> {
    let whole = now.layers.iter().filter(|layer| layer.done >= layer.size);
    let mut lines: Vec<String> = whole.map(layer).collect();
    lines.extend(match now.stage() {
        Stage::Unpacking => Some("unpacking".to_owned()),
        Stage::Compiling => Some("compiling".to_owned()),
        Stage::Resolving | Stage::Downloading | Stage::Uploading => None,
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stage: Stage, done: [u64; 2]) -> PullProgress {
        let layer = |done| PullLayer {
            digest: format!("sha256:{}", "ab".repeat(32)),
            size: 2_000_000,
            done,
        };
        PullProgress { stage: stage.into(), done: 1, of: 2, layers: done.map(layer).to_vec() }
    }

    #[test]
    fn a_terminal_shows_every_layer_and_what_is_done() {
        assert_eq!(lines(&PullProgress::default()), ["resolving"]);
        let shown = lines(&at(Stage::Downloading, [2_000_000, 500_000]));
        assert_eq!(shown, ["abababababab  2.00MB", "abababababab  500kB of 2.00MB  25%"]);
        let shown = lines(&at(Stage::Compiling, [2_000_000, 2_000_000]));
        assert_eq!(shown.last().unwrap(), "compiling, 1 of 2 done");
    }

    #[test]
    fn lines_tell_of_what_is_complete() {
        assert_eq!(news(&at(Stage::Downloading, [1, 2])), Vec::<String>::new());
        let told = news(&at(Stage::Unpacking, [1, 2_000_000]));
        assert_eq!(told, ["abababababab  2.00MB", "unpacking"]);
    }
}
