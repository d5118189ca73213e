//! Suggests names for unknown ones.

use crate::diagnostics::{listed, nearest};

/// Suggests one of the names that a person chose for an unknown one.
pub(super) fn among(name: &str, names: &[&str]) -> String {
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => "there is none".to_owned(),
        None => format!("there is {}", listed(names.iter().copied(), '"')),
    }
}
