//! Takes memory, one MiB after another, and writes to every page of it, until it may not have
//! more. Under a memory limit its container ends with exit code 137 and reason OOMKilled.

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

fn main() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = vec![0_u8; MIB];
        for page in block.chunks_mut(PAGE) {
            page[0] = 1;
        }
        held.push(block);
        if held.len() % 8 == 0 {
            println!("{} MiB", held.len());
        }
    }
}
