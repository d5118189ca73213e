//! What happened in a run, and which two happenings could not be told apart in the other order.

use std::sync::Arc;

use crate::storage::layout;

/// What a step did that others may see, or saw what others may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Touch {
    /// Read one object, or found none.
    Read(Arc<str>),
    /// Wrote one.
    Put(Arc<str>),
    /// Removed one.
    Delete(Arc<str>),
    /// Saw which objects there are: all under the prefix that come after `after`, and none after `until` where that is said.
    List { prefix: Arc<str>, after: Option<Arc<str>>, until: Option<Arc<str>> },
    /// Was answered something.
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

    /// Whether it writes what [`broken`](super::broken::broken) may look at: that no session is, nor a mark.
    pub(super) fn shows(&self) -> bool {
        self.writes().is_some_and(|key| {
            let mark = layout::data_id(key).is_some_and(|id| layout::is_mark(&id, key));
            !mark && !key.starts_with(layout::UPLOADS)
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

    /// Whether the order of the two makes a difference.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let meet = |one: &Self, two: &Self| one.writes().is_some_and(|key| two.sees(key));
        let answers =
            matches!((self, other), (Self::Answered, Self::Voided) | (Self::Voided, Self::Answered | Self::Voided));
        answers || meet(self, other) || meet(other, self)
    }
}

/// Who does the next thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// A process: the operation of it that has waited longest, or a later one.
    Step(usize, usize),
    /// Time passes.
    Tick,
    /// Time passes, and the clocks of a process stand still.
    Freeze(usize),
    /// The store's clock steps, forward or back, and no other.
    Jump(bool),
    /// A process stops for good.
    Kill(usize),
    /// A process gives up on a write, which may land later: by its place among its operations.
    GiveUp(usize, usize),
    /// One of the writes that were given up lands.
    Land(usize),
}

/// One happening.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) choice: Choice,
    pub(super) says: String,
}
