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
pub(super) struct Denials<'a> {
    event: &'static str,
    #[serde(flatten)]
    denial: &'a Denial,
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

    /// Writes the lines of the minutes that are over, or of all. Goes on to count those that cannot be written.
    pub(super) fn write<E>(&self, all: bool, write: impl Fn(&Denials<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |count: &Count| all || count.began.elapsed() >= MINUTE;
        let over: Vec<_> = kinds.extract_if(|_, count| is_over(count)).filter(|(_, count)| count.counted > 0).collect();
        drop(kinds);
        let mut outcome = Ok(());
        for (denial, count) in over {
            if outcome.is_ok() {
                outcome = write(&count.line(&denial));
            }
            if outcome.is_err() {
                self.put_back(denial, count);
            }
        }
        outcome
    }

    /// Adds a count whose line could not be written to what was counted meanwhile.
    fn put_back(&self, denial: Denial, count: Count) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let since = kinds.entry(denial).or_insert_with(|| Count { counted: 0, references: HashSet::new(), ..count });
        since.last = if since.counted == 0 { count.last } else { since.last };
        since.first = count.first;
        since.counted += count.counted;
        since.references.extend(count.references.into_iter().take(MOST_REFERENCES - since.references.len()));
    }
}

impl Count {
    fn new(now: Timestamp) -> Self {
        Self { began: Instant::now(), whole: 0, counted: 0, first: now, last: now, references: HashSet::new() }
    }

    fn line<'a>(&self, denial: &'a Denial) -> Denials<'a> {
        let references = self.references.len();
        let (first, last) = (format!("{:.3}", self.first), format!("{:.3}", self.last));
        Denials { event: "denials", denial, count: self.counted, first, last, references }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(namespace: &str) -> Denial {
        let namespace = namespace.to_owned();
        let (client_ip, action) = (String::from("10.0.0.1"), String::from("get-manifest"));
        Denial { client_ip, action, namespace, decision: "deny", policy: None, rule: None }
    }

    #[test]
    fn denials_whose_line_cannot_be_written_stay_counted() {
        let counts = Counts::default();
        let deny = |times: u64| {
            for (namespace, reference) in
                ["a", "b", "c"].into_iter().flat_map(|name| (0..times).map(move |n| (name, n)))
            {
                counts.is_whole(denial(namespace), &reference.to_string());
            }
        };
        deny(WHOLE + 5);
        assert_eq!(counts.write(true, |_| Err("full")), Err("full"));
        // the lines of the first minute were whole; after a failure no new ones are
        deny(2);
        let lines = std::cell::RefCell::new(Vec::new());
        let write = |line: &Denials<'_>| {
            lines.borrow_mut().push((line.denial.namespace.clone(), line.count, line.references));
            Ok::<(), ()>(())
        };
        counts.write(true, write).unwrap();
        let mut lines = lines.into_inner();
        lines.sort();
        // five references, and then the first two again
        let expected = ["a", "b", "c"].map(|name| (name.to_owned(), 7, 7));
        assert_eq!(lines, expected);
        counts.write(true, |_| Err(())).unwrap();
    }
}
