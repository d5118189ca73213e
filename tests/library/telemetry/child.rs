//! Cases that need a process of their own: the process's subscriber, standard error, the environment.
//!
//! The test binary starts itself again with one ignored test and `CASE`, which names what to do there.

use std::io::Read as _;
use std::process::{Command, Stdio};

use simple_registry::telemetry::{self, LogOptions, SPAN_TARGET, TelemetryError, TraceOptions, continue_trace};

use crate::support::alone;

const CASE: &str = "TELEMETRY_TEST_CASE";
const ENDPOINT: &str = "TELEMETRY_TEST_ENDPOINT";
/// Lines that the child `lines` writes.
pub(crate) const LINES: usize = 500;

/// This binary again, about to do `case`. Its standard output is what the test harness prints, and discarded.
pub(crate) fn command(case: &str) -> Command {
    let mut command = alone(concat!(module_path!(), "::run_the_case"));
    command.env(CASE, case).stdout(Stdio::null());
    command
}

/// Returns [`command`] with the collector that its case sends to.
pub(crate) fn command_with_endpoint(case: &str, endpoint: &str) -> Command {
    let mut command = command(case);
    command.env(ENDPOINT, endpoint);
    command
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn run_the_case() {
    match std::env::var(CASE).expect("other tests say which case to run").as_str() {
        "lines" => write_lines(),
        "levels" => write_levels(),
        "no-endpoint" => make_no_spans(),
        "collector-away" => send_to_a_collector_that_is_away(),
        case => panic!("there is no case {case}"),
    }
}

/// Waits until standard input is closed, then writes many lines from several threads.
fn write_lines() {
    let _guard = telemetry::init(&LogOptions::default(), &TraceOptions::default()).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    std::thread::scope(|threads| {
        for thread in 0..5 {
            threads.spawn(move || {
                for line in 0..LINES / 5 {
                    tracing::info!(thread, line, filler = "x".repeat(4000), "a line\nof two");
                }
            });
        }
    });
}

fn write_levels() {
    let _guard = telemetry::init(&LogOptions::default(), &TraceOptions::default()).unwrap();
    tracing::error!("at error");
    tracing::info!("at info");
    tracing::debug!("at debug");
}

/// Runs in a process of its own, since a call site stays on as long as any subscriber of the process listens to it.
fn make_no_spans() {
    let logs = LogOptions { level: "trace".to_owned(), ..Default::default() };
    let _guard = telemetry::init(&logs, &TraceOptions { endpoint: None, sampling_rate: 1.0 }).unwrap();
    let span = tracing::info_span!(target: SPAN_TARGET, "request");
    assert!(span.is_disabled());
    continue_trace(&span, |name| panic!("{name} was looked up for a span that is not there"));
    tracing::trace!("an event");
}

fn send_to_a_collector_that_is_away() {
    let traces = TraceOptions { endpoint: Some(std::env::var(ENDPOINT).unwrap()), sampling_rate: 1.0 };
    let guard = telemetry::init(&LogOptions::default(), &traces).unwrap();
    let again = telemetry::init(&LogOptions::default(), &TraceOptions::default());
    assert!(matches!(again, Err(TelemetryError::AlreadyInstalled)), "{again:?}");
    for _ in 0..2000 {
        drop(tracing::info_span!(target: SPAN_TARGET, "request"));
    }
    guard.shutdown();
    tracing::info!("after the shutdown");
}
