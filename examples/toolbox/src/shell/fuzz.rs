//! The parser against whatever text: it ends, soon, without a panic, and what it reads is the same
//! after it was written out and read again. `WASMPOD_FUZZ_SECONDS` says for how long (5).

use std::time::{Duration, Instant};

use super::parser::{Fault, Parser};
use super::print;
use super::syntax::List;

/// Longest that one text may take: far above what the longest does on a busy machine.
const SOON: Duration = Duration::from_secs(10);

const PIECES: [&str; 74] = [
    "if", "then", "else", "elif", "fi", "for", "in", "do", "done", "while", "until", "case",
    "esac", "{", "}", "(", ")", "!", "|", "||", "&", "&&", ";", ";;", "\n", " ", "\t", "<", ">",
    ">>", "<<", "<<-", "<&", ">&", "<>", ">|", "2", "1", "E", "E\n", "\nE\n", "'", "\"", "\\",
    "\\\n", "`", "$", "$(", "$((", "))", "${", "${#", ":-", ":=", "+", "?", "#", "##", "%", "%%",
    "x", "x=", "y", "f()", "@", "*", "~", "[", "]", "a b", "é", "echo", "-", "=",
];

const SCRIPTS: [&str; 8] = [
    "if a; then b; elif c; then d; else e; fi\n",
    "for x in a 'b c' \"$d\"; do echo ${x:-y} & done | cat\n",
    "case $x in (a|b) c;; *) d; esac >out 2>&1\n",
    "f() { while read a; do echo \"$(( a + 1 ))\"; done; }\n",
    "cat <<E | tr a b && cat <<'F'\n$x `y`\nE\nraw $z\nF\n",
    "cat <<E\n`a`\\\nE\nb\nE\n",
    "x=$(echo \"${y%%.*}\" | sed 's/a/b/') y=2 ! cmd ~/x \\\"\n",
    "{ (a; b); } >/dev/null || until c; do d; done\n",
];

/// Marsaglia's xorshift: enough, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        match self.below(4) {
            // A script with something put in, taken out or doubled.
            0 | 1 => {
                for _ in 0..=self.below(3) {
                    text.push_str(SCRIPTS[self.below(SCRIPTS.len())]);
                }
                let mut letters: Vec<char> = text.chars().collect();
                for _ in 0..self.below(6) {
                    let at = self.below(letters.len());
                    match self.below(3) {
                        0 => drop(letters.remove(at)),
                        1 => {
                            let piece = PIECES[self.below(PIECES.len())];
                            letters.splice(at..at, piece.chars());
                        }
                        _ => letters.truncate(at + 1),
                    }
                    if letters.is_empty() {
                        break;
                    }
                }
                letters.into_iter().collect()
            }
            // Pieces.
            2 => {
                for _ in 0..self.below(60) {
                    text.push_str(PIECES[self.below(PIECES.len())]);
                    text.push_str(if self.below(3) == 0 { " " } else { "" });
                }
                text
            }
            // One piece very often.
            _ => {
                let count = 1 + self.below(20_000);
                let (piece, other) = (self.below(PIECES.len()), self.below(PIECES.len()));
                format!("{}{}", PIECES[piece], PIECES[other]).repeat(count)
            }
        }
    }
}

/// What was read, and how it ended.
fn read(text: &str) -> (List, Option<Fault>) {
    let (mut parser, mut all) = (Parser::new(text), List::default());
    loop {
        match parser.line() {
            Ok(Some(line)) => all.0.extend(line.0),
            Ok(None) => return (all, None),
            Err(fault) => return (all, Some(fault)),
        }
    }
}

fn try_text(text: &str) {
    let begun = Instant::now();
    let (list, _) = read(text);
    let written = print::list(&list);
    let (again, fault) = read(&written);
    let passed = begun.elapsed();
    let cut = |text: &str| text.chars().take(600).collect::<String>();
    let about = || format!("{} bytes: {:?}\nwritten as\n{}", text.len(), cut(text), cut(&written));
    assert!(passed < SOON, "{passed:?}, {}", about());
    assert_eq!(fault, None, "{}", about());
    assert!(again == list, "{}", about());
}

#[test]
fn whatever_is_read_ends_soon_and_is_written_so_that_it_reads_the_same() {
    for text in SCRIPTS {
        let (_, fault) = read(text);
        assert_eq!(fault, None, "{text}");
        try_text(text);
    }
    let seconds = std::env::var("WASMPOD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(5));
    let mut random = Random(std::process::id().into());
    let (mut count, mut whole) = (0u64, 0u64);
    while Instant::now() < end {
        let text = random.text();
        try_text(&text);
        whole += u64::from(read(&text).1.is_none());
        count += 1;
    }
    println!("{count} texts, {whole} of them scripts");
}

#[test]
fn reading_takes_time_by_length() {
    let time = |count: usize| {
        let text = "é\nx=1 cat <<E\nE\n$((1)) `a` && f() { b; }\n".repeat(count);
        let begun = Instant::now();
        let (_, fault) = read(&text);
        assert_eq!(fault, None);
        begun.elapsed()
    };
    time(100);
    let (short, long) = (time(500), time(5000));
    assert!(long < short * 60 + Duration::from_secs(1), "{short:?}, {long:?}");
}
