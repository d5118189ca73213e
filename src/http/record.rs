//! Writes one line of the log, and one count of the metrics, for each request.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    decisions::Decisions,
    from_cache::FromCache,
    peer::Peer,
    shares::{Cut, Pace},
};
use crate::{
    oci::Name,
    telemetry::{InFlight, Metrics, RequestId},
};

/// The recorded status of a request whose client left before its answer. It is never sent; other servers use it too.
const CLIENT_GONE: u16 = 499;

/// The facts about a request. Its drop writes them, when the answer has been sent or broken off.
pub(super) struct Record {
    pub(super) request_id: RequestId,
    pub(super) action: &'static str,
    pub(super) repository: Option<Name>,
    pub(super) reference: Option<String>,
    /// The client's name in the log.
    pub(super) identity: Option<String>,
    pub(super) client: IpAddr,
    pub(super) status: u16,
    pub(super) sent: u64,
    pub(super) received: Arc<AtomicU64>,
    pub(super) began: Instant,
    /// The way in which a cache answered.
    pub(super) from_cache: Option<FromCache>,
    /// The error's code and cause.
    pub(super) failure: Option<(&'static str, String)>,
    pub(super) metrics: Metrics,
    pub(super) logged: bool,
    pub(super) in_flight: Option<InFlight>,
    /// The decisions, until they are in their record.
    pub(super) decisions: Decisions,
    pub(super) pace: Arc<Pace>,
    pub(super) cut: Arc<Cut>,
    pub(super) peer: Arc<Peer>,
}

impl Record {
    /// Notes that the answer was broken off.
    pub(super) fn broke_off(&mut self, cause: String) {
        self.failure = Some(("UNKNOWN", cause));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.peer.answered();
        if self.cut.is_made() {
            self.failure = Some(("TOOMANYREQUESTS", "another client had a right to its place".to_owned()));
        }
        if self.status == 0 {
            self.status = CLIENT_GONE;
            self.failure.get_or_insert_with(|| ("", "the client went away before its answer".to_owned()));
            // the client is gone, and learns nothing of a record that cannot be written
            let _ = self.decisions.write(self.status);
        }
        let duration = self.began.elapsed();
        let received = self.received.load(Ordering::Relaxed);
        drop(self.in_flight.take());
        self.metrics.record_request(self.action, self.status, duration, received, self.sent);
        let failed = self.status >= 500 || (self.status < 400 && self.failure.is_some());
        if !self.logged && !failed {
            return;
        }
        // to the microsecond
        let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
        let repository = self.repository.as_ref().map(Name::as_str);
        let (error, cause) = self.failure.as_ref().map(|(code, cause)| (*code, cause.as_str())).unzip();
        let cache = self.from_cache.as_ref().map(|from| from.served.as_str());
        let upstream = self.from_cache.as_ref().and_then(|from| from.upstream.as_deref());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "simple_registry::request",
                    request_id = self.request_id.as_str(),
                    action = self.action,
                    repository,
                    reference = self.reference.as_deref(),
                    identity = self.identity.as_deref().unwrap_or("anonymous"),
                    client = %self.client,
                    status = self.status,
                    bytes = self.sent,
                    received,
                    duration_ms,
                    cache,
                    upstream,
                    error,
                    cause,
                    "request"
                )
            };
        }
        if failed {
            line!(error);
        } else {
            line!(info);
        }
    }
}
