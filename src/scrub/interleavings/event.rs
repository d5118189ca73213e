//! What happened in a run, and which two happenings could not be told apart in the other order.

/// What an operation did to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Touch {
    /// Read one object, or found none.
    Read(String),
    /// Wrote one.
    Put(String),
    /// Removed one.
    Delete(String),
    /// Saw which objects there are: all under the prefix that come after `after`, and none after `until` where that is said.
    List { prefix: String, after: Option<String>, until: Option<String> },
    /// Learned the time.
    Clock,
}

impl Touch {
    pub(super) fn writes(&self) -> Option<&str> {
        match self {
            Self::Put(key) | Self::Delete(key) => Some(key),
            _ => None,
        }
    }

    fn sees(&self, key: &str) -> bool {
        match self {
            Self::Read(own) | Self::Put(own) | Self::Delete(own) => own == key,
            Self::List { prefix, after, until } => {
                key.starts_with(prefix.as_str())
                    && after.as_ref().is_none_or(|after| key > after.as_str())
                    && until.as_ref().is_none_or(|until| key <= until.as_str())
            }
            Self::Clock => false,
        }
    }
}

/// Who does the next thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// A process: the operation of it that has waited longest, or a later one.
    Step(usize, usize),
    /// Time passes.
    Tick,
    /// A process stops for good.
    Kill(usize),
}

/// One happening.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) choice: Choice,
    pub(super) says: String,
    pub(super) touched: Vec<Touch>,
    /// Whether a process began something, and so looked at its clock.
    pub(super) begins: bool,
}

impl Event {
    /// Who does it: each process, time, and for each process its end.
    pub(super) fn who(&self, processes: usize) -> usize {
        match self.choice {
            Choice::Step(process, _) => process,
            Choice::Tick => processes,
            Choice::Kill(process) => processes + 1 + process,
        }
    }

    fn changes(&self) -> bool {
        self.touched.iter().any(|touch| touch.writes().is_some())
    }

    fn looks_at_time(&self) -> bool {
        self.begins || self.touched.iter().any(|touch| matches!(touch, Touch::Put(_) | Touch::Clock))
    }

    /// Whether the order of the two makes a difference.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        match (self.choice, other.choice) {
            (Choice::Tick, Choice::Step(..)) => other.looks_at_time(),
            (Choice::Step(..), Choice::Tick) => self.looks_at_time(),
            (Choice::Kill(killed), Choice::Step(process, _)) => killed == process && other.changes(),
            (Choice::Step(process, _), Choice::Kill(killed)) => killed == process && self.changes(),
            (Choice::Step(..), Choice::Step(..)) => {
                let meet = |one: &Self, two: &Self| {
                    one.touched.iter().filter_map(Touch::writes).any(|key| two.touched.iter().any(|it| it.sees(key)))
                };
                meet(self, other) || meet(other, self)
            }
            (one, other) => one == other,
        }
    }
}
