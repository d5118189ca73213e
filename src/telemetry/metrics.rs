//! Counts for `/metrics`, in counters, gauges and histograms. `docs/reference/metrics.md` lists every family.
//!
//! Every request records values. So recording uses plain atomics, found by one hash of a static label, and only a
//! request for `/metrics` makes the text (`exposition`).

mod by_label;
mod exposition;
mod histogram;
mod upstreams;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use by_label::ByLabel;
use histogram::Histogram;
pub use upstreams::UpstreamBytes;
use upstreams::Upstreams;

/// The media type of [`Metrics::render`] (`OpenMetrics` 1.0, "Protocol Negotiation").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The kinds of fault of a write to the store.
const NO_FAULT: u8 = 0;
const FULL: u8 = 1;
const DENIED: u8 = 2;

/// The statuses that each action is counted under from the start. Others appear with their first answer.
const USUAL: [u16; 11] = [200, 201, 202, 400, 401, 403, 404, 429, 500, 502, 503];

/// Counts events of the process. Clones share the same numbers, so each module holds its own.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By action.
    requests: ByLabel<Requests>,
    /// By reason.
    rejected: ByLabel<AtomicU64>,
    /// By pool.
    given_up: ByLabel<AtomicU64>,
    /// By operation.
    storage: ByLabel<Storage>,
    /// By outcome.
    reloads: ByLabel<AtomicU64>,
    refreshes: ByLabel<AtomicU64>,
    /// By outcome.
    logins: ByLabel<AtomicU64>,
    reload_refused: AtomicBool,
    /// By effect.
    decisions: ByLabel<AtomicU64>,
    /// By kind: 1 while it lasts.
    troubles: ByLabel<AtomicI64>,
    /// The kind of the fault of the last write to the store; `NO_FAULT` if it succeeded.
    write_fault: AtomicU8,
    /// Lines of the record of decisions that could not be written.
    audit_failures: AtomicU64,
    /// Seconds since 1970; 0 without TLS.
    certificate_expires: AtomicU64,
    /// By outcome.
    scrubs: ByLabel<AtomicU64>,
    /// By outcome.
    scrub_findings: ByLabel<AtomicU64>,
    scrub_freed: AtomicU64,
    /// Seconds since 1970; 0 before the first.
    scrub_ended: AtomicU64,
    /// Seconds since 1970; 0 before the first.
    scrub_succeeded: AtomicU64,
    /// By place: `hit`, `miss`, `stale`.
    cache_answers: ByLabel<AtomicU64>,
    upstreams: Upstreams,
    requests_in_flight: AtomicI64,
    transfers_in_flight: AtomicI64,
    uploads_open: AtomicI64,
    /// Seconds since 1970.
    started: f64,
}

/// The requests for one action.
#[derive(Debug, Default)]
struct Requests {
    statuses: Statuses,
    duration: Histogram,
    received: AtomicU64,
    sent: AtomicU64,
}

/// Counts one operation of the storage.
#[derive(Debug)]
struct Storage {
    /// The count is the number of operations, failed ones included.
    duration: Histogram,
    /// By kind.
    errors: ByLabel<AtomicU64>,
}

impl Default for Storage {
    fn default() -> Self {
        let errors = ByLabel::of(&["damaged", "denied", "full", "unavailable"]);
        Self { duration: Histogram::default(), errors }
    }
}

/// A counter for each status of HTTP: 4 KiB an action, and no lookup.
#[derive(Debug)]
struct Statuses(Box<[AtomicU64]>);

impl Statuses {
    const FIRST: u16 = 100;
    const LAST: u16 = 599;

    /// Returns the counter of `status`. A status that HTTP does not have counts as the nearest one.
    fn of(&self, status: u16) -> &AtomicU64 {
        &self.0[usize::from(status.clamp(Self::FIRST, Self::LAST) - Self::FIRST)]
    }

    /// Returns the usual statuses and the answered ones with their counts.
    fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        let all = (Self::FIRST..).zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)));
        all.filter(|(status, count)| *count > 0 || USUAL.contains(status))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self((Self::FIRST..=Self::LAST).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Starts counting at zero. A process makes one such value at its start, since `process_start_time` is its time.
    #[must_use]
    pub fn new() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let inner = Inner {
            requests: ByLabel::default(),
            rejected: ByLabel::default(),
            given_up: ByLabel::of(&["connections", "documents", "heads", "transfers", "uploads"]),
            cache_answers: ByLabel::of(&["hit", "miss", "stale"]),
            upstreams: Upstreams::default(),
            storage: ByLabel::of(&["create", "delete", "get", "list", "put", "read", "stat"]),
            reloads: ByLabel::of(&["in-force", "refused"]),
            refreshes: ByLabel::of(&["failed", "fetched", "unchanged"]),
            logins: ByLabel::of(&["accepted", "refused"]),
            reload_refused: AtomicBool::new(false),
            decisions: ByLabel::of(&["allow", "deny", "not_covered", "would_deny"]),
            troubles: ByLabel::default(),
            write_fault: AtomicU8::new(NO_FAULT),
            audit_failures: AtomicU64::new(0),
            certificate_expires: AtomicU64::new(0),
            scrubs: ByLabel::of(&["clean", "failed", "findings", "stopped"]),
            scrub_findings: ByLabel::of(&["known", "quarantined", "repaired"]),
            scrub_freed: AtomicU64::new(0),
            scrub_ended: AtomicU64::new(0),
            scrub_succeeded: AtomicU64::new(0),
            requests_in_flight: AtomicI64::new(0),
            transfers_in_flight: AtomicI64::new(0),
            uploads_open: AtomicI64::new(0),
            started,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Counts a request that has ended, its bodies included: the status it was answered with (100 to 599), how long it
    /// took, and the bytes of body received and sent.
    pub fn record_request(&self, action: &'static str, status: u16, duration: Duration, received: u64, sent: u64) {
        self.inner.requests.with(action, |requests| {
            requests.statuses.of(status).fetch_add(1, Ordering::Relaxed);
            requests.duration.observe(duration);
            requests.received.fetch_add(received, Ordering::Relaxed);
            requests.sent.fetch_add(sent, Ordering::Relaxed);
        });
    }

    /// Counts a request that was turned away before any work, under a short reason such as `queue-full`.
    pub fn record_rejected(&self, reason: &'static str) {
        self.inner.rejected.with(reason, |count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts a share of a pool that a client lost to another client.
    pub fn record_given_up(&self, pool: &'static str) {
        self.inner.given_up.with(pool, |count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Names the actions and the reasons of rejection that may be counted, so that their counters exist from the start.
    pub fn begin(&self, actions: impl Iterator<Item = &'static str>, rejections: &[&'static str]) {
        for action in actions {
            self.inner.requests.with(action, |_| {});
        }
        for reason in rejections {
            self.inner.rejected.with(reason, |_| {});
        }
    }

    /// Counts a decision of policy, by its effect.
    pub fn record_decision(&self, effect: &'static str) {
        self.inner.decisions.with(effect, |count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Says of a kind of trouble whether it lasts.
    pub fn set_trouble(&self, kind: &'static str, lasts: bool) {
        self.inner.troubles.with(kind, |trouble| trouble.store(i64::from(lasts), Ordering::Relaxed));
    }

    /// Says how many lines of the record of decisions could not be written since the start.
    pub fn set_audit_failures(&self, lost: u64) {
        self.inner.audit_failures.store(lost, Ordering::Relaxed);
    }

    /// Says when the first of the server's own certificates expires, in seconds since 1970.
    pub fn set_certificate_expiry(&self, expires: u64) {
        self.inner.certificate_expires.store(expires, Ordering::Relaxed);
    }

    /// Returns the kind of fault that the last write to the store had: `full` or `denied`.
    #[must_use]
    pub fn write_fault(&self) -> Option<&'static str> {
        match self.inner.write_fault.load(Ordering::Relaxed) {
            FULL => Some("full"),
            DENIED => Some("denied"),
            _ => None,
        }
    }

    /// Counts an operation of the storage, how long it took, and the kind of its error if it failed.
    pub fn record_storage(&self, operation: &'static str, duration: Duration, error: Option<&'static str>) {
        if matches!(operation, "put" | "create") {
            let fault = match error {
                Some("full") => FULL,
                Some("denied") => DENIED,
                _ => NO_FAULT,
            };
            // looked at first, since all writers share it
            if self.inner.write_fault.load(Ordering::Relaxed) != fault {
                self.inner.write_fault.store(fault, Ordering::Relaxed);
            }
        }
        self.inner.storage.with(operation, |storage| {
            storage.duration.observe(duration);
            if let Some(kind) = error {
                storage.errors.with(kind, |count| count.fetch_add(1, Ordering::Relaxed));
            }
        });
    }

    /// Counts a reading of edited files: whether what they say came into force.
    pub fn record_reload(&self, in_force: bool) {
        let outcome = if in_force { "in-force" } else { "refused" };
        self.inner.reloads.with(outcome, |count| count.fetch_add(1, Ordering::Relaxed));
        self.inner.reload_refused.store(!in_force, Ordering::Relaxed);
    }

    /// Counts a login: an issued token, or credentials that were not accepted.
    pub fn record_login(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.inner.logins.with(outcome, |count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts a tag of a cache that this server looked at by itself.
    pub fn record_refresh(&self, outcome: &'static str) {
        self.inner.refreshes.with(outcome, |count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts a scrub of this server that has ended now, and the bytes that it freed.
    pub fn record_scrub(&self, outcome: &'static str, freed: u64) {
        self.inner.scrubs.with(outcome, |count| count.fetch_add(1, Ordering::Relaxed));
        self.inner.scrub_freed.fetch_add(freed, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.inner.scrub_ended.store(now, Ordering::Relaxed);
        if outcome == "clean" {
            self.inner.scrub_succeeded.store(now, Ordering::Relaxed);
        }
    }

    /// Counts what a scrub of this server found wrong, by what became of it.
    pub fn record_scrub_findings(&self, outcome: &'static str, number: u64) {
        self.inner.scrub_findings.with(outcome, |count| count.fetch_add(number, Ordering::Relaxed));
    }

    /// Counts an answer of a cache, by the place of its content: `hit`, `miss` or `stale`.
    pub fn record_cache_answer(&self, served: &'static str) {
        self.inner.cache_answers.with(served, |count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts a question to an upstream, by its outcome. `duration` is the time to the answer, if there was one.
    pub fn record_upstream(&self, host: &str, outcome: &'static str, duration: Option<Duration>) {
        self.inner.upstreams.of(host).asked(outcome, duration);
    }

    /// Returns the counter of the bytes of blobs that an upstream sends.
    #[must_use]
    pub fn upstream_bytes(&self, host: &str) -> UpstreamBytes {
        UpstreamBytes(self.inner.upstreams.of(host))
    }

    /// Says how many requests an upstream has left, if it says so itself, and whether it rests after failures.
    pub fn set_upstream(&self, host: &str, remaining: Option<u64>, is_resting: bool) {
        let counts = self.inner.upstreams.of(host);
        counts.remaining.store(remaining.map_or(0, |left| left.saturating_add(1)), Ordering::Relaxed);
        counts.resting.store(is_resting.into(), Ordering::Relaxed);
    }

    /// Counts a request as being answered until the returned value is dropped.
    pub fn request_started(&self) -> InFlight {
        InFlight::new(&self.inner, |inner| &inner.requests_in_flight)
    }

    /// Counts a body as moving until the returned value is dropped.
    pub fn transfer_started(&self) -> InFlight {
        InFlight::new(&self.inner, |inner| &inner.transfers_in_flight)
    }

    /// Counts an upload session that this process opened.
    pub fn upload_opened(&self) {
        self.inner.uploads_open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an upload session of this process as complete or cancelled.
    ///
    /// Do not call this for a session of another process. If it happens, the gauge stays at zero and does not fall
    /// below.
    pub fn upload_closed(&self) {
        let one_less = |open: i64| Some((open - 1).max(0));
        let _before = self.inner.uploads_open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Returns all families in the text format of `OpenMetrics` 1.0, for [`CONTENT_TYPE`].
    ///
    /// Reads `/proc/self`, which takes microseconds and no disk.
    #[must_use]
    pub fn render(&self) -> String {
        exposition::render(&self.inner)
    }
}

/// Holds a gauge one higher until it is dropped.
#[derive(Debug)]
#[must_use = "the gauge falls again when this is dropped"]
pub struct InFlight {
    inner: Arc<Inner>,
    gauge: fn(&Inner) -> &AtomicI64,
}

impl InFlight {
    fn new(inner: &Arc<Inner>, gauge: fn(&Inner) -> &AtomicI64) -> Self {
        gauge(inner).fetch_add(1, Ordering::Relaxed);
        Self { inner: Arc::clone(inner), gauge }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        (self.gauge)(&self.inner).fetch_sub(1, Ordering::Relaxed);
    }
}
