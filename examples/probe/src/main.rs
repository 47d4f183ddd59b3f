//! The guest of the tests: does one small thing after another, as its arguments say, and prints
//! how each went. Things are separated by `--`:
//!
//!     probe mkdir /data/a -- write /data/a/b text -- ls /data/a -- exit 3
//!
//! A file operation prints one line: `read /etc/hostname: ok web-0`, or the name of its errno as
//! wasi has it: `write /etc/hostname: ROFS`. Things go on after an error; `usage` ends the whole
//! with exit code 64. files.rs lists the file operations, net.rs those of sockets, life.rs
//! the others.

mod errno;
mod files;
mod life;
mod net;

use std::env;
use std::process::exit;

/// What one thing printed about itself, or `None` when it printed for itself.
type Outcome = std::io::Result<Option<String>>;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    for thing in arguments.split(|argument| argument == "--") {
        let words: Vec<&str> = thing.iter().map(String::as_str).collect();
        let Some(outcome) =
            files::run(&words).or_else(|| life::run(&words)).or_else(|| net::run(&words))
        else {
            eprintln!("probe: usage: {words:?} is none of its things");
            exit(64);
        };
        let name = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        match outcome {
            Ok(Some(told)) => println!("{name}: {}", ["ok", &told].join(" ").trim_end()),
            Ok(None) => (),
            Err(error) => println!("{name}: {}", errno::name(&error)),
        }
    }
}
