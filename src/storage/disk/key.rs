//! Checks that a directory can hold a key.

use opendal::{Error, ErrorKind, Result};

/// The longest name that file systems take.
const LONGEST_NAME: usize = 255;

/// Checks that `key` names a file below the root. No component may be empty, begin with a dot, hold NUL, or be longer
/// than 255 bytes.
pub(super) fn check(key: &str) -> Result<()> {
    key.split('/')
        .try_for_each(|component| if component.is_empty() { Err("an empty component") } else { rule(component) })
        .map_err(|broken| refused(key, broken))
}

/// Splits the prefix of a listing at its last slash. Returns the directory to read, which ends in `/` or is empty for
/// the root, and the beginning of the names in it.
pub(super) fn split_prefix(prefix: &str) -> Result<(&str, &str)> {
    let prefix = if prefix == "/" { "" } else { prefix };
    let (directory, beginning) = prefix.split_at(prefix.rfind('/').map_or(0, |slash| slash + 1));
    if let Some(directory) = directory.strip_suffix('/') {
        check(directory)?;
    }
    rule(beginning).map_err(|broken| refused(prefix, broken))?;
    Ok((directory, beginning))
}

/// Returns the directory of `path` without a slash at its end; empty for the root.
pub(super) fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..slash])
}

fn rule(component: &str) -> std::result::Result<(), &'static str> {
    if component.starts_with('.') {
        Err("a component that begins with a dot")
    } else if component.contains('\0') {
        Err("a NUL byte")
    } else if component.len() > LONGEST_NAME {
        Err("a component longer than 255 bytes")
    } else {
        Ok(())
    }
}

fn refused(key: &str, broken: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("the key {key:?} has {broken}, which a directory store does not hold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_the_root() {
        for good in ["a", "a/b", "a/!mark", "lib!", "a b/c", "a..b/c."] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".tmp/x", "a/.hidden", "a\0b", &"x".repeat(256)] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn a_prefix_is_a_directory_and_the_beginning_of_a_name() {
        assert_eq!(split_prefix("/").unwrap(), ("", ""));
        assert_eq!(split_prefix("ab").unwrap(), ("", "ab"));
        assert_eq!(split_prefix("a/b/").unwrap(), ("a/b/", ""));
        assert_eq!(split_prefix("a/b").unwrap(), ("a/", "b"));
        assert!(split_prefix("../").is_err());
        assert!(split_prefix("a/.").is_err());
    }
}
