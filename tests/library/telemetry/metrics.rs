//! Metrics: the text is valid, the numbers are right, and the reference lists every family.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use simple_registry::telemetry::Metrics;

use crate::telemetry::openmetrics::{self, Family};

fn families(metrics: &Metrics) -> BTreeMap<String, Family> {
    let text = metrics.render();
    openmetrics::parse(&text).unwrap_or_else(|rule| panic!("{rule}\n{text}"))
}

/// Returns the value of a sample. Its family has the longest name that the sample's name begins with.
#[track_caller]
fn value(metrics: &Metrics, sample: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let families = families(metrics);
    // families about the process have the names of every program
    let sample = if sample.starts_with("process_") { sample.to_owned() } else { format!("simple_registry_{sample}") };
    let (_, family) = families.iter().rfind(|(name, _)| sample.starts_with(name.as_str())).expect("a family");
    family.value(&sample, labels)
}

/// Metrics in which every family has a sample.
fn with_a_sample_each() -> Metrics {
    let metrics = Metrics::new();
    metrics.record_request("get-manifest", 200, Duration::from_millis(1), 0, 100);
    metrics.record_rejected("overloaded");
    metrics.record_login(true);
    metrics.record_reload(true);
    metrics.record_scrub("clean", 1000);
    metrics.record_upstream("registry.example", "answered", Some(Duration::from_millis(20)));
    metrics.upstream_bytes("registry.example").add(1000);
    metrics.set_upstream("registry.example", Some(99), false);
    metrics.set_trouble("store-full", true);
    metrics.set_certificate_expiry(1_800_000_000);
    metrics.record_scrub_findings("repaired", 2);
    metrics.record_storage("read", Duration::from_millis(1), Some("unavailable"));
    metrics
}

#[test]
fn an_unused_registry_renders_valid_text() {
    let families = families(&Metrics::new());
    let known = |name: &String| name.starts_with("simple_registry_") || name.starts_with("process_");
    assert!(families.keys().all(known), "{:?}", families.keys());
    assert_eq!(value(&Metrics::new(), "requests_in_flight", &[]), Some(0.0));
}

#[test]
fn every_counter_exists_from_the_start_with_all_its_labels() {
    let metrics = Metrics::new();
    metrics.begin(["get-blob"].into_iter(), &["queue-full"]);
    for (sample, labels) in [
        ("requests_total", &[("action", "get-blob"), ("status", "503")][..]),
        ("requests_rejected_total", &[("reason", "queue-full")]),
        ("storage_operations_total", &[("operation", "put")]),
        ("storage_errors_total", &[("operation", "put"), ("kind", "full")]),
        ("logins_total", &[("outcome", "refused")]),
        ("reloads_total", &[("outcome", "refused")]),
        ("policy_decisions_total", &[("effect", "deny")]),
        ("scrubs_total", &[("outcome", "failed")]),
        ("scrub_findings_total", &[("outcome", "quarantined")]),
    ] {
        assert_eq!(value(&metrics, sample, labels), Some(0.0), "{sample} {labels:?}");
    }
}

#[test]
fn the_last_write_to_the_store_tells_whether_it_is_full() {
    let metrics = Metrics::new();
    let (moment, fault) = (Duration::from_millis(1), |kind| metrics.record_storage("put", Duration::ZERO, Some(kind)));
    fault("full");
    metrics.record_storage("get", moment, None);
    assert_eq!(metrics.write_fault(), Some("full"));
    fault("denied");
    assert_eq!(metrics.write_fault(), Some("denied"));
    metrics.record_storage("put", moment, None);
    assert_eq!(metrics.write_fault(), None);
}

#[test]
fn what_many_threads_record_at_once_adds_up() {
    const THREADS: u64 = 8;
    const EACH: u64 = 2000;
    let metrics = Metrics::new();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let metrics = metrics.clone();
            threads.spawn(move || {
                for _ in 0..EACH {
                    let _request = metrics.request_started();
                    metrics.record_request("get-blob", 200, Duration::from_millis(2), 1, 10);
                    metrics.record_request("put-manifest", 201, Duration::from_secs(1), 100, 0);
                    metrics.record_storage("read", Duration::from_micros(100), None);
                    metrics.record_storage("write", Duration::from_micros(100), Some("timeout"));
                    metrics.record_rejected("overloaded");
                    if thread == 0 {
                        metrics.record_request("get-blob", 404, Duration::from_millis(2), 0, 0);
                    }
                }
                let _while_others_record = metrics.render();
            });
        }
    });

    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    let all = (THREADS * EACH) as f64;
    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    let one_thread = EACH as f64;
    let blob = ("action", "get-blob");
    for (sample, labels, expected) in [
        ("requests_total", vec![blob, ("status", "200")], all),
        ("requests_total", vec![blob, ("status", "404")], one_thread),
        ("requests_total", vec![("action", "put-manifest"), ("status", "201")], all),
        ("request_body_bytes_total", vec![blob], all),
        ("request_body_bytes_total", vec![("action", "put-manifest")], all * 100.0),
        ("response_body_bytes_total", vec![blob], all * 10.0),
        ("request_duration_seconds_count", vec![blob], all + one_thread),
        ("request_duration_seconds_bucket", vec![blob, ("le", "0.001")], 0.0),
        ("request_duration_seconds_bucket", vec![blob, ("le", "0.0025")], all + one_thread),
        ("request_duration_seconds_sum", vec![("action", "put-manifest")], all),
        ("storage_operations_total", vec![("operation", "read")], all),
        ("storage_operations_total", vec![("operation", "write")], all),
        ("storage_errors_total", vec![("operation", "write"), ("kind", "timeout")], all),
        ("storage_operation_duration_seconds_count", vec![("operation", "read")], all),
        ("requests_rejected_total", vec![("reason", "overloaded")], all),
        ("requests_in_flight", vec![], 0.0),
    ] {
        assert_eq!(value(&metrics, sample, &labels), Some(expected), "{sample} {labels:?}");
    }
    let no_error = value(&metrics, "storage_errors_total", &[("operation", "read"), ("kind", "timeout")]);
    assert_eq!(no_error, None);
}

#[test]
fn a_duration_on_a_bound_belongs_below_it() {
    let metrics = Metrics::new();
    for duration in [Duration::ZERO, Duration::from_micros(500), Duration::from_mins(1), Duration::from_hours(1)] {
        metrics.record_storage("read", duration, None);
    }
    let bucket =
        |bound| value(&metrics, "storage_operation_duration_seconds_bucket", &[("operation", "read"), ("le", bound)]);
    assert_eq!(bucket("0.0005"), Some(2.0));
    assert_eq!(bucket("30.0"), Some(2.0));
    assert_eq!(bucket("60.0"), Some(3.0));
    assert_eq!(bucket("+Inf"), Some(4.0));
    let sum = value(&metrics, "storage_operation_duration_seconds_sum", &[("operation", "read")]);
    assert_eq!(sum, Some(3660.0005));
}

#[test]
fn gauges_rise_and_fall_with_what_they_count() {
    let metrics = Metrics::new();
    let gauges = || {
        ["requests_in_flight", "transfers_in_flight", "uploads_open"]
            .map(|gauge| format!("{:.0}", value(&metrics, gauge, &[]).unwrap()))
    };
    let request = metrics.request_started();
    let transfers = [metrics.transfer_started(), metrics.transfer_started()];
    metrics.upload_opened();
    assert_eq!(gauges(), ["1", "2", "1"]);
    drop(request);
    drop(transfers);
    metrics.upload_closed();
    assert_eq!(gauges(), ["0", "0", "0"]);
    metrics.upload_closed();
    metrics.upload_opened();
    assert_eq!(gauges(), ["0", "0", "1"], "it does not fall below zero");
}

#[test]
fn a_status_that_http_has_not_is_counted_as_the_nearest() {
    let metrics = Metrics::new();
    metrics.record_request("get-blob", 0, Duration::ZERO, 0, 0);
    metrics.record_request("get-blob", 999, Duration::ZERO, 0, 0);
    for status in ["100", "599"] {
        let labels = [("action", "get-blob"), ("status", status)];
        assert_eq!(value(&metrics, "requests_total", &labels), Some(1.0), "{status}");
    }
}

#[test]
fn logins_and_reloads_are_counted_by_outcome_and_a_refused_edit_stands_out() {
    let metrics = Metrics::new();
    metrics.record_login(true);
    metrics.record_login(false);
    metrics.record_login(false);
    let logins = |outcome| value(&metrics, "logins_total", &[("outcome", outcome)]);
    assert_eq!((logins("accepted"), logins("refused")), (Some(1.0), Some(2.0)));
    for (in_force, refused) in [(false, 1.0), (true, 0.0)] {
        metrics.record_reload(in_force);
        assert_eq!(value(&metrics, "reload_refused", &[]), Some(refused));
    }
    let reloads = |outcome| value(&metrics, "reloads_total", &[("outcome", outcome)]);
    assert_eq!((reloads("in-force"), reloads("refused")), (Some(1.0), Some(1.0)));
}

#[test]
fn the_process_tells_of_itself() {
    let metrics = Metrics::new();
    assert_eq!(value(&metrics, "build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = value(&metrics, "process_start_time_seconds", &[]).unwrap();
    assert!((now - 60.0..=now).contains(&started), "{started}");
    let memory = value(&metrics, "process_resident_memory_bytes", &[]).unwrap();
    assert!((1e5..1e11).contains(&memory), "{memory}");
    let descriptors = || value(&metrics, "process_open_fds", &[]).unwrap();
    assert!(descriptors() >= 3.0, "standard input, output and error are open");
}

/// Name, type and labels of each family.
type Described = BTreeSet<(String, String, Vec<String>)>;

#[test]
fn the_reference_lists_every_family() {
    let rendered: Described = families(&with_a_sample_each())
        .into_iter()
        .map(|(name, family)| {
            let labels = family.samples.iter().flat_map(|(_, labels, _)| labels);
            let labels: BTreeSet<_> = labels.map(|(label, _)| label.clone()).filter(|label| label != "le").collect();
            assert!(!family.samples.is_empty(), "{name} has no sample here, so its labels are not known");
            (name, family.kind, labels.into_iter().collect())
        })
        .collect();

    let reference = include_str!("../../../docs/reference/metrics.md");
    let documented: Described = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|row| {
            let [name, kind, labels, meaning] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
                panic!("four columns: {row}");
            };
            assert!(!meaning.is_empty(), "{row}");
            let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
            let labels: BTreeSet<_> = labels.filter(|label| !label.is_empty()).collect();
            (name.trim_end_matches('`').to_owned(), kind.to_owned(), labels.into_iter().collect())
        })
        .collect();
    assert_eq!(rendered, documented);
}
