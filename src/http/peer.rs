//! Holds the facts about a connection's other end, for all its requests.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;

use super::purpose::Purpose;
use crate::{identity::Certificate, snapshot::Snapshot};

/// One connection's other end.
pub(super) struct Peer {
    /// The purpose of the address that the client connected to.
    pub(super) purpose: Purpose,
    /// The client's address.
    pub(super) address: IpAddr,
    /// True for a connection over TLS.
    pub(super) is_secure: bool,
    /// The certificates that the client showed, its own first.
    chain: Vec<CertificateDer<'static>>,
    /// The outcome of the last verification.
    verified: ArcSwapOption<Verified>,
    closing: Notify,
    /// The answers under way, if the connection may have several at once.
    answers: Option<Mutex<Answers>>,
}

struct Verified {
    /// The number of the snapshot that verified the certificate.
    snapshot: u64,
    /// The time at which it has to be verified again.
    until: SystemTime,
    certificate: Arc<Certificate>,
}

/// The snapshot in force does not accept the connection's certificate, or its lack of one; in words.
#[derive(Debug)]
pub(super) struct NoLongerTrusted(pub(super) String);

#[derive(Default)]
struct Answers {
    under_way: Vec<Weak<Progress>>,
    last: Option<Instant>,
}

/// The time at which an answer last moved.
pub(super) struct Progress {
    began: Instant,
    /// Milliseconds after `began`; `WAITING` until the answer begins.
    moved: AtomicU64,
}

const WAITING: u64 = u64::MAX;

impl Peer {
    /// Creates the peer of a plain connection.
    pub(super) fn plain(purpose: Purpose, address: IpAddr) -> Self {
        Self::new(purpose, address, false, Vec::new(), None)
    }

    /// Creates the peer of a connection over TLS.
    pub(super) fn secure(
        purpose: Purpose,
        address: IpAddr,
        chain: Vec<CertificateDer<'static>>,
        several_at_once: bool,
    ) -> Self {
        Self::new(purpose, address, true, chain, several_at_once.then(Mutex::default))
    }

    fn new(
        purpose: Purpose,
        address: IpAddr,
        is_secure: bool,
        chain: Vec<CertificateDer<'static>>,
        answers: Option<Mutex<Answers>>,
    ) -> Self {
        let (verified, closing) = (ArcSwapOption::empty(), Notify::new());
        Self { purpose, address, is_secure, chain, verified, closing, answers }
    }

    /// Returns the certificates as the client sent them, its own first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Verifies the certificate by the authorities, revocation lists and clock of `snapshot`, and returns its facts. So an
    /// open connection is held to the certificates in force. The outcome is remembered for the snapshot, until the
    /// certificate expires.
    pub(super) fn certificate(&self, snapshot: &Snapshot) -> Result<Option<Arc<Certificate>>, NoLongerTrusted> {
        let Some(tls) = snapshot.tls().filter(|_| self.is_secure) else { return Ok(None) };
        if self.chain.is_empty() {
            return if snapshot.requires_certificate() {
                Err(NoLongerTrusted("a client certificate is required, and this connection has none".to_owned()))
            } else {
                Ok(None)
            };
        }
        if let Some(verified) = self.verified.load().as_deref()
            && verified.snapshot == snapshot.number()
            && verified.until > SystemTime::now()
        {
            return Ok(Some(Arc::clone(&verified.certificate)));
        }
        let client = tls.client(&self.chain).map_err(|error| NoLongerTrusted(error.to_string()))?;
        let certificate = Arc::clone(&client.certificate);
        let verified =
            Verified { snapshot: snapshot.number(), until: client.valid_until, certificate: client.certificate };
        self.verified.store(Some(Arc::new(verified)));
        Ok(Some(certificate))
    }

    /// Returns true for HTTP/1.1, where a header may close the connection.
    pub(super) const fn has_one_request_at_a_time(&self) -> bool {
        self.answers.is_none()
    }

    /// Ends the connection once its requests have their answers.
    pub(super) fn close(&self) {
        self.closing.notify_one();
    }

    /// Waits until the connection is to end.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }

    /// Watches one answer of HTTP/2. The connection itself does not show that the reader of one stream has stalled.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        let mut answers = self.answers.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = Arc::new(Progress { began: Instant::now(), moved: AtomicU64::new(WAITING) });
        answers.under_way.retain(|answer| answer.strong_count() > 0);
        answers.under_way.push(Arc::downgrade(&progress));
        answers.last = Some(progress.began);
        Some(progress)
    }

    /// Returns true if an answer has begun and has not moved for that long.
    pub(super) fn is_stalled(&self, silence: Duration) -> bool {
        let Some(answers) = &self.answers else { return false };
        let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.under_way.iter().filter_map(Weak::upgrade).any(|answer| answer.stood_for() > silence)
    }

    /// Returns true if no answer is under way and none has begun for that long.
    pub(super) fn is_idle(&self, silence: Duration) -> bool {
        let Some(answers) = &self.answers else { return false };
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.under_way.retain(|answer| answer.strong_count() > 0);
        let last = *answers.last.get_or_insert_with(Instant::now);
        answers.under_way.is_empty() && last.elapsed() > silence
    }
}

impl Progress {
    /// Notes that the answer has moved.
    pub(super) fn moved(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(WAITING - 1);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Returns the time since the last move.
    fn stood_for(&self) -> Duration {
        match self.moved.load(Ordering::Relaxed) {
            WAITING => Duration::ZERO,
            moved => self.began.elapsed().saturating_sub(Duration::from_millis(moved)),
        }
    }
}
