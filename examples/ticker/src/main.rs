//! Once a second: a line to standard output, the same line to the end of a file. Ends after
//! `TICKS` of them when that is set, else never.
//!
//! `TICK_FILE` names the file (default /data/ticks.log), `TICK_MILLIS` the pause.

use std::env;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::var("TICK_FILE").unwrap_or_else(|_| "/data/ticks.log".to_owned());
    let pause = Duration::from_millis(number("TICK_MILLIS", 1000)?);
    let ticks = number("TICKS", u64::MAX)?;

    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|error| format!("opening {path}: {error}"))?;
    eprintln!("ticking into {path}");
    for tick in 1..=ticks {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let line = format!("tick {tick} at {}.{:03}", now.as_secs(), now.subsec_millis());
        println!("{line}");
        writeln!(file, "{line}")?;
        sleep(pause);
    }
    Ok(())
}

fn number(name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match env::var(name) {
        Ok(text) => Ok(text.parse().map_err(|error| format!("{name}={text}: {error}"))?),
        Err(_) => Ok(default),
    }
}
