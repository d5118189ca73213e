//! Shows the running process to its operator: logs, traces and metrics.
//!
//! [`init`] installs logs and traces for the whole process; [`Metrics`] counts; [`RequestId`] ties the lines of one
//! request together. This module imports no other module of the crate, so every other module can use it.

mod count;
mod logs;
mod metrics;
mod request_id;
mod traces;

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry};

pub use count::counted;
pub use logs::{LogFormat, LogOptions, LogOutput};
pub use metrics::{CONTENT_TYPE, InFlight, Metrics, UpstreamBytes};
pub use request_id::RequestId;
pub use traces::{SPAN_TARGET, TraceOptions, continue_trace};

/// The longest wait of [`Guard`] for the last spans to be sent.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// The reason why logs or traces could not be set up. Each message names the setting, the broken rule and a valid
/// value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log file cannot be opened for appending.
    #[error("the log file `{path}` cannot be opened: {source}; name a file in a directory that this user may write")]
    LogFile {
        /// The file as it was named.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Standard output or standard error is closed.
    #[error("logs cannot be written to {stream}: {source}; open it, or write logs to a file")]
    LogStream {
        /// `standard output` or `standard error`.
        stream: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A part of the log level is neither a level nor `target=level`.
    #[error(
        "the log level `{level}` is not understood: `{part}` is neither a level (off, error, warn, info, debug, trace) \
         nor `target=level`; write for example `info` or `info,hyper=warn`"
    )]
    LogLevel {
        /// The whole setting.
        level: String,
        /// The part of it that breaks the rule.
        part: String,
    },
    /// The address of the trace collector cannot be used.
    #[error("the tracing endpoint `{endpoint}` {rule}; write for example `http://collector:4318`")]
    Endpoint {
        /// The setting, without credentials.
        endpoint: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The sampling rate is no number from 0 to 1.
    #[error("the tracing sampling rate {0} is not between 0 (no trace) and 1 (every trace)")]
    SamplingRate(f64),
    /// The exporter cannot be built.
    #[error("traces cannot be exported: {0}")]
    Exporter(String),
    /// [`init`] was called twice, or something else has set the process's subscriber.
    #[error("logs and traces are set up already in this process; set them up once")]
    AlreadyInstalled,
}

/// Keeps what [`init`] started. Dropping it, or [`Guard::shutdown`], sends the spans that are still waiting.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export of traces"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Guard {
    /// Sends the spans that are still waiting and ends the export; spans that end later are discarded.
    ///
    /// Blocks the calling thread for 3 seconds at most, so call it once nothing else needs that thread. Logs stay on:
    /// a line written after this call is still written.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(provider) = self.provider.take() else { return };
        if let Err(error) = provider.shutdown_with_timeout(SHUTDOWN_LIMIT) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Installs logs and traces for the whole process.
///
/// Needs no async runtime, and may be called inside one. Call it once, first thing after reading the configuration.
///
/// # Errors
/// [`TelemetryError`], for a setting that cannot be honoured or a second call.
pub fn init(logs: &LogOptions, traces: &TraceOptions) -> Result<Guard, TelemetryError> {
    let (dispatch, guard) = subscriber(logs, traces)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| TelemetryError::AlreadyInstalled)?;
    Ok(guard)
}

/// Returns the subscriber that [`init`] installs, for a caller that wants it on one thread only
/// (`tracing::dispatcher::with_default`).
///
/// # Errors
///
/// [`TelemetryError`], for a setting that cannot be applied.
pub fn subscriber(logs: &LogOptions, traces: &TraceOptions) -> Result<(Dispatch, Guard), TelemetryError> {
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![logs::layer(logs)?];
    let provider = traces::provider(traces)?;
    if let Some(provider) = &provider {
        layers.push(traces::layer(provider));
    }
    Ok((Dispatch::new(tracing_subscriber::registry().with(layers)), Guard { provider }))
}
