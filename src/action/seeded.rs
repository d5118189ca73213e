//! Randomness that a test decides: the same draws, whatever else runs, so that what went wrong can be run again.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Draws the next number of this thread's generator, if a test has set one.
pub(crate) fn draw() -> Option<u64> {
    STATE.with(|cell| {
        // splitmix64: the state goes round all values, and neighbours look nothing alike
        let state = cell.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        cell.set(Some(state));
        let mut drawn = state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(drawn ^ (drawn >> 31))
    })
}

/// Does something with a generator of its own, and leaves in `state` where it stands afterwards.
pub(crate) fn with<T>(state: &mut u64, work: impl FnOnce() -> T) -> T {
    let before = STATE.replace(Some(*state));
    let result = work();
    *state = STATE.replace(before).unwrap_or_default();
    result
}
