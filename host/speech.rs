//! How every role of the program tells people what it does: tracing's lines on standard error,
//! as one environment variable says. Knows nothing of who speaks.

use tracing_subscriber::EnvFilter;

/// Takes tracing's directives ("debug", "wasmpod::runtime=trace"). The daemon hands it on to its
/// shims.
pub const VARIABLE: &str = "WASMPOD_LOG";

/// From now on. Whoever set a subscriber before keeps it.
pub fn to_stderr() {
    from("info");
}

/// As [`to_stderr`], of a command that people wait for: only what they should know.
pub fn warnings_to_stderr() {
    from("warn");
}

fn from(level: &str) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let told = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    drop(told);
}
