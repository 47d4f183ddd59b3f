//! Traces of what a call does, phase by phase, sent to an OpenTelemetry collector. The context of
//! whoever called is the parent; where nobody traces, a phase costs a look at a thread's variable.
//! The only file that names OpenTelemetry.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData,
    SpanExporter,
};

use crate::config::TracingConfig;
use crate::error::{Error, Result};

/// Spans that wait to be sent; what is over is dropped.
const QUEUE: usize = 2048;

const DELAY: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end waits for the last spans to be sent.
const LAST: Duration = Duration::from_secs(2);

/// Set once, where the configuration names a collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sends spans as long as it lives.
pub struct Tracing(SdkTracerProvider);

impl Tracing {
    /// From now on calls are traced; `None`: the configuration does not ask for it.
    pub fn start(config: &TracingConfig) -> Result<Option<Self>> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| Error::Invalid(format!("tracing.endpoint = {endpoint:?}: {error}")))?;
        let exporter =
            Telling { exporter, endpoint: endpoint.clone(), fails: AtomicBool::new(false) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder_empty()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampler = Sampler::TraceIdRatioBased(config.sampling);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build();
        let _ = TRACER.set(provider.tracer("wasmpod"));
        Ok(Some(Self(provider)))
    }

    /// Sends what is left, for a moment.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::debug!("the last spans are not sent");
        }
    }
}

/// An exporter that says once that its collector cannot be reached, and once that it can again.
struct Telling<E> {
    exporter: E,
    endpoint: String,
    fails: AtomicBool,
}

impl<E> Debug for Telling<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telling").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        match (&outcome, self.fails.swap(outcome.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                let endpoint = &self.endpoint;
                tracing::warn!(endpoint, %error, "spans cannot be sent and are dropped");
            }
            (Ok(()), true) => tracing::info!(endpoint = self.endpoint, "spans are sent again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// A call that is traced.
pub struct Call(Context);

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}

impl Call {
    /// The span of an RPC that begins now, below the one that its metadata names; `None`: nobody
    /// traces, or this one is not sampled.
    pub fn begin(
        (service, method): (&'static str, &'static str),
        from: &HeaderMap,
    ) -> Option<Self> {
        let tracer = TRACER.get()?;
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(from));
        let span = tracer
            .span_builder(method)
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service),
                KeyValue::new("rpc.method", method),
            ])
            .start_with_context(tracer, &parent);
        let context = parent.with_span(span);
        let is_sampled = context.span().span_context().is_sampled();
        is_sampled.then_some(Self(context))
    }

    /// Does the call's work, whose phases are its children.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.0.clone()).await
    }

    /// The call is answered.
    pub fn end(self, code: &'static str, failure: Option<String>) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", code));
        if let Some(message) = failure {
            span.set_status(Status::error(message));
        }
        span.end();
    }
}

/// Does `work` as a phase of what the calling task does, where that is traced.
pub async fn phase<T, E: Display>(
    name: &'static str,
    attributes: &[(&'static str, &str)],
    work: impl Future<Output = std::result::Result<T, E>>,
) -> std::result::Result<T, E> {
    let Some((tracer, above)) = current() else { return work.await };
    let attributes = attributes.iter().map(|(key, value)| KeyValue::new(*key, (*value).to_owned()));
    let span = tracer
        .span_builder(name)
        .with_attributes(attributes.collect::<Vec<_>>())
        .start_with_context(tracer, &above);
    let context = above.with_span(span);
    let outcome = work.with_context(context.clone()).await;
    if let Err(error) = &outcome {
        context.span().set_status(Status::error(error.to_string()));
    }
    context.span().end();
    outcome
}

/// Says more of the phase, or the call, that the calling task is in.
pub fn describe(attributes: &[(&'static str, &str)]) {
    let Some((_, context)) = current() else { return };
    for (key, value) in attributes {
        context.span().set_attribute(KeyValue::new(*key, (*value).to_owned()));
    }
}

/// Work that another task does for the calling one, whose phases stay its phases.
pub fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    work.with_current_context()
}

fn current() -> Option<(&'static SdkTracer, Context)> {
    let tracer = TRACER.get()?;
    let context = Context::current();
    let is_sampled = context.span().span_context().is_sampled();
    is_sampled.then_some((tracer, context))
}
