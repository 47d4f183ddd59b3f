//! What a shell script is made of, as POSIX says it. Plain data.

use std::rc::Rc;

/// Commands, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<Item>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub chain: Chain,
    pub place: Place,
}

/// Whether the shell waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Foreground,
    Background,
}

/// Pipelines joined by `&&` and `||`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub first: Pipeline,
    pub rest: Vec<(Join, Pipeline)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    And,
    Or,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// How many `!` stand before it is odd.
    pub negated: bool,
    pub stages: Vec<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Simple(Simple),
    Compound(Compound, Vec<Redirect>),
    Function(String, Rc<Command>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simple {
    pub assignments: Vec<(String, Word)>,
    pub words: Vec<Word>,
    pub redirects: Vec<Redirect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compound {
    Group(List),
    Subshell(List),
    /// Without `in` the positional parameters.
    For(String, Option<Vec<Word>>, List),
    Case(Word, Vec<(Vec<Word>, List)>),
    If(Vec<(List, List)>, Option<List>),
    Loop(While, List, List),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum While {
    Succeeds,
    Fails,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub descriptor: Option<u32>,
    pub way: Way,
    /// A name, a descriptor, or a here-document's text.
    pub target: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Read,
    Write,
    /// `>|`
    Clobber,
    Append,
    /// `<>`
    Update,
    DuplicateIn,
    DuplicateOut,
    Here,
}

/// Parts that make one word together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(pub Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Unquoted; in double quotes and here-documents plain text.
    Literal(String),
    /// Quoted by single quotes or backslashes.
    Quoted(String),
    Double(Vec<Part>),
    Parameter(Parameter),
    Command(Rc<List>),
    Arithmetic(Vec<Part>),
    /// `~` or `~user` at a word's beginning.
    Home(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub change: Change,
}

/// What `${...}` makes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Length,
    /// `-`, `=`, `?`, `+`; with a colon an empty value counts as none.
    Lack(Lack, Empty, Vec<Part>),
    /// `#`, `##`, `%`, `%%`
    Cut(End, Size, Vec<Part>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Use,
    Assign,
    Fail,
    Instead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    Counts,
    IsNone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Prefix,
    Suffix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Shortest,
    Longest,
}

impl Word {
    /// The text of a word that is all unquoted letters.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// Whether a text can name a variable.
pub fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
