//! `[observability]` as the rest of the program sees it.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `[observability]`: how to watch the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Observability {
    /// `[observability.tracing]`
    pub tracing: Tracing,
    /// `[observability.logs]`
    pub logs: Logs,
    /// `[observability.metrics]`
    pub metrics: Metrics,
    /// `[observability.health]`
    pub health: Health,
}

/// `[observability.tracing]`: spans for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The URL of a receiver of OTLP over HTTP, without `/v1/traces` and without a slash at its end. None: no spans.
    pub endpoint: Option<String>,
    /// The share of requests whose spans are sent, 0 to 1.
    pub sampling_rate: f64,
}

/// `[observability.logs]`: what is logged, where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// The destination of lines.
    pub output: LogOutput,
    /// The form of a line.
    pub format: LogFormat,
    /// Levels, alone or for a target, separated by commas, as `tracing_subscriber::EnvFilter` reads them.
    pub level: String,
    /// True: one line for each request.
    pub requests: bool,
}

/// The destination of lines of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text where the output is a terminal, JSON otherwise.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
}

/// `[observability.metrics]`: `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// The address that answers.
    pub listen: Listen,
}

/// `[observability.health]`: `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The address that answers.
    pub listen: Listen,
}

/// The address of something other than the registry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// The address of the registry.
    Main,
    /// None.
    Off,
    /// An address of its own, which metrics and health may share. Port 0: any that is free.
    Address(SocketAddr),
}
