//! The daemon's own metrics (docs/metrics.md): what is counted as it happens, and what is counted
//! anew for each reading. Labels have bounded sets of values: what others choose is told apart up
//! to a number and "other" from there on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The process's metrics.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

/// Values of one label that are told apart.
const MOST: usize = 64;

/// From half a millisecond to four minutes.
const SECONDS: (f64, f64, u16) = (0.0005, 2.0, 20);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RpcLabels {
    service: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RpcOutcome {
    service: &'static str,
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
    handler: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// What there is now: asked for at each reading.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// By state and handler.
    pub sandboxes: BTreeMap<(&'static str, String), u32>,
    pub containers: BTreeMap<(&'static str, String), u32>,
    /// By kind.
    pub shims: BTreeMap<&'static str, u32>,
}

pub struct Metrics {
    registry: Registry,
    rpcs: Family<RpcOutcome, Counter>,
    rpc_seconds: Timings<RpcLabels>,
    pulls: Family<OutcomeLabel, Counter>,
    pull_seconds: Histogram,
    pull_bytes: Counter,
    compiles: Family<OutcomeLabel, Counter>,
    compile_seconds: Histogram,
    code_cache: Family<ResultLabel, Counter>,
    plugin_calls: Family<PluginLabels, Counter>,
    plugin_seconds: Timings<PluginLabels>,
    plugins: Bounded,
    sessions: Family<KindLabel, Counter>,
    sessions_open: Family<KindLabel, Gauge>,
    sandboxes: Family<StateLabels, Gauge>,
    containers: Family<StateLabels, Gauge>,
    shims: Family<KindLabel, Gauge>,
    handlers: Bounded,
    /// One reading at a time.
    reading: Mutex<()>,
}

type Timings<L> = Family<L, Histogram, fn() -> Histogram>;

fn timing() -> Histogram {
    let (first, factor, count) = SECONDS;
    Histogram::new(exponential_buckets(first, factor, count))
}

fn outcome<T, E>(result: &Result<T, E>) -> &'static str {
    if result.is_ok() { "ok" } else { "error" }
}

impl Metrics {
    fn new() -> Self {
        let own = Self {
            registry: Registry::with_prefix("wasmpod"),
            rpcs: Family::default(),
            rpc_seconds: Family::new_with_constructor(timing),
            pulls: Family::default(),
            pull_seconds: timing(),
            pull_bytes: Counter::default(),
            compiles: Family::default(),
            compile_seconds: timing(),
            code_cache: Family::default(),
            plugin_calls: Family::default(),
            plugin_seconds: Family::new_with_constructor(timing),
            plugins: Bounded::default(),
            sessions: Family::default(),
            sessions_open: Family::default(),
            sandboxes: Family::default(),
            containers: Family::default(),
            shims: Family::default(),
            handlers: Bounded::default(),
            reading: Mutex::default(),
        };
        own.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let version = env!("CARGO_PKG_VERSION");
        registry.register("build", "The daemon's build", Info::new(Build { version }));
        registry.register("rpcs", "Calls answered, by gRPC code", self.rpcs.clone());
        let help = "How long calls took until their answer began";
        registry.register_with_unit("rpc", help, Unit::Seconds, self.rpc_seconds.clone());
        registry.register("sandboxes", "Pods, by state and handler", self.sandboxes.clone());
        let help = "Containers, by state and handler";
        registry.register("containers", help, self.containers.clone());
        registry.register("shims", "Shim processes", self.shims.clone());
        registry.register("image_pulls", "Pulls from registries that ended", self.pulls.clone());
        let help = "How long pulls from registries took, machine code included";
        registry.register_with_unit("image_pull", help, Unit::Seconds, self.pull_seconds.clone());
        let help = "Bytes of blobs that came from registries";
        registry.register_with_unit("image_pull", help, Unit::Bytes, self.pull_bytes.clone());
        registry.register("compiles", "Wasm files compiled", self.compiles.clone());
        let help = "How long compile children took, waiting for their turn included";
        registry.register_with_unit("compile", help, Unit::Seconds, self.compile_seconds.clone());
        let help = "Machine code asked for, and whether it was there";
        registry.register("code_cache_requests", help, self.code_cache.clone());
        registry.register("cni_calls", "Calls of CNI plugins", self.plugin_calls.clone());
        let help = "How long calls of CNI plugins took";
        registry.register_with_unit("cni_call", help, Unit::Seconds, self.plugin_seconds.clone());
        let help = "Sessions of exec, attach and port-forward that began";
        registry.register("stream_sessions", help, self.sessions.clone());
        let help = "Sessions of exec, attach and port-forward that are open";
        registry.register("stream_sessions_open", help, self.sessions_open.clone());
        self
    }

    /// A call that was answered; `service` and `method` are known ones.
    pub fn rpc(
        &self,
        (service, method): (&'static str, &'static str),
        code: &'static str,
        took: Duration,
    ) {
        self.rpcs.get_or_create(&RpcOutcome { service, method, code }).inc();
        let labels = RpcLabels { service, method };
        self.rpc_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn pull<T, E>(&self, result: &Result<T, E>, took: Duration) {
        self.pulls.get_or_create(&OutcomeLabel { outcome: outcome(result) }).inc();
        self.pull_seconds.observe(took.as_secs_f64());
    }

    /// More of a blob came from a registry.
    pub fn pulled(&self, bytes: u64) {
        self.pull_bytes.inc_by(bytes);
    }

    pub fn compile<T, E>(&self, result: &Result<T, E>, took: Duration) {
        self.compiles.get_or_create(&OutcomeLabel { outcome: outcome(result) }).inc();
        self.compile_seconds.observe(took.as_secs_f64());
    }

    pub fn code(&self, found: Found) {
        let result = match found {
            Found::Hit => "hit",
            Found::Miss => "miss",
        };
        self.code_cache.get_or_create(&ResultLabel { result }).inc();
    }

    pub fn plugin<T, E>(
        &self,
        (plugin, verb): (&str, &'static str),
        result: &Result<T, E>,
        took: Duration,
    ) {
        let (plugin, outcome) = (self.plugins.label(plugin), outcome(result));
        let labels = PluginLabels { plugin, verb, outcome };
        self.plugin_calls.get_or_create(&labels).inc();
        self.plugin_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a session until the returned value is dropped.
    pub fn session(&self, kind: &'static str) -> Session {
        let labels = KindLabel { kind };
        self.sessions.get_or_create(&labels).inc();
        let open = self.sessions_open.get_or_create_owned(&labels);
        open.inc();
        Session(open)
    }

    /// Everything, as OpenMetrics text.
    pub fn text(&self, census: &Census) -> Result<String, fmt::Error> {
        let _one = lock(&self.reading);
        for (family, counted) in
            [(&self.sandboxes, &census.sandboxes), (&self.containers, &census.containers)]
        {
            family.clear();
            for ((state, handler), count) in counted {
                let labels = StateLabels { state, handler: self.handlers.label(handler) };
                family.get_or_create(&labels).inc_by((*count).into());
            }
        }
        self.shims.clear();
        for (kind, count) in &census.shims {
            self.shims.get_or_create(&KindLabel { kind }).set((*count).into());
        }
        let mut written = String::new();
        text::encode(&mut written, &self.registry)?;
        Ok(written)
    }
}

/// Whether something was in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Hit,
    Miss,
}

/// A session that is open.
pub struct Session(Gauge);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A label whose values others choose.
#[derive(Default)]
struct Bounded(Mutex<BTreeSet<String>>);

impl Bounded {
    fn label(&self, value: &str) -> String {
        let mut known = lock(&self.0);
        if known.contains(value) {
            return value.to_owned();
        }
        if known.len() >= MOST {
            return "other".to_owned();
        }
        known.insert(value.to_owned());
        value.to_owned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Result<(), ()> = Ok(());

    #[test]
    fn what_others_choose_is_told_apart_up_to_a_number() {
        let own = Metrics::new();
        for number in 0..3 * MOST {
            own.plugin((&format!("plugin-{number}"), "ADD"), &OK, Duration::ZERO);
        }
        let text = own.text(&Census::default()).unwrap();
        let calls = text.lines().filter(|line| line.starts_with("wasmpod_cni_calls_total{"));
        assert_eq!(calls.count(), MOST + 1);
        let other = format!("plugin=\"other\",verb=\"ADD\",outcome=\"ok\"}} {}", 2 * MOST);
        assert!(text.contains(&other), "{text}");
    }

    #[test]
    fn the_documentation_lists_every_metric_with_its_type() {
        let own = Metrics::new();
        own.rpc(("a", "b"), "Ok", Duration::ZERO);
        own.pull(&OK, Duration::ZERO);
        own.compile(&OK, Duration::ZERO);
        own.code(Found::Hit);
        own.plugin(("a", "ADD"), &OK, Duration::ZERO);
        drop(own.session("exec"));
        let one = || [(("a", "b".to_owned()), 1)].into();
        let census = Census { sandboxes: one(), containers: one(), shims: [("a", 1)].into() };
        let text = own.text(&census).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let served: BTreeSet<(&str, &str)> =
            types.map(|line| line.split_once(' ').unwrap()).collect();
        let rows = include_str!("../../docs/metrics.md").lines();
        let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split_once("` | "));
        let documented: BTreeSet<(&str, &str)> = cells
            .filter(|(name, _)| name.starts_with("wasmpod_"))
            .map(|(name, rest)| (name, rest.split(" | ").next().unwrap()))
            .collect();
        assert_eq!(served, documented);
    }

    #[test]
    fn a_state_that_nothing_is_in_any_more_goes() {
        let own = Metrics::new();
        let census = |state| Census {
            sandboxes: [((state, "wasm".to_owned()), 3)].into(),
            ..Census::default()
        };
        let ready = own.text(&census("ready")).unwrap();
        assert!(ready.contains("wasmpod_sandboxes{state=\"ready\",handler=\"wasm\"} 3"), "{ready}");
        let stopped = own.text(&census("notready")).unwrap();
        assert!(!stopped.contains("state=\"ready\"") && stopped.contains("notready"), "{stopped}");
    }

    #[test]
    fn a_session_is_open_until_it_is_dropped() {
        let own = Metrics::new();
        let open = |count: u32| {
            let text = own.text(&Census::default()).unwrap();
            assert!(
                text.contains(&format!("wasmpod_stream_sessions_open{{kind=\"exec\"}} {count}"))
            );
        };
        let session = own.session("exec");
        open(1);
        drop(session);
        open(0);
    }
}
