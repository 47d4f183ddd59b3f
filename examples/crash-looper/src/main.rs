//! Works for a moment, then fails with exit code 3, so that its pod's restartPolicy has
//! something to do. It counts its lives in /data/lives when that folder is there.

use std::fs;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let lives = fs::read_to_string("/data/lives")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(0)
        + 1;
    // Without the folder every life is the first.
    let _ = fs::write("/data/lives", lives.to_string());
    println!("life {lives} begins");
    sleep(Duration::from_millis(200));
    eprintln!("life {lives} ends badly");
    exit(3);
}
