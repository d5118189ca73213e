//! Decides from measurements how much of the time background work may take.

use std::time::Duration;

/// The part of one core that work gets in any case. Without it, work would never end on a machine that is never idle.
const FLOOR: f64 = 0.05;
/// Small reads that one decision is made from.
const READS: usize = 100;
/// Work gets less if the slowest read but one takes so many times the median, and so much longer. Below that, such times vary by
/// themselves.
const TIMES: u32 = 4;
const LONGER: Duration = Duration::from_micros(50);
/// The factors by which the share grows when nobody was disturbed, and shrinks when somebody was.
const GROWTH: f64 = 1.5;
const SHRINKAGE: f64 = 0.5;
/// The share of time without a core from which on others count as busy.
const BUSY: f64 = 0.05;
/// The weight of the latest piece of work beside those before it.
const LATEST: f64 = 0.2;
/// The delay from which on a thread in spare time begins late. It is longer while work takes more than its floor, since such work
/// may delay that thread itself.
const LATE: Duration = Duration::from_millis(20);
const LATE_AT_FLOOR: Duration = Duration::from_millis(2);
/// The last beginnings that count. If half of them are late, spare time is starved.
const BEGINNINGS: u32 = 8;

/// The share of one core that work may take.
#[derive(Debug)]
pub(super) struct Share {
    by_reads: f64,
    reads: Vec<Duration>,
    denied: f64,
    /// The last beginnings in spare time, late or not, the latest in the lowest bit.
    late: u8,
}

impl Default for Share {
    fn default() -> Self {
        // spare time has to show that there is any: a piece of work that begins in it on a busy machine is stuck for seconds
        Self { by_reads: 1.0, reads: Vec::with_capacity(READS), denied: 0.0, late: u8::MAX }
    }
}

impl Share {
    /// Counts a small read at the usual priority that took so long.
    pub(super) fn read(&mut self, took: Duration) {
        self.reads.push(took);
        if self.reads.len() < READS {
            return;
        }
        self.reads.sort_unstable();
        let (median, slow) = (self.reads[READS / 2], self.reads[READS - 2]);
        let disturbed = slow > median * TIMES && slow > median + LONGER;
        self.by_reads = (self.by_reads * if disturbed { SHRINKAGE } else { GROWTH }).clamp(FLOOR, 1.0);
        self.reads.clear();
    }

    /// Counts a piece of work that needs nothing but a core: it took `wall`, and had a core for `core`.
    pub(super) fn worked(&mut self, wall: Duration, core: Duration) {
        let denied = wall.saturating_sub(core).as_secs_f64() / wall.as_secs_f64().max(f64::EPSILON);
        self.denied = (1.0 - LATEST) * self.denied + LATEST * denied;
    }

    /// Counts how late a thread in spare time began, or for how long it has not begun.
    pub(super) fn began(&mut self, late: Duration) {
        let most = if self.now() > FLOOR { LATE } else { LATE_AT_FLOOR };
        self.late = (self.late << 1) | u8::from(late > most);
    }

    /// Returns whether threads in spare time get next to nothing. Work takes its share at the usual priority then.
    pub(super) fn is_starved(&self) -> bool {
        self.late.count_ones() >= BEGINNINGS / 2
    }

    /// Returns the share now.
    pub(super) fn now(&self) -> f64 {
        if self.is_starved() || self.denied >= BUSY { FLOOR } else { self.by_reads }
    }

    /// Returns how long to rest after a time `passed` in which work had a core for `worked`.
    pub(super) fn rest(&self, passed: Duration, worked: Duration) -> Duration {
        let share = self.now();
        if share >= 1.0 { Duration::ZERO } else { worked.div_f64(share).saturating_sub(passed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);

    /// Returns the share of work for which there is spare time.
    fn awake() -> Share {
        let mut share = Share::default();
        for _ in 0..BEGINNINGS {
            share.began(US);
        }
        share
    }

    fn reads(share: &mut Share, usual: Duration, slow: Duration) {
        for at in 0..READS {
            share.read(if at < 3 { slow } else { usual });
        }
    }

    /// Returns the part of a core that work takes that uses its whole share.
    fn taken(share: &Share) -> f64 {
        (MS / 10).as_secs_f64() / (MS / 10 + share.rest(MS / 10, MS / 10)).as_secs_f64()
    }

    #[test]
    fn whatever_is_measured_work_gets_its_floor_and_so_ends() {
        let mut share = Share::default();
        for _ in 0..1000 {
            reads(&mut share, 2 * US, 100 * MS);
            share.worked(1000 * MS, MS);
            share.began(1000 * MS);
            assert!(taken(&share) >= FLOOR * 0.999, "{share:?}");
        }
        assert!(share.is_starved() && taken(&share) <= FLOOR * 1.001);
    }

    #[test]
    fn slow_reads_at_the_usual_priority_take_from_the_share_and_quick_ones_give_it_back() {
        let mut share = awake();
        reads(&mut share, 2 * US, 20 * US);
        assert!(share.rest(MS, MS).is_zero(), "so small a time varies by itself");
        reads(&mut share, 2 * US, 3 * MS);
        assert!((0.4..0.6).contains(&share.now()));
        for _ in 0..10 {
            reads(&mut share, 2 * US, 3 * MS);
        }
        assert!(share.now() <= FLOOR);
        for _ in 0..8 {
            reads(&mut share, 2 * US, 2 * US);
        }
        assert!(share.rest(MS, MS).is_zero());
        // a machine that is slow all the time is not disturbed
        reads(&mut share, 2 * MS, 3 * MS);
        assert!(share.rest(MS, MS).is_zero());
    }

    #[test]
    fn work_that_is_denied_its_core_takes_the_least_until_it_is_not() {
        let mut share = awake();
        for _ in 0..10 {
            share.worked(2 * MS, MS);
        }
        assert!(share.now() <= FLOOR && !share.is_starved());
        for _ in 0..30 {
            share.worked(MS, MS);
        }
        assert!(share.now() >= 1.0);
    }

    #[test]
    fn spare_time_counts_as_starved_when_half_of_it_comes_late_and_no_longer() {
        assert!(Share::default().is_starved(), "before any was seen");
        let mut share = awake();
        for _ in 0..3 {
            share.began(500 * MS);
        }
        assert!(!share.is_starved());
        share.began(500 * MS);
        assert!(share.is_starved());
        for _ in 0..8 {
            share.began(US);
        }
        assert!(!share.is_starved() && share.now() >= 1.0);
    }
}
