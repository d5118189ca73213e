//! Exceptions of the cooldown: conditions about a pull of a manifest of a cache. One that is true is enough.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::expression::{Condition, Undecided, Values};
use crate::config::covering;

/// The exceptions of all repositories.
#[derive(Debug, Default)]
pub(super) struct Exceptions(HashMap<String, Vec<Exception>>);

/// One condition.
#[derive(Debug)]
pub(super) struct Exception {
    /// Its place in the configuration.
    name: String,
    condition: Condition,
    /// True once the log has said that the condition fails.
    is_told: AtomicBool,
}

impl Exception {
    pub(super) fn new(name: String, condition: Condition) -> Self {
        Self { name, condition, is_told: AtomicBool::new(false) }
    }

    /// Returns true if the condition holds. A condition that fails gives no exception, and the log says so once.
    fn holds(&self, values: &Values<'_>) -> bool {
        match self.condition.holds(values) {
            Ok(holds) => holds,
            Err(Undecided::Awaits) => false,
            Err(Undecided::Fails(why)) => {
                if !self.is_told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        rule = self.name,
                        why,
                        "an exception of the cooldown failed, and gives no exception"
                    );
                }
                false
            }
        }
    }
}

impl Exceptions {
    /// Adds the exceptions of the table with this prefix.
    pub(super) fn add(&mut self, prefix: &str, exceptions: Vec<Exception>) {
        self.0.insert(prefix.to_owned(), exceptions);
    }

    /// Returns the exceptions of a repository: those of the longest prefix that states some.
    pub(super) fn of(&self, name: &str) -> &[Exception] {
        covering(name).find_map(|prefix| self.0.get(prefix)).map_or(&[], Vec::as_slice)
    }
}

/// Returns true if one of the exceptions holds.
pub(super) fn one_holds(exceptions: &[Exception], values: &Values<'_>) -> bool {
    exceptions.iter().any(|exception| exception.holds(values))
}
