//! Holds the facts about a connection's other end, for all its requests.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;

use super::{purpose::Purpose, shares::Pace, stream::Wire};
use crate::{identity::Certificate, snapshot::Snapshot};

/// One connection's other end.
pub(super) struct Peer {
    /// The purpose of the address that the client connected to.
    pub(super) purpose: Purpose,
    /// The client's address.
    pub(super) address: IpAddr,
    /// True for a connection over TLS.
    pub(super) is_secure: bool,
    /// The socket.
    pub(super) wire: Arc<Wire>,
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
    under_way: Vec<Weak<Pace>>,
    last: Option<Instant>,
}

impl Peer {
    /// Creates the peer of a plain connection.
    pub(super) fn plain(purpose: Purpose, address: IpAddr, wire: Arc<Wire>) -> Self {
        Self::new(purpose, address, None, wire, None)
    }

    /// Creates the peer of a connection over TLS.
    pub(super) fn secure(
        purpose: Purpose,
        address: IpAddr,
        wire: Arc<Wire>,
        chain: Vec<CertificateDer<'static>>,
        several_at_once: bool,
    ) -> Self {
        if several_at_once {
            // HTTP/2 bounds the memory of heads itself
            wire.head_came();
        }
        Self::new(purpose, address, Some(chain), wire, several_at_once.then(Mutex::default))
    }

    fn new(
        purpose: Purpose,
        address: IpAddr,
        chain: Option<Vec<CertificateDer<'static>>>,
        wire: Arc<Wire>,
        answers: Option<Mutex<Answers>>,
    ) -> Self {
        let (verified, closing) = (ArcSwapOption::empty(), Notify::new());
        let (is_secure, chain) = (chain.is_some(), chain.unwrap_or_default());
        Self { purpose, address, is_secure, wire, chain, verified, closing, answers }
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

    /// Returns the pace of a new request. Watches the paces of HTTP/2, where the connection itself does not show that the
    /// reader of one stream has stalled.
    pub(super) fn pace(&self) -> Arc<Pace> {
        let pace = Arc::new(Pace::default());
        if let Some(answers) = &self.answers {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.under_way.retain(|answer| answer.strong_count() > 0);
            answers.under_way.push(Arc::downgrade(&pace));
            answers.last = Some(Instant::now());
        } else {
            self.wire.head_came();
        }
        pace
    }

    /// Notes that a request was answered.
    pub(super) fn answered(&self) {
        if self.has_one_request_at_a_time() {
            self.wire.head_comes();
        }
    }

    /// Returns true if a client has taken nothing of an answer, or sent nothing of a body, for that long.
    pub(super) fn is_stalled(&self, silence: Duration) -> bool {
        let Some(answers) = &self.answers else { return false };
        let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.under_way.iter().filter_map(Weak::upgrade).any(|answer| answer.silent() > silence)
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
