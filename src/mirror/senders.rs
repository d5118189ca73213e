//! The upstreams that a download asks next, and those that it has tried.

use std::{sync::Arc, time::Duration};

use super::{Mirror, download::Download};
use crate::upstream::{Reason, Unanswered, Upstream, Upstreams};

/// The rounds through all upstreams that may bring no new byte, or bring bytes too slowly.
const ROUNDS: u32 = 3;
/// The times that streams may break at all.
const BREAKS: u32 = 20;
/// The pause after the first round. It grows with each break.
const PAUSE: Duration = Duration::from_millis(100);

/// The upstreams of one download.
pub(super) struct Senders {
    /// The upstreams that may be asked, for one pull: until the first byte, all questions share one time.
    all: Upstreams,
    /// The upstreams that are left out, since they sent wrong bytes a while ago.
    wrong: Arc<[Arc<Upstream>]>,
    /// The upstreams whose stream broke in this round.
    broken: Vec<Arc<Upstream>>,
    /// All upstreams whose stream broke, with the last reason of each.
    reasons: Vec<(Arc<Upstream>, Reason)>,
    /// The reasons of those that gave no answer when they were asked first.
    refused: Unanswered,
    /// The upstreams that sent bytes of the upload.
    sent: Vec<Arc<Upstream>>,
    /// Set if the upload has bytes that nobody here knows the sender of.
    has_others: bool,
    /// Set if this round brought bytes.
    moved: bool,
    rounds: u32,
    breaks: u32,
}

impl Senders {
    /// Finds the upstreams for a download that begins at `offset`.
    pub(super) fn of(mirror: &Mirror, download: &Download, upstreams: &Upstreams, offset: u64) -> Self {
        let wrong = mirror.wrong.get(&(download.name.clone(), download.digest)).unwrap_or_default();
        let left = upstreams.without(&*wrong);
        // bytes of somebody else than those known to be wrong may be right by now
        let (all, wrong) = if left.is_empty() { (upstreams.clone(), Arc::default()) } else { (left, wrong) };
        Self {
            all: all.for_one_pull(),
            wrong,
            broken: Vec::new(),
            reasons: Vec::new(),
            refused: Unanswered::default(),
            sent: Vec::new(),
            has_others: offset > 0,
            moved: false,
            rounds: 0,
            breaks: 0,
        }
    }

    /// Returns the upstreams to ask now.
    pub(super) fn next(&self) -> Upstreams {
        self.all.without(&self.broken)
    }

    /// Notes that an upstream sent bytes.
    fn sent(&mut self, upstream: &Arc<Upstream>) {
        self.sent.retain(|sent| !Arc::ptr_eq(sent, upstream));
        self.sent.push(Arc::clone(upstream));
    }

    /// Ends the time until the first byte: readers have an answer. Each question has its own time from now on.
    pub(super) fn has_begun(&mut self) {
        self.all = self.all.for_one_pull();
    }

    /// Notes that the stream of an upstream broke, and whether it brought bytes. The next one is asked for the rest.
    pub(super) fn broke(&mut self, upstream: &Arc<Upstream>, reason: Reason, moved: bool) {
        if moved {
            self.sent(upstream);
            self.moved |= !matches!(reason, Reason::TooSlow);
        }
        self.breaks += 1;
        self.broken.push(Arc::clone(upstream));
        self.reasons.retain(|(known, _)| !Arc::ptr_eq(known, upstream));
        self.reasons.push((Arc::clone(upstream), reason));
    }

    /// Begins a new round, after a pause, with those whose stream broke in this one. The others gave no answer.
    ///
    /// # Errors
    /// The acts of each upstream, if a new round makes no sense.
    pub(super) async fn again(&mut self, unanswered: Unanswered) -> Result<(), Unanswered> {
        self.refused.reasons.extend(unanswered.reasons);
        self.rounds = if self.moved { 0 } else { self.rounds + 1 };
        if self.broken.is_empty() || self.rounds > ROUNDS || self.breaks > BREAKS {
            return Err(self.unanswered());
        }
        tokio::time::sleep(PAUSE * self.breaks).await;
        self.all = self.all.only(&self.broken);
        self.broken.clear();
        self.moved = false;
        Ok(())
    }

    /// Returns what each upstream did.
    fn unanswered(&self) -> Unanswered {
        let wrong = Reason::WrongAnswer("bytes with another digest".to_owned());
        let tried = self.wrong.iter().map(|one| (one, &wrong)).chain(self.reasons.iter().map(|(one, why)| (one, why)));
        let tried = tried.map(|(one, why)| (one.host().to_owned(), why.clone()));
        Unanswered { reasons: tried.chain(self.refused.reasons.iter().cloned()).collect() }
    }

    /// Notes that the bytes have the right digest.
    pub(super) fn right(mirror: &Mirror, download: &Download, last: &Upstream) {
        last.note_stream(&download.digest, true);
        mirror.wrong.remove(&(download.name.clone(), download.digest));
    }

    /// Notes that the bytes have a wrong digest, so that the next download leaves out the upstreams that sent them. If
    /// there are no others, it leaves out all but the last one, which then sends all bytes alone.
    pub(super) fn wrong(&mut self, mirror: &Mirror, download: &Download, upstreams: &Upstreams, last: &Arc<Upstream>) {
        // the wrong ones may be those of somebody else: the next download begins anew, and knows all senders
        if self.has_others {
            return;
        }
        self.sent(last);
        let is_alone = self.sent.len() == 1;
        if is_alone {
            self.sent[0].note_stream(&download.digest, false);
        }
        let mut wrong: Vec<_> = self.wrong.iter().chain(&self.sent).cloned().collect();
        if !is_alone && upstreams.without(&wrong).is_empty() {
            wrong.pop();
        }
        mirror.wrong.insert((download.name.clone(), download.digest), wrong.into());
    }
}
