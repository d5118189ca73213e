//! Decides from measurements how much of a core background work may take.

use std::time::Duration;

/// The part of one core that work gets in any case. Without this part, work would never end on a machine that is never
/// idle.
const FLOOR: f64 = 0.05;
/// The number of small reads for one decision.
const READS: usize = 100;
/// The number of those reads that must be slow before the share shrinks. A few are slow on any machine on which other
/// programs run.
const SLOW_READS: usize = 5;
/// The factor by which these reads must exceed the median. Smaller differences are normal.
const TIMES: u32 = 4;
/// The time by which they must exceed the median as well.
const LONGER: Duration = Duration::from_micros(50);
/// The factor by which the share grows after reads without a disturbance.
const GROWTH: f64 = 1.5;
/// The factor by which the share shrinks after disturbed reads.
const SHRINKAGE: f64 = 0.5;
/// The part of its time in which a piece has no core before the share shrinks. Other programs that run now and then take
/// this much.
const OCCUPIED: f64 = 0.05;
/// The part at which others are busy all the time, and work takes the floor. Between both, the share shrinks evenly: at
/// a sharp limit, a machine that is idle but for a tenth would let work have nothing.
const BUSY: f64 = 0.5;
/// The weight of the latest piece of work in the average.
const LATEST: f64 = 0.05;
/// The time after which a piece in spare time is late. Other pieces in spare time cause shorter delays.
pub(super) const LATE: Duration = Duration::from_millis(30);
/// The number of late pieces, less the pieces on time, at which spare time is starved.
const LATE_ONES: u32 = 4;
/// The first number of pieces on time in a row after which spare time is no longer starved. Each time that spare time
/// is starved again the number is multiplied by four, since a piece that begins in a short gap is stuck for seconds.
const ON_TIME: u32 = 5;
/// The largest value of that number.
const MOST_ON_TIME: u32 = 1280;

/// The share of one core that background work may take, and the measurements behind it.
#[derive(Debug)]
pub(super) struct Share {
    by_reads: f64,
    reads: Vec<Duration>,
    denied: f64,
    spare: Spare,
    /// The number of pieces on time in a row after which spare time is no longer starved.
    needed: u32,
}

/// The state of spare time.
#[derive(Debug)]
enum Spare {
    /// There is spare time. `late` counts the recent late pieces.
    There { late: u32 },
    /// Spare time is starved. `on_time` counts the latest pieces in a row that were on time.
    Starved { on_time: u32 },
}

impl Default for Share {
    fn default() -> Self {
        // spare time counts as starved until pieces on time show otherwise
        let spare = Spare::Starved { on_time: 0 };
        Self { by_reads: 1.0, reads: Vec::with_capacity(READS), denied: 0.0, spare, needed: ON_TIME }
    }
}

impl Share {
    /// Counts a small read at the usual priority, which took `took`.
    pub(super) fn read(&mut self, took: Duration) {
        self.reads.push(took);
        if self.reads.len() < READS {
            return;
        }
        self.reads.sort_unstable();
        let (median, slow) = (self.reads[READS / 2], self.reads[READS - SLOW_READS]);
        let disturbed = slow > median * TIMES && slow > median + LONGER;
        self.by_reads = (self.by_reads * if disturbed { SHRINKAGE } else { GROWTH }).clamp(FLOOR, 1.0);
        self.reads.clear();
    }

    /// Counts a piece of work that only computes. It took `wall`, and had a core for `core`.
    pub(super) fn worked(&mut self, wall: Duration, core: Duration) {
        let denied = wall.saturating_sub(core).as_secs_f64() / wall.as_secs_f64().max(f64::EPSILON);
        self.denied = (1.0 - LATEST) * self.denied + LATEST * denied;
    }

    /// Counts a piece in spare time that took `took`, or that is unfinished after that time.
    pub(super) fn spared(&mut self, took: Duration) {
        let late = took > LATE;
        match &mut self.spare {
            Spare::There { late: before } => {
                *before = if late { *before + 1 } else { before.saturating_sub(1) };
                if *before >= LATE_ONES {
                    self.spare = Spare::Starved { on_time: 0 };
                    self.needed = MOST_ON_TIME.min(self.needed * 4);
                }
            }
            Spare::Starved { on_time } => {
                *on_time = if late { 0 } else { *on_time + 1 };
                if *on_time >= self.needed {
                    self.spare = Spare::There { late: 0 };
                }
            }
        }
    }

    /// Returns whether threads in spare time get almost nothing. Work then takes its share at the usual priority.
    pub(super) fn is_starved(&self) -> bool {
        matches!(self.spare, Spare::Starved { .. })
    }

    /// Returns the current share.
    pub(super) fn now(&self) -> f64 {
        if self.is_starved() {
            return FLOOR;
        }
        let by_core = (BUSY - self.denied) / (BUSY - OCCUPIED);
        by_core.min(self.by_reads).clamp(FLOOR, 1.0)
    }

    /// Returns the length of the rest after a time `passed` in which work had a core for `worked`.
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

    /// Returns a share for which spare time is not starved.
    fn awake() -> Share {
        let mut share = Share::default();
        for _ in 0..ON_TIME {
            share.spared(US);
        }
        share
    }

    fn reads(share: &mut Share, usual: Duration, slow: Duration) {
        for at in 0..READS {
            share.read(if at < SLOW_READS { slow } else { usual });
        }
    }

    /// Returns the part of a core that work takes if it uses its whole share.
    fn taken(share: &Share) -> f64 {
        (MS / 10).as_secs_f64() / (MS / 10 + share.rest(MS / 10, MS / 10)).as_secs_f64()
    }

    #[test]
    fn work_gets_its_floor_whatever_is_measured_and_so_ends() {
        let mut share = Share::default();
        for _ in 0..1000 {
            reads(&mut share, 2 * US, 100 * MS);
            share.worked(1000 * MS, MS);
            share.spared(1000 * MS);
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
        // a machine that is slow all the time does not count as disturbed
        reads(&mut share, 2 * MS, 3 * MS);
        assert!(share.rest(MS, MS).is_zero());
    }

    #[test]
    fn the_share_shrinks_with_the_time_that_others_take_from_the_core() {
        let mut share = awake();
        let mut denied = |wall: Duration, core: Duration| {
            (0..200).for_each(|_| share.worked(wall, core));
            share.now()
        };
        assert!(denied(MS, MS) >= 1.0);
        assert!(denied(100 * US, 96 * US) >= 1.0, "a little is taken on any machine");
        assert!((0.8..0.9).contains(&denied(100 * US, 88 * US)), "others that take a tenth leave most of it");
        assert!((0.2..0.4).contains(&denied(100 * US, 63 * US)));
        assert!(denied(2 * MS, MS) <= FLOOR);
        assert!(denied(MS, MS) >= 1.0);
        assert!(!share.is_starved());
    }

    #[test]
    fn a_few_slow_reads_or_pieces_take_nothing() {
        let mut share = awake();
        for at in 0..10 * READS {
            share.read(if at % READS < SLOW_READS - 1 { 3 * MS } else { 2 * US });
            share.worked(if at % 100 == 0 { 2 * MS } else { MS }, MS);
        }
        assert!(share.now() >= 0.95, "{share:?}");
    }

    #[test]
    fn spare_time_is_starved_when_its_pieces_are_late_and_has_to_show_itself_for_ever_longer() {
        assert!(Share::default().is_starved(), "before any was seen");
        let mut share = awake();
        for needed in [4 * ON_TIME, 16 * ON_TIME] {
            for _ in 1..LATE_ONES {
                share.spared(500 * MS);
            }
            assert!(!share.is_starved() && share.now() >= 1.0);
            share.spared(500 * MS);
            assert!(share.is_starved() && share.now() <= FLOOR);
            for _ in 1..needed {
                share.spared(US);
                assert!(share.is_starved());
            }
            share.spared(US);
            assert!(!share.is_starved());
        }
        for _ in 0..100 {
            (0..LATE_ONES).for_each(|_| share.spared(500 * MS));
            (0..MOST_ON_TIME).for_each(|_| share.spared(US));
            assert!(!share.is_starved(), "it is believed again in the end");
        }
    }
}
