//! Keeps a value for each value of a label.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Values found by a static label, without a lock or an allocation once the label is known.
///
/// The map is copied when a label comes for the first time. Labels are literals of the program, so that happens a few
/// dozen times in the life of a process, and no client can make it grow.
pub(super) struct ByLabel<T> {
    values: ArcSwap<HashMap<&'static str, Arc<T>>>,
}

impl<T: Default> ByLabel<T> {
    /// Makes a value for each of these labels.
    pub(super) fn of(labels: &[&'static str]) -> Self {
        let values: HashMap<_, _> = labels.iter().map(|label| (*label, Arc::default())).collect();
        Self { values: ArcSwap::from_pointee(values) }
    }

    /// Hands the value of `label` to `record`.
    pub(super) fn with<R>(&self, label: &'static str, record: impl FnOnce(&T) -> R) -> R {
        if let Some(value) = self.values.load().get(label) {
            return record(value);
        }
        record(&self.add(label))
    }

    /// Returns all values, in the order of their labels.
    pub(super) fn sorted(&self) -> Vec<(&'static str, Arc<T>)> {
        let mut all: Vec<_> = self.values.load().iter().map(|(label, value)| (*label, Arc::clone(value))).collect();
        all.sort_unstable_by_key(|(label, _)| *label);
        all
    }

    #[cold]
    fn add(&self, label: &'static str) -> Arc<T> {
        let fresh = Arc::new(T::default());
        // The value of another thread that was first stays, since it may have counts already.
        self.values.rcu(|values| {
            let mut grown = HashMap::clone(values);
            grown.entry(label).or_insert_with(|| Arc::clone(&fresh));
            grown
        });
        self.values.load().get(label).map_or(fresh, Arc::clone)
    }
}

impl<T> Default for ByLabel<T> {
    fn default() -> Self {
        Self { values: ArcSwap::default() }
    }
}

impl<T> fmt::Debug for ByLabel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.load().keys()).finish()
    }
}
