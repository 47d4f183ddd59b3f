//! Signals by CRI's enum number, by Linux number (x86 and Arm) and by the names images use.

/// Linux's SIGTERM: what ends a container when nobody says otherwise.
pub const TERM: u32 = 15;
/// Linux's SIGKILL.
pub const KILL: u32 = 9;

/// Names in the order of CRI's enum, from SIGNAL_SIGABRT = 1 on, with their Linux numbers.
const NAMES: [(&str, u32); 33] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
];
/// CRI's number of SIGXFSZ, the last one before the real-time signals.
const CRI_XFSZ: i32 = 34;
const XFSZ: u32 = 25;
/// CRI's numbers from SIGRTMIN (35) to SIGRTMAX (65) are Linux's 34 to 64.
const CRI_RTMIN: i32 = 35;
const CRI_RTMAX: i32 = 65;
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// The Linux number of CRI's enum number; `None` for 0 (the runtime's choice) and for numbers
/// that CRI does not have.
pub fn from_cri(number: i32) -> Option<u32> {
    match number {
        CRI_XFSZ => Some(XFSZ),
        CRI_RTMIN..=CRI_RTMAX => u32::try_from(number - 1).ok(),
        _ => {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            NAMES.get(index).map(|(_, linux)| *linux)
        }
    }
}

/// CRI's enum number of a Linux number, the first where two names share it; 0 for none.
pub fn to_cri(linux: u32) -> i32 {
    (1..=CRI_RTMAX).find(|&number| from_cri(number) == Some(linux)).unwrap_or(0)
}

/// Reads an image's stop signal: "SIGTERM", "term", "15", "SIGRTMIN+3".
pub fn parse(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |digits: &str, sign: char| match digits {
        "" => Some(0),
        _ => digits.strip_prefix(sign)?.parse::<u32>().ok(),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return RTMIN.checked_add(offset(rest, '+')?).filter(|number| *number <= RTMAX);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return RTMAX.checked_sub(offset(rest, '-')?).filter(|number| *number >= RTMIN);
    }
    match name {
        "XFSZ" => Some(XFSZ),
        _ => NAMES.iter().find(|(known, _)| *known == name).map(|(_, linux)| *linux),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linux_signal_comes_back_from_cri_as_itself() {
        for linux in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(from_cri(to_cri(linux)), Some(linux), "{linux}");
        }
    }

    #[test]
    fn cri_numbers_are_the_published_ones() {
        for (number, linux) in [
            (0, None),
            (1, Some(6)),
            (13, Some(KILL)),
            (23, Some(TERM)),
            (33, Some(24)),
            (34, Some(25)),
            (35, Some(34)),
            (65, Some(64)),
            (66, None),
            (-1, None),
        ] {
            assert_eq!(from_cri(number), linux, "{number}");
        }
    }

    #[test]
    fn images_may_name_a_signal_in_any_usual_way() {
        for text in ["SIGTERM", "sigterm", "TERM", "15"] {
            assert_eq!(parse(text), Some(TERM), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3"), Some(37));
        assert_eq!(parse("RTMAX-1"), Some(63));
        for text in ["", "0", "65", "SIGNOPE", "RTMIN-1", "RTMIN+99"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
