//! The other end of a connection: what is known of it for all its requests.

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

use super::connection::Purpose;
use crate::{identity::Certificate, snapshot::Snapshot};

/// One connection's other end.
pub(super) struct Peer {
    /// What the address that it came to is for.
    pub(super) purpose: Purpose,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// Whether it speaks TLS.
    pub(super) is_secure: bool,
    /// The certificates that it showed, its own first.
    chain: Vec<CertificateDer<'static>>,
    /// What came of the last verification.
    verified: ArcSwapOption<Verified>,
    closing: Notify,
    /// Answers under way, where a connection has several at once.
    answers: Option<Mutex<Answers>>,
}

struct Verified {
    /// The snapshot that it was verified under.
    snapshot: u64,
    /// When it has to be verified again.
    until: SystemTime,
    certificate: Arc<Certificate>,
}

/// The certificate of a connection, or its lack of one, is not what the snapshot in force asks for.
#[derive(Debug)]
pub(super) struct NoLongerTrusted(pub(super) String);

#[derive(Default)]
struct Answers {
    under_way: Vec<Weak<Progress>>,
    last: Option<Instant>,
}

/// When an answer last moved.
pub(super) struct Progress {
    began: Instant,
    /// Milliseconds after `began`; `WAITING` until the answer begins.
    moved: AtomicU64,
}

const WAITING: u64 = u64::MAX;

impl Peer {
    pub(super) fn plain(purpose: Purpose, address: IpAddr) -> Self {
        Self::new(purpose, address, false, Vec::new(), None)
    }

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

    /// The certificates of the connection as they came, the client's own first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate's facts, by the authorities, lists and clock of `snapshot`: a connection that stays open is held
    /// to what is in force now. Remembered for the snapshot, until the certificate expires.
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

    /// Whether it speaks HTTP/1.1, where headers speak of the connection.
    pub(super) const fn has_one_request_at_a_time(&self) -> bool {
        self.answers.is_none()
    }

    /// Ends the connection once its requests have their answers.
    pub(super) fn close(&self) {
        self.closing.notify_one();
    }

    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }

    /// Watches one answer, where the connection itself does not show that its reader has stalled.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        let mut answers = self.answers.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = Arc::new(Progress { began: Instant::now(), moved: AtomicU64::new(WAITING) });
        answers.under_way.retain(|answer| answer.strong_count() > 0);
        answers.under_way.push(Arc::downgrade(&progress));
        answers.last = Some(progress.began);
        Some(progress)
    }

    /// Whether an answer that has begun has not moved for that long.
    pub(super) fn is_stalled(&self, silence: Duration) -> bool {
        let Some(answers) = &self.answers else { return false };
        let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.under_way.iter().filter_map(Weak::upgrade).any(|answer| answer.stood_for() > silence)
    }

    /// Whether no answer is under way and none has begun for that long.
    pub(super) fn is_idle(&self, silence: Duration) -> bool {
        let Some(answers) = &self.answers else { return false };
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.under_way.retain(|answer| answer.strong_count() > 0);
        let last = *answers.last.get_or_insert_with(Instant::now);
        answers.under_way.is_empty() && last.elapsed() > silence
    }
}

impl Progress {
    /// The answer has moved.
    pub(super) fn moved(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(WAITING - 1);
        self.moved.store(now, Ordering::Relaxed);
    }

    fn stood_for(&self) -> Duration {
        match self.moved.load(Ordering::Relaxed) {
            WAITING => Duration::ZERO,
            moved => self.began.elapsed().saturating_sub(Duration::from_millis(moved)),
        }
    }
}
