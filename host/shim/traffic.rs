//! What the interfaces of a network namespace have carried, as the kernel counts it. Knows nothing
//! of whose namespace it is.

/// Of one interface, since it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub received: Flow,
    pub sent: Flow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// The interfaces of the namespace that a thread of this process stands in, loopback left out as
/// cAdvisor does; none when the thread is gone.
pub fn of_thread(tid: i32) -> Vec<Interface> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/net/dev"));
    text.map(|text| parse(&text)).unwrap_or_default()
}

/// /proc/net/dev: two lines of titles, then "NAME: 8 numbers of receiving, 8 of sending", of which
/// the first four are bytes, packets, errors and drops.
fn parse(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let flow = |from: usize| {
            let &[bytes, packets, errors, dropped] = numbers.get(from..from + 4)? else {
                return None;
            };
            Some(Flow { bytes, packets, errors, dropped })
        };
        Some(Interface { name: name.trim().to_owned(), received: flow(0)?, sent: flow(8)? })
    };
    text.lines().skip(2).filter_map(interface).filter(|found| found.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_their_columns() {
        let text = "Inter-|   Receive                                                |  Transmit\n\
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets \
             errs drop fifo colls carrier compressed\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  \
             eth0:1500 10 1 2 3 4 5 6 700 7 8 9 10 11 12 13\n bad: 1 2\n";
        let received = Flow { bytes: 1500, packets: 10, errors: 1, dropped: 2 };
        let sent = Flow { bytes: 700, packets: 7, errors: 8, dropped: 9 };
        assert_eq!(parse(text), [Interface { name: "eth0".to_owned(), received, sent }]);
    }

    #[test]
    fn a_thread_that_is_not_there_has_none() {
        assert_eq!(of_thread(i32::MAX), []);
    }
}
