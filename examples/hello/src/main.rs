//! Greets whom `GREETING_FOR` names (else the world), tells where it runs, and ends.

use std::env;
use std::fs;

fn main() {
    let whom = env::var("GREETING_FOR").unwrap_or_else(|_| "world".to_owned());
    let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
    println!("hello, {whom}, from {}", host.trim());
    for (place, argument) in env::args().enumerate() {
        println!("argument {place}: {argument}");
    }
}
