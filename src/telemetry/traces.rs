//! Sends traces as OTLP over HTTP with protobuf bodies (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! Spans have a target of their own, [`SPAN_TARGET`], to which only the exporting layer listens. Without an endpoint
//! there is no such layer. Then `tracing` switches the call sites off, and a request pays one relaxed load for each.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};

use super::TelemetryError;

/// The target that a span must carry to be exported: `tracing::info_span!(target: SPAN_TARGET, "name", ...)`.
///
/// The level is `INFO` or above. The fields `otel.name`, `otel.kind` and `otel.status_code` set the exported span's
/// name, kind and status.
pub const SPAN_TARGET: &str = "simple_registry::span";

/// The path of the trace service below the endpoint (OTLP/HTTP, "OTLP/HTTP Request").
const TRACES_PATH: &str = "/v1/traces";
/// The time limit for sending a batch, its retries included.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// The time that a finished span waits for others of its batch.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Spans in one request to the collector.
const BATCH_SPANS: usize = 512;
/// Finished spans that wait; more are discarded, since a request must never wait for the collector.
const QUEUED_SPANS: usize = 8192;
/// The least time between two warnings about failed exports.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The endpoint of traces, and their share of requests.
///
/// `Debug` leaves the endpoint out, since an endpoint that is refused later may hold credentials.
#[derive(Clone, Default)]
pub struct TraceOptions {
    /// The collector's base URL, such as `http://collector:4318`; `/v1/traces` is added unless it is there. `None`
    /// makes no spans at all.
    pub endpoint: Option<String>,
    /// The share of traces that is recorded, 0 to 1. A request that continues its caller's trace follows the caller's
    /// decision instead.
    pub sampling_rate: f64,
}

impl fmt::Debug for TraceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceOptions").field("sampling_rate", &self.sampling_rate).finish_non_exhaustive()
    }
}

/// Makes `span` a child of the trace that a request's `traceparent` and `tracestate` name
/// (W3C Trace Context, <https://www.w3.org/TR/trace-context/>).
///
/// `headers` gives a header's value by its lowercase name. Call it before the span has children. A missing or
/// malformed header leaves the span the root of a new trace; without an endpoint nothing is looked up.
pub fn continue_trace(span: &Span, headers: impl Fn(&str) -> Option<String>) {
    if span.is_disabled() {
        return;
    }
    let Some(traceparent) = headers("traceparent") else { return };
    let carrier = Carrier { traceparent, tracestate: headers("tracestate") };
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if parent.span().span_context().is_valid()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::debug!(%error, "the caller's trace is not continued");
    }
}

struct Carrier {
    traceparent: String,
    tracestate: Option<String>,
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.traceparent),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Returns the exporter with its thread and queue; `None` without an endpoint.
pub(super) fn provider(options: &TraceOptions) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    if !(0.0..=1.0).contains(&options.sampling_rate) {
        return Err(TelemetryError::SamplingRate(options.sampling_rate));
    }
    let Some(endpoint) = &options.endpoint else { return Ok(None) };
    let url = traces_url(endpoint)?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(&url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    // Every value is set here: the library would otherwise take it from the environment.
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUED_SPANS)
        .with_max_export_batch_size(BATCH_SPANS)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let processor = BatchSpanProcessor::builder(SeldomWarning::new(exporter, url)).with_batch_config(batches).build();
    let resource = Resource::builder_empty()
        .with_service_name("simple-registry")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sampling_rate)));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Returns the layer that turns spans of [`SPAN_TARGET`] into exported ones.
pub(super) fn layer(provider: &SdkTracerProvider) -> Box<dyn Layer<Registry> + Send + Sync> {
    let only_our_spans = filter_fn(|metadata| {
        metadata.is_span() && metadata.target() == SPAN_TARGET && *metadata.level() <= Level::INFO
    })
    .with_max_level_hint(LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("simple-registry"))
        // Parents are found through `tracing`; attaching a context at each poll of a future would be paid for nothing.
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_filter(only_our_spans)
        .boxed()
}

/// Returns the URL for spans, from the configured base.
fn traces_url(endpoint: &str) -> Result<String, TelemetryError> {
    let refuse = |rule| TelemetryError::Endpoint { endpoint: without_credentials(endpoint), rule };
    let uri: http::Uri = endpoint.parse().map_err(|_| refuse("is not a URL"))?;
    let Some(authority) = uri.authority() else { return Err(refuse("names no host")) };
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(refuse("uses TLS, which traces do not: send them to a collector on this host or network"));
        }
        _ => return Err(refuse("does not begin with `http://`")),
    }
    if authority.as_str().contains('@') {
        return Err(refuse("holds a user or password, which would travel in the clear"));
    }
    if uri.query().is_some() {
        return Err(refuse("holds a query"));
    }
    let base = uri.path().trim_end_matches('/');
    let path = base.strip_suffix(TRACES_PATH).unwrap_or(base);
    Ok(format!("http://{authority}{path}{TRACES_PATH}"))
}

fn without_credentials(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, after)| after);
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// An exporter that tells of its failures itself, in one warning a minute at most.
///
/// The batch processor would log an error for each failed batch: several a second while a collector is away.
#[derive(Debug)]
struct SeldomWarning<E> {
    exporter: E,
    url: String,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    /// Spans lost since the last warning.
    lost: usize,
    warned: Option<Instant>,
}

impl<E> SeldomWarning<E> {
    fn new(exporter: E, url: String) -> Self {
        Self { exporter, url, failures: Mutex::default() }
    }

    fn failed(&self, spans: usize, error: &OTelSdkError) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.lost += spans;
        if failures.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        let lost = std::mem::take(&mut failures.lost);
        failures.warned = Some(Instant::now());
        drop(failures);
        tracing::warn!(endpoint = self.url, lost, %error, "traces cannot be sent; is the collector running?");
    }
}

impl<E: SpanExporter> SpanExporter for SeldomWarning<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        if let Err(error) = self.exporter.export(batch).await {
            self.failed(spans, &error);
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_trace_service_is_added_once() {
        for (endpoint, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
            ("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp/v1/traces"),
            ("http://[::1]:4318/otlp/v1/traces/", "http://[::1]:4318/otlp/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint).unwrap(), url, "{endpoint}");
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_is_refused_without_telling_its_password() {
        for endpoint in [
            "",
            "collector",
            "collector:4318",
            "/v1/traces",
            "grpc://collector:4317",
            "https://collector",
            "http://u:hunter2@collector:4318",
            "http://collector:4318?key=hunter2",
            "http://u:hunter2@collec tor",
        ] {
            let error = traces_url(endpoint).expect_err(endpoint).to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("http://collector:4318"), "{error}");
        }
    }

    #[test]
    fn failures_within_a_minute_are_told_once() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let logs = crate::telemetry::LogOptions {
            output: crate::telemetry::LogOutput::File(log.path().to_owned()),
            ..Default::default()
        };
        let (dispatch, _guard) = crate::telemetry::subscriber(&logs, &TraceOptions::default()).unwrap();
        let away = SeldomWarning::new((), "http://collector/v1/traces".to_owned());
        tracing::dispatcher::with_default(&dispatch, || {
            for spans in [3, 4, 5] {
                away.failed(spans, &OTelSdkError::InternalFailure("refused".to_owned()));
            }
        });
        let lines = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains(r#""level":"WARN""#) && lines.contains(r#""lost":3"#), "{lines}");

        let minute_ago = Instant::now().checked_sub(WARN_EVERY).unwrap();
        away.failures.lock().unwrap().warned = Some(minute_ago);
        tracing::dispatcher::with_default(&dispatch, || {
            away.failed(6, &OTelSdkError::InternalFailure("refused".to_owned()));
        });
        let lines = std::fs::read_to_string(log.path()).unwrap();
        assert!(lines.lines().count() == 2 && lines.contains(r#""lost":15"#), "{lines}");
    }
}
