//! Manifests that are held back, and the refusals of such.

use std::{
    fmt::{self, Display, Formatter},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::Answered;
use crate::{
    oci::{Digest, Name, Reference},
    registry::StoredManifest,
};

/// A tag or digest that leads to a manifest, with the time at which its manifest was first seen, in milliseconds since 1970.
/// An exception for it lets the manifest leave.
pub(super) type Lead = (Reference, u64);

/// A manifest that is held back.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) digest: Digest,
    /// The time at which it was first seen, in milliseconds since 1970.
    pub(super) first_seen_at: u64,
    pub(super) leads: Vec<Lead>,
}

/// The refusal of a manifest that is younger than the cooldown of its repository.
#[derive(Clone, Debug)]
pub struct Held {
    /// The repository.
    pub name: Name,
    /// The tag or digest that was asked for.
    pub reference: Reference,
    /// The manifest that leaves first.
    pub digest: Digest,
    /// The time at which it was first seen, in milliseconds since 1970.
    pub first_seen_at: u64,
    /// The time from which on it may leave, in milliseconds since 1970.
    pub until: u64,
    /// The cooldown.
    pub cooldown: Duration,
    /// The manifest that a client with an exception gets.
    pub(super) waiting: Arc<Waiting>,
    /// The bytes of `waiting`, if they are at hand.
    pub(super) answered: Option<Answered<Arc<StoredManifest>>>,
}

impl Display for Held {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, digest, .. } = self;
        match &self.reference {
            Reference::Tag(tag) => write!(f, "tag `{tag}` of {name}")?,
            Reference::Digest(_) => write!(f, "a manifest of {name}")?,
        }
        let (until, since) = (time(self.until, true), time(self.first_seen_at, false));
        let cooldown = SignedDuration::try_from(self.cooldown).unwrap_or(SignedDuration::MAX);
        write!(
            f,
            " is held back until {until}: {digest} was first seen here at {since}, and `cooldown` is {cooldown:#}"
        )
    }
}

/// Writes a time in milliseconds since 1970 in UTC, in whole seconds, cut off or rounded up.
pub(super) fn time(at: u64, up: bool) -> String {
    let at = i64::try_from(if up { at.div_ceil(1000) } else { at / 1000 }).unwrap_or(i64::MAX);
    Timestamp::from_second(at).unwrap_or(Timestamp::MAX).to_string()
}
