//! Ways to break the protocol between pushers and scrub, one at a time, for the test that shows that it would be noticed.
//!
//! Outside that test nothing is ever broken: the question is answered when the code is compiled.

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether the protocol is broken in this way on this thread.
#[cfg(test)]
pub(crate) fn mutated(way: &str) -> bool {
    BROKEN.get() == Some(way)
}

/// Never.
#[cfg(not(test))]
pub(crate) const fn mutated(_: &str) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    /// What time it is, by milliseconds since 1970, for one that looks at the clock too late.
    pub(crate) static TIME: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The time that scrub read before it looked; or what it is now, if that is how the protocol is broken.
#[cfg(test)]
pub(crate) fn read_before(time: u64) -> u64 {
    if mutated("clock after look") { time.max(TIME.get()) } else { time }
}

/// The time that scrub read before it looked.
#[cfg(not(test))]
pub(crate) const fn read_before(time: u64) -> u64 {
    time
}

/// Does something while the protocol is broken in this way.
#[cfg(test)]
pub(crate) fn with<T>(way: Option<&'static str>, work: impl FnOnce() -> T) -> T {
    let before = BROKEN.replace(way);
    let result = work();
    BROKEN.set(before);
    result
}

#[cfg(test)]
thread_local! {
    /// Whether processes write wishes for a lease, and look at those of others. The interleavings have many cases in
    /// which all leases are the same, and which are large without that.
    pub(crate) static WISHES: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Whether processes write wishes for a lease.
#[cfg(test)]
pub(crate) fn wishes() -> bool {
    WISHES.get()
}

/// They do.
#[cfg(not(test))]
pub(crate) const fn wishes() -> bool {
    true
}
