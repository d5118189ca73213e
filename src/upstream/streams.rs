//! The streams of blobs of one host: whether they break so often that no new blob is asked for.

use std::time::Instant;

use super::rests::{REST, is_later, rest};
use crate::oci::Digest;

/// The streams of blobs that broke, dripped or had wrong bytes.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Their number since the last good one. A damaged blob counts once before the first rest.
    broken: u32,
    /// Their blobs, as far as they are enough for a rest.
    blobs: Vec<Digest>,
    /// The end of the rest from new blobs.
    rests_until: Option<Instant>,
    /// The end of the time in which no other blob is asked for, since one finds out whether streams are good again.
    tried_until: Option<Instant>,
}

impl Streams {
    /// Returns whether a new blob may be asked for.
    pub(super) fn may_begin(&self, now: Instant) -> bool {
        self.rests_until.is_none() || !(is_later(self.rests_until, now) || is_later(self.tried_until, now))
    }

    /// Notes that a new blob is asked for. Returns whether it finds out whether streams are good again.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.rests_until.is_some() {
            // a large blob takes longer, and its readers may leave: then another one tries
            self.tried_until = Some(now + REST);
        }
        self.rests_until.is_some()
    }

    /// Lets the next blob try.
    pub(super) fn try_again(&mut self) {
        self.tried_until = None;
    }

    /// Returns whether no new blob is asked for until one has come whole.
    pub(super) fn is_resting(&self) -> bool {
        self.rests_until.is_some()
    }

    /// Notes whether a stream brought all of its bytes, and the right ones.
    pub(super) fn note(&mut self, blob: &Digest, is_good: bool, now: Instant) {
        if is_good {
            *self = Self::default();
            return;
        }
        // streams that began before the rest tell nothing new; a damaged blob closes nothing, however often it is asked for
        if is_later(self.rests_until, now) || self.rests_until.is_none() && self.blobs.contains(blob) {
            return;
        }
        if self.rests_until.is_none() {
            self.blobs.push(*blob);
        }
        self.broken = self.broken.saturating_add(1);
        self.rests_until = rest(self.broken).map(|rest| now + rest);
        self.tried_until = None;
    }
}
