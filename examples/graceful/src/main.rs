//! Works in small pieces until its container is asked to end; then it says how far it came and ends
//! with a code of its own, within its grace.

use std::thread::sleep;
use std::time::Duration;

use wasmpod_guest::this;

const CODE: u8 = 7;

fn main() {
    work(|_| sleep(Duration::from_millis(20)))
}

fn work(mut piece: impl FnMut(u64)) -> ! {
    // Asked for first: from now on the container is not ended before its grace is over.
    let stop = this::stop_requested();
    println!(
        "{} of pod {} works on CPUs {}",
        this::container().name,
        this::pod().name,
        this::cpuset()
    );
    let mut done = 0;
    while !stop.has_come() {
        piece(done);
        done += 1;
    }
    println!("asked to stop after {done} pieces of work: all of them are done");
    this::exit(CODE)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use wasmpod_guest::testing::{self, Exited, Node};

    use super::*;

    #[test]
    fn it_finishes_its_piece_and_ends_with_its_code() {
        let pod = testing::pod("worker");
        let node = Node::new().cpus(2).this(&pod, &testing::container(&pod, "app").running());
        let mut last = None;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            work(|piece| {
                last = Some(piece);
                if piece == 2 {
                    node.request_stop();
                }
            })
        }));
        let Err(payload) = ended;
        assert_eq!(payload.downcast_ref(), Some(&Exited(CODE)));
        assert_eq!(last, Some(2));
    }
}
