//! A shell and the usual small tools, in one WASI component: `toolbox NAME ARGUMENTS`, or called
//! by a tool's name. What the tools are is `applets`; how the shell reads and runs commands is
//! `shell`; everything that is asked of the host is `sys`.

mod applets;
mod programs;
mod shell;
mod stream;
mod sys;

use programs::Surroundings;
use stream::Stream;

/// Names that are not an applet's own.
const OWN: [&str; 2] = ["toolbox", "busybox"];

fn main() {
    let mut words = sys::arguments().into_iter().peekable();
    let mut called = words.next().unwrap_or_default();
    let is_own = {
        let name = applets::base(&called);
        OWN.contains(&name.strip_suffix(".wasm").unwrap_or(name))
    };
    if is_own && let Some(name) = words.next() {
        called = name;
    }
    let arguments: Vec<String> = words.collect();
    let surroundings = Surroundings {
        streams: [Stream::Stdin, Stream::Stdout, Stream::Stderr],
        cwd: sys::working_folder(),
        environment: sys::environment(),
    };
    let name = applets::base(&called);
    let status = match applets::named(name.strip_suffix(".wasm").unwrap_or(name)) {
        Some(applet) => applets::run(applet, &called, &arguments, &surroundings),
        None if is_own => applets::list(&called),
        None => {
            let text = format!("toolbox: {called}: applet not found\n");
            let _ = Stream::Stderr.write(text.as_bytes());
            127
        }
    };
    sys::exit(status);
}
