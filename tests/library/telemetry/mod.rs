//! Signs for operators: log lines, metrics, traces and request ids.

mod child;
mod logs;
mod metrics;
mod openmetrics;
mod request_id;
mod traces;
