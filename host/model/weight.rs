//! How much one object may carry, whoever asks for it: a request, or a plugin that adjusts a
//! container. Bytes.

const KIB: usize = 1 << 10;

/// Kubernetes lets an object have 256 KiB of annotations (TotalAnnotationSizeLimitB); the kubelet
/// adds some of its own, a container's hooks among them.
pub const ANNOTATIONS: usize = 320 * KIB;
/// What the kernel gives a program for its arguments and environment with the usual stack.
pub const WORDS: usize = 2048 * KIB;
pub const MOUNTS: usize = 512 * KIB;
/// A path of the kernel's, its last 0 included (PATH_MAX).
pub const PATH: usize = 4096;
/// What an item costs besides its texts, at most: tags and lengths on the wire.
pub const FRAME: usize = 16;

/// What texts weigh, each with its frame.
pub fn of<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(|text| text.len() + FRAME).sum()
}

/// The error is one clause that says what is over its limit.
pub fn at_most(what: &str, bytes: usize, most: usize) -> Result<(), String> {
    if bytes <= most {
        return Ok(());
    }
    Err(format!("{what}: {bytes} bytes are over the limit of {most}"))
}
