//! Why a plugin's call has no answer, in words.

/// Why a call has no answer.
pub enum Miss {
    Late,
    /// One line.
    Trapped(String),
    Gone,
}

impl Miss {
    /// As a clause, of a call that had so many milliseconds.
    pub fn within(self, deadline_ms: u32) -> String {
        match self {
            Self::Late => format!("gave no answer within {deadline_ms} ms"),
            Self::Trapped(why) => format!("broke down: {why}"),
            Self::Gone => "broke down before".to_owned(),
        }
    }
}

/// What came of a call by which a plugin begins.
pub fn said<T>(hook: &str, called: Result<Result<T, String>, Miss>) -> Result<T, String> {
    match called {
        Ok(answer) => answer.map_err(|words| format!("{hook}: {}", cut(&words))),
        Err(Miss::Late) => Err(format!("{hook} gave no answer in time")),
        Err(Miss::Trapped(why)) => Err(format!("{hook} broke down: {why}")),
        Err(Miss::Gone) => Err(format!("{hook} could not be asked")),
    }
}

/// A plugin's words within an error: one line that ends somewhere.
pub fn cut(words: &str) -> String {
    let line = words.lines().next().unwrap_or_default();
    crate::error::cut(line.to_owned(), 1024)
}
