//! One sentence for people, which is all that a hook can answer besides its result.

use std::fmt::{self, Debug, Display, Formatter};

/// The result of hooks and of most host functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One sentence, in lower case and without a final full stop: who asked for what failed reads it
/// after the plugin's name.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    pub fn message(&self) -> &str {
        &self.0
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

impl From<&str> for Error {
    fn from(sentence: &str) -> Self {
        Self(sentence.to_owned())
    }
}

/// `?` for what a plugin's code meets most.
macro_rules! from {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

from!(
    fmt::Error,
    serde_json::Error,
    std::io::Error,
    std::num::ParseFloatError,
    std::num::ParseIntError,
    std::num::TryFromIntError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
);

/// Says what was being done when something failed, for errors of any kind.
pub trait Context<T> {
    /// "doing this: what failed".
    fn context(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| Error(format!("{doing}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    /// The sentence itself, where there is nothing.
    fn context(self, sentence: impl Display) -> Result<T> {
        self.ok_or_else(|| Error(sentence.to_string()))
    }
}

/// Returns the error that the text makes, as `format!` has it.
#[macro_export]
macro_rules! bail {
    ($($text:tt)*) => {
        return ::core::result::Result::Err($crate::Error::new(::std::format!($($text)*)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_says_what_was_being_done() {
        let parse = |text: &str| text.parse::<u8>().context(format!("reading \"{text}\""));
        assert_eq!(parse("7"), Ok(7));
        assert_eq!(
            parse("x").unwrap_err().message(),
            "reading \"x\": invalid digit found in string"
        );
        assert_eq!(None::<u8>.context("there is none").unwrap_err().message(), "there is none");
    }

    #[test]
    fn bail_formats() {
        fn refuse(count: u32) -> Result<()> {
            bail!("{count} are too many");
        }
        assert_eq!(refuse(3).unwrap_err().to_string(), "3 are too many");
    }
}
