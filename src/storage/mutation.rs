//! Breaks the protocol between pushers and scrub in one way at a time, for the test that shows that the break is
//! noticed.
//!
//! In other builds nothing is broken: these functions are constants there.

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Returns whether the protocol is broken in this way on this thread.
#[cfg(test)]
pub(crate) fn mutated(way: &str) -> bool {
    BROKEN.get() == Some(way)
}

/// Returns false, since only tests break the protocol.
#[cfg(not(test))]
pub(crate) const fn mutated(_: &str) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    /// The current time in milliseconds since 1970, for a scrub that reads the clock too late.
    pub(crate) static TIME: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Returns the time that scrub read before its look. Under the mutation "clock after look", returns the current time if
/// it is later.
#[cfg(test)]
pub(crate) fn read_before(time: u64) -> u64 {
    if mutated("clock after look") { time.max(TIME.get()) } else { time }
}

/// Returns the time that scrub read before its look.
#[cfg(not(test))]
pub(crate) const fn read_before(time: u64) -> u64 {
    time
}

/// Runs `work` while the protocol is broken in this way, or intact for `None`.
#[cfg(test)]
pub(crate) fn with<T>(way: Option<&'static str>, work: impl FnOnce() -> T) -> T {
    let before = BROKEN.replace(way);
    let result = work();
    BROKEN.set(before);
    result
}

#[cfg(test)]
thread_local! {
    /// True if processes write wishes for a lease and look at those of others. Many interleavings have equal leases and
    /// are large without wishes, so they turn wishes off.
    pub(crate) static WISHES: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Returns whether processes write wishes for a lease.
#[cfg(test)]
pub(crate) fn wishes() -> bool {
    WISHES.get()
}

/// Returns true: outside tests, processes write wishes.
#[cfg(not(test))]
pub(crate) const fn wishes() -> bool {
    true
}
