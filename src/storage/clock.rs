//! Reads the clocks that measure leases: this machine's time since boot, its wall clock, and the store's clock.

mod reading;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

pub use self::reading::Reading;
use super::mutation::{Mutation, mutated};

/// The clocks of this process, and what it has seen of the store's clock. Clones share both.
///
/// A clock that is set by hand is for tests. It stands still until a test advances it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    by_hand: Option<Arc<ByHand>>,
    /// True if this clock ignores the store's time.
    deaf: bool,
    seen: Arc<Mutex<Seen>>,
    lead: Arc<Lead>,
}

/// A point in time by all clocks. [`Clock::since`] compares it with the present.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since boot.
    boot: u64,
    /// Milliseconds since 1970 by the wall clock.
    wall: u64,
    /// The milliseconds by which the store's clock was ahead of the time since boot at its last answer.
    ahead: Option<i64>,
    /// The number of answers of the store until this moment.
    answers: u64,
}

impl Moment {
    /// Returns whether this moment is later than `other`. Two moments of the same millisecond count as equal.
    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        self.boot > other.boot
    }
}

#[derive(Debug)]
struct ByHand {
    passed_ms: AtomicU64,
    /// The number of looks at this clock.
    #[cfg(test)]
    looks: AtomicU64,
}

impl ByHand {
    fn passed(&self) -> u64 {
        #[cfg(test)]
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.passed_ms.load(Ordering::SeqCst)
    }
}

/// The boot time of a clock that is set by hand, in milliseconds since 1970.
const BEGINNING_MS: u64 = 1_700_000_000_000;
/// The time since boot of a new clock that is set by hand, in milliseconds. A test can set the clock back by this much.
const UP_MS: u64 = 100_000_000_000;

/// The clock that counts while the machine sleeps. On systems other than Linux and Android, the monotonic clock takes
/// its place.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SINCE_BOOT: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

impl Clock {
    /// Returns a clock that is set by hand.
    #[must_use]
    pub fn by_hand() -> Self {
        let by_hand = ByHand {
            passed_ms: AtomicU64::new(UP_MS),
            #[cfg(test)]
            looks: AtomicU64::new(0),
        };
        Self { by_hand: Some(Arc::new(by_hand)), ..Self::default() }
    }

    /// Returns a clock that is set by hand and ignores the store's time, so that all records have the clock's own time.
    #[must_use]
    pub fn by_hand_alone() -> Self {
        Self { deaf: true, ..Self::by_hand() }
    }

    /// Advances a clock that is set by hand. Any other clock is left alone.
    pub fn advance(&self, time: Duration) {
        if let Some(by_hand) = &self.by_hand {
            by_hand.passed_ms.fetch_add(milliseconds(time), Ordering::SeqCst);
        }
    }

    /// Returns the milliseconds since boot.
    fn boot_ms(&self) -> u64 {
        if let Some(by_hand) = &self.by_hand {
            return by_hand.passed();
        }
        let time = clock_gettime(SINCE_BOOT);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
    }

    /// Returns the time since boot. The age of an answer in memory is measured by this time alone.
    pub(crate) fn since_boot(&self) -> Duration {
        Duration::from_millis(self.boot_ms())
    }

    /// Returns the milliseconds since 1970 by the wall clock. Records get [`Clock::time_ms`] instead.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.by_hand {
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                milliseconds(since)
            }
            Some(by_hand) => BEGINNING_MS + by_hand.passed(),
        }
    }

    /// Returns the current time by all clocks.
    #[must_use]
    pub fn now(&self) -> Moment {
        let Seen { latest: ahead, answers, .. } = *self.seen();
        let boot = self.boot_ms();
        let wall = if self.by_hand.is_some() { BEGINNING_MS + boot } else { self.now_ms() };
        Moment { boot, wall, ahead, answers }
    }

    /// Returns the time since `then`: the largest that the three clocks give.
    ///
    /// The store's clock is known as of its last answer. If it gained on the time since boot, the gain counts as time
    /// that passed. The gain is the largest between any two answers since `then`, with the last answer before `then`.
    #[must_use]
    pub fn since(&self, then: Moment) -> Duration {
        let now = self.now();
        let by_boot = now.boot.saturating_sub(then.boot);
        let by_wall = now.wall.saturating_sub(then.wall);
        let gained = if mutated(Mutation::StoresClockNotLookedAt) { 0 } else { self.seen().gained_since(then) };
        Duration::from_millis(by_wall.max(by_boot.saturating_add(gained)))
    }

    /// Returns the time for records that are compared later, in milliseconds since 1970. This is the store's time as
    /// far as this process knows it, and otherwise the wall clock's.
    ///
    /// This time does not go back while answers lower the lead of the store's clock by no more than [`COARSE`].
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        let lead = self.lead.0.load(Ordering::Relaxed);
        if lead == UNKNOWN {
            self.now_ms()
        } else {
            u64::try_from(lead.saturating_add_unsigned(self.boot_ms())).unwrap_or(0)
        }
    }

    /// Returns the store's time in milliseconds since 1970: the time of its last answer, plus the time since. `None`
    /// before the first answer.
    #[must_use]
    pub fn store_ms(&self) -> Option<u64> {
        let ahead = self.seen().latest?;
        u64::try_from(ahead.saturating_add_unsigned(self.boot_ms())).ok()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a clock that is set by hand to `now` milliseconds since 1970, forward or back.
    #[cfg(test)]
    pub(crate) fn set_ms(&self, now: u64) {
        if let Some(by_hand) = &self.by_hand {
            by_hand.passed_ms.store(now - BEGINNING_MS, Ordering::SeqCst);
        }
    }

    /// Returns the milliseconds since 1970 by a clock that is set by hand, without counting a look.
    #[cfg(test)]
    pub(crate) fn peek_ms(&self) -> u64 {
        self.by_hand.as_ref().map_or(0, |by_hand| BEGINNING_MS + by_hand.passed_ms.load(Ordering::SeqCst))
    }

    /// Returns the number of looks at a clock that is set by hand.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.by_hand.as_ref().map_or(0, |by_hand| by_hand.looks.load(Ordering::SeqCst))
    }
}

/// The most milliseconds by which two answers may differ while the store's clock runs steadily. A bucket tells whole
/// seconds, and an answer takes time.
const COARSE: i64 = 2000;

/// The value before the first answer.
const UNKNOWN: i64 = i64::MIN;

/// The milliseconds by which the store's clock is ahead of the time since boot, by its recent answers.
///
/// An answer in whole seconds gives less than the true time, and so does a slow answer. So the largest value counts,
/// until an answer is lower by more than [`COARSE`].
#[derive(Debug)]
struct Lead(AtomicI64);

impl Default for Lead {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Lead {
    fn hear(&self, ahead: i64) {
        let before = self.0.load(Ordering::Relaxed);
        // of two answers at the same moment, either may be stored last
        if before == UNKNOWN || ahead > before || ahead < before.saturating_sub(COARSE) {
            self.0.store(ahead, Ordering::Relaxed);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The number of answers of each kind that are kept apart. Beyond this number, two similar answers are merged.
const APART: usize = 32;

/// The values by which the store's clock was seen ahead of the time since boot, in milliseconds.
///
/// For each span of time up to now, this gives the largest and the smallest value of its answers. An answer that is an
/// extreme of no such span is forgotten.
#[derive(Debug, Default)]
struct Seen {
    latest: Option<i64>,
    /// The number of answers so far.
    answers: u64,
    /// The answers that are the largest of a span, as number and value. Values fall from the oldest to the newest.
    largest: VecDeque<(u64, i64)>,
    /// The answers that are the smallest of a span. Values rise from the oldest to the newest.
    smallest: VecDeque<(u64, i64)>,
    /// The same for the most that each value can have been when the store took its time.
    smallest_most: VecDeque<(u64, i64)>,
}

impl Seen {
    fn add(&mut self, ahead: i64, most: i64) {
        self.latest = Some(ahead);
        self.answers += 1;
        push(&mut self.largest, self.answers, ahead, |old, new| old <= new);
        push(&mut self.smallest, self.answers, ahead, |old, new| old >= new);
        push(&mut self.smallest_most, self.answers, most, |old, new| old >= new);
    }

    /// Returns the milliseconds between the largest and the smallest value since `then`, with the last value before
    /// `then`.
    fn gained_since(&self, then: Moment) -> u64 {
        // the first answer after `then` is the extreme of all answers after `then`
        let since = |values: &VecDeque<(u64, i64)>| values.iter().find(|(at, _)| *at > then.answers).map(|it| it.1);
        let before = then.ahead;
        let (largest, smallest) =
            (since(&self.largest).max(before), since(&self.smallest).into_iter().chain(before).min());
        match (largest, smallest) {
            (Some(largest), Some(smallest)) => largest.abs_diff(smallest),
            _ => 0,
        }
    }
}

/// Adds a value, and removes the older values that it outdoes.
///
/// If there are too many values, the two neighbours that differ least are merged. The result has the number of the
/// newer and the value of the older. So the clock gives too much, by their difference at most.
fn push(values: &mut VecDeque<(u64, i64)>, at: u64, value: i64, outdone: fn(i64, i64) -> bool) {
    while values.back().is_some_and(|(_, old)| outdone(*old, value)) {
        values.pop_back();
    }
    values.push_back((at, value));
    if values.len() > APART {
        let closest = (1..values.len()).min_by_key(|newer| values[newer - 1].1.abs_diff(values[*newer].1)).unwrap_or(1);
        values[closest].1 = values[closest - 1].1;
        values.remove(closest - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Tells the clock a time of the store that is some seconds ahead of the clock's own.
    fn says(clock: &Clock, seconds: u64) {
        clock.store_said(clock.now_ms() + seconds * 1000);
    }

    #[test]
    fn time_passes_by_the_clock_that_counts_most() {
        let clock = Clock::by_hand();
        let began = clock.now();
        clock.advance(SECOND);
        assert_eq!(clock.since(began), SECOND, "without a store that says its time");
        says(&clock, 0);
        let began = clock.now();
        says(&clock, 0);
        assert_eq!(clock.since(began), Duration::ZERO);
        clock.advance(SECOND);
        says(&clock, 5);
        assert_eq!(clock.since(began), SECOND * 6, "the store's clock went five seconds further");
        assert_eq!(clock.since(clock.now()), Duration::ZERO, "what begins now begins by the store's new time");
        assert_eq!(clock.store_ms(), Some(clock.now_ms() + 5000));
    }

    #[test]
    fn an_answer_that_comes_late_hides_no_step_of_the_stores_clock() {
        let clock = Clock::by_hand();
        says(&clock, 0);
        let began = clock.now();
        says(&clock, 100);
        says(&clock, 0);
        assert_eq!(clock.since(began), SECOND * 100);
        // the store's clock steps back before `began`, and forward after the first write since
        let began = clock.now();
        says(&clock, 0);
        clock.advance(SECOND);
        says(&clock, 100);
        assert_eq!(clock.since(began), SECOND * 101);
    }

    #[test]
    fn a_store_clock_that_nobody_saw_for_long_makes_what_begins_old() {
        let clock = Clock::by_hand();
        says(&clock, 0);
        let began = clock.now();
        says(&clock, 3600);
        assert!(clock.since(began) >= SECOND * 3600);
    }

    #[test]
    fn many_answers_that_differ_take_little_memory_and_tell_nothing_less() {
        let clock = Clock::by_hand();
        let began = clock.now();
        for late in 0..1000 {
            clock.advance(SECOND);
            clock.store_said(clock.now_ms() - late);
        }
        let seen = clock.seen();
        assert!(seen.largest.len() <= APART && seen.smallest.len() <= APART);
        drop(seen);
        assert_eq!(clock.since(began), SECOND * 1000 + Duration::from_millis(999));
    }

    #[test]
    fn records_get_the_stores_time_which_does_not_go_back_within_a_second() {
        let clock = Clock::by_hand();
        assert_eq!(clock.time_ms(), clock.now_ms(), "nothing is known of the store yet");
        // answers in whole seconds, so many milliseconds after `begins`
        let begins = clock.now_ms() + 3_600_000;
        let mut before = 0;
        for (at, told) in [(950, 0), (1010, 1000), (1900, 1000), (2900, 2000)] {
            clock.set_ms(begins - 3_600_000 + at);
            clock.store_said(begins + told);
            let time = clock.time_ms();
            assert!(time > before && (begins + at - 1000..=begins + at).contains(&time), "{at}: {time}");
            before = time;
        }
        clock.store_said(begins - 100_000);
        assert_eq!(clock.time_ms(), begins - 100_000, "the store's clock was set back");
    }

    #[test]
    fn the_clocks_of_this_machine_go_on() {
        let clock = Clock::default();
        let began = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        let since = clock.since(began);
        assert!(since >= Duration::from_millis(19), "{since:?}");
        assert!(clock.since_boot() > Duration::ZERO && clock.now_ms() > 1_600_000_000_000);
    }
}
