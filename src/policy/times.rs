//! The times that access rules see: that of the request, and that at which a cache first saw an image.

use std::sync::OnceLock;

use jiff::Timestamp;

/// The time of a request. The clock is read when a rule first asks, and once at most.
#[derive(Clone, Debug, Default)]
pub struct Now {
    stated: Option<Timestamp>,
    asked: OnceLock<Timestamp>,
}

impl Now {
    /// Returns a time that no clock tells: of a test, or of a record.
    #[must_use]
    pub const fn at(time: Timestamp) -> Self {
        Self { stated: Some(time), asked: OnceLock::new() }
    }

    pub(super) fn get(&self) -> Timestamp {
        *self.asked.get_or_init(|| self.stated.unwrap_or_else(Timestamp::now))
    }

    /// Returns the time, if a rule has asked for it.
    #[must_use]
    pub fn asked(&self) -> Option<Timestamp> {
        self.asked.get().copied()
    }
}

/// The knowledge of `image.first_seen_at`, the time at which this registry first saw an image of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstSeen {
    /// The request is about no image of an upstream. A rule that needs the time is false.
    #[default]
    NoImage,
    /// The time will be known before the answer. A rule that needs the time is open.
    Awaited,
    /// The time cannot be known. A rule that needs the time fails.
    Unknown,
    /// The time.
    At(Timestamp),
}

/// The times that rules see.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// `now()`
    pub now: &'a Now,
    /// `image.first_seen_at`
    pub first_seen: FirstSeen,
}

/// The circumstances of an action that rules see.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// `request.listener`: one of [`super::LISTENERS`].
    pub listener: &'static str,
    /// `request.upstream`: the host of the first upstream of the action's repository. Empty: it is no cache.
    pub upstream: &'a str,
    /// `now()`
    pub now: &'a Now,
}
