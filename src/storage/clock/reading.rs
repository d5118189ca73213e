//! Takes the store's time from its answers, and detects that the store's clock was set back after it was read.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Clock, Moment};

/// The store's time as a run of scrub read it, to judge the ages of objects by it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The number of answers of the store before the reading.
    answers: u64,
    /// The most milliseconds by which the store's clock can have been ahead of the time since boot then.
    lead: i64,
}

impl Reading {
    /// Returns the reading of a store that answered `store_ms` to a request that was sent after `before`.
    #[must_use]
    pub fn new(before: Moment, store_ms: u64) -> Self {
        let lead = i64::try_from(store_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(before.boot);
        Self { answers: before.answers, lead }
    }

    /// Returns the reading that makes later objects look older: this one, or a later one with a larger lead.
    #[must_use]
    pub const fn or_higher(self, later: Self) -> Self {
        if later.lead > self.lead { later } else { self }
    }
}

impl Clock {
    /// Returns the milliseconds since boot, for [`Clock::store_answered`]. Tests do not count this as a look at the clock.
    pub(crate) fn asks(&self) -> u64 {
        self.by_hand.as_ref().map_or_else(|| self.boot_ms(), |by_hand| by_hand.passed_ms.load(Ordering::SeqCst))
    }

    /// Takes the store's time, in milliseconds since 1970, from an answer that came just now. `asked` is the time of
    /// [`Clock::asks`] before the request.
    pub(crate) fn store_answered(&self, store_ms: u64, asked: u64) {
        if self.deaf {
            return;
        }
        let lead = |boot| i64::try_from(store_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(boot);
        let ahead = lead(self.asks());
        self.seen().add(ahead, lead(asked));
        self.lead.hear(ahead);
    }

    /// Takes the store's time from an answer that took no time.
    #[cfg(test)]
    pub(crate) fn store_said(&self, store_ms: u64) {
        self.store_answered(store_ms, self.asks());
    }

    /// Returns how far the store's clock was set back since a reading, as far as its answers show. An object that was
    /// written since may look older than it is by that much.
    ///
    /// An answer that took long hides as much of a step, and never looks like one: on a busy machine answers are late.
    #[must_use]
    pub fn set_back_since(&self, reading: Reading) -> Duration {
        let least = self.seen().smallest_most.iter().find(|(at, _)| *at > reading.answers).map(|(_, lead)| *lead);
        let back = least.map_or(0, |least| reading.lead.saturating_sub(least));
        Duration::from_millis(u64::try_from(back).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_that_took_long_is_no_step_back() {
        let clock = Clock::by_hand();
        let reading = Reading::new(clock.now(), clock.now_ms());
        let (asked, said) = (clock.asks(), clock.now_ms());
        clock.advance(SECOND * 100);
        clock.store_answered(said, asked);
        assert_eq!(clock.set_back_since(reading), Duration::ZERO);
        clock.store_answered(said, clock.asks());
        assert_eq!(clock.set_back_since(reading), SECOND * 100);
    }

    #[test]
    fn a_step_back_counts_however_long_ago_and_a_step_forward_does_not() {
        let clock = Clock::by_hand();
        let says = |ahead: u64| clock.store_said(clock.now_ms() + ahead * 1000);
        let read = |ahead: u64| Reading::new(clock.now(), clock.now_ms() + ahead * 1000);
        says(0);
        let first = read(100);
        assert_eq!(clock.set_back_since(first), Duration::ZERO, "nothing was said since");
        for ahead in [100, 500] {
            says(ahead);
            assert_eq!(clock.set_back_since(first), Duration::ZERO);
        }
        let higher = first.or_higher(read(500));
        clock.advance(SECOND);
        says(90);
        says(500);
        assert_eq!(clock.set_back_since(first), SECOND * 10);
        assert_eq!(clock.set_back_since(higher), SECOND * 410);
        assert_eq!(clock.set_back_since(higher.or_higher(first)), SECOND * 410);
        assert_eq!(clock.set_back_since(read(500)), Duration::ZERO, "steps before a reading do not count");
    }
}
