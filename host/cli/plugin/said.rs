//! What a plugin that is tried writes into its log, on standard error: a line each, its level first.

use std::fmt::Debug;
use std::io::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Where host functions speak for plugins.
const FUNCTIONS: &str = "wasmpod::lifecycle::functions";

/// From now on.
pub fn to_stderr() {
    // Whoever set a subscriber before keeps it.
    drop(tracing_subscriber::registry().with(Said).try_init());
}

struct Said;

impl<S: Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != FUNCTIONS {
            return;
        }
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut line = Line::default();
        event.record(&mut line);
        // Nobody reads it where standard error is closed.
        drop(writeln!(std::io::stderr().lock(), "{level}: {}{}", line.message, line.rest));
    }
}

#[derive(Default)]
struct Line {
    message: String,
    rest: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            // There is only one.
            "plugin" => {}
            _ => self.rest += &format!(": {value:?}"),
        }
    }
}
