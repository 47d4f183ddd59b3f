//! ps, top, pgrep, pidof, kill: the pod's processes, as far as the host tells of them.

use std::io::Write;

use super::regex::{Case, Syntax, build, translate};
use super::{Call, Failure, Known, Order, Outcome, base, number};
use crate::programs::{self, Process};
use crate::sys;

fn command(process: &Process) -> String {
    process.command.join(" ")
}

/// As busybox shows it: 12m, 1h02.
fn time(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

pub fn ps(call: &mut Call) -> Outcome {
    let processes = programs::processes()?;
    call.out.line("  PID  PPID   TIME    MEM CONTAINER        COMMAND")?;
    for process in processes {
        let Process { pid, parent, container, .. } = &process;
        let (time, memory) = (time(process.cpu_nanos), super::files::human(process.memory));
        let line = format!(
            "{pid:5} {parent:5} {time:>6} {memory:>6} {container:16} {}",
            command(&process)
        );
        call.out.line(&line)?;
    }
    Ok(0)
}

/// Between two looks, in nanoseconds.
const LOOK: u64 = 5_000_000_000;

pub fn top(call: &mut Call) -> Outcome {
    let given = call.options("bn:d:Hm")?;
    let most: Option<u64> = given.value('n').map(number).transpose()?;
    let pause = given.value('d').map_or(Some(LOOK), super::system::nanoseconds);
    let pause = pause.ok_or_else(|| "invalid delay".to_owned())?;
    let on_terminal = call.out.stream().is_terminal() && !given.has('b');
    let (mut before, mut looked) = (Vec::<Process>::new(), sys::monotonic());
    let mut count = 0;
    loop {
        let processes = programs::processes().unwrap_or_default();
        let now = sys::monotonic();
        let passed = (now - looked).max(1) as f64;
        looked = now;
        if on_terminal {
            call.out.write_all(b"\x1b[H\x1b[J")?;
        }
        call.out.line(&format!(
            "{} processes, {} of memory",
            processes.len(),
            super::files::human(processes.iter().map(|process| process.memory).sum())
        ))?;
        call.out.line("  PID  PPID  %CPU    MEM CONTAINER        COMMAND")?;
        let mut shown: Vec<(f64, &Process)> = processes
            .iter()
            .map(|process| {
                let old = before.iter().find(|old| old.pid == process.pid);
                let old = old.map_or(process.cpu_nanos, |old| old.cpu_nanos);
                (process.cpu_nanos.saturating_sub(old) as f64 / passed * 100.0, process)
            })
            .collect();
        shown.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (share, process) in shown {
            let Process { pid, parent, container, .. } = process;
            let memory = super::files::human(process.memory);
            call.out.line(&format!(
                "{pid:5} {parent:5} {share:5.1} {memory:>6} {container:16} {}",
                command(process)
            ))?;
        }
        call.out.flush()?;
        before = processes;
        count += 1;
        if most.is_some_and(|most| count >= most) {
            return Ok(0);
        }
        sys::sleep(pause);
    }
}

pub fn pgrep(call: &mut Call) -> Outcome {
    let given = call.options_of(&Known { letters: "flxvnoa", long: &[] }, Order::Any)?;
    let pattern =
        given.rest.first().ok_or_else(|| Failure::Says("usage: pgrep PATTERN".to_owned(), 2))?;
    let own = translate(pattern, Syntax::Extended)?;
    let own = if given.has('x') { format!("^(?:{own})$") } else { own };
    let pattern = build(&own, Case::Counts)?;
    let mut found: Vec<Process> = programs::processes()?;
    found.retain(|process| {
        let name = process.command.first().map_or("", |name| base(name));
        let text = if given.has('f') { command(process) } else { name.to_owned() };
        !process.is_own && pattern.is_match(&text) != given.has('v')
    });
    if given.has('n') {
        found.drain(..found.len().saturating_sub(1));
    }
    found.truncate(if given.has('o') { 1 } else { usize::MAX });
    for process in &found {
        let name = match (given.has('a'), given.has('l')) {
            (true, _) => format!(" {}", command(process)),
            (_, true) => format!(" {}", process.command.first().map_or("", |name| base(name))),
            _ => String::new(),
        };
        call.out.line(&format!("{}{name}", process.pid))?;
    }
    Ok(u8::from(found.is_empty()))
}

pub fn pidof(call: &mut Call) -> Outcome {
    let given = call.options("so:")?;
    let processes = programs::processes()?;
    let is_wanted = |process: &&Process| {
        let name = process.command.first().map_or("", |name| base(name));
        let name = name.strip_suffix(".wasm").unwrap_or(name);
        !process.is_own && given.rest.iter().any(|own| base(own) == name)
    };
    let pids: Vec<String> =
        processes.iter().filter(is_wanted).map(|process| process.pid.to_string()).collect();
    if pids.is_empty() {
        return Ok(1);
    }
    call.out.line(&pids.join(" "))?;
    Ok(0)
}

const SIGNALS: [(&str, u32); 8] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("TERM", 15),
    ("CONT", 18),
];

pub fn kill(call: &mut Call) -> Outcome {
    let mut words = call.arguments.iter().peekable();
    let mut signal = 15;
    let named = |text: &str| -> Result<u32, Failure> {
        let name = text.trim_start_matches("SIG");
        let known = SIGNALS.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
        known
            .or_else(|| name.parse().ok())
            .ok_or_else(|| Failure::Says(format!("bad signal {text}"), 1))
    };
    if let Some(word) = words.next_if(|word| word.starts_with('-')) {
        signal = match word.as_str() {
            "-l" => {
                let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
                call.out.line(&names.join(" "))?;
                return Ok(0);
            }
            "-s" => named(words.next().map_or("", String::as_str))?,
            word => named(word.trim_start_matches('-'))?,
        };
    }
    let mut status = 0;
    for word in words {
        if let Err(sentence) = number(word)
            .map_err(|_| "bad pid".to_owned())
            .and_then(|pid| programs::kill(pid, signal))
        {
            call.complain(&format!("{word}: {sentence}"));
            status = 1;
        }
    }
    Ok(status)
}
