//! Detects that the store's clock was set back after it was read.

use std::time::Duration;

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
    /// Returns how far the store's clock was set back since a reading, as far as its answers show. An object that was
    /// written since may look older than it is by that much.
    #[must_use]
    pub fn set_back_since(&self, reading: Reading) -> Duration {
        let least = self.seen().smallest.iter().find(|(at, _)| *at > reading.answers).map(|(_, lead)| *lead);
        let back = least.map_or(0, |least| reading.lead.saturating_sub(least));
        Duration::from_millis(u64::try_from(back).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

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
