//! Checks that a listing's keys ascend.
//!
//! Every reader of a listing relies on its order: the newest version of a thing is the first key, and scrub visits the
//! keys of one thing together. A listing out of order is therefore an error, and frees nothing.

use super::{Entry, Result, StorageError};

/// The keys of one listing, as they come.
#[derive(Debug)]
pub(super) struct Ascending {
    prefix: String,
    last: Option<String>,
}

impl Ascending {
    /// Begins a listing of the keys under `prefix` that come after `after`.
    pub(super) fn new(prefix: &str, after: Option<&str>) -> Self {
        Self { prefix: prefix.to_owned(), last: after.map(str::to_owned) }
    }

    /// Returns the entry if its key has the prefix and comes after the previous key, and an error otherwise.
    pub(super) fn next(&mut self, entry: Entry) -> Result<Entry> {
        if !entry.key.starts_with(&self.prefix) {
            return Err(StorageError::unordered(&self.prefix, format!("{:?} is not under that prefix", entry.key)));
        }
        match &mut self.last {
            Some(last) if entry.key <= *last => {
                let what = format!("{:?} was listed after {last:?}: keys must ascend", entry.key);
                return Err(StorageError::unordered(&self.prefix, what));
            }
            Some(last) => last.clone_from(&entry.key),
            None => self.last = Some(entry.key.clone()),
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FaultKind;

    fn listed(prefix: &str, after: Option<&str>, keys: &[&str]) -> Result<()> {
        let mut ascending = Ascending::new(prefix, after);
        let entry = |key: &str| Entry { key: key.to_owned(), size: 0, modified: 1 };
        keys.iter().try_for_each(|key| ascending.next(entry(key)).map(|_| ()))
    }

    #[test]
    fn keys_ascend_after_the_key_that_was_named_and_under_the_prefix() {
        assert!(listed("a/", None, &["a/1", "a/2", "a/20", "a/3"]).is_ok());
        assert!(listed("a/", Some("a/1"), &["a/2"]).is_ok());
        for (after, keys) in [
            (None, &["a/2", "a/1"][..]),
            (None, &["a/1", "a/1"]),
            (None, &["a/1", "b/2"]),
            (Some("a/2"), &["a/1"]),
            (Some("a/2"), &["a/2"]),
        ] {
            let error = listed("a/", after, keys).unwrap_err();
            assert_eq!(error.kind, FaultKind::Unavailable, "no try of a client mends it, and nothing is damaged");
        }
    }
}
