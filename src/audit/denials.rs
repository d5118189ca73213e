//! Counts denials of anonymous callers that are alike, so that they take a line a minute instead of one each.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

/// The number of denials in a minute that have lines of their own, of those that are alike.
const WHOLE: u64 = 10;
/// The time that one line stands for.
const MINUTE: Duration = Duration::from_mins(1);
/// The most kinds of denials that are counted at once. Others have lines of their own.
const MOST_KINDS: usize = 10_000;
/// The most references of one kind that are told apart.
const MOST_REFERENCES: usize = 1000;

/// Facts that make denials alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Denial {
    /// The address of the caller.
    pub client_ip: String,
    /// The action.
    pub action: String,
    /// The repository.
    pub namespace: String,
    /// `deny` or `not_covered`.
    pub decision: &'static str,
    /// The policy that decided.
    pub policy: Option<String>,
    /// The rule in that policy.
    pub rule: Option<String>,
}

/// The line that stands for denials.
#[derive(Debug, Serialize)]
pub(super) struct Denials {
    event: &'static str,
    #[serde(flatten)]
    denial: Denial,
    count: u64,
    first: String,
    last: String,
    references: usize,
}

/// The denials of the last minute, by kind.
#[derive(Default)]
pub(super) struct Counts {
    kinds: Mutex<HashMap<Denial, Count>>,
    hashes: RandomState,
}

struct Count {
    began: Instant,
    whole: u64,
    counted: u64,
    first: Timestamp,
    last: Timestamp,
    /// The hashes of their references.
    references: HashSet<u64>,
}

impl Counts {
    /// Counts a denial. Returns true if it has a line of its own.
    pub(super) fn is_whole(&self, denial: Denial, reference: &str) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&denial) {
            return true;
        }
        let now = Timestamp::now();
        let count = kinds.entry(denial).or_insert_with(|| Count::new(now));
        if count.whole < WHOLE {
            count.whole += 1;
            return true;
        }
        if count.counted == 0 {
            count.first = now;
        }
        count.counted += 1;
        count.last = now;
        if count.references.len() < MOST_REFERENCES {
            count.references.insert(self.hashes.hash_one(reference));
        }
        false
    }

    /// Takes the lines of the minutes that are over, or of all.
    pub(super) fn take(&self, all: bool) -> Vec<Denials> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |count: &Count| all || count.began.elapsed() >= MINUTE;
        let over: Vec<_> = kinds.extract_if(|_, count| is_over(count)).filter(|(_, count)| count.counted > 0).collect();
        drop(kinds);
        over.into_iter().map(|(denial, count)| count.line(denial)).collect()
    }
}

impl Count {
    fn new(now: Timestamp) -> Self {
        Self { began: Instant::now(), whole: 0, counted: 0, first: now, last: now, references: HashSet::new() }
    }

    fn line(self, denial: Denial) -> Denials {
        let references = self.references.len();
        let (first, last) = (format!("{:.3}", self.first), format!("{:.3}", self.last));
        Denials { event: "denials", denial, count: self.counted, first, last, references }
    }
}
