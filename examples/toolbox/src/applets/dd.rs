//! dd.

use super::{Call, Failure, Outcome, size};
use crate::stream::Stream;
use crate::sys::{self, File, Mode};

pub fn dd(call: &mut Call) -> Outcome {
    let (mut from, mut to) = (None, None);
    let (mut input_size, mut output_size, mut count) = (512, 512, None);
    let (mut skip, mut seek, mut truncates, mut quiet) = (0, 0, true, false);
    let mut conversions = String::new();
    for word in &call.arguments {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failure::Says(format!("unrecognized operand '{word}'"), 1));
        };
        match name {
            "if" => from = Some(value.to_owned()),
            "of" => to = Some(value.to_owned()),
            "bs" => (input_size, output_size) = (size(value)?, size(value)?),
            "ibs" => input_size = size(value)?,
            "obs" => output_size = size(value)?,
            "count" => count = Some(size(value)?),
            "skip" | "iseek" => skip = size(value)?,
            "seek" | "oseek" => seek = size(value)?,
            "status" => quiet = value == "none",
            "conv" => {
                truncates = !value.split(',').any(|word| word == "notrunc");
                conversions = value.to_owned();
            }
            "iflag" | "oflag" => {}
            _ => return Err(Failure::Says(format!("unrecognized operand '{word}'"), 1)),
        }
    }
    if input_size == 0 || output_size == 0 {
        return Err(Failure::Says("a block has at least one byte".to_owned(), 1));
    }
    let about = |name: &str, error: std::io::Error| {
        Failure::Says(format!("can't open '{name}': {}", sys::text(&error)), 1)
    };
    let input = match &from {
        Some(name) => call.open(name).map_err(|error| about(name, error))?,
        None => call.input.clone(),
    };
    let output = match &to {
        Some(name) => {
            let mode = if truncates && seek == 0 { Mode::Write } else { Mode::Update };
            let file = File::open(&call.path(name), mode).map_err(|error| about(name, error))?;
            let begin = seek.saturating_mul(output_size);
            if truncates && seek > 0 {
                file.resize(begin)?;
            }
            file.seek(begin);
            Stream::file(file)
        }
        None => call.out.stream().clone(),
    };
    let begun = sys::monotonic();
    // All of it, as dd does: who names a large block wants a large block.
    let mut block =
        vec![0u8; usize::try_from(input_size).map_err(|_| "bs is too large".to_owned())?];
    let (mut whole_in, mut part_in, mut copied) = (0u64, 0u64, 0u64);
    let (mut whole_out, mut part_out) = (0u64, 0u64);
    match &input {
        Stream::File(file) => file.seek(skip.saturating_mul(input_size)),
        stream => {
            for _ in 0..skip {
                fill(stream, &mut block)?;
            }
        }
    }
    while count.is_none_or(|count| whole_in + part_in < count) {
        let read = fill(&input, &mut block)?;
        if read == 0 {
            break;
        }
        if read as u64 == input_size {
            whole_in += 1
        } else {
            part_in += 1
        }
        // Copied only where it changes: the block may be as large as memory allows.
        let own = block.get(..read).unwrap_or_default();
        let changed = converted(own, &conversions, input_size);
        let own = changed.as_deref().unwrap_or(own);
        output.write(own)?;
        let blocks = own.len() as u64;
        whole_out += blocks / output_size;
        part_out += u64::from(!blocks.is_multiple_of(output_size));
        copied += blocks;
    }
    if let (Stream::File(file), true) = (&output, conversions.contains("fsync")) {
        file.sync()?;
    }
    if !quiet {
        let seconds = (sys::monotonic() - begun) as f64 / 1e9;
        let text = format!(
            "{whole_in}+{part_in} records in\n{whole_out}+{part_out} records out\n{copied} bytes copied, \
             {seconds:.6} seconds, {}B/s\n",
            super::files::human((copied as f64 / seconds.max(1e-9)) as u64)
        );
        call.errors.write(text.as_bytes())?;
    }
    Ok(0)
}

fn converted(block: &[u8], conversions: &str, size: u64) -> Option<Vec<u8>> {
    let mut words =
        conversions.split(',').filter(|word| matches!(*word, "sync" | "ucase" | "lcase"));
    words.next()?;
    let mut own = block.to_vec();
    for word in conversions.split(',') {
        match word {
            "sync" => own.resize(usize::try_from(size).unwrap_or(own.len()), 0),
            "ucase" => own.make_ascii_uppercase(),
            "lcase" => own.make_ascii_lowercase(),
            _ => {}
        }
    }
    Some(own)
}

/// One block: files are read as far as they go, pipes as much as one read gives.
fn fill(stream: &Stream, block: &mut [u8]) -> std::io::Result<usize> {
    let is_file = matches!(stream, Stream::File(_));
    let mut read = 0;
    while let Some(room) = block.get_mut(read..).filter(|room| !room.is_empty()) {
        let count = stream.read(room)?;
        read += count;
        if count == 0 || !is_file {
            break;
        }
    }
    Ok(read)
}
