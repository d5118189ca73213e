//! The events of a run, and the pairs of them whose order makes a difference.

use std::sync::Arc;

use crate::records::key::{DataKey, Key, Prefix};

/// An effect of a step that others may see, or a look at effects of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Touch {
    /// Read one object, or found none.
    Read(Arc<str>),
    /// Wrote an object.
    Put(Arc<str>),
    /// Removed an object.
    Delete(Arc<str>),
    /// Listed the objects under the prefix that come after `after`, up to `until` if there is one.
    List { prefix: Arc<str>, after: Option<Arc<str>>, until: Option<Arc<str>> },
    /// Got an answer for its client.
    Answered,
    /// Made answers to others void.
    Voided,
}

impl Touch {
    fn writes(&self) -> Option<&str> {
        match self {
            Self::Put(key) | Self::Delete(key) => Some(key),
            _ => None,
        }
    }

    /// Returns whether it writes an object that [`broken`](super::broken::broken) may look at. Sessions and marks are
    /// no such objects.
    pub(super) fn shows(&self) -> bool {
        self.writes().is_some_and(|key| {
            let mark = matches!(Key::parse(key), Some(Key::Data(_, DataKey::Mark(_))));
            !mark && !Prefix::Uploads.has(key)
        })
    }

    fn sees(&self, key: &str) -> bool {
        match self {
            Self::Read(own) | Self::Put(own) | Self::Delete(own) => **own == *key,
            Self::List { prefix, after, until } => {
                key.starts_with(&**prefix)
                    && after.as_ref().is_none_or(|after| key > &**after)
                    && until.as_ref().is_none_or(|until| key <= &**until)
            }
            Self::Answered | Self::Voided => false,
        }
    }

    /// Returns whether the order of the two makes a difference.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let meet = |one: &Self, two: &Self| one.writes().is_some_and(|key| two.sees(key));
        let answers =
            matches!((self, other), (Self::Answered, Self::Voided) | (Self::Voided, Self::Answered | Self::Voided));
        answers || meet(self, other) || meet(other, self)
    }
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// A process makes a step: the operation that has waited longest, or a later one.
    Step(usize, usize),
    /// Time passes.
    Tick,
    /// Time passes, and the clocks of a process stand still.
    Freeze(usize),
    /// The store's clock steps, forward or back, and no other clock does.
    Jump(bool),
    /// A process stops for good.
    Kill(usize),
    /// A process gives up on a write or delete, which may land later. The second number is its place among the
    /// operations of the process.
    GiveUp(usize, usize),
    /// One of the operations that were given up lands.
    Land(usize),
}

/// An event with its text.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) choice: Choice,
    pub(super) says: String,
}
