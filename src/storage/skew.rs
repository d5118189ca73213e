//! Compares this machine's wall clock with the store's clock.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::Clock;

/// The largest difference without a warning, in milliseconds.
const MOST_MS: u64 = 60_000;

/// The times of this machine's wall clock and the store's clock, which differ by more than a minute. Its text is a
/// warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    host_ms: u64,
    store_ms: u64,
}

impl Clock {
    /// Returns both times if the store's clock is known, and the wall clock differs from it by more than a minute.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        let store_ms = self.store_ms()?;
        let host_ms = self.now_ms();
        (host_ms.abs_diff(store_ms) > MOST_MS).then_some(Skew { host_ms, store_ms })
    }
}

impl Skew {
    /// Returns this machine's time and the store's.
    #[must_use]
    pub fn times(&self) -> [Timestamp; 2] {
        let time = |ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok();
        [self.host_ms, self.store_ms].map(|ms| time(ms).unwrap_or_default())
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [host, store] = self.times();
        let seconds = self.host_ms.abs_diff(self.store_ms) / 1000;
        let by = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let way = if host < store { "behind" } else { "ahead of" };
        write!(
            f,
            "this host's clock says {host:.0} and the store's clock says {store:.0}: the host is {by:#} {way} the store. \
             Retention goes by the store's clock; check that NTP runs on both"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_more_than_a_minute_is_told_with_both_times() {
        let clock = Clock::by_hand();
        assert_eq!(clock.skew(), None, "nothing is known of the store yet");
        for (ahead, says) in [(-3_600_500, "1h ahead of"), (-60_000, ""), (0, ""), (60_000, ""), (60_001, "1m behind")]
        {
            let clock = Clock::by_hand();
            clock.store_said(clock.now_ms().saturating_add_signed(ahead));
            let text = clock.skew().map(|skew| skew.to_string()).unwrap_or_default();
            assert_eq!(text.is_empty(), says.is_empty(), "{ahead}: {text}");
            assert!(text.contains(says), "{ahead}: {text}");
        }
        clock.set_ms(1_795_783_833_000);
        clock.store_said(1_795_783_833_000 + 86_400_000);
        let text = clock.skew().map(|skew| skew.to_string()).unwrap_or_default();
        assert!(text.contains("says 2026-11-27T12:50:33Z and the store's clock says 2026-11-28T12:50:33Z"), "{text}");
    }
}
