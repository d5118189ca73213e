//! Traces against a receiver that is real, away, or silent.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use simple_registry::telemetry::{self, LogOptions, LogOutput, SPAN_TARGET, TraceOptions, continue_trace};
use tracing::Span;

use crate::shared::collector::{Collector, text};
use crate::support::MACHINE;
use crate::telemetry::child;

/// More than a busy machine needs, less than waiting for a silent collector once would take twice.
const SOON: Duration = Duration::from_secs(8);

/// Runs `body` with traces to `endpoint` and returns, once they are flushed, what was logged meanwhile.
fn traced(endpoint: Option<String>, sampling_rate: f64, body: impl FnOnce()) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let logs =
        LogOptions { output: LogOutput::File(log.path().to_owned()), level: "trace".to_owned(), ..Default::default() };
    let (dispatch, guard) = telemetry::subscriber(&logs, &TraceOptions { endpoint, sampling_rate }).unwrap();
    tracing::dispatcher::with_default(&dispatch, body);
    guard.shutdown();
    std::fs::read_to_string(log.path()).unwrap()
}

fn request_span() -> Span {
    tracing::info_span!(
        target: SPAN_TARGET,
        "request",
        "otel.kind" = "server",
        "otel.status_code" = tracing::field::Empty,
        action = "get-manifest",
        status = tracing::field::Empty,
    )
}

fn storage_span(operation: &str) -> Span {
    tracing::info_span!(target: SPAN_TARGET, "storage", operation)
}

#[test]
fn a_request_arrives_with_its_storage_operations_under_it() {
    let collector = Collector::start();
    let log = traced(Some(collector.url()), 1.0, || {
        let request = request_span();
        request.in_scope(|| storage_span("read").in_scope(|| ()));
        drop(tracing::info_span!(target: SPAN_TARGET, parent: &request, "storage", operation = "list"));
        request.record("status", 503);
        request.record("otel.status_code", "ERROR");
        tracing::info!("an event");
    });

    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let request = spans.iter().find(|span| span.name == "request").unwrap();
    assert_eq!((request.trace_id.len(), request.span_id.len()), (16, 8));
    assert!(request.parent_span_id.is_empty());
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(request.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(text(&request.attributes, "action").as_deref(), Some("get-manifest"));
    assert!(request.start_time_unix_nano > 0 && request.start_time_unix_nano <= request.end_time_unix_nano);
    for operation in ["read", "list"] {
        let child =
            spans.iter().find(|span| text(&span.attributes, "operation").as_deref() == Some(operation)).unwrap();
        assert_eq!(child.parent_span_id, request.span_id, "{operation}");
        assert_eq!(child.trace_id, request.trace_id, "{operation}");
    }
    for resource in collector.resources() {
        assert_eq!(text(&resource, "service.name").as_deref(), Some("simple-registry"));
        assert_eq!(text(&resource, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    }
    let head = ("POST".to_owned(), "/v1/traces".to_owned(), "application/x-protobuf".to_owned());
    assert_eq!(collector.heads(), [head]);
    assert_eq!(log.lines().filter(|line| line.contains("an event")).count(), 1, "{log}");
    assert!(!log.contains("storage") && !log.contains("request"), "a span was logged: {log}");
}

#[test]
fn spans_of_other_targets_and_of_lower_levels_are_not_sent() {
    let collector = Collector::start();
    traced(Some(collector.url()), 1.0, || {
        drop(tracing::error_span!("of another target"));
        drop(tracing::debug_span!(target: SPAN_TARGET, "of a lower level"));
    });
    assert!(collector.heads().is_empty(), "{:?}", collector.spans());
}

#[test]
fn the_sampling_rate_decides_for_requests_without_a_caller() {
    const REQUESTS: usize = 2000;
    for (rate, expected) in [(0.0, 0..=0), (0.5, 700..=1300), (1.0, REQUESTS..=REQUESTS)] {
        let collector = Collector::start();
        traced(Some(collector.url()), rate, || (0..REQUESTS).for_each(|_| drop(request_span())));
        let sent = collector.spans().len();
        assert!(expected.contains(&sent), "at a rate of {rate}, {sent} of {REQUESTS}");
    }
}

#[test]
fn a_callers_trace_is_continued_and_its_decision_followed() {
    let collector = Collector::start();
    let continued = |traceparent: &'static str| {
        let headers = |name: &str| match name {
            "traceparent" => Some(traceparent.to_owned()),
            "tracestate" => Some("vendor=1".to_owned()),
            _ => None,
        };
        let request = request_span();
        continue_trace(&request, headers);
        request.in_scope(|| drop(storage_span("read")));
    };
    traced(Some(collector.url()), 0.0, || {
        continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    });
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "a caller that records is followed: {spans:#?}");
    let request = spans.iter().find(|span| span.name == "request").unwrap();
    assert_eq!(request.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(request.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(request.trace_state, "vendor=1");
    let storage = spans.iter().find(|span| span.name == "storage").unwrap();
    assert_eq!((&storage.trace_id, &storage.parent_span_id), (&request.trace_id, &request.span_id));

    let collector = Collector::start();
    traced(Some(collector.url()), 1.0, || {
        continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
    });
    assert!(collector.spans().is_empty(), "a caller that does not record is followed too");
}

#[test]
fn a_malformed_traceparent_begins_a_new_trace() {
    for traceparent in [
        "",
        "nonsense",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let collector = Collector::start();
        traced(Some(collector.url()), 1.0, || {
            let request = request_span();
            continue_trace(&request, |name| (name == "traceparent").then(|| traceparent.to_owned()));
        });
        let spans = collector.spans();
        assert_eq!(spans.len(), 1, "{traceparent}");
        assert!(spans[0].parent_span_id.is_empty(), "{traceparent}");
    }
}

#[test]
fn without_an_endpoint_there_are_no_spans_at_all() {
    let output = child::command("no-endpoint").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("an event"), "the log level was trace: {log}");
}

#[test]
fn a_collector_that_refuses_or_never_answers_blocks_nothing() {
    let _turn = MACHINE.blocking_lock();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), refusing] {
        let began = Instant::now();
        let mut recorded = None;
        traced(Some(format!("http://{address}")), 1.0, || {
            (0..20_000).for_each(|_| drop(request_span()));
            recorded = Some(began.elapsed());
        });
        assert!(recorded.unwrap() < SOON, "20,000 spans took {recorded:?}");
        assert!(began.elapsed() < SOON * 2, "with the shutdown it took {:?}", began.elapsed());
    }
}

#[test]
fn a_collector_that_is_away_is_told_of_once() {
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = child::command_with_endpoint("collector-away", &format!("http://{away}")).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches("traces cannot be sent").count(), 1, "{log}");
    assert!(!log.contains(r#""level":"ERROR""#), "{log}");
    assert!(log.lines().last().unwrap().contains("after the shutdown"), "{log}");
}

#[test]
fn a_rate_or_an_endpoint_that_cannot_be_is_refused() {
    let refused = |endpoint: Option<&str>, sampling_rate| {
        let traces = TraceOptions { endpoint: endpoint.map(str::to_owned), sampling_rate };
        telemetry::subscriber(&LogOptions::default(), &traces).unwrap_err().to_string()
    };
    for rate in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(refused(None, rate).contains("between 0 (no trace) and 1"), "{rate}");
    }
    assert!(refused(Some("collector:4318"), 1.0).contains("`collector:4318`"));
}
