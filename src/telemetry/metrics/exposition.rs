//! Makes the text of `/metrics`.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Inner;
use super::histogram::{Histogram, Observed};

/// Before the name of every family.
const PREFIX: &str = "simple_registry";

pub(super) fn render(inner: &Arc<Inner>) -> String {
    let mut registry = Registry::default();
    // these have the names that Prometheus' own clients give them
    registry.register_collector(Box::new(Process { started: inner.started }));
    registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(Arc::clone(inner)));
    let mut text = String::with_capacity(16 * 1024);
    text::encode(&mut text, &registry).expect("writing to a string fails only when memory does");
    text
}

// A counter's family is named without `_total`, and a family with a unit without it: the encoder adds both.
impl Collector for Inner {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_requests(&mut encoder)?;
        self.encode_storage(&mut encoder)?;
        self.encode_rules(&mut encoder)?;
        self.encode_scrub(&mut encoder)?;
        self.encode_caches(&mut encoder)?;
        encoder
            .encode_descriptor("build", "The version that runs", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

/// The families about the process, which every program has.
#[derive(Debug)]
struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Inner {
    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_action = self.requests.sorted();

        let mut family = encoder.encode_descriptor(
            "requests",
            "Requests that have ended, their bodies included",
            None,
            MetricType::Counter,
        )?;
        for (action, requests) in &by_action {
            for (status, count) in requests.statuses.seen() {
                counter(&mut family, &[("action", action), ("status", &status.to_string())], count)?;
            }
        }

        let mut family = encoder.encode_descriptor(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (action, requests) in &by_action {
            histogram(&mut family, &[("action", action)], &requests.duration)?;
        }

        for (name, help, received) in [
            ("request_body", "Bytes of request bodies received", true),
            ("response_body", "Bytes of response bodies sent", false),
        ] {
            let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?;
            for (action, requests) in &by_action {
                let bytes = if received { &requests.received } else { &requests.sent };
                counter(&mut family, &[("action", action)], bytes.load(Ordering::Relaxed))?;
            }
        }

        let mut family = encoder.encode_descriptor(
            "requests_rejected",
            "Requests turned away before any work",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in self.rejected.sorted() {
            counter(&mut family, &[("reason", reason)], count.load(Ordering::Relaxed))?;
        }

        let help = "Transfers, connections and memory that a client lost to another client";
        let mut family = encoder.encode_descriptor("shares_given_up", help, None, MetricType::Counter)?;
        for (pool, count) in self.given_up.sorted() {
            counter(&mut family, &[("pool", pool)], count.load(Ordering::Relaxed))?;
        }

        gauge(encoder, "requests_in_flight", "Requests being answered now", &self.requests_in_flight)?;
        gauge(encoder, "transfers_in_flight", "Bodies being received or sent now", &self.transfers_in_flight)?;
        gauge(
            encoder,
            "uploads_open",
            "Upload sessions that this process opened and that are neither complete nor cancelled",
            &self.uploads_open,
        )
    }

    fn encode_storage(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_operation = self.storage.sorted();
        let durations: Vec<_> =
            by_operation.iter().map(|(operation, storage)| (*operation, &storage.duration)).collect();

        let mut family = encoder.encode_descriptor(
            "storage_operations",
            "Operations asked of the storage, failed ones included",
            None,
            MetricType::Counter,
        )?;
        for (operation, duration) in &durations {
            counter(&mut family, &[("operation", operation)], duration.count())?;
        }

        let mut family = encoder.encode_descriptor(
            "storage_errors",
            "Operations of the storage that failed",
            None,
            MetricType::Counter,
        )?;
        for (operation, storage) in &by_operation {
            for (kind, count) in storage.errors.sorted() {
                counter(&mut family, &[("operation", operation), ("kind", kind)], count.load(Ordering::Relaxed))?;
            }
        }

        let mut family = encoder.encode_descriptor(
            "storage_operation_duration",
            "Time that an operation of the storage took",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (operation, duration) in &durations {
            histogram(&mut family, &[("operation", operation)], duration)?;
        }
        Ok(())
    }

    fn encode_rules(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, counts) in [
            ("logins", "Tokens given to somebody, and credentials that were not accepted", &self.logins),
            ("reloads", "Readings of edited configuration, policies and certificates", &self.reloads),
            ("refreshes", "Tags of caches that this server looked at by itself", &self.refreshes),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (outcome, count) in counts.sorted() {
                counter(&mut family, &[("outcome", outcome)], count.load(Ordering::Relaxed))?;
            }
        }
        let help = "Decisions of policy";
        let mut family = encoder.encode_descriptor("policy_decisions", help, None, MetricType::Counter)?;
        for (effect, count) in self.decisions.sorted() {
            counter(&mut family, &[("effect", effect)], count.load(Ordering::Relaxed))?;
        }
        let help = "Lines of the record of decisions that could not be written";
        encoder
            .encode_descriptor("audit_failures", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&self.audit_failures.load(Ordering::Relaxed), None)?;
        let help = "1 while this lasts: see /readyz";
        let mut family = encoder.encode_descriptor("trouble", help, None, MetricType::Gauge)?;
        for (kind, lasts) in self.troubles.sorted() {
            family.encode_family(&[("kind", kind)])?.encode_gauge(&lasts.load(Ordering::Relaxed))?;
        }
        let help = "When the first of the server's own certificates expires, since 1970-01-01 UTC";
        time(encoder, "tls_certificate_expiry_time", help, &self.certificate_expires)?;
        let refused = i64::from(self.reload_refused.load(Ordering::Relaxed));
        encoder
            .encode_descriptor(
                "reload_refused",
                "1 while the files say something that was refused, and what was in force before still is",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&refused)
    }

    fn encode_caches(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Answers of caches, by the place of their content";
        let mut family = encoder.encode_descriptor("cache_answers", help, None, MetricType::Counter)?;
        for (served, count) in self.cache_answers.sorted() {
            counter(&mut family, &[("served", served)], count.load(Ordering::Relaxed))?;
        }
        let all = self.upstreams.sorted();
        let help = "Questions to upstreams, by outcome";
        let mut family = encoder.encode_descriptor("upstream_questions", help, None, MetricType::Counter)?;
        for (host, counts) in &all {
            for (outcome, count) in counts.questions.sorted() {
                counter(&mut family, &[("upstream", host), ("outcome", outcome)], count.load(Ordering::Relaxed))?;
            }
        }
        let (help, unit) = ("Time to the answer of an upstream", Some(&Unit::Seconds));
        let mut family = encoder.encode_descriptor("upstream_question_duration", help, unit, MetricType::Histogram)?;
        for (host, counts) in &all {
            histogram(&mut family, &[("upstream", host)], &counts.duration)?;
        }
        let (help, unit) = ("Bytes of blobs that upstreams sent", Some(&Unit::Bytes));
        let mut family = encoder.encode_descriptor("upstream_received", help, unit, MetricType::Counter)?;
        for (host, counts) in &all {
            counter(&mut family, &[("upstream", host)], counts.bytes.load(Ordering::Relaxed))?;
        }
        let help = "Requests that an upstream has left, as it said last";
        let mut family = encoder.encode_descriptor("upstream_remaining_requests", help, None, MetricType::Gauge)?;
        for (host, counts) in &all {
            if let Some(left) = counts.remaining.load(Ordering::Relaxed).checked_sub(1) {
                let left = i64::try_from(left).unwrap_or(i64::MAX);
                family.encode_family(&[("upstream", &**host)])?.encode_gauge(&left)?;
            }
        }
        let help = "1 while an upstream is left alone, since it failed too often";
        let mut family = encoder.encode_descriptor("upstream_resting", help, None, MetricType::Gauge)?;
        for (host, counts) in &all {
            let resting = i64::try_from(counts.resting.load(Ordering::Relaxed)).unwrap_or(1);
            family.encode_family(&[("upstream", &**host)])?.encode_gauge(&resting)?;
        }
        Ok(())
    }

    fn encode_scrub(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, counts) in [
            ("scrubs", "Scrubs of this server that have ended", &self.scrubs),
            ("scrub_findings", "What they found wrong, by what became of it", &self.scrub_findings),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (outcome, count) in counts.sorted() {
                counter(&mut family, &[("outcome", outcome)], count.load(Ordering::Relaxed))?;
            }
        }
        let help = "Bytes that they freed";
        encoder
            .encode_descriptor("scrub_freed", help, Some(&Unit::Bytes), MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&self.scrub_freed.load(Ordering::Relaxed), None)?;
        let (ended, succeeded) = (&self.scrub_ended, &self.scrub_succeeded);
        time(encoder, "scrub_last_end_time", "When the last of them ended, since 1970-01-01 UTC", ended)?;
        let help = "When the last of them ended that left nothing wrong, since 1970-01-01 UTC";
        time(encoder, "scrub_last_success_time", help, succeeded)
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(
                "process_start_time",
                "When the process started, since 1970-01-01 UTC",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&self.started)?;
        // Where the system does not tell, the family stays without a value: zero would be a lie.
        let mut family = encoder.encode_descriptor(
            "process_resident_memory",
            "Memory of the process that is in RAM",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        if let Some(bytes) = resident_memory() {
            family.encode_gauge(&bytes)?;
        }
        let mut family =
            encoder.encode_descriptor("process_open_fds", "Open file descriptors", None, MetricType::Gauge)?;
        if let Some(descriptors) = open_descriptors() {
            family.encode_gauge(&descriptors)?;
        }
        Ok(())
    }
}

fn counter<const N: usize>(family: &mut MetricEncoder<'_>, labels: &[(&str, &str); N], count: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

fn histogram(family: &mut MetricEncoder<'_>, labels: &[(&str, &str); 1], histogram: &Histogram) -> fmt::Result {
    let Observed { sum, count, buckets } = histogram.observed();
    family.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// Encodes a time in seconds since 1970. Zero stands for none, and then the family has no value.
fn time(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &AtomicU64) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    match i64::try_from(value.load(Ordering::Relaxed)) {
        Ok(seconds) if seconds > 0 => family.encode_gauge(&seconds),
        _ => Ok(()),
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &AtomicI64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value.load(Ordering::Relaxed))
}

/// Returns `VmRSS` of `/proc/self/status`, in bytes (proc(5)).
fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kibibytes.parse::<u64>().ok()? * 1024)
}

/// Returns the number of entries of `/proc/self/fd`, without the descriptor that lists them.
fn open_descriptors() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(entries.saturating_sub(1)).ok()
}
