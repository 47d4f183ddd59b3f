//! date, env, printenv, hostname, id, whoami, uname, sleep, which.

use std::io::Write;

use super::{Call, Failure, Known, Order, Outcome};
use crate::programs;
use crate::stream::Stream;
use crate::sys::{self, File, Mode, Time};

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Year, month and day of the days since 1970 (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let own = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, own)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A time in UTC, by strftime's letters.
pub fn shown_time((seconds, nanos): Time, format: &str) -> String {
    let day = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let weekday = (day + 4).rem_euclid(7);
    let name = |names: &[&'static str], at: i64| {
        usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or_default()
    };
    let short = |name: &'static str| name.get(..3).unwrap_or(name);
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut own = letters.next();
        // `%-d`: without what fills up.
        let bare = own == Some('-');
        if bare {
            own = letters.next();
        }
        let two = |value: i64| if bare { value.to_string() } else { format!("{value:02}") };
        out.push_str(&match own {
            Some('Y') => year.to_string(),
            Some('C') => two(year / 100),
            Some('y') => two(year.rem_euclid(100)),
            Some('m') => two(month),
            Some('d') => two(date),
            Some('e') => {
                if bare {
                    date.to_string()
                } else {
                    format!("{date:2}")
                }
            }
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('N') => format!("{nanos:09}"),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('s') => seconds.to_string(),
            Some('j') => format!("{:03}", day - days(year, 1, 1) + 1),
            Some('u') => if weekday == 0 { 7 } else { weekday }.to_string(),
            Some('w') => weekday.to_string(),
            Some('a') => short(name(&DAYS, weekday)).to_owned(),
            Some('A') => name(&DAYS, weekday).to_owned(),
            Some('b' | 'h') => short(name(&MONTHS, month - 1)).to_owned(),
            Some('B') => name(&MONTHS, month - 1).to_owned(),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('F') => format!("{year}-{month:02}-{date:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('D') => format!("{month:02}/{date:02}/{:02}", year.rem_euclid(100)),
            Some('c') => shown_time((seconds, nanos), "%a %b %e %T %Y"),
            Some('n') => "\n".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    out
}

/// `@SECONDS`, `YYYY-MM-DD`, `YYYY-MM-DD hh:mm[:ss]`, also with a T and a Z.
pub fn parse_time(text: &str) -> Option<Time> {
    if let Some(seconds) = text.strip_prefix('@') {
        return Some((seconds.split('.').next()?.parse().ok()?, 0));
    }
    let text = text.trim().trim_end_matches('Z').trim_end_matches(" UTC");
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "0:0"));
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.trim().split(':').map(|part| part.parse::<f64>().ok());
    let (hour, minute) = (time.next()??, time.next()??);
    let second = time.next().unwrap_or(Some(0.0))?;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && (0..=9999).contains(&year);
    fits.then(|| {
        let of_day = hour * 3600.0 + minute * 60.0 + second;
        (days(year, month, day) * 86_400 + of_day as i64, 0)
    })
}

pub fn date(call: &mut Call) -> Outcome {
    let known = Known { letters: "ud:s:r:I:R", long: &[("utc", 'u'), ("date", 'd')] };
    let own: Vec<String> = call
        .arguments
        .iter()
        .map(|w| if w == "-I" { "-Idate".to_owned() } else { w.clone() })
        .collect();
    call.arguments = own;
    let given = call.options_of(&known, Order::Any)?;
    if given.has('s') {
        return Err(Failure::Says("can't set date: Operation not permitted".to_owned(), 1));
    }
    let time = match (given.value('d'), given.value('r')) {
        (Some("now"), _) | (None, None) => sys::now(),
        (Some(text), _) => parse_time(text).ok_or_else(|| format!("invalid date '{text}'"))?,
        (_, Some(name)) => {
            let found = sys::stat(&call.path(name), sys::Follow::Yes);
            found.map_err(|error| format!("{name}: {}", sys::text(&error)))?.modified
        }
    };
    let format = match given.value('I') {
        Some("seconds" | "s") => "%Y-%m-%dT%H:%M:%S+00:00",
        Some(_) => "%F",
        None if given.has('R') => "%a, %d %b %Y %T +0000",
        None => "%a %b %e %H:%M:%S UTC %Y",
    };
    let own = given.rest.iter().find_map(|word| word.strip_prefix('+'));
    let line = shown_time(time, own.unwrap_or(format));
    call.out.line(&line)?;
    Ok(0)
}

pub fn env(call: &mut Call) -> Outcome {
    let known = Known { letters: "iu:0", long: &[("ignore-environment", 'i'), ("unset", 'u')] };
    let given = call.options_of(&known, Order::First)?;
    let mut with = call.surroundings();
    if given.has('i') {
        with.environment.clear();
    }
    for name in given.values('u') {
        with.environment.retain(|(own, _)| own != name);
    }
    let mut rest = given.rest.as_slice();
    while let [first, after @ ..] = rest
        && let Some((name, value)) = first.split_once('=')
    {
        with.environment.retain(|(own, _)| own != name);
        with.environment.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        return Ok(programs::run(rest, &with, "env"));
    }
    let end = if given.has('0') { '\0' } else { '\n' };
    for (name, value) in &with.environment {
        write!(call.out, "{name}={value}{end}")?;
    }
    Ok(0)
}

pub fn printenv(call: &mut Call) -> Outcome {
    if call.arguments.is_empty() {
        return env(call);
    }
    let mut status = 0;
    for name in call.arguments.clone() {
        match call.variable(&name).map(str::to_owned) {
            Some(value) => call.out.line(&value)?,
            None => status = 1,
        }
    }
    Ok(status)
}

fn host_name(call: &Call) -> String {
    let file =
        File::open("/etc/hostname", Mode::Read).and_then(|file| Stream::file(file).read_all());
    let file = file.ok().map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let named = file.filter(|name| !name.is_empty());
    named.or_else(|| call.variable("HOSTNAME").map(str::to_owned)).unwrap_or("localhost".to_owned())
}

pub fn hostname(call: &mut Call) -> Outcome {
    let given = call.options("sfdi")?;
    if !given.rest.is_empty() {
        return Err(Failure::Says("sethostname: Operation not permitted".to_owned(), 1));
    }
    let name = host_name(call);
    let name = if given.has('s') { name.split('.').next().unwrap_or_default() } else { &name };
    call.out.line(name)?;
    Ok(0)
}

/// Whom the container runs as.
pub struct Identity {
    pub user: u32,
    pub group: u32,
    pub groups: Vec<u32>,
    pub name: String,
}

fn identity() -> Result<Identity, Failure> {
    sys::identity().ok_or_else(|| {
        Failure::Says("the host does not tell whom this program runs as".to_owned(), 1)
    })
}

/// A name in /etc/passwd or /etc/group, by its number.
fn name_of(file: &str, number: u32) -> Option<String> {
    let bytes = File::open(file, Mode::Read).and_then(|file| Stream::file(file).read_all()).ok()?;
    String::from_utf8_lossy(&bytes).lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, own) = (fields.next()?, fields.next()?, fields.next()?);
        (own.parse() == Ok(number)).then(|| name.to_owned())
    })
}

pub fn id(call: &mut Call) -> Outcome {
    let given = call.options("ugGnr")?;
    let own = identity()?;
    let user = |number: u32| match (number == own.user, own.name.as_str()) {
        (true, name) if !name.is_empty() => Some(name.to_owned()),
        _ => name_of("/etc/passwd", number),
    };
    let group = |number: u32| name_of("/etc/group", number);
    let shown = |number: u32, name: Option<String>| match name.filter(|_| given.has('n')) {
        Some(name) => name,
        None => number.to_string(),
    };
    let mut all = vec![own.group];
    all.extend(own.groups.iter().filter(|number| **number != own.group));
    let full = |number: u32, name: Option<String>| match name {
        Some(name) => format!("{number}({name})"),
        None => number.to_string(),
    };
    let line = match () {
        () if given.has('u') => shown(own.user, user(own.user)),
        () if given.has('g') => shown(own.group, group(own.group)),
        () if given.has('G') => {
            let groups: Vec<String> =
                all.iter().map(|number| shown(*number, group(*number))).collect();
            groups.join(" ")
        }
        () => {
            let groups: Vec<String> =
                all.iter().map(|number| full(*number, group(*number))).collect();
            format!(
                "uid={} gid={} groups={}",
                full(own.user, user(own.user)),
                full(own.group, group(own.group)),
                groups.join(",")
            )
        }
    };
    call.out.line(&line)?;
    Ok(0)
}

pub fn whoami(call: &mut Call) -> Outcome {
    let own = identity()?;
    let name = if own.name.is_empty() { name_of("/etc/passwd", own.user) } else { Some(own.name) };
    let name = name.ok_or_else(|| format!("unknown uid {}", own.user))?;
    call.out.line(&name)?;
    Ok(0)
}

pub fn uname(call: &mut Call) -> Outcome {
    let given = call.options("asnrvmpio")?;
    let parts = [
        ('s', "WASI".to_owned()),
        ('n', host_name(call)),
        ('r', "0.2".to_owned()),
        ('v', concat!("toolbox-", env!("CARGO_PKG_VERSION")).to_owned()),
        ('m', "wasm32".to_owned()),
    ];
    let own = |letter: char| given.has(letter) || given.has('a');
    let none = !parts.iter().any(|(letter, _)| own(*letter));
    let shown = parts.iter().filter(|(letter, _)| own(*letter) || (none && *letter == 's'));
    let line: Vec<&str> = shown.map(|(_, text)| text.as_str()).collect();
    call.out.line(&line.join(" "))?;
    Ok(0)
}

/// Seconds with a unit, in nanoseconds; `None` is no number.
pub fn nanoseconds(text: &str) -> Option<u64> {
    if matches!(text, "infinity" | "inf") {
        return Some(u64::MAX);
    }
    let (digits, unit) = match text.char_indices().last()? {
        (at, 's') => (text.get(..at)?, 1.0),
        (at, 'm') => (text.get(..at)?, 60.0),
        (at, 'h') => (text.get(..at)?, 3600.0),
        (at, 'd') => (text.get(..at)?, 86_400.0),
        _ => (text, 1.0),
    };
    let seconds = digits.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)? * unit;
    Some((seconds * 1e9) as u64)
}

pub fn sleep(call: &mut Call) -> Outcome {
    if call.arguments.is_empty() {
        return Err(Failure::Says("missing operand".to_owned(), 1));
    }
    let mut total = 0u64;
    for text in &call.arguments {
        let own = nanoseconds(text).ok_or_else(|| format!("invalid number '{text}'"))?;
        total = total.saturating_add(own);
    }
    // In parts that no clock overflows with.
    while total > 0 {
        let part = total.min(1 << 50);
        sys::sleep(part);
        if total != u64::MAX {
            total -= part;
        }
    }
    Ok(0)
}

pub fn which(call: &mut Call) -> Outcome {
    let given = call.options("a")?;
    let mut status = 0;
    for name in &given.rest {
        match programs::place(name, &call.cwd, call.variable("PATH")) {
            Some(path) => call.out.line(&path)?,
            None => status = 1,
        }
    }
    Ok(status)
}
